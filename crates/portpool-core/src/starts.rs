//! Where blocks may start inside one range: the aligned ports from which a whole block still fits.

use crate::{Port, PortRange, Wildcard};

/// Every `step`-th port number from `first` to `last`, both included; never empty.
///
/// A block that starts at one of them lies whole inside the range they were made from, so a search
/// that keeps to the starts need not look at the end of the range again.
#[derive(Clone, Copy)]
pub(crate) struct Starts {
    pub(crate) first: u32,
    pub(crate) last: u32,
    step: u32,
}

impl Starts {
    /// The starts of `wanted` in `range`, or nothing if no aligned block fits.
    pub(crate) fn new(range: PortRange, wanted: &Wildcard) -> Option<Starts> {
        let range = wanted
            .within
            .map_or(Some(range), |within| within.intersection(range))?;
        let step = u32::from(wanted.alignment.number());
        let first = round_down(u32::from(range.first().number()) + step - 1, step);
        let end = u32::from(range.last().number()) + 1;
        let room = end.checked_sub(first + u32::from(wanted.count.number()))?;
        Some(Starts {
            first,
            last: first + room / step * step,
            step,
        })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        quotient(self.last - self.first, self.step) + 1
    }

    /// Start number `rank`, and those behind it that are less than a word away.
    pub(crate) fn near(&self, rank: u32) -> Starts {
        let first = self.nth(rank);
        let room = (self.last - first).min(63);
        Starts {
            first,
            last: first + room / self.step * self.step,
            step: self.step,
        }
    }

    /// Start number `rank`, counted from 0, which must be below the count.
    pub(crate) fn nth(&self, rank: u32) -> u32 {
        self.first + rank * self.step
    }

    /// The starts among the 64 ports of word `index`, as its bits.
    pub(crate) fn word(&self, index: usize) -> u64 {
        let base = index as u32 * 64;
        if self.last < base {
            return 0;
        }
        let skipped = match base.checked_sub(self.first) {
            Some(past) => past.next_multiple_of(self.step) - past,
            None => self.first - base,
        };
        let bits = comb(self.step).checked_shl(skipped).unwrap_or(0);
        bits & (u64::MAX >> (63 - (self.last - base).min(63)))
    }
}

/// The block of `wanted` that starts at port number `first`.
pub(crate) fn block(first: u32, wanted: &Wildcard) -> Option<PortRange> {
    let first = u16::try_from(first).ok().and_then(Port::new)?;
    PortRange::new(first, wanted.count).ok()
}

fn round_down(number: u32, step: u32) -> u32 {
    quotient(number, step) * step
}

/// Spares most requests the divisions, which are what a pool of many ranges would cost.
fn quotient(number: u32, step: u32) -> u32 {
    if step == 1 { number } else { number / step }
}

/// Bit 0 and every `step`-th bit after it.
fn comb(step: u32) -> u64 {
    let (mut bits, mut width) = (1_u64, step);
    while width < 64 {
        bits |= bits << width;
        width *= 2;
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Alignment, PortCount};

    fn starts(range: &str, count: u16, alignment: u16) -> Option<Starts> {
        let wanted = Wildcard {
            alignment: Alignment::new(alignment).unwrap(),
            ..Wildcard::new(PortCount::new(count).unwrap())
        };
        Starts::new(range.parse().unwrap(), &wanted)
    }

    #[test]
    fn the_bits_of_the_words_are_the_starts() {
        for (range, count, alignment) in [
            ("1-65535", 1, 1),
            ("100-700", 16, 7),
            ("63-129", 2, 2),
            ("1-65535", 9, 640),
        ] {
            let starts = starts(range, count, alignment).unwrap();
            let listed = (0..starts.count()).map(|rank| starts.nth(rank));
            let bits = (0..65536).filter(|port| starts.word(port / 64) >> (port % 64) & 1 == 1);
            assert!(
                listed.eq(bits.map(|port| port as u32)),
                "{range} {count} {alignment}"
            );
        }
    }

    #[test]
    fn the_last_start_leaves_room_for_a_whole_block() {
        let starts = starts("100-119", 4, 8).unwrap();
        assert_eq!((starts.first, starts.last, starts.count()), (104, 112, 2));
    }

    #[test]
    fn a_block_that_does_not_fit_has_no_start() {
        assert!(starts("100-103", 5, 1).is_none());
        assert!(starts("101-107", 1, 100).is_none());
        assert!(starts("65535", 1, 32768).is_none());
        assert!(starts("1-65535", 65535, 2).is_none());
        assert_eq!(starts("1-65535", 65535, 1).unwrap().count(), 1);
    }
}
