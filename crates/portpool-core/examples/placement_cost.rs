//! What a placement costs in pools of several fillings. Run it in release mode:
//! `cargo run --release -p portpool-core --example placement_cost`

use std::{hint::black_box, time::Instant};

use portpool_core::{Occupancy, PortCount, PortRange, RangeSet, Wildcard, place};

fn main() {
    let pool: PortRange = "1024-61023".parse().expect("a range");
    let whole = RangeSet::from(pool);
    let pieces: RangeSet = pool
        .ports()
        .filter(|p| p.number() % 300 != 0)
        .map(PortRange::single)
        .collect();
    let fillings = [
        ("empty", Occupancy::default()),
        ("95 % taken, single ports free", taken_but(pool, 20, 1)),
        (
            "95 % taken, 16 ports free together",
            taken_but(pool, 320, 16),
        ),
        (
            "the same, all of them recent",
            recent(taken_but(pool, 320, 16)),
        ),
        ("95 % taken in one stretch", taken_but(pool, 60_000, 3_000)),
    ];
    for (name, occupancy) in &fillings {
        for count in [1, 16, 256] {
            report(name, occupancy, &whole, count);
        }
    }
    report("empty, 200 ranges", &fillings[0].1, &pieces, 1);
    report(
        "95 % taken, single ports free, 200 ranges",
        &fillings[1].1,
        &pieces,
        1,
    );
    report(
        "95 % taken, single ports free, 200 ranges",
        &fillings[1].1,
        &pieces,
        16,
    );
}

fn report(name: &str, occupancy: &Occupancy, ranges: &RangeSet, count: u16) {
    let wanted = Wildcard::new(PortCount::new(count).expect("not zero"));
    #[expect(clippy::disallowed_methods, reason = "measures; decides nothing")]
    let begin = Instant::now();
    let placed =
        (0..ROUNDS).filter(|seed| place(occupancy, ranges, &wanted, black_box(*seed)).is_some());
    let placed = placed.count();
    let each = begin.elapsed() / ROUNDS as u32;
    println!("{name:<42} {count:>4} ports {each:>10.2?} {placed:>6} of {ROUNDS} placed");
}

/// All of `pool` taken except the first `free` ports of every `period`.
fn taken_but(pool: PortRange, period: usize, free: u16) -> Occupancy {
    let mut occupancy = Occupancy::default();
    occupancy.taken.set_range(PortRange::ALL);
    for first in pool.ports().step_by(period) {
        if let Ok(hole) = PortRange::from_numbers(first.number(), free) {
            occupancy.taken.clear_range(hole);
        }
    }
    occupancy
}

fn recent(mut occupancy: Occupancy) -> Occupancy {
    occupancy.recent.set_range(PortRange::ALL);
    occupancy
}

const ROUNDS: u64 = 20_000;
