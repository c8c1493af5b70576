//! Attaching over a running pool.

use std::process::Command;

use portpool::{Limits, PortRange, RangeSet, Request, Transport, Transports, Want};
use portpool_kernel::{AttachOptions, Error, RunDir, attach, detach};
use portpool_testkit::{Actor, Census, Errno, in_arena, in_bare_arena};

use crate::scene::{ACTOR, STRANGER, Traces, assert_refused, owner, words};

#[test]
fn attaching_twice_leaves_what_attaching_once_does() {
    in_arena!(|arena| {
        let before = Traces::of(arena);
        let first = arena.pool().overview().expect("overview").config;
        let again = arena.attach();
        assert!(!again.is_new);
        assert_eq!(again.pool, first);
        let after = Traces::of(arena);
        // Other programs, in the same places.
        assert_eq!(
            format!("{before:?}").split("programs").next(),
            format!("{after:?}").split("programs").next()
        );
        assert_eq!(programs(arena), 8);
    });
}

/// What a pool reads stays open, and after detach and attach is not what is in force.
#[test]
fn a_pool_that_was_opened_before_looks_at_what_is_attached_now() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let range = |text: &str| text.parse::<PortRange>().expect("range");
        let request = |text: &str| Request {
            transports: Transports::Tcp,
            want: Want::Specific(range(text)),
        };
        let before = pool.acquire(&request("20000-20003")).expect("acquire");
        let taken = |text: &str| pool.first_taken(Transport::Tcp, range(text)).expect("look");
        assert_eq!(pool.reservations().expect("look").len(), 1);
        let (port, state) = taken("19990-20010").expect("taken");
        assert_eq!(port.number(), 20_000);
        assert!(state.reservation.is_some() && !state.is_free());
        let view = pool.view().expect("look");
        assert!(view.is_kept_clear(range("20000-20100")).expect("look"));
        assert!(!view.is_kept_clear(range("32000-33000")).expect("look"));
        portpool_kernel::detach(arena.run(), true).expect("detach");
        drop(before);
        pool.reservations().expect_err("nothing is attached");
        view.config().expect_err("it was detached");
        arena.attach();
        assert!(pool.reservations().expect("look").is_empty());
        assert!(taken("19990-20010").is_none());
        let _after = pool.acquire(&request("20128-20131")).expect("acquire");
        let user = std::net::TcpListener::bind("127.0.0.1:21000").expect("bind");
        assert_eq!(taken("20001-21000").expect("taken").0.number(), 20_128);
        let (port, state) = taken("20132-21100").expect("taken");
        assert_eq!((port.number(), state.socket_count), (21_000, 1));
        drop(user);
        assert!(taken("20132-21100").is_none());
    });
}

#[test]
fn attaching_again_replaces_ranges_and_limits_where_they_are_given() {
    in_arena!(|arena| {
        let ranges: RangeSet = "25000-25099".parse().expect("ranges");
        let limits = Limits {
            ports_per_uid_max: 3,
            ..Limits::DEFAULT
        };
        let changed = attach(&AttachOptions {
            ranges: Some(ranges.clone()),
            limits: Some(limits),
            ..arena.options()
        })
        .expect("attach again");
        assert_eq!(
            (changed.pool.ranges, changed.pool.limits),
            (ranges.clone(), limits)
        );
        let mut user = Actor::start_as(ACTOR, STRANGER);
        user.ask("socket o tcp4").expect("socket");
        assert_eq!(user.ask("acquire o 25000 4 7"), Err(Errno(libc::EDQUOT)));
        user.ask("acquire o 25000 3 7")
            .expect("acquire within the new limit");
        let kept = arena.attach();
        assert_eq!((kept.pool.ranges, kept.pool.limits), (ranges, limits));
    });
}

#[test]
fn reservations_and_associated_sockets_live_on_when_attaching_again() {
    in_arena!(|arena| {
        let mut owners: Vec<Actor> = (0..4u32)
            .map(|number| {
                let mut owner = Actor::start(ACTOR);
                let (first, token) = (21_000 + number * 10, number + 1);
                owner
                    .ask_all(&[
                        "socket o tcp4",
                        &format!("acquire o {first} 4 {token} tree"),
                        "socket a tcp4",
                        &format!("associate a {token}"),
                        "socket b tcp4",
                        &format!("associate b {token}"),
                        "bind b 127.0.0.1:0",
                    ])
                    .expect("acquire, associate, bind");
                owner
            })
            .collect();
        let before = Census::of(arena);
        for _ in 0..3 {
            arena.attach();
        }
        assert_eq!(Census::of(arena), before);
        for (number, owner) in (0u16..).zip(&mut owners) {
            let first = 21_000 + number * 10;
            assert_refused(first + 3);
            owner
                .ask("bind a 127.0.0.1:0")
                .expect("bind the socket associated before");
            assert_eq!(
                owner.ask("address a"),
                Ok(format!("127.0.0.1:{}", first + 1))
            );
            let token = number + 1;
            owner.ask(&format!("release o {token}")).expect("release");
        }
        drop(owners);
        Census::await_nothing(arena);
    });
}

