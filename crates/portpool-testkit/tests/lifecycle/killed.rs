//! kill -9 at any moment: of those who have ports, and of attach and detach.

use portpool_kernel::{Error, detach};
use portpool_testkit::{
    Actor, Census, Chance, Size, in_arena, in_bare_arena, sys::bpf::programs_on,
};

use crate::scene::{ACTOR, Traces, words};

#[test]
fn a_killed_owner_leaves_no_port_behind() {
    in_arena!(|arena| {
        let seed = Chance::seed();
        println!("seed {seed}");
        let mut chance = Chance::new(seed);
        let programs = programs_on(arena.cgroup()).expect("programs");
        let links = std::fs::read_dir(arena.run().path().join("bpf/links"))
            .expect("links")
            .count();
        for round in 0..Size::kill_rounds() {
            let mut victim = Actor::start(ACTOR);
            for order in script(&mut chance) {
                victim.tell(&order);
            }
            // Anywhere between the first order and well after the last: hear some answers, then a moment more.
            for _ in 0..chance.below(24) {
                drop(victim.answer());
            }
            for _ in 0..chance.below(2_000) {
                std::hint::spin_loop();
            }
            victim.kill();
            Census::await_nothing(arena);
            if round % 16 == 0 {
                assert_eq!(programs_on(arena.cgroup()).expect("programs"), programs);
            }
        }
        let after = std::fs::read_dir(arena.run().path().join("bpf/links"))
            .expect("links")
            .count();
        assert_eq!(
            (programs_on(arena.cgroup()).expect("programs"), after),
            (programs, links)
        );
        Census::await_nothing(arena);
    });
}

#[test]
fn a_killed_attach_or_detach_is_mended_by_the_next() {
    in_bare_arena!(|arena| {
        let seed = Chance::seed();
        println!("seed {seed}");
        let mut chance = Chance::new(seed);
        let (run, cgroup) = words(arena);
        for _ in 0..Size::asked().pick(20, 400) {
            let mut victim = Actor::start(ACTOR);
            victim.tell(&format!("attach {run} {cgroup}"));
            victim.tell(&format!("detach {run}"));
            #[expect(clippy::disallowed_methods, reason = "any moment will do")]
            std::thread::sleep(std::time::Duration::from_micros(u64::from(
                chance.below(250_000),
            )));
            victim.kill();
            arena.attach();
            let mut owner = crate::scene::owner();
            crate::scene::assert_refused(20_001);
            owner.kill();
            Census::await_nothing(arena);
            match detach(arena.run(), false) {
                Ok(_) => assert_eq!(Traces::of(arena), Traces::nothing()),
                Err(error @ Error::Incomplete(_)) => panic!("{error}"),
                Err(error) => panic!("detach after a killed attach: {error}"),
            }
        }
    });
}

/// A random life of 24 orders; those that make no sense are refused, which is no matter here.
fn script(chance: &mut Chance) -> Vec<String> {
    let mut orders = vec!["socket o tcp4".to_owned(), "socket p udp4".to_owned()];
    let mut token = 0;
    while orders.len() < 24 {
        let socket = chance.below(4);
        let kind = ["tcp4", "tcp6", "udp4", "mptcp4"][chance.below(4) as usize];
        let scope = ["", "tree", "zero"][chance.below(3) as usize];
        let first = 20_000 + chance.below(64);
        orders.push(match chance.below(9) {
            0 | 1 => {
                token += 1;
                format!("acquire o {first} {} {token} {scope}", 1 + chance.below(8))
            }
            2 => {
                token += 1;
                format!("acquire p {first} {} {token}", 1 + chance.below(300))
            }
            3 | 4 => format!("socket s{socket} {kind}"),
            5 => format!("associate s{socket} {}", 1 + chance.below(token + 1)),
            6 => format!("bind s{socket} 127.0.0.1:0"),
            7 => format!("listen s{socket}"),
            _ => format!("release o {}", 1 + chance.below(token + 1)),
        });
        if orders
            .last()
            .is_some_and(|order| order.starts_with("socket s"))
        {
            orders.push(format!("bind s{socket} 127.0.0.1:0"));
        }
    }
    orders.truncate(24);
    orders
}
