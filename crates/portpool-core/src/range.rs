//! Ports and ranges of ports. All arithmetic on port numbers lives here.
//!
//! A range is nobody's; who owns one is the business of reservations. Port 0 is not a port: the
//! kernel reads it as "choose one", so no value of these types can be it.

use std::{error, fmt, num::NonZeroU16, str::FromStr};

use crate::{ParseError, parse_error::decimal};

/// A port number, 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(NonZeroU16);

impl Port {
    /// Port 1.
    pub const FIRST: Port = Port(NonZeroU16::MIN);
    /// Port 65535.
    pub const LAST: Port = Port(NonZeroU16::MAX);

    /// The port with this number, or nothing for 0.
    pub const fn new(number: u16) -> Option<Port> {
        match NonZeroU16::new(number) {
            Some(number) => Some(Port(number)),
            None => None,
        }
    }

    /// The number, in host byte order.
    pub const fn number(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Port {
    type Err = ParseError;

    /// # Errors
    /// Anything but decimal digits for a number from 1 to 65535.
    fn from_str(text: &str) -> Result<Port, ParseError> {
        let port = decimal(text).and_then(Port::new);
        port.ok_or_else(|| ParseError::new(text, "a port from 1 to 65535, such as 8080"))
    }
}

/// How many ports, 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortCount(NonZeroU16);

impl PortCount {
    /// One port.
    pub const ONE: PortCount = PortCount(NonZeroU16::MIN);

    /// This many ports, or nothing for 0.
    pub const fn new(number: u16) -> Option<PortCount> {
        match NonZeroU16::new(number) {
            Some(number) => Some(PortCount(number)),
            None => None,
        }
    }

    /// The count as a plain number.
    pub const fn number(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for PortCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for PortCount {
    type Err = ParseError;

    /// # Errors
    /// Anything but decimal digits for a number from 1 to 65535.
    fn from_str(text: &str) -> Result<PortCount, ParseError> {
        let count = decimal(text).and_then(PortCount::new);
        count.ok_or_else(|| ParseError::new(text, "a number of ports from 1 to 65535, such as 16"))
    }
}

/// Consecutive ports: a first one and a count. Never empty, never past 65535.
///
/// ```
/// use portpool_core::PortRange;
///
/// let range: PortRange = "20000-20003".parse()?;
/// assert_eq!(range.first().number(), 20000);
/// assert_eq!(range.count().number(), 4);
/// assert_eq!(range.to_string(), "20000-20003");
/// assert!(PortRange::from_numbers(65535, 2).is_err());
/// # Ok::<(), portpool_core::ParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: Port,
    count: PortCount,
}

impl PortRange {
    /// Ports 1 to 65535.
    pub const ALL: PortRange = PortRange {
        first: Port::FIRST,
        count: PortCount(NonZeroU16::MAX),
    };

    /// `count` ports from `first` on.
    ///
    /// # Errors
    /// [`RangeError::PastLastPort`] if the range would go past port 65535.
    pub fn new(first: Port, count: PortCount) -> Result<PortRange, RangeError> {
        if first.number().checked_add(count.number() - 1).is_none() {
            return Err(RangeError::PastLastPort { first, count });
        }
        Ok(PortRange { first, count })
    }

    /// `count` ports from port number `first` on.
    ///
    /// # Errors
    /// [`RangeError`] if `first` or `count` is 0 or the range would go past port 65535.
    pub fn from_numbers(first: u16, count: u16) -> Result<PortRange, RangeError> {
        let first = Port::new(first).ok_or(RangeError::PortZero)?;
        let count = PortCount::new(count).ok_or(RangeError::NoPorts { first })?;
        PortRange::new(first, count)
    }

    /// The ports from `first` to `last`, both included, or nothing if `last` is below `first`.
    pub fn between(first: Port, last: Port) -> Option<PortRange> {
        let steps = last.number().checked_sub(first.number())?;
        Some(PortRange {
            first,
            count: PortCount(NonZeroU16::MIN.saturating_add(steps)),
        })
    }

    /// The range of this one port.
    pub const fn single(port: Port) -> PortRange {
        PortRange {
            first: port,
            count: PortCount::ONE,
        }
    }

    /// The lowest port.
    pub const fn first(self) -> Port {
        self.first
    }

    /// How many ports.
    pub const fn count(self) -> PortCount {
        self.count
    }

    /// The highest port.
    pub fn last(self) -> Port {
        // Never saturates: a range that would is refused when it is made.
        Port(self.first.0.saturating_add(self.count.number() - 1))
    }

    /// Whether `port` is one of the range.
    pub fn contains(self, port: Port) -> bool {
        self.first <= port && port <= self.last()
    }

    /// Whether every port of `other` is one of the range.
    pub fn covers(self, other: PortRange) -> bool {
        self.first <= other.first && other.last() <= self.last()
    }

    /// Whether the two have a port in common.
    pub fn overlaps(self, other: PortRange) -> bool {
        self.first <= other.last() && other.first <= self.last()
    }

    /// The ports the two have in common.
    pub fn intersection(self, other: PortRange) -> Option<PortRange> {
        PortRange::between(self.first.max(other.first), self.last().min(other.last()))
    }

    /// Every port, lowest first.
    pub fn ports(self) -> impl DoubleEndedIterator<Item = Port> + Clone {
        (self.first.number()..=self.last().number()).filter_map(Port::new)
    }

    /// Whether at least one port lies between the end of this range and the start of `other`.
    pub(crate) fn ends_apart_from(self, other: PortRange) -> bool {
        self.last().0.saturating_add(1) < other.first.0
    }

    /// The smallest range that covers both.
    pub(crate) fn hull(self, other: PortRange) -> PortRange {
        let (first, last) = (self.first.min(other.first), self.last().max(other.last()));
        PortRange::between(first, last).unwrap_or(self)
    }

    /// The part below `hole` and the part above it.
    pub(crate) fn around(self, hole: PortRange) -> (Option<PortRange>, Option<PortRange>) {
        let before = Port::new(hole.first.number() - 1);
        let after = hole.last().number().checked_add(1).and_then(Port::new);
        let below = before.and_then(|last| PortRange::between(self.first, last.min(self.last())));
        let above = after.and_then(|first| PortRange::between(first.max(self.first), self.last()));
        (below, above)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == PortCount::ONE {
            return self.first.fmt(f);
        }
        f.pad(&format!("{}-{}", self.first, self.last()))
    }
}

impl FromStr for PortRange {
    type Err = ParseError;

    /// Reads one port or the first and the last port: `8080`, `20000-20003`.
    ///
    /// # Errors
    /// Anything else, port 0, a port above 65535, a last port below the first.
    fn from_str(text: &str) -> Result<PortRange, ParseError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let ports = decimal(first)
            .and_then(Port::new)
            .zip(decimal(last).and_then(Port::new));
        let Some((first, last)) = ports else {
            return Err(ParseError::new(
                text,
                "ports from 1 to 65535, such as 8080 or 8080-8083",
            ));
        };
        let swapped = "the lower port before the higher, such as 8080-8083";
        PortRange::between(first, last).ok_or_else(|| ParseError::new(text, swapped))
    }
}

/// Why two numbers do not make a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeError {
    /// The range would start at port 0.
    PortZero,
    /// The count is 0.
    NoPorts {
        /// Where the range would start.
        first: Port,
    },
    /// The range would go past port 65535.
    PastLastPort {
        /// Where the range would start.
        first: Port,
        /// How many ports it would have.
        count: PortCount,
    },
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RangeError::PortZero => {
                f.write_str("a range cannot start at port 0, start at 1 or above")
            }
            RangeError::NoPorts { first } => {
                write!(
                    f,
                    "the range at port {first} has no ports, ask for at least 1"
                )
            }
            RangeError::PastLastPort { first, count } => {
                write!(f, "{count} ports from port {first} on would go past 65535")
            }
        }
    }
}

