//! The keeper is killed at every step of everything it does, and the next one takes up from there.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

use portpool::{PortRange, Request, Transport, Transports, Want};
use portpool_testkit::{Arena, in_arena};
use portpool_varlink::calls::{
    Acquire, Describe, EntryKind, Exclude, Lookup, Method, Persist, Unexclude, Unpersist,
};

use crate::kit::{Keeper, LONG, reserved_ports, until};

#[test]
fn killed_at_any_step_of_a_grant_it_leaves_nothing_taken_and_nothing_lost() {
    in_arena!(|arena: &Arena| {
        let runtime = specific("20000-20003");
        let living = arena.pool().acquire(&runtime).unwrap();
        let before = reserved_ports();
        for step in ["noted", "swept", "open", "closed", "let-go"] {
            let mut keeper =
                Keeper::start_with(arena, &[], &[("PORTPOOL_FAULT", &format!("grant:{step}"))]);
            let mut client = keeper.client();
            let answer = client.call(
                &Acquire::exactly(Transports::Tcp, range("45000-45003")),
                Some(LONG),
            );
            let is_answered = ["closed", "let-go"].contains(&step);
            assert_eq!(answer.is_ok(), is_answered, "{step}: {answer:?}");
            drop(client);
            let status = keeper.wait();
            assert!(status.to_string().contains("signal: 9"), "{step}: {status}");
            let next = Keeper::start(arena);
            assert_eq!(reserved_ports(), before, "{step}");
            drop(arena.pool().acquire(&specific("45000-45003")).unwrap());
            // Also noted: otherwise the next one dies while it puts that in order.
            until("nothing is taken", || {
                next.client()
                    .call(&Describe {}, Some(LONG))
                    .unwrap()
                    .windows
                    == 0
            });
            assert_eq!(reserved_ports(), before, "{step}");
        }
        let listener = living.tcp_listener(Ipv4Addr::LOCALHOST.into()).unwrap();
        assert_eq!(listener.local_addr().unwrap().port(), 20_000);
    });
}

#[test]
fn a_block_claimed_through_a_keeper_that_died_is_watched_by_the_next() {
    in_arena!(|arena: &Arena| {
        let before = reserved_ports();
        let mut keeper = Keeper::start(arena);
        let block = arena.pool().acquire(&specific("45000-45003")).unwrap();
        let while_held = reserved_ports();
        assert_ne!(while_held, before);
        keeper.kill();
        let listener = block.tcp_listener(Ipv4Addr::LOCALHOST.into()).unwrap();
        let keeper = Keeper::start(arena);
        assert_eq!(reserved_ports(), while_held);
        let description = keeper.client().call(&Describe {}, Some(LONG)).unwrap();
        assert_eq!(description.windows, 1);
        drop((listener, block));
        until("the entry goes with the block", || {
            reserved_ports() == before
        });
    });
}

