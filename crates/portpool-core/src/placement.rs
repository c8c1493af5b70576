//! Placement: where a wildcard block lands.
//!
//! Many processes place at once, each on its own slightly old view, and the kernel refuses all but
//! one of those that land on the same port. So blocks are spread over the whole pool by a seed, and
//! a refused caller places again with another one. The claim itself is not made here.

use crate::{
    Occupancy, PortRange, RangeSet, Wildcard,
    free_runs::Free,
    mix::Mix,
    starts::{Starts, block},
};

/// Chooses a free block of `wanted.count` ports, aligned, whole inside one of `ranges` and inside
/// `wanted.within`. The same arguments give the same block, other seeds give other ones.
///
/// Ports used recently are avoided as long as a block without them exists. Nothing comes back only
/// if no block of free ports fits at all.
///
/// ```
/// use portpool_core::{Occupancy, PortCount, RangeSet, Wildcard, place};
///
/// let mut occupancy = Occupancy::default();
/// occupancy.taken.set_range("20000-20013".parse()?);
/// let ranges: RangeSet = "20000-20017".parse()?;
/// let wanted = Wildcard::new(PortCount::new(4).unwrap());
/// let block = place(&occupancy, &ranges, &wanted, 1);
/// assert_eq!(block, Some("20014-20017".parse()?));
/// # Ok::<(), portpool_core::ParseError>(())
/// ```
pub fn place(
    occupancy: &Occupancy,
    ranges: &RangeSet,
    wanted: &Wildcard,
    seed: u64,
) -> Option<PortRange> {
    let places = Places { ranges, wanted };
    let rested = places.find(Free::rested(occupancy), seed);
    if rested.is_some() || occupancy.recent.is_empty() {
        return rested;
    }
    places.find(Free::all(occupancy), seed)
}

/// Blocks to try where the occupancy cannot be read: aligned, inside `ranges` and `wanted.within`,
/// in an order that the seed decides, no two alike, at most [`CANDIDATE_COUNT_MAX`].
///
/// ```
/// use portpool_core::{PortCount, RangeSet, Wildcard, candidates};
///
/// let ranges: RangeSet = "20000-20002".parse()?;
/// let wanted = Wildcard::new(PortCount::ONE);
/// assert_eq!(candidates(&ranges, &wanted, 1).count(), 3);
/// # Ok::<(), portpool_core::ParseError>(())
/// ```
pub fn candidates(
    ranges: &RangeSet,
    wanted: &Wildcard,
    seed: u64,
) -> impl Iterator<Item = PortRange> {
    let ranks = Ranks::new(Places { ranges, wanted }.count(), seed).take(CANDIDATE_COUNT_MAX);
    ranks.filter_map(move |rank| {
        let (starts, rank) = Places { ranges, wanted }.locate(rank)?;
        block(starts.nth(rank), wanted)
    })
}

/// How many blocks [`candidates`] gives at most.
pub const CANDIDATE_COUNT_MAX: usize = 64;

/// Everywhere a wanted block may start, ranked from the lowest port on.
#[derive(Clone, Copy)]
struct Places<'a> {
    ranges: &'a RangeSet,
    wanted: &'a Wildcard,
}

impl<'a> Places<'a> {
    fn find(self, free: Free<'_>, seed: u64) -> Option<PortRange> {
        let first = self.probe(free, seed).or_else(|| self.survey(free, seed))?;
        block(first, self.wanted)
    }

    /// Looks at a few words here and there, which finds room in all but very full pools.
    fn probe(self, free: Free<'_>, seed: u64) -> Option<u32> {
        Ranks::new(self.count(), seed)
            .take(PROBE_COUNT)
            .find_map(|rank| {
                let (starts, rank) = self.locate(rank)?;
                let (index, bits) = free
                    .runs(starts.near(rank), self.wanted.count.number())
                    .last()?;
                Some(index as u32 * 64 + bits.trailing_zeros())
            })
    }

    /// Looks at every word and draws one of all starts with room. Taking the first from a random
    /// place on would be quicker, but would send every process to the edge of a large taken stretch.
    fn survey(self, free: Free<'_>, seed: u64) -> Option<u32> {
        let room_count = self.room(free).map(|(_, bits)| bits.count_ones()).sum();
        // Another stream than that of the probes, which would repeat the draw that just failed.
        let mut rank = Mix::new(!seed).below(room_count);
        for (index, bits) in self.room(free) {
            if rank < bits.count_ones() {
                return Some(index as u32 * 64 + nth_bit(bits, rank));
            }
            rank -= bits.count_ones();
        }
        None
    }

    /// All starts with room for a block, as words of bits.
    fn room(self, free: Free<'a>) -> impl Iterator<Item = (usize, u64)> {
        self.starts()
            .flat_map(move |starts| free.runs(starts, self.wanted.count.number()))
    }

    /// The start with this rank among all, as the starts of its range and the rank among those.
    fn locate(self, mut rank: u32) -> Option<(Starts, u32)> {
        for starts in self.starts() {
            if rank < starts.count() {
                return Some((starts, rank));
            }
            rank -= starts.count();
        }
        None
    }

    fn count(self) -> u32 {
        self.starts().map(|starts| starts.count()).sum()
    }

    fn starts(self) -> impl Iterator<Item = Starts> {
        self.ranges
            .iter()
            .filter_map(move |range| Starts::new(range, self.wanted))
    }
}

/// All numbers below a count, each once, in an order that the seed decides.
struct Ranks {
    next: u32,
    stride: u32,
    count: u32,
    left: u32,
}

impl Ranks {
    fn new(count: u32, seed: u64) -> Ranks {
        let mut mix = Mix::new(seed);
        let next = mix.below(count);
        // A stride without a common divisor meets every number before it comes back to the first.
        let mut stride = 1 + mix.below(count);
        while common_divisor(stride, count) > 1 {
            stride += 1;
        }
        Ranks {
            next,
            stride,
            count,
            left: count,
        }
    }
}

impl Iterator for Ranks {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        let rank = self.next;
        self.next = (rank + self.stride) % self.count;
        Some(rank)
    }
}

fn common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The position of set bit number `rank`, counted from 0 at the lowest.
fn nth_bit(mut bits: u64, rank: u32) -> u32 {
    for _ in 0..rank {
        bits &= bits - 1;
    }
    bits.trailing_zeros()
}

/// A pool 95 % full in single ports has room in nine of ten words, so this many fail together about
/// never; in one full of larger blocks they cost less than the survey they may spare.
const PROBE_COUNT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_meet_every_number_once() {
        for count in [0, 1, 2, 6, 64, 1000] {
            for seed in 0..20 {
                let mut ranks: Vec<u32> = Ranks::new(count, seed).collect();
                ranks.sort_unstable();
                assert!(ranks.into_iter().eq(0..count), "count {count}, seed {seed}");
            }
        }
    }

    #[test]
    fn the_nth_bit_is_counted_from_the_lowest() {
        assert_eq!([0, 1, 2].map(|rank| nth_bit(0b1010_0001, rank)), [0, 5, 7]);
        assert_eq!(nth_bit(u64::MAX, 63), 63);
    }
}
