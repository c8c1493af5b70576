//! Roots of tree scopes that come and go at once.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use portpool::{AcquireError, PortRange, Refusal, Want, abi::Scope};
use portpool_testkit::{Census, Size, in_arena};

use crate::crossing::{bind, tcp};

#[test]
fn tree_scopes_of_one_root_come_and_go_at_once() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let rounds = Size::asked().pick(40_000, 400_000);
        let busy = AtomicU32::new(0);
        thread::scope(|scope| {
            for number in 0..4u16 {
                let (pool, busy) = (&pool, &busy);
                scope.spawn(move || {
                    let owner = tcp();
                    let first = 20_000 + number * 64;
                    let range = PortRange::from_numbers(first, 4).expect("range");
                    let tree = Scope::Tree {
                        root: None,
                        zero_from_block: number % 2 == 0,
                    };
                    for round in 0..rounds {
                        let block = loop {
                            match pool.acquire_on(&owner, &Want::Specific(range), tree) {
                                Ok(block) => break block,
                                // The entry of the root was just being taken away.
                                Err(AcquireError::Refused {
                                    refusal: Refusal::Busy,
                                    ..
                                }) => {
                                    busy.fetch_add(1, Ordering::Relaxed);
                                }
                                Err(error) => panic!("acquire: {error}"),
                            }
                        };
                        if round % 8 == 0 {
                            assert!(
                                bind(&tcp(), first + 1),
                                "an unassociated bind in the tree's block"
                            );
                        }
                        pool.release_on(&owner, block.token).expect("release");
                        assert!(
                            round % 64 != 0
                                || !pool
                                    .reservations()
                                    .expect("look")
                                    .iter()
                                    .any(|entry| entry.token == block.token)
                        );
                    }
                });
            }
        });
        println!("{} retries", busy.load(Ordering::Relaxed));
        Census::await_nothing(arena);
    });
}