#[test]
fn no_bind_is_let_through_while_programs_are_replaced() {
    in_arena!(|arena| {
        let _owner = owner();
        let mut strangers = [Actor::start_as(ACTOR, STRANGER), Actor::start(ACTOR)];
        for _ in 0..15 {
            for (stranger, kind) in strangers.iter_mut().zip(["tcp4", "tcp4"]) {
                stranger.tell(&format!("hammer {kind} 127.0.0.1:20001 30000"));
            }
            arena.attach();
            for stranger in &mut strangers {
                assert_eq!(stranger.answer(), Ok("0".to_owned()));
            }
        }
    });
}

#[test]
fn another_layout_version_is_not_attached_over() {
    in_arena!(|arena| {
        let _owner = owner();
        let other = arena.run().path().join("bpf/abi-999");
        std::fs::create_dir(&other).expect("mkdir");
        let before = Traces::of(arena);
        let refused = attach(&arena.options()).expect_err("attach over another version");
        assert!(
            matches!(&refused, Error::OtherVersion { found, .. } if found == "999"),
            "{refused}"
        );
        let refused =
            portpool_kernel::detach(arena.run(), true).expect_err("detach of another version");
        assert!(matches!(refused, Error::OtherVersion { .. }), "{refused}");
        assert_eq!(Traces::of(arena), before);
        assert_refused(20_000);
        std::fs::remove_dir(&other).expect("rmdir");
    });
}

#[test]
fn another_cgroup_is_not_attached_to() {
    in_arena!(|arena| {
        let _owner = owner();
        let before = Traces::of(arena);
        let config = arena.pool().overview().expect("overview").config;
        let nested = arena.cgroup().join("nested");
        std::fs::create_dir(&nested).expect("make a cgroup");
        let refused = attach(&AttachOptions {
            cgroup: Some(nested),
            ..arena.options()
        })
        .expect_err("attach to another cgroup");
        assert!(matches!(refused, Error::OtherCgroup { .. }), "{refused}");
        assert_eq!(Traces::of(arena), before);
        assert_eq!(arena.pool().overview().expect("overview").config, config);
        assert_refused(20_000);
    });
}

#[test]
fn a_namespace_gets_no_second_pool_by_another_run_directory() {
    in_arena!(|arena| {
        let _owner = owner();
        let before = Traces::of(arena);
        let other = RunDir::new(arena.run().path().with_file_name("other"));
        // An inner cgroup has the same sockets: both sets of programs would answer them.
        let nested = arena.cgroup().join("nested");
        std::fs::create_dir(&nested).expect("make a cgroup");
        for cgroup in [arena.cgroup(), &nested] {
            let refused = attach(&AttachOptions {
                run: other.clone(),
                cgroup: Some(cgroup.to_owned()),
                ..arena.options()
            })
            .expect_err("attach a second pool");
            assert!(matches!(refused, Error::Elsewhere(_)), "{refused}");
        }
        let refused = detach(&other, true).expect_err("detach what is elsewhere");
        assert!(matches!(refused, Error::Elsewhere(_)), "{refused}");
        assert!(!other.path().exists());
        assert_eq!(Traces::of(arena), before);
        assert_refused(20_000);
        let mut user = Actor::start(ACTOR);
        user.ask_all(&["socket o tcp4", "acquire o 20010 4 8"])
            .expect("acquire in the first pool");
    });
}

#[test]
fn a_pool_whose_mount_namespace_has_ended_is_no_second_pool() {
    in_bare_arena!(|arena| {
        let (run, cgroup) = words(arena);
        std::fs::create_dir(arena.run().path()).expect("make the run directory");
        for _ in 0..5 {
            // The kernel takes its programs and maps away some time after the last process.
            let mut gone = Actor::spawn(Command::new("unshare").args(["-m", ACTOR]));
            gone.ask(&format!("attach {run} {cgroup}"))
                .expect("attach in a mount namespace of its own");
            gone.kill();
            assert!(arena.attach().is_new);
            detach(arena.run(), false).expect("detach");
            std::fs::create_dir(arena.run().path()).expect("make the run directory");
        }
    });
}

#[test]
fn attaching_again_mends_the_links_of_a_cgroup_that_is_gone() {
    in_bare_arena!(|arena| {
        let nested = arena.cgroup().join("nested");
        std::fs::create_dir(&nested).expect("make a cgroup");
        attach(&AttachOptions {
            cgroup: Some(nested.clone()),
            ..arena.options()
        })
        .expect("attach");
        std::fs::remove_dir(&nested).expect("remove the cgroup");
        arena.attach();
        assert_eq!(programs(arena), 8);
        let _owner = owner();
        assert_refused(20_000);
    });
}

fn programs(arena: &portpool_testkit::Arena) -> usize {
    portpool_testkit::sys::bpf::programs_on(arena.cgroup())
        .expect("programs")
        .len()
}
