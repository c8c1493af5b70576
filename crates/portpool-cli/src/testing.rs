//! The fuzz targets of the command: what must hold of its parsers whatever they are given.
//!
//! A program cannot be used as a library, so the programs of the fuzz targets take in this file and those
//! that it looks at.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
};

use clap::Parser;
use portpool::{Block, PoolKind, Token, Transport, Transports, Want};

use crate::{
    grant::Grant,
    selectors::Selectors,
    template::{PortCounts, Template},
};

/// An argument of a command is filled with ports, or a placeholder is named that none fits. Without braces
/// it stays as it is, and in doubled ones all stays.
pub(crate) fn template(bytes: &[u8]) {
    let blocks = [("tcp", "20000-20001"), ("udp", "53"), ("tcp", "8080")];
    let blocks = blocks.map(|(transport, range)| Block {
        transport: transport.parse().expect("a transport"),
        range: range.parse().expect("a range"),
        token: Token::new(1).expect("not 0"),
    });
    let grant = Grant::new(PoolKind::Embedded, blocks.into());
    let counts = PortCounts { tcp: 3, udp: 1 };
    let fill =
        |text: &[u8]| Template::parse(OsStr::from_bytes(text), counts).map(|it| it.fill(&grant));
    match fill(bytes) {
        Ok(filled) if !bytes.contains(&b'{') => assert_eq!(filled.as_bytes(), bytes),
        Ok(filled) => assert!(filled.len() <= bytes.len() * 2),
        Err(error) => assert!(error.to_string().starts_with("no port for {")),
    }
    // The ports of a name are put where the name is, whatever is around it.
    for (name, port) in [("{port}", "20000"), ("{udp.0}", "53"), ("{{tcp}}", "{tcp}")] {
        let plain: Vec<u8> = bytes
            .iter()
            .copied()
            .filter(|it| !b"{}".contains(it))
            .collect();
        let with = |word: &str| [&plain[..], word.as_bytes(), &plain[..]].concat();
        assert_eq!(
            fill(&with(name)),
            Ok(OsStr::from_bytes(&with(port)).to_owned())
        );
    }
}

/// Selectors are requests that can be granted together and that print as selectors for the same, or what is
/// wrong is said. The bytes are words with blanks between.
pub(crate) fn selectors(bytes: &[u8]) {
    let words = bytes
        .split(u8::is_ascii_whitespace)
        .filter(|it| !it.is_empty());
    let words: Vec<&OsStr> = words.take(WORD_COUNT_MAX).map(OsStr::from_bytes).collect();
    let selectors = match parse(&words) {
        Ok(selectors) => selectors,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let args: Vec<OsString> = selectors.to_args();
    assert_eq!(parse(&args).ok().as_ref(), Some(&selectors));
    let mut order = selectors.acquire_order();
    order.sort_unstable();
    assert!(order.into_iter().eq(0..selectors.requests().len()));
    let counted: usize = Transport::ALL
        .map(|transport| selectors.port_count(transport))
        .iter()
        .sum();
    let requests = selectors.requests().iter();
    let naive: usize = requests
        .map(|request| {
            let count = match request.want {
                Want::Specific(range) => range.count(),
                Want::Wildcard(wanted) => wanted.count,
            };
            let factor = if request.transports == Transports::Both {
                2
            } else {
                1
            };
            usize::from(count.number()) * factor
        })
        .sum();
    assert_eq!(naive, counted);
}

fn parse<T: AsRef<OsStr>>(words: &[T]) -> Result<Selectors, clap::Error> {
    let words = words.iter().map(|word| word.as_ref().to_owned());
    let line = Line::try_parse_from(std::iter::once("portpool".into()).chain(words));
    line.map(|line| line.selectors)
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    selectors: Selectors,
}

const WORD_COUNT_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use portpool_fuzz::{exercise, exercise_slow};

    #[test]
    fn any_argument_is_filled_or_names_a_port_that_is_not_there() {
        exercise("template", super::template);
    }

    #[test]
    fn any_words_are_selectors_that_print_as_the_same_or_are_refused() {
        exercise_slow("selectors", super::selectors);
    }
}