#[test]
fn killed_at_any_step_of_an_administrative_change_it_is_whole_or_absent() {
    in_arena!(|arena: &Arena| {
        let before = reserved_ports();
        let living = arena.pool().acquire(&specific("20000-20003")).unwrap();
        let mut rounds = 0;
        for step in ["begun", "kept-clear", "installed-tcp", "committed"] {
            let range = fresh();
            die_in(arena, &format!("persist:{step}"), &persist(range));
            let is_there = settled_block(arena, range);
            assert_eq!(is_there, step == "committed", "{step}");
            rounds += 1;
        }
        for step in ["begun", "committed", "removed-tcp", "let-go"] {
            let range = fresh();
            Keeper::start(arena)
                .client()
                .call(&persist(range), Some(LONG))
                .unwrap();
            let transports = Transports::Tcp;
            die_in(
                arena,
                &format!("unpersist:{step}"),
                &Unpersist { transports, range },
            );
            let is_there = settled_block(arena, range);
            assert_eq!(is_there, step == "begun", "{step}");
            rounds += 1;
        }
        let transports = Transports::Tcp;
        for step in ["begun", "kept-clear", "excluded-tcp", "committed"] {
            let range = fresh();
            die_in(arena, &format!("exclude:{step}"), &exclude(range));
            assert_eq!(
                settled_exclusion(arena, range),
                step == "committed",
                "{step}"
            );
            rounds += 1;
        }
        for step in ["begun", "committed", "unexcluded-tcp", "let-go"] {
            let range = fresh();
            Keeper::start(arena)
                .client()
                .call(&exclude(range), Some(LONG))
                .unwrap();
            die_in(
                arena,
                &format!("unexclude:{step}"),
                &Unexclude { transports, range },
            );
            assert_eq!(settled_exclusion(arena, range), step == "begun", "{step}");
            rounds += 1;
        }
        assert_eq!(rounds, 16);
        let listener = living.tcp_listener(Ipv4Addr::LOCALHOST.into()).unwrap();
        assert_eq!(listener.local_addr().unwrap().port(), 20_000);
        // Everything can be ended, and then nothing is left.
        let keeper = Keeper::start(arena);
        let mut client = keeper.client();
        for entry in client.list(Some(LONG)).unwrap() {
            let range = entry.range;
            match entry.kind {
                EntryKind::Runtime => {}
                EntryKind::Persistent => {
                    client
                        .call(
                            &Unpersist {
                                transports: entry.transport.into(),
                                range,
                            },
                            Some(LONG),
                        )
                        .unwrap();
                }
                EntryKind::Exclusion => {
                    client
                        .call(&Unexclude { transports, range }, Some(LONG))
                        .unwrap();
                }
            }
        }
        assert_eq!(reserved_ports(), before);
    });
}

/// Has a keeper die in the middle of a call.
fn die_in<M: Method<Reply: std::fmt::Debug>>(arena: &Arena, fault: &str, call: &M) {
    let mut keeper = Keeper::start_with(arena, &[], &[("PORTPOOL_FAULT", fault)]);
    let answer = keeper.client().call(call, Some(LONG));
    assert!(answer.is_err(), "{fault}: {answer:?}");
    let status = keeper.wait();
    assert!(
        status.to_string().contains("signal: 9"),
        "{fault}: {status}"
    );
}

/// Whether the block is there, in every respect, once the next keeper has begun.
fn settled_block(arena: &Arena, range: PortRange) -> bool {
    let keeper = Keeper::start(arena);
    let mut client = keeper.client();
    let transport = Transport::Tcp;
    let is_found = client
        .call(&Lookup { transport, range }, Some(LONG))
        .is_ok();
    let entries = client.list(Some(LONG)).unwrap();
    let is_listed = entries
        .iter()
        .any(|it| (it.kind, it.range) == (EntryKind::Persistent, range));
    let is_guarded = TcpListener::bind((Ipv4Addr::LOCALHOST, range.first().number())).is_err();
    let is_kept = reserved_ports().contains(range.first());
    assert_eq!([is_listed, is_guarded, is_kept], [is_found; 3], "{range}");
    is_found
}

fn settled_exclusion(arena: &Arena, range: PortRange) -> bool {
    let keeper = Keeper::start(arena);
    let entries = keeper.client().list(Some(LONG)).unwrap();
    let is_listed = entries
        .iter()
        .any(|it| (it.kind, it.range) == (EntryKind::Exclusion, range));
    let is_kept = reserved_ports().contains(range.first());
    assert_eq!(is_listed, is_kept, "{range}");
    is_listed
}

fn exclude(range: PortRange) -> Exclude {
    Exclude {
        transports: Transports::Tcp,
        range,
        note: None,
    }
}

fn persist(range: PortRange) -> Persist {
    Persist {
        transports: Transports::Tcp,
        range,
        group: None,
        note: None,
    }
}

fn specific(text: &str) -> Request {
    Request {
        transports: Transports::Tcp,
        want: Want::Specific(range(text)),
    }
}

/// A range that nothing was tried with yet, with room around it.
fn fresh() -> PortRange {
    static NEXT: AtomicU16 = AtomicU16::new(45_000);
    PortRange::from_numbers(NEXT.fetch_add(10, Ordering::Relaxed), 4).unwrap()
}

fn range(text: &str) -> PortRange {
    text.parse().unwrap()
}
