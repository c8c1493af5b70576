//! Placement against the naive reference: every start of every block, one port at a time.

use std::collections::BTreeSet;

use portpool_core::{
    Alignment, CANDIDATE_COUNT_MAX, Occupancy, Port, PortBitmap, PortCount, PortRange, RangeSet,
    Wildcard, candidates, place,
};

use crate::Draws;

/// What placement looks at.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Its ports.
    pub occupancy: Occupancy,
    /// Where blocks are drawn from.
    pub ranges: RangeSet,
}

/// The model, with a pool, a wish and a seed that the bytes stand for.
pub fn placement(bytes: &[u8]) {
    let mut draws = Draws::new(bytes);
    let pool = pool(&mut draws);
    let wanted = wildcard(&mut draws);
    let seed = draws.wide();
    check_place(&pool, &wanted, seed);
    check_candidates(&pool, &wanted, seed);
}

/// A block is found if the naive search finds one, and it is one of those, rested if one is.
///
/// # Panics
/// If that does not hold.
pub fn check_place(pool: &Pool, wanted: &Wildcard, seed: u64) {
    let all = naive_blocks(&pool.ranges, wanted);
    let free = without(&all, &pool.occupancy.taken);
    let rested = without(&free, &pool.occupancy.recent);
    let best = if rested.is_empty() { &free } else { &rested };
    let block = place(&pool.occupancy, &pool.ranges, wanted, seed);
    assert_eq!(block.is_some(), !best.is_empty());
    assert!(block.is_none_or(|block| best.contains(&block)), "{block:?}");
    assert_eq!(place(&pool.occupancy, &pool.ranges, wanted, seed), block);
}

/// Candidates are distinct blocks of the pool, as many as there are up to the limit.
///
/// # Panics
/// If that does not hold.
pub fn check_candidates(pool: &Pool, wanted: &Wildcard, seed: u64) {
    let all = naive_blocks(&pool.ranges, wanted);
    let listed: Vec<_> = candidates(&pool.ranges, wanted, seed).collect();
    let distinct: BTreeSet<_> = listed.iter().copied().collect();
    assert_eq!(listed.len(), all.len().min(CANDIDATE_COUNT_MAX));
    assert_eq!(listed.len(), distinct.len());
    assert!(distinct.is_subset(&all));
    assert!(candidates(&pool.ranges, wanted, seed).eq(listed));
}

/// Every block that could be wanted, whoever has its ports.
pub fn naive_blocks(ranges: &RangeSet, wanted: &Wildcard) -> BTreeSet<PortRange> {
    ranges
        .iter()
        .flat_map(PortRange::ports)
        .filter(|first| first.number() % wanted.alignment.number() == 0)
        .filter_map(|first| PortRange::new(first, wanted.count).ok())
        .filter(|block| wanted.within.is_none_or(|within| within.covers(*block)))
        .filter(|block| ranges.covers(*block))
        .collect()
}

/// The blocks that have no port with its bit set.
fn without(blocks: &BTreeSet<PortRange>, bitmap: &PortBitmap) -> BTreeSet<PortRange> {
    let bits = bitmap.words();
    let is_set =
        |port: Port| bits[usize::from(port.number()) / 64] >> (port.number() % 64) & 1 == 1;
    blocks
        .iter()
        .copied()
        .filter(|block| !block.ports().any(is_set))
        .collect()
}

/// A pool of a few ranges, free but for some stretches or taken but for some.
fn pool(draws: &mut Draws<'_>) -> Pool {
    let mut occupancy = Occupancy::default();
    let is_crowded = draws.below(2) == 1;
    if is_crowded {
        occupancy.taken.set_range(PortRange::ALL);
    }
    let ranges = draws.ranges(6).into_iter().collect();
    for range in draws.ranges(30) {
        match is_crowded {
            true => occupancy.taken.clear_range(range),
            false => occupancy.taken.set_range(range),
        }
    }
    for range in draws.ranges(20) {
        occupancy.recent.set_range(range);
    }
    Pool { occupancy, ranges }
}

fn wildcard(draws: &mut Draws<'_>) -> Wildcard {
    let count = PortCount::new(draws.count()).expect("not 0");
    let alignment = Alignment::new(draws.count()).expect("not 0");
    let within = (draws.below(3) == 1).then(|| draws.range());
    Wildcard {
        alignment,
        within,
        ..Wildcard::new(count)
    }
}

#[cfg(test)]
mod tests {
    use crate::exercise_slow;

    #[test]
    fn placement_agrees_with_the_naive_search() {
        exercise_slow("placement", super::placement);
    }
}