impl error::Error for RangeError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> PortRange {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_may_end_at_65535_and_not_beyond() {
        assert_eq!(
            PortRange::from_numbers(65535, 1).unwrap().last(),
            Port::LAST
        );
        assert_eq!(PortRange::from_numbers(1, 65535), Ok(PortRange::ALL));
        for (first, count) in [(65535, 2), (2, 65535), (65535, 65535)] {
            let error = PortRange::from_numbers(first, count).unwrap_err();
            assert!(matches!(error, RangeError::PastLastPort { .. }));
            assert!(
                error.to_string().contains(&format!("port {first} ")),
                "{error}"
            );
        }
    }

    #[test]
    fn neither_port_zero_nor_no_ports_make_a_range() {
        assert_eq!(PortRange::from_numbers(0, 1), Err(RangeError::PortZero));
        let error = PortRange::from_numbers(80, 0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the range at port 80 has no ports, ask for at least 1"
        );
    }

    #[test]
    fn a_single_port_prints_without_a_dash() {
        assert_eq!(range("8080-8080").to_string(), "8080");
        assert_eq!(
            format!("{:>6}|{:<6}|", range("80"), range("1-2")),
            "    80|1-2   |"
        );
    }

    #[test]
    fn unreadable_ranges_are_named_in_the_error() {
        for text in [
            "", "-", "0", "0-5", "5-", "-5", "80-79", "1-65536", "1-2-3", "+1-2", "a",
        ] {
            let error = text.parse::<PortRange>().unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
            assert!(error.expected().contains("such as"), "{error}");
        }
    }

    #[test]
    fn unreadable_ports_and_counts_are_named_in_the_error() {
        for text in ["", "0", "65536", "-1", "+1", "http", "1 "] {
            assert_eq!(text.parse::<Port>().unwrap_err().input(), text);
            assert_eq!(text.parse::<PortCount>().unwrap_err().input(), text);
        }
    }

    #[test]
    fn touching_ranges_neither_overlap_nor_lie_apart() {
        let (low, high) = (range("10-19"), range("20-29"));
        assert!(!low.overlaps(high) && !high.overlaps(low));
        assert!(!low.ends_apart_from(high));
        assert!(low.ends_apart_from(range("21")));
        assert!(!PortRange::ALL.ends_apart_from(range("65535")));
    }

    #[test]
    fn a_hole_leaves_the_parts_around_it() {
        assert_eq!(
            range("10-20").around(range("12-14")),
            (Some(range("10-11")), Some(range("15-20")))
        );
        assert_eq!(
            range("10-20").around(range("5-15")),
            (None, Some(range("16-20")))
        );
        assert_eq!(range("10-20").around(PortRange::ALL), (None, None));
        assert_eq!(
            range("10-20").around(range("30")),
            (Some(range("10-20")), None)
        );
    }
}
