//! Placement against the naive reference, which the fuzz target `placement` runs as well.

use std::collections::BTreeSet;

use portpool_core::{
    Alignment, Occupancy, Port, PortCount, PortRange, RangeSet, Wildcard, candidates, place,
};
use portpool_fuzz::placement::{Pool, check_candidates, check_place, naive_blocks};
use proptest::{collection::vec, prelude::*};

proptest! {
    #[test]
    fn a_block_is_placed_where_the_naive_search_finds_one(
        pool in pool(),
        wanted in wildcard(),
        seed: u64,
    ) {
        check_place(&pool, &wanted, seed);
    }

    #[test]
    fn the_last_free_block_of_a_full_pool_is_found(
        pool in pool(),
        count in 1..400_u16,
        alignment in 1..100_u16,
        seed: u64,
        choice: prop::sample::Index,
    ) {
        let alignment = Alignment::new(alignment).unwrap();
        let wanted = Wildcard { alignment, ..any_ports(count) };
        let ranges = pool.ranges.union(&set("2000-2500"));
        let all: Vec<PortRange> = naive_blocks(&ranges, &wanted).into_iter().collect();
        let block = *choice.get(&all);
        let mut occupancy = full();
        occupancy.taken.clear_range(block);
        prop_assert_eq!(place(&occupancy, &ranges, &wanted, seed), Some(block));
        occupancy.recent.set_range(PortRange::ALL);
        prop_assert_eq!(place(&occupancy, &ranges, &wanted, seed), Some(block));
    }

    #[test]
    fn candidates_are_distinct_blocks_of_the_pool(pool in pool(), wanted in wildcard(), seed: u64) {
        check_candidates(&pool, &wanted, seed);
    }
}

#[test]
fn placements_spread_over_an_empty_pool() {
    let ranges = set("20000-32767,61000-65535");
    let starts = starts(&Occupancy::default(), &ranges, &any_ports(1));
    // 256 draws from 17,304 ports meet about twice.
    assert!(starts.len() >= 245, "{} distinct starts", starts.len());
    let upper = starts.iter().filter(|start| **start >= 61000).count();
    assert!(
        (40..100).contains(&upper),
        "{upper} of {} in the upper quarter",
        starts.len()
    );
}

#[test]
fn placements_spread_over_a_fragmented_pool() {
    let ranges = set("1024-61023");
    let mut occupancy = full();
    for port in (1024..61024).step_by(20) {
        occupancy
            .taken
            .clear_range(PortRange::from_numbers(port, 1).unwrap());
    }
    let starts = starts(&occupancy, &ranges, &any_ports(1));
    assert!(starts.len() >= 225, "{} distinct starts", starts.len());
}

#[test]
fn placements_do_not_pile_up_at_the_edge_of_a_large_taken_stretch() {
    let ranges = set("1024-61023");
    let mut occupancy = Occupancy::default();
    occupancy.taken.set_range("1024-60023".parse().unwrap());
    let starts = starts(&occupancy, &ranges, &any_ports(1));
    assert!(starts.len() >= 200, "{} distinct starts", starts.len());
}

#[test]
fn seeds_that_differ_by_one_start_far_apart() {
    let ranges = set("1-65535");
    let firsts: Vec<i32> = (0..64)
        .map(|seed| place(&Occupancy::default(), &ranges, &any_ports(1), seed).unwrap())
        .map(|block| i32::from(block.first().number()))
        .collect();
    let close = firsts
        .windows(2)
        .filter(|pair| (pair[0] - pair[1]).abs() < 64)
        .count();
    assert!(close <= 2, "{close} of 63 neighbours close together");
}

#[test]
fn a_block_spans_touching_ranges_but_no_gap() {
    let touching = set("100-103,104-107");
    assert_eq!(
        place(&Occupancy::default(), &touching, &any_ports(8), 1),
        Some(range("100-107"))
    );
    let apart = set("100-103,105-108");
    assert_eq!(place(&Occupancy::default(), &apart, &any_ports(5), 1), None);
}

#[test]
fn an_alignment_without_a_multiple_in_the_range_finds_nothing() {
    let wanted = Wildcard {
        alignment: Alignment::new(1000).unwrap(),
        ..any_ports(1)
    };
    assert_eq!(
        place(&Occupancy::default(), &set("1001-1999"), &wanted, 1),
        None
    );
    assert_eq!(candidates(&set("1001-1999"), &wanted, 1).count(), 0);
    assert_eq!(
        place(&Occupancy::default(), &set("1-1999"), &wanted, 1),
        Some(range("1000"))
    );
}

