//! Several who administrate at once.

use std::thread;

use portpool_testkit::{Chance, Size, in_arena};

use super::kit::Place;

#[test]
fn two_who_administrate_at_once_leave_records_and_kernel_in_step() {
    in_arena!(|arena| {
        let place = Place::new(arena);
        let seed = Chance::seed();
        println!("seed {seed}");
        thread::scope(|scope| {
            for number in 0..4 {
                let place = &place;
                scope.spawn(move || {
                    let mut chance = Chance::new(seed + number);
                    for _ in 0..Size::command_rounds() {
                        // Few ports for all, some of them in the ephemeral range.
                        let first = [5000, 40_000][chance.below(2) as usize] + chance.below(4);
                        let ports = format!("{first}-{}", first + chance.below(3));
                        let verbs = ["persist", "persist", "unpersist", "exclude", "unexclude"];
                        let verb = verbs[chance.below(5) as usize];
                        let transports = ["tcp", "udp", "both"][chance.below(3) as usize];
                        let output = place.run(&format!("{verb} {ports}/{transports}"));
                        assert!([Some(0), Some(1)].contains(&output.status.code()));
                    }
                });
            }
        });
        place.assert_in_step("after all");
        for block in place.records().blocks {
            place.done(&format!("unpersist {}/{}", block.range, block.transport));
        }
        place.assert_in_step("with no block left");
    });
}
