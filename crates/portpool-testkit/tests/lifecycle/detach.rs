//! Detaching.

use std::process::Command;

use portpool_kernel::{Error, detach};
use portpool_testkit::{Actor, Errno, in_arena, in_bare_arena};

use crate::scene::{ACTOR, Traces, assert_let_through, assert_refused, owner, words};

#[test]
fn detaching_where_nothing_is_attached_says_so() {
    in_bare_arena!(|arena| {
        let refused = detach(arena.run(), false).expect_err("detach");
        assert!(matches!(refused, Error::NotAttached), "{refused}");
        assert_eq!(Traces::of(arena), Traces::nothing());
        arena.attach();
        detach(arena.run(), false).expect("detach");
        let refused = detach(arena.run(), true).expect_err("detach twice");
        assert!(matches!(refused, Error::NotAttached), "{refused}");
    });
}

#[test]
fn nothing_is_left_after_detach() {
    in_bare_arena!(|arena| {
        for _ in 0..3 {
            arena.attach();
            drop(owner());
            detach(arena.run(), true).expect("detach");
            assert_eq!(Traces::of(arena), Traces::nothing());
            assert!(!arena.run().path().exists(), "the run directory is left");
        }
        assert_let_through(20_000);
    });
}

#[test]
fn live_reservations_keep_a_pool_attached() {
    in_arena!(|arena| {
        let mut owner = owner();
        let before = Traces::of(arena);
        let refused = detach(arena.run(), false).expect_err("detach");
        let Error::LiveReservations(live) = &refused else {
            panic!("{refused}");
        };
        assert_eq!(live.len(), 1);
        assert_eq!(live[0].owner_pid_seen, owner.pid());
        assert_eq!(Traces::of(arena), before);
        assert_refused(20_002);
        owner.ask("bind a 127.0.0.1:0").expect("the owner's bind");
    });
}

#[test]
fn a_forced_detach_ends_reservations_and_leaves_sockets_their_ports() {
    in_arena!(|arena| {
        let mut owner = owner();
        owner
            .ask_all(&["bind a 127.0.0.1:0", "listen a", "socket b tcp4"])
            .expect("listen");
        let detached = detach(arena.run(), true).expect("detach");
        assert_eq!(detached.ended.len(), 1);
        assert!(!detached.others_remain);
        assert_let_through(20_001);
        let mut other = Actor::start(ACTOR);
        other
            .ask_all(&[
                "socket c tcp4",
                "connect c 127.0.0.1:20000",
                "socket s tcp4",
            ])
            .expect("the listener still listens");
        assert_eq!(other.ask("bind s 127.0.0.1:20000"), Err(Errno::ADDRINUSE));
        assert_eq!(owner.ask("associate b 7"), Err(Errno(libc::ENOPROTOOPT)));
        // A pool attached later finds the port in use and nothing reserved.
        arena.attach();
        assert_eq!(other.ask("acquire s 20000 1 8"), Err(Errno::ADDRINUSE));
        other
            .ask("acquire s 20001 3 8")
            .expect("acquire the others");
        drop(owner);
        let mut acquired = other.ask("acquire s 20000 1 9");
        // The connection's end lingers with the listener gone, but is no bound socket.
        for _ in 0..200 {
            if acquired.is_ok() {
                break;
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "polls a condition, at most so often"
            )]
            std::thread::sleep(std::time::Duration::from_millis(5));
            acquired = other.ask("acquire s 20000 1 9");
        }
        acquired.expect("acquire after the listener's end");
    });
}

#[test]
fn no_shortage_of_descriptors_makes_detach_end_a_live_reservation() {
    in_arena!(|arena| {
        let _owner = owner();
        let (run, _) = words(arena);
        let before = Traces::of(arena);
        for limit in 4..30 {
            let mut actor = with_descriptors(limit);
            let answer = actor.ask(&format!("detach {run}")).expect("an answer");
            assert!(
                answer.starts_with("failed: "),
                "{limit} descriptors: {answer}"
            );
            assert_eq!(Traces::of(arena), before, "{limit} descriptors: {answer}");
        }
        assert_refused(20_000);
    });
}

/// An actor that can have few files open.
pub(crate) fn with_descriptors(limit: u32) -> Actor {
    let limit = format!("--nofile={limit}:{limit}");
    Actor::spawn(Command::new("prlimit").args([&limit, ACTOR]))
}
