//! A set of ports, kept as ranges that neither overlap nor touch.
//!
//! Its text form is the one of the sysctl `net.ipv4.ip_local_reserved_ports`.

use std::{fmt, str::FromStr};

use crate::{ParseError, Port, PortRange, parse_error::decimal};

/// Ports as ordered ranges; ranges that overlap or touch are merged into one.
///
/// ```
/// use portpool_core::RangeSet;
///
/// let set: RangeSet = "7,1-3,4-5\n".parse()?;
/// assert_eq!(set.to_string(), "1-5,7");
/// assert_eq!(set.len_ports(), 6);
/// assert!("".parse::<RangeSet>()?.is_empty());
/// # Ok::<(), portpool_core::ParseError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RangeSet {
    /// Ascending, at least one port apart.
    ranges: Vec<PortRange>,
}

impl RangeSet {
    /// The set without ports.
    pub const fn new() -> RangeSet {
        RangeSet { ranges: Vec::new() }
    }

    /// Adds every port of `range`; ports already there stay.
    pub fn insert(&mut self, range: PortRange) {
        let begin = self
            .ranges
            .partition_point(|other| other.ends_apart_from(range));
        let end = self
            .ranges
            .partition_point(|other| !range.ends_apart_from(*other));
        let merged = self.ranges[begin..end]
            .iter()
            .fold(range, |hull, other| hull.hull(*other));
        self.ranges.splice(begin..end, [merged]);
    }

    /// Takes out every port of `range`; ports that are not there do not matter.
    pub fn remove(&mut self, range: PortRange) {
        let met = self.overlapping(range);
        let Some((low, high)) = self.ranges[met.clone()]
            .first()
            .zip(self.ranges[met.clone()].last())
        else {
            return;
        };
        let (below, above) = (low.around(range).0, high.around(range).1);
        self.ranges.splice(met, below.into_iter().chain(above));
    }

    /// The ports that are in either set.
    pub fn union(&self, other: &RangeSet) -> RangeSet {
        self.iter().chain(other.iter()).collect()
    }

    /// The ports that are in both sets.
    pub fn intersection(&self, other: &RangeSet) -> RangeSet {
        self.difference(&self.difference(other))
    }

    /// The ports of this set that are not in `other`.
    pub fn difference(&self, other: &RangeSet) -> RangeSet {
        let mut left = Vec::new();
        for range in self.iter() {
            let mut rest = Some(range);
            for hole in &other.ranges[other.overlapping(range)] {
                let Some(uncut) = rest else { break };
                let (below, above) = uncut.around(*hole);
                left.extend(below);
                rest = above;
            }
            left.extend(rest);
        }
        RangeSet { ranges: left }
    }

    /// Whether `port` is in the set.
    pub fn contains(&self, port: Port) -> bool {
        self.covers(PortRange::single(port))
    }

    /// Whether every port of `range` is in the set.
    pub fn covers(&self, range: PortRange) -> bool {
        let nearest = self
            .ranges
            .partition_point(|other| other.last() < range.first());
        self.ranges
            .get(nearest)
            .is_some_and(|other| other.covers(range))
    }

    /// The merged ranges, lowest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = PortRange> + ExactSizeIterator + Clone {
        self.ranges.iter().copied()
    }

    /// Whether the set has no port.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many ports are in the set, 0 to 65535.
    pub fn len_ports(&self) -> u32 {
        self.iter()
            .map(|range| u32::from(range.count().number()))
            .sum()
    }

    /// Which of the ranges have a port in common with `range`.
    fn overlapping(&self, range: PortRange) -> std::ops::Range<usize> {
        let begin = self
            .ranges
            .partition_point(|other| other.last() < range.first());
        let end = self
            .ranges
            .partition_point(|other| other.first() <= range.last());
        begin..end
    }
}

