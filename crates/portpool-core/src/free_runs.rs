//! Finds runs of free ports, a word of 64 at a time.

use crate::{Occupancy, starts::Starts};

/// The ports that may be placed on.
#[derive(Clone, Copy)]
pub(crate) struct Free<'a> {
    occupancy: &'a Occupancy,
    /// All bits or none: a mask costs less than a branch for each word.
    recent_mask: u64,
}

impl<'a> Free<'a> {
    /// The ports that are not taken.
    pub(crate) fn all(occupancy: &'a Occupancy) -> Free<'a> {
        Free {
            occupancy,
            recent_mask: 0,
        }
    }

    /// The ports that are neither taken nor recent.
    pub(crate) fn rested(occupancy: &'a Occupancy) -> Free<'a> {
        Free {
            occupancy,
            recent_mask: u64::MAX,
        }
    }

    /// The starts from which `count` ports are free: words of bits that are not all zero, from the
    /// highest word down.
    pub(crate) fn runs(self, starts: Starts, count: u16) -> FreeRuns<'a> {
        let count = u32::from(count);
        let end = (starts.last + count - 1) as usize / 64 + 1;
        let begin = starts.first as usize / 64;
        FreeRuns {
            free: self,
            starts,
            count,
            begin,
            end,
            above: 0,
            ahead: 0,
        }
    }

    fn word(&self, index: usize) -> u64 {
        let recent = self.occupancy.recent.words()[index] & self.recent_mask;
        !(self.occupancy.taken.words()[index] | recent)
    }
}

/// Walks the words downwards, since whether a run is long enough is known only from what follows it.
pub(crate) struct FreeRuns<'a> {
    free: Free<'a>,
    starts: Starts,
    count: u32,
    begin: usize,
    /// One above the next word to look at.
    end: usize,
    /// The free ports of the word last looked at.
    above: u64,
    /// How many ports from the start of that word on are free, without a gap.
    ahead: u32,
}

impl FreeRuns<'_> {
    /// The bits of `free` from which `count` ports are free.
    fn run_starts(&self, free: u64) -> u64 {
        if self.count <= 64 {
            let window = u128::from(free) | u128::from(self.above) << 64;
            short_run_starts(window, self.count)
        } else {
            long_run_starts(free, self.ahead, self.count)
        }
    }
}

impl Iterator for FreeRuns<'_> {
    type Item = (usize, u64);

    fn next(&mut self) -> Option<(usize, u64)> {
        while self.end > self.begin {
            self.end -= 1;
            let free = self.free.word(self.end);
            let found = self.run_starts(free);
            self.ahead = if free == u64::MAX {
                self.ahead + 64
            } else {
                free.trailing_ones()
            };
            self.above = free;
            if found == 0 {
                continue;
            }
            let bits = found & self.starts.word(self.end);
            if bits != 0 {
                return Some((self.end, bits));
            }
        }
        None
    }
}

/// The lower bits of `window` from which `count` bits are set, for a count of at most 64.
fn short_run_starts(window: u128, count: u32) -> u64 {
    // Each step ands the runs with themselves further on, which about doubles their known length.
    let (mut runs, mut length) = (window, 1);
    while length < count && runs as u64 != 0 {
        let step = length.min(count - length);
        runs &= runs >> step;
        length += step;
    }
    runs as u64
}

/// The bits of `free` from which all bits are set up to the top and on for `count` ports in all, when
/// `ahead` ports are free above the word; for a count above 64.
fn long_run_starts(free: u64, ahead: u32, count: u32) -> u64 {
    let top = free.leading_ones();
    if top == 0 || top + ahead < count {
        return 0;
    }
    let lowest = 64 - top;
    let highest = (64 + ahead - count).min(63);
    (u64::MAX << lowest) & (u64::MAX >> (63 - highest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_run_may_reach_into_the_next_word() {
        let window = 0b11_u128 << 63 | 0b111;
        assert_eq!(short_run_starts(window, 1), 1 << 63 | 0b111);
        assert_eq!(short_run_starts(window, 2), 1 << 63 | 0b011);
        assert_eq!(short_run_starts(window, 3), 0b001);
        assert_eq!(short_run_starts(u128::MAX, 64), u64::MAX);
    }

    #[test]
    fn a_long_run_starts_where_enough_ports_follow() {
        assert_eq!(long_run_starts(u64::MAX, 1, 65), 1);
        assert_eq!(long_run_starts(u64::MAX, 0, 65), 0);
        assert_eq!(long_run_starts(u64::MAX << 62, 70, 71), 0b11 << 62);
        assert_eq!(long_run_starts(u64::MAX << 62, 70, 72), 0b01 << 62);
        assert_eq!(long_run_starts(u64::MAX >> 1, 1000, 65), 0);
        assert_eq!(long_run_starts(u64::MAX, 65000, 65), u64::MAX);
    }
}
