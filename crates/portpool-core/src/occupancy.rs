//! Which ports cannot be had and which better rest: the view that placement works on.
//!
//! How the view is read, and for which transports, is the business of the pools.

use std::fmt;

use crate::{Port, PortRange, RangeSet};

/// One bit for each of the 65,536 port numbers: bit `p % 64` of word `p / 64` is port `p`.
///
/// The kernel's map of occupied ports has the same layout.
///
/// ```
/// use portpool_core::{PortBitmap, PortRange};
///
/// let mut bitmap = PortBitmap::empty();
/// bitmap.set_range(PortRange::from_numbers(8080, 4)?);
/// assert_eq!(bitmap.count(), 4);
/// assert!(bitmap.any_in(PortRange::from_numbers(8083, 100)?));
/// # Ok::<(), portpool_core::RangeError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct PortBitmap(Box<[u64; PortBitmap::WORD_COUNT]>);

impl PortBitmap {
    /// How many words of 64 ports there are.
    pub const WORD_COUNT: usize = 1024;

    /// No port set.
    pub fn empty() -> PortBitmap {
        PortBitmap(Box::new([0; PortBitmap::WORD_COUNT]))
    }

    /// A copy of `words`. Bit 0, which is no port, is kept and counted.
    pub fn from_words(words: &[u64; PortBitmap::WORD_COUNT]) -> PortBitmap {
        PortBitmap(Box::new(*words))
    }

    /// Sets one port.
    pub fn set(&mut self, port: Port) {
        self.set_range(PortRange::single(port));
    }

    /// Sets every port of `range`.
    pub fn set_range(&mut self, range: PortRange) {
        for (index, mask) in words_of(range) {
            self.0[index] |= mask;
        }
    }

    /// Clears every port of `range`.
    pub fn clear_range(&mut self, range: PortRange) {
        for (index, mask) in words_of(range) {
            self.0[index] &= !mask;
        }
    }

    /// Sets every port that `other` has set.
    pub fn union_with(&mut self, other: &PortBitmap) {
        for (word, more) in self.0.iter_mut().zip(other.0.iter()) {
            *word |= more;
        }
    }

    /// The bits as words.
    pub fn words(&self) -> &[u64; PortBitmap::WORD_COUNT] {
        &self.0
    }

    /// Whether `port` is set.
    pub fn contains(&self, port: Port) -> bool {
        self.any_in(PortRange::single(port))
    }

    /// Whether at least one port of `range` is set.
    pub fn any_in(&self, range: PortRange) -> bool {
        words_of(range).any(|(index, mask)| self.0[index] & mask != 0)
    }

    /// How many bits are set, 0 to 65536.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether no bit is set.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }
}

impl From<&PortBitmap> for RangeSet {
    fn from(bitmap: &PortBitmap) -> RangeSet {
        let ports = PortRange::ALL.ports().filter(|port| bitmap.contains(*port));
        ports.map(PortRange::single).collect()
    }
}

impl Default for PortBitmap {
    fn default() -> PortBitmap {
        PortBitmap::empty()
    }
}

impl fmt::Debug for PortBitmap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PortBitmap({} set)", self.count())
    }
}

/// The ports of one transport, or of both laid over one another, as a wildcard request sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Reserved or in use: never placed on.
    pub taken: PortBitmap,
    /// In use until a short while ago: placed on only if nothing else is left.
    pub recent: PortBitmap,
}

/// The words that `range` lies in, each with the bits of its ports.
fn words_of(range: PortRange) -> impl Iterator<Item = (usize, u64)> {
    let first = usize::from(range.first().number());
    let last = usize::from(range.last().number());
    (first / 64..=last / 64).map(move |index| {
        let from = if index == first / 64 { first % 64 } else { 0 };
        let to = if index == last / 64 { last % 64 } else { 63 };
        (index, bits(from, to))
    })
}

/// Bits `from` to `to` of a word, both included.
fn bits(from: usize, to: usize) -> u64 {
    (u64::MAX << from) & (u64::MAX >> (63 - to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> PortRange {
        text.parse().unwrap()
    }

    #[test]
    fn port_p_is_bit_p_modulo_64_of_word_p_over_64() {
        let mut bitmap = PortBitmap::empty();
        bitmap.set(Port::LAST);
        bitmap.set(Port::new(64).unwrap());
        assert_eq!(bitmap.words()[1023], 1 << 63);
        assert_eq!(bitmap.words()[1], 1);
        assert_eq!(PortBitmap::from_words(bitmap.words()), bitmap);
    }

    #[test]
    fn all_ports_can_be_set_and_cleared() {
        let mut bitmap = PortBitmap::empty();
        bitmap.set_range(PortRange::ALL);
        assert_eq!(bitmap.count(), 65535);
        assert_eq!(bitmap.words()[0], u64::MAX << 1);
        bitmap.clear_range(PortRange::ALL);
        assert!(bitmap.is_empty());
    }

    #[test]
    fn a_range_across_words_touches_only_its_own_bits() {
        let mut bitmap = PortBitmap::empty();
        bitmap.set_range(range("60-200"));
        bitmap.clear_range(range("64-127"));
        assert!(!bitmap.any_in(range("1-59")) && !bitmap.any_in(range("201-65535")));
        assert!(!bitmap.any_in(range("64-127")));
        assert_eq!(bitmap.count(), 141 - 64);
    }
}