impl FromIterator<PortRange> for RangeSet {
    fn from_iter<I: IntoIterator<Item = PortRange>>(ranges: I) -> RangeSet {
        let mut unmerged: Vec<PortRange> = ranges.into_iter().collect();
        unmerged.sort_unstable();
        let mut merged: Vec<PortRange> = Vec::with_capacity(unmerged.len());
        for range in unmerged {
            match merged.last_mut() {
                Some(last) if !last.ends_apart_from(range) => *last = last.hull(range),
                _ => merged.push(range),
            }
        }
        RangeSet { ranges: merged }
    }
}

impl From<PortRange> for RangeSet {
    fn from(range: PortRange) -> RangeSet {
        RangeSet {
            ranges: vec![range],
        }
    }
}

impl Extend<PortRange> for RangeSet {
    fn extend<I: IntoIterator<Item = PortRange>>(&mut self, ranges: I) {
        *self = self.iter().chain(ranges).collect();
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{range}")?;
        }
        Ok(())
    }
}

impl FromStr for RangeSet {
    type Err = ParseError;

    /// Reads ranges between commas, in any order: `1-3,5,7000-8000`. White space around the text
    /// and around a range is skipped; text with nothing else is the empty set.
    ///
    /// Port 0, which the sysctl accepts and which no socket can have, is left out: `0-5` is `1-5`.
    ///
    /// # Errors
    /// The first range that cannot be read.
    fn from_str(text: &str) -> Result<RangeSet, ParseError> {
        if text.trim().is_empty() {
            return Ok(RangeSet::new());
        }
        let ranges = text.split(',').map(|item| without_port_zero(item.trim()));
        ranges.filter_map(Result::transpose).collect()
    }
}

fn without_port_zero(item: &str) -> Result<Option<PortRange>, ParseError> {
    let (first, last) = item.split_once('-').unwrap_or((item, item));
    match (decimal(first), decimal(last)) {
        (Some(0), Some(last)) => {
            Ok(Port::new(last).and_then(|last| PortRange::between(Port::FIRST, last)))
        }
        _ => item.parse().map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> RangeSet {
        text.parse().unwrap()
    }

    fn range(text: &str) -> PortRange {
        text.parse().unwrap()
    }

    #[test]
    fn touching_ranges_become_one() {
        let mut merged = set("10-19,30-39");
        merged.insert(range("20-29"));
        assert_eq!(merged, set("10-39"));
    }

    #[test]
    fn a_hole_splits_a_range() {
        let mut split = set("1-65535");
        split.remove(range("100-200"));
        assert_eq!(split, set("1-99,201-65535"));
        split.remove(PortRange::ALL);
        assert!(split.is_empty());
    }

    #[test]
    fn the_ends_of_the_number_space_merge_and_split() {
        let mut ends = set("1,65535");
        ends.insert(range("65534"));
        ends.insert(range("2"));
        assert_eq!(ends.to_string(), "1-2,65534-65535");
        ends.remove(range("65535"));
        ends.remove(range("1"));
        assert_eq!(ends.to_string(), "2,65534");
    }

    #[test]
    fn a_range_over_a_gap_is_not_covered() {
        let gap = set("1-10,12-20");
        assert!(gap.covers(range("12-20")));
        assert!(!gap.covers(range("9-13")));
        assert!(!gap.covers(range("20-21")));
    }

    #[test]
    fn the_text_of_the_sysctl_is_read_as_the_kernel_writes_it() {
        assert_eq!(set("1-3,5,7000-8000\n").len_ports(), 1005);
        assert_eq!(set("\n"), RangeSet::new());
        assert_eq!(set(" 5-9, 1-6 "), set("1-9"));
    }

    #[test]
    fn port_zero_in_the_sysctl_is_left_out() {
        assert_eq!(set("0-5,80"), set("1-5,80"));
        assert_eq!(set("0"), RangeSet::new());
        assert_eq!(set("0-0,7"), set("7"));
    }

    #[test]
    fn the_range_that_cannot_be_read_is_the_one_named() {
        for (text, culprit) in [
            ("1,x-5,7", "x-5"),
            ("1,,2", ""),
            ("9-1", "9-1"),
            ("0-70000", "0-70000"),
        ] {
            assert_eq!(text.parse::<RangeSet>().unwrap_err().input(), culprit);
        }
    }
}
