//! Several network namespaces under one set of programs.

use std::{fs::File, process::Command};

use portpool_testkit::{Actor, Arena, Errno, in_arena, sys::bpf::programs_on};

use crate::scene::{ACTOR, Traces, assert_let_through, assert_refused, owner, run, words};

#[test]
fn pools_of_two_network_namespaces_know_nothing_of_each_other() {
    in_arena!(|arena| {
        let mut other = elsewhere(arena);
        let mut owner = owner();
        // The same numbers, and the same token.
        other
            .ask_all(&["socket o tcp4", "acquire o 20000 4 7"])
            .expect("acquire in the other namespace");
        other.ask("socket s tcp4").expect("socket");
        assert_eq!(other.ask("bind s 0.0.0.0:20000"), Err(Errno::ACCES));
        other.ask("release o 7").expect("release");
        other.ask("bind s 0.0.0.0:20000").expect("bind");
        assert_refused(20_000);
        owner.ask("bind a 127.0.0.1:0").expect("the owner's bind");
        assert_eq!(programs_on(arena.cgroup()).expect("programs").len(), 8);
    });
}

#[test]
fn detaching_one_namespace_leaves_the_pool_of_another() {
    in_arena!(|arena| {
        let (run, _) = words(arena);
        let mut other = elsewhere(arena);
        other
            .ask_all(&["socket o tcp4", "acquire o 20000 4 7"])
            .expect("acquire");
        let _owner = owner();
        let detached = portpool_kernel::detach(arena.run(), true).expect("detach");
        assert!(detached.others_remain);
        assert_let_through(20_000);
        other.ask("socket s tcp4").expect("socket");
        assert_eq!(other.ask("bind s 0.0.0.0:20000"), Err(Errno::ACCES));
        let answer = other.ask(&format!("detach {run}")).expect("an answer");
        assert!(answer.contains("reservations are live"), "{answer}");
        let answer = other.ask(&format!("detach {run} force"));
        assert_eq!(answer, Ok("detached".to_owned()));
        assert!(!arena.run().path().exists());
        assert_eq!(Traces::of(arena), Traces::nothing());
    });
}

#[test]
fn sockets_bound_before_are_counted_when_a_namespace_is_attached_anew() {
    in_arena!(|arena| {
        // Its pool keeps the programs attached, and their memory of sockets.
        let _other = elsewhere(arena);
        let mut holder = Actor::start(ACTOR);
        for (number, kind) in (0..).zip(["tcp4", "tcp6", "udp4", "mptcp4"]) {
            let host = if kind == "tcp6" { "[::1]" } else { "127.0.0.1" };
            holder
                .ask_all(&[
                    &format!("socket {kind} {kind}"),
                    &format!("bind {kind} {host}:{}", 20_100 + number),
                ])
                .expect("bind");
        }
        for _ in 0..2 {
            portpool_kernel::detach(arena.run(), false).expect("detach");
            arena.attach();
            let mut taker = Actor::start(ACTOR);
            taker
                .ask_all(&["socket t tcp4", "socket u udp4"])
                .expect("sockets");
            for (number, kind) in (0..).zip(["tcp4", "tcp6", "udp4", "mptcp4"]) {
                let owner = if kind == "udp4" { "u" } else { "t" };
                assert_eq!(
                    taker.ask(&format!("acquire {owner} {} 1 1", 20_100 + number)),
                    Err(Errno::ADDRINUSE),
                    "{kind}"
                );
            }
        }
        drop(holder);
        portpool_testkit::Census::await_nothing(arena);
    });
}

#[test]
fn the_pool_of_a_dead_namespace_is_taken_away_by_the_next_attach() {
    in_arena!(|arena| {
        let mut other = elsewhere(arena);
        other
            .ask_all(&["socket o tcp4", "acquire o 20000 4 7"])
            .expect("acquire");
        assert_eq!(arena.attach().reaped, 0, "a living namespace");
        other.kill();
        await_reaped(arena);
        let pools = std::fs::read_dir(arena.run().path().join("bpf")).expect("list");
        let names = pools
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned());
        assert_eq!(names.filter(|name| name.starts_with("pool-")).count(), 1);
    });
}

#[test]
fn the_pool_of_a_namespace_that_only_a_descriptor_holds_is_kept() {
    in_arena!(|arena| {
        let mut other = elsewhere(arena);
        let held = File::open(format!("/proc/{}/ns/net", other.pid())).expect("open");
        other.kill();
        assert_eq!(arena.attach().reaped, 0);
        drop(held);
        await_reaped(arena);
    });
}

#[test]
fn the_pool_of_a_namespace_that_only_a_mount_holds_is_kept() {
    in_arena!(|arena| {
        let mut other = elsewhere(arena);
        let point = arena.run().path().join("namespace").display().to_string();
        File::create(&point).expect("create");
        run(&[
            "mount",
            "--bind",
            &format!("/proc/{}/ns/net", other.pid()),
            &point,
        ]);
        other.kill();
        assert_eq!(arena.attach().reaped, 0);
        run(&["umount", &point]);
        std::fs::remove_file(&point).expect("remove");
        await_reaped(arena);
    });
}

#[test]
fn the_pool_of_a_namespace_with_an_idle_process_is_kept() {
    in_arena!(|arena| {
        let mut other = elsewhere(arena);
        assert_eq!(arena.attach().reaped, 0);
        other
            .ask_all(&["socket o tcp4", "acquire o 20000 4 7"])
            .expect("acquire");
    });
}

#[test]
fn attaching_from_a_nested_pid_namespace_takes_no_pool_away() {
    in_arena!(|arena| {
        let (run, cgroup) = words(arena);
        let mut other = elsewhere(arena);
        let mut nested = Actor::spawn(Command::new("unshare").args([
            "-p",
            "-f",
            "--mount-proc",
            "--kill-child",
            ACTOR,
        ]));
        // The process in the other namespace cannot be seen from there.
        let answer = nested.ask(&format!("attach {run} {cgroup}"));
        assert_eq!(answer, Ok("attached, reaped 0".to_owned()));
        other
            .ask_all(&["socket o tcp4", "acquire o 20000 4 7"])
            .expect("acquire");
    });
}

/// An actor in a network namespace of its own, with a pool under the arena's programs.
fn elsewhere(arena: &Arena) -> Actor {
    let (run, cgroup) = words(arena);
    let mut actor = Actor::spawn(Command::new("unshare").args(["-n", ACTOR]));
    let answer = actor
        .ask(&format!("attach {run} {cgroup}"))
        .expect("an answer");
    assert!(answer.starts_with("attached"), "{answer}");
    actor
}

/// A killed process's sockets may close a moment later than it can be waited for.
fn await_reaped(arena: &Arena) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while arena.attach().reaped == 0 {
        assert!(
            std::time::Instant::now() < deadline,
            "the dead pool is kept"
        );
    }
}
