//! Ports as people, files and the sysctl write them.

use std::fmt::{Debug, Display};

use portpool_core::{
    Alignment, ParseError, Port, PortCount, PortRange, PortSpec, RangeSet, Token, Transport,
    Transports,
};

/// Whatever the text: each parser takes it or names it, and what it took prints as text that means the
/// same. Numbers and ranges are taken exactly where the naive reader takes them.
pub fn spec(bytes: &[u8]) {
    let text = &*String::from_utf8_lossy(bytes);
    let number = naive_number(text).filter(|number| *number > 0);
    assert_eq!(read::<Port>(text).map(Port::number), number);
    assert_eq!(read::<PortCount>(text).map(PortCount::number), number);
    assert_eq!(read::<Alignment>(text).map(Alignment::number), number);
    let range = read::<PortRange>(text);
    let ends = |range: PortRange| (range.first().number(), range.last().number());
    assert_eq!(range.map(ends), naive_range(text));
    read::<Token>(text);
    read::<Transport>(text);
    read::<Transports>(text);
    check_spec(text);
    check_set(text);
}

fn check_spec(text: &str) {
    let spec = read::<PortSpec>(text);
    let (range, transports) = match text.split_once('/') {
        Some((range, transports)) => (range, Some(transports)),
        None => (text, None),
    };
    let is_known = transports.is_none_or(|it| ["tcp", "udp", "both"].contains(&it));
    assert_eq!(spec.is_some(), is_known && naive_range(range).is_some());
}

/// The text of the sysctl: a set that is read has just the ports of its items.
fn check_set(text: &str) {
    let Some(set) = read::<RangeSet>(text) else {
        return;
    };
    let is_apart = |(one, next): (PortRange, PortRange)| {
        u32::from(one.last().number()) + 1 < u32::from(next.first().number())
    };
    assert!(set.iter().zip(set.iter().skip(1)).all(is_apart), "{set}");
    let mut naive = vec![false; 65_536];
    for item in text.split(',').map(str::trim) {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        if let Some((first, last)) = naive_number(first).zip(naive_number(last)) {
            naive[usize::from(first)..=usize::from(last)].fill(true);
        }
    }
    naive[0] = false;
    let count = naive.iter().filter(|it| **it).count();
    assert_eq!(set.len_ports() as usize, count, "{set}");
    let mut ports = set.iter().flat_map(PortRange::ports);
    assert!(ports.all(|port| naive[usize::from(port.number())]), "{set}");
}

/// Reads a text, and reads what it prints again.
fn read<T>(text: &str) -> Option<T>
where
    T: std::str::FromStr<Err = ParseError> + Display + Debug + PartialEq,
{
    match text.parse::<T>() {
        Ok(value) => {
            assert_eq!(value.to_string().parse().as_ref(), Ok(&value), "{text:?}");
            Some(value)
        }
        Err(error) => {
            let named = error.input().trim_end_matches("...");
            assert!(text.contains(named), "{text:?}: {error}");
            assert!(error.to_string().len() < 1_000, "{error}");
            None
        }
    }
}

fn naive_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (naive_number(first)?, naive_number(last)?);
    (1 <= first && first <= last).then_some((first, last))
}

/// Digits and nothing else, up to 65535.
fn naive_number(text: &str) -> Option<u16> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = text.trim_start_matches('0');
    let value = digits
        .bytes()
        .take(6)
        .fold(0_u32, |value, digit| value * 10 + u32::from(digit - b'0'));
    u16::try_from(value).ok().filter(|_| digits.len() <= 5)
}

#[cfg(test)]
mod tests {
    use crate::exercise;

    #[test]
    fn any_text_is_ports_or_is_named_in_the_error() {
        exercise("spec", super::spec);
    }
}
