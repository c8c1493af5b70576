//! What was reserved, as values: printed, put into the environment and into arguments.
//!
//! Absent here: what keeps it reserved (`acquire`).

use std::fmt::Write;

use clap::ValueEnum;
use portpool::{Block, PoolKind, Port, PortRange, Token, Transport};
use serde::{Deserialize, Serialize};

/// The blocks of one command, in the order of its selectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pool: PoolKind,
    blocks: Vec<Block>,
}

impl Grant {
    pub(crate) fn new(pool: PoolKind, blocks: Vec<Block>) -> Grant {
        Grant { pool, blocks }
    }

    /// The kind of pool that grants it.
    pub(crate) fn pool(&self) -> PoolKind {
        self.pool
    }

    /// The ports of a transport.
    pub(crate) fn ports(&self, transport: Transport) -> impl Iterator<Item = Port> {
        self.ranges(transport).flat_map(PortRange::ports)
    }

    /// The first TCP port, the first UDP port if there is no TCP.
    pub(crate) fn first(&self) -> Option<Port> {
        let mut tcp = self.ports(Transport::Tcp);
        tcp.next().or_else(|| self.ports(Transport::Udp).next())
    }

    /// The variables a program finds them in; one without a value is not to be set.
    pub(crate) fn variables(&self) -> [(&'static str, Option<String>); 3] {
        [
            ("PORT", self.first().map(|port| port.to_string())),
            ("PORTPOOL_TCP", self.list(Transport::Tcp)),
            ("PORTPOOL_UDP", self.list(Transport::Udp)),
        ]
    }

    /// The lines `acquire` prints.
    pub(crate) fn text(&self, format: Format, holder: Option<u32>) -> String {
        match format {
            Format::Json => self.lines().fold(String::new(), |text, line| {
                text + &serde_json::to_string(&line).unwrap_or_default() + "\n"
            }),
            Format::Shell => self.shell(holder),
            Format::Plain => self.plain(),
        }
    }

    fn shell(&self, holder: Option<u32>) -> String {
        let holder = ("PORTPOOL_HOLDER", holder.map(|pid| pid.to_string()));
        let mut text = String::new();
        for (name, value) in self.variables().into_iter().chain([holder]) {
            match value {
                // Only digits, - and blanks: nothing in it needs an escape.
                Some(value) if value.contains(' ') => {
                    writeln!(text, "export {name}='{value}'")
                }
                Some(value) => writeln!(text, "export {name}={value}"),
                // Not the one of somebody around us.
                None => writeln!(text, "unset {name}"),
            }
            .expect("a string takes all");
        }
        text
    }

    /// Each number once where TCP and UDP have the same.
    fn plain(&self) -> String {
        let mut ranges: Vec<PortRange> = self.blocks.iter().map(|block| block.range).collect();
        ranges.dedup();
        let ports = ranges.into_iter().flat_map(PortRange::ports);
        ports.fold(String::new(), |text, port| text + &port.to_string() + "\n")
    }

    fn list(&self, transport: Transport) -> Option<String> {
        let ranges: Vec<String> = self
            .ranges(transport)
            .map(|range| range.to_string())
            .collect();
        (!ranges.is_empty()).then(|| ranges.join(" "))
    }

    fn ranges(&self, transport: Transport) -> impl Iterator<Item = PortRange> {
        let blocks = self
            .blocks
            .iter()
            .filter(move |block| block.transport == transport);
        blocks.map(|block| block.range)
    }

    /// As they go through a pipe and to programs.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Line> {
        self.blocks.iter().map(|block| Line {
            transport: block.transport.to_string(),
            first: block.range.first().number(),
            count: block.range.count().number(),
            token: block.token.to_string(),
            pool: self.pool.to_string(),
        })
    }

    /// The grant that gave these lines, if they are sound.
    pub(crate) fn from_lines(lines: &[Line]) -> Option<Grant> {
        let pool = lines.first()?.pool.parse().ok()?;
        let blocks = lines.iter().map(Line::block).collect::<Option<_>>()?;
        Some(Grant { pool, blocks })
    }
}

/// How `acquire` prints what it reserved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One JSON object a line: transport, first, count, token.
    #[default]
    Json,
    /// Assignments for eval: PORT, PORTPOOL_TCP, PORTPOOL_UDP, with --while PORTPOOL_HOLDER.
    Shell,
    /// Port numbers, one a line.
    Plain,
}

/// One reservation in JSON. The token is text: not every reader of JSON keeps 64 bits of a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    transport: String,
    first: u16,
    count: u16,
    token: String,
    /// The kind of pool that grants it.
    pool: String,
}

impl Line {
    fn block(&self) -> Option<Block> {
        Some(Block {
            transport: self.transport.parse().ok()?,
            range: PortRange::from_numbers(self.first, self.count).ok()?,
            token: self.token.parse::<Token>().ok()?,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn grant(blocks: &[(&str, &str)]) -> Grant {
        let blocks = blocks.iter().map(|(transport, range)| Block {
            transport: transport.parse().expect("transport"),
            range: range.parse().expect("range"),
            token: Token::new(0xc0ffee).expect("token"),
        });
        Grant::new(PoolKind::Kernel, blocks.collect())
    }

    #[test]
    fn json_is_one_object_a_line() {
        assert_eq!(
            example().text(Format::Json, None).lines().next(),
            Some(
                r#"{"transport":"tcp","first":20000,"count":2,"token":"0000000000c0ffee","pool":"kernel"}"#
            )
        );
        assert_eq!(example().text(Format::Json, Some(1)).lines().count(), 4);
    }

    #[test]
    fn shell_words_are_safe_to_evaluate() {
        assert_eq!(
            example().text(Format::Shell, Some(7)),
            "export PORT=20000\nexport PORTPOOL_TCP='20000-20001 8080'\n\
             export PORTPOOL_UDP='20000-20001 53'\nexport PORTPOOL_HOLDER=7\n"
        );
        assert_eq!(
            grant(&[("udp", "53")]).text(Format::Shell, None),
            "export PORT=53\nunset PORTPOOL_TCP\nexport PORTPOOL_UDP=53\nunset PORTPOOL_HOLDER\n"
        );
    }

    #[test]
    fn plain_names_each_number_once() {
        assert_eq!(
            example().text(Format::Plain, None),
            "20000\n20001\n8080\n53\n"
        );
    }

    #[test]
    fn lines_read_back_as_the_same_grant() {
        let lines: Vec<Line> = example().lines().collect();
        assert_eq!(Grant::from_lines(&lines), Some(example()));
    }

    fn example() -> Grant {
        grant(&[
            ("tcp", "20000-20001"),
            ("udp", "20000-20001"),
            ("tcp", "8080"),
            ("udp", "53"),
        ])
    }
}