#[test]
fn the_largest_block_is_all_ports() {
    let ranges = set("1-65535");
    assert_eq!(
        place(&Occupancy::default(), &ranges, &any_ports(65535), 9),
        Some(PortRange::ALL)
    );
    let mut occupancy = Occupancy::default();
    occupancy.taken.set(Port::LAST);
    assert_eq!(place(&occupancy, &ranges, &any_ports(65535), 9), None);
    assert_eq!(
        place(&occupancy, &ranges, &any_ports(65534), 9),
        Some(range("1-65534"))
    );
}

#[test]
fn port_65535_alone_can_be_placed() {
    let mut occupancy = full();
    occupancy.taken.clear_range(range("65535"));
    assert_eq!(
        place(&occupancy, &set("1-65535"), &any_ports(1), 3),
        Some(range("65535"))
    );
}

#[test]
fn a_pool_without_ranges_has_no_room() {
    assert_eq!(
        place(&Occupancy::default(), &RangeSet::new(), &any_ports(1), 1),
        None
    );
    assert_eq!(candidates(&RangeSet::new(), &any_ports(1), 1).count(), 0);
}

#[test]
fn a_request_within_ports_outside_the_pool_has_no_room() {
    let wanted = Wildcard {
        within: Some(range("1-100")),
        ..any_ports(1)
    };
    assert_eq!(
        place(&Occupancy::default(), &set("200-300"), &wanted, 1),
        None
    );
}

fn starts(occupancy: &Occupancy, ranges: &RangeSet, wanted: &Wildcard) -> BTreeSet<u16> {
    (0..256)
        .map(|seed| {
            place(occupancy, ranges, wanted, seed)
                .unwrap()
                .first()
                .number()
        })
        .collect()
}

fn full() -> Occupancy {
    let mut occupancy = Occupancy::default();
    occupancy.taken.set_range(PortRange::ALL);
    occupancy
}

fn any_ports(count: u16) -> Wildcard {
    Wildcard::new(PortCount::new(count).unwrap())
}

fn set(text: &str) -> RangeSet {
    text.parse().unwrap()
}

fn range(text: &str) -> PortRange {
    text.parse().unwrap()
}

/// A pool of a few ranges, free but for some stretches or taken but for some.
fn pool() -> impl Strategy<Value = Pool> {
    let stretches = || vec(stretch(), 0..60);
    (
        any::<bool>(),
        vec(stretch(), 1..6),
        stretches(),
        stretches(),
        stretches(),
    )
        .prop_map(|(crowded, ranges, changed, freed, recent)| {
            let mut occupancy = if crowded {
                full()
            } else {
                Occupancy::default()
            };
            for range in changed {
                match crowded {
                    true => occupancy.taken.clear_range(range),
                    false => occupancy.taken.set_range(range),
                }
            }
            freed
                .into_iter()
                .take(3)
                .for_each(|range| occupancy.taken.clear_range(range));
            recent
                .into_iter()
                .for_each(|range| occupancy.recent.set_range(range));
            Pool {
                occupancy,
                ranges: ranges.into_iter().collect(),
            }
        })
}

fn wildcard() -> impl Strategy<Value = Wildcard> {
    let count = prop_oneof![3 => 1..5_u16, 3 => 1..70_u16, 2 => 60..300_u16, 1 => 1..=65535_u16];
    let alignment = prop_oneof![3 => Just(1_u16), 3 => 1..20_u16, 1 => 1..=65535_u16];
    (count, alignment, prop::option::weighted(0.3, stretch())).prop_map(
        |(count, alignment, within)| Wildcard {
            alignment: Alignment::new(alignment).unwrap(),
            within,
            ..any_ports(count)
        },
    )
}

/// Mostly within a few words, so that ranges, taken and recent ports meet.
fn stretch() -> impl Strategy<Value = PortRange> {
    let first = prop_oneof![8 => 1000..1600_u16, 1 => 1..70_u16, 1 => 65300..=65535_u16];
    let count = prop_oneof![4 => 1..4_u16, 4 => 1..200_u16, 1 => 1..1000_u16];
    (first, count).prop_map(|(first, count)| {
        PortRange::from_numbers(first, count.min(65535 - first + 1)).unwrap()
    })
}
