//! Limits, by uid, for all without privilege, and of the whole pool.

use std::process::Command;

use portpool::{Limits, Pool, PortRange, Refusal, Reservation, Scope, Transport, Want};
use portpool_kernel::AttachOptions;
use portpool_testkit::{Actor, Arena, Errno, Size, in_arena, in_bare_arena};
use rustix::{process::Uid, thread::set_thread_res_uid};
use socket2::Socket;

use crate::common::{ACTOR, Kind, V4, claim_range, in_use};

#[test]
fn every_uid_has_its_own_limits() {
    in_bare_arena!(|arena| {
        let pool = attach(
            arena,
            Limits {
                ports_per_uid_max: 8,
                reservations_per_uid_max: 3,
                ..Limits::DEFAULT
            },
        );
        for uid in FIRST_UID..FIRST_UID + Size::uids() {
            as_uid(uid, || {
                let claim = |first, count| claim_range(&pool, Transport::Tcp, first, count);
                let three = [20_000, 20_001, 20_002].map(|port| claim(port, 1).expect("three"));
                assert_eq!(claim(20_003, 1).err(), Some(Refusal::UidLimit), "{uid}");
                drop(three);
                assert_eq!(claim(20_000, 9).err(), Some(Refusal::UidLimit), "{uid}");
                let eight = claim(20_000, 8).expect("eight ports");
                let ninth = claim_range(&pool, Transport::Udp, 20_000, 1);
                assert_eq!(ninth.err(), Some(Refusal::UidLimit), "{uid}");
                drop(eight);
            });
        }
        // One with CAP_NET_ADMIN has none of these limits.
        let many: Vec<Reservation> = (20_000..20_010)
            .map(|port| claim_range(&pool, Transport::Tcp, port, 1).expect("root"))
            .collect();
        drop(many);
        nothing_is_left(&pool);
    });
}

#[test]
fn all_uids_together_stop_at_the_share_of_reservations() {
    in_bare_arena!(|arena| {
        let pool = attach(
            arena,
            Limits {
                reservations_max: 300,
                shared_percent: 50,
                ..Limits::DEFAULT
            },
        );
        let mut taken = Vec::new();
        for number in 0..Size::uids() {
            let port = 20_000 + u16::try_from(number % 10_000).expect("a port");
            let answer = as_uid(FIRST_UID + number, || {
                claim_range(&pool, Transport::Tcp, port, 1)
            });
            match answer {
                Ok(block) => taken.push(block),
                Err(refusal) => assert_eq!(refusal, Refusal::SharedLimit),
            }
        }
        assert_eq!(taken.len(), 150);
        for port in 40_000..40_150 {
            taken.push(claim_range(&pool, Transport::Tcp, port, 1).expect("with CAP_NET_ADMIN"));
        }
        let full = claim_range(&pool, Transport::Tcp, 40_150, 1);
        assert_eq!(full.err(), Some(Refusal::PoolFull));
        drop(taken);
        nothing_is_left(&pool);
    });
}

#[test]
fn all_uids_together_stop_at_the_share_of_ports() {
    in_bare_arena!(|arena| {
        let pool = attach(arena, Limits::DEFAULT);
        let mut taken: Vec<Reservation> = Vec::new();
        // Each uid may have 1,024 ports; 40,000 ports of each transport are there.
        for number in 0..78_u16 {
            let transport = Transport::ALL[usize::from(number % 2)];
            let first = 20_000 + number / 2 * 1024;
            let answer = as_uid(FIRST_UID + u32::from(number), || {
                claim_range(&pool, transport, first, 1024)
            });
            match answer {
                Ok(block) => taken.push(block),
                Err(refusal) => {
                    assert_eq!(refusal, Refusal::SharedLimit);
                    break;
                }
            }
        }
        let counters = pool.overview().expect("look").counters;
        assert_eq!(counters.shared_ports as usize, taken.len() * 1024);
        let share = counters.shared_ports;
        assert!(taken.len() < 78, "no share stopped {share} ports");
        let first = 20_000 + 1024 * 39;
        let privileged = claim_range(&pool, Transport::Udp, first, 1024);
        taken.push(privileged.expect("with CAP_NET_ADMIN"));
        drop(taken);
        nothing_is_left(&pool);
    });
}

#[test]
fn a_full_pool_refuses_with_nothing_changed() {
    in_bare_arena!(|arena| {
        let pool = attach(arena, Limits::DEFAULT);
        let mut sockets: Vec<Socket> = Vec::new();
        for number in 0..16_384_u16 {
            if number % 32 == 0 {
                sockets.push(Kind::Udp.open(V4));
            }
            let socket = sockets.last().expect("a socket");
            acquire_on(&pool, socket, 20_000 + number).expect("room");
        }
        let before = pool.overview().expect("look");
        assert_eq!(before.counters.reservations, 16_384);
        let late = Kind::Udp.open(V4);
        for _ in 0..100 {
            assert_eq!(acquire_on(&pool, &late, 40_000), Err(Refusal::PoolFull));
            let tcp = claim_range(&pool, Transport::Tcp, 40_000, 1);
            assert_eq!(tcp.err(), Some(Refusal::PoolFull));
        }
        assert_eq!(pool.overview().expect("look"), before);
        // One place freed is one place to be had.
        sockets.pop();
        acquire_on(&pool, &late, 40_000).expect("room again");
        drop((sockets, late));
        nothing_is_left(&pool);
    });
}

#[test]
fn more_uids_than_the_pool_remembers_lock_nobody_out() {
    in_bare_arena!(|arena| {
        let pool = attach(arena, Limits::DEFAULT);
        let kept = as_uid(FIRST_UID, || claim_range(&pool, Transport::Tcp, 20_000, 1));
        let kept = kept.expect("the first");
        for uid in FIRST_UID + 1..FIRST_UID + 40_000 {
            let answer = as_uid(uid, || claim_range(&pool, Transport::Tcp, 20_001, 1));
            assert!(answer.is_ok(), "{uid}: {answer:?}");
        }
        // Those who hold something are not forgotten.
        let more = as_uid(FIRST_UID, || {
            claim_range(&pool, Transport::Udp, 20_000, 1_024)
        });
        assert_eq!(more.err(), Some(Refusal::UidLimit));
        drop(kept);
        nothing_is_left(&pool);
    });
}

#[test]
fn root_of_a_user_namespace_of_its_own_has_no_privilege_over_the_pool() {
    in_bare_arena!(|arena| {
        let pool = attach(
            arena,
            Limits {
                ports_per_uid_max: 4,
                ..Limits::DEFAULT
            },
        );
        let mut pretender = Actor::spawn(Command::new("unshare").args(["-U", "-r", ACTOR]));
        pretender.ask("socket s tcp4").expect("socket");
        assert_eq!(pretender.ask("acquire s 1000 1 5"), Err(Errno::ACCES));
        let limit = Errno(libc::EDQUOT);
        assert_eq!(pretender.ask("acquire s 20000 5 5"), Err(limit));
        pretender.ask("acquire s 20000 4 5").expect("its share");
        let records = pool.reservations().expect("look");
        assert_eq!(records.len(), 1);
        // Nor does it rule over what others have.
        let other = claim_range(&pool, Transport::Tcp, 20_010, 1).expect("claim");
        let token = other.blocks()[0].token;
        let number = u64::from_str_radix(token.to_string().trim_start_matches("0x"), 16);
        let release = format!("release s {}", number.unwrap_or(1));
        assert_eq!(pretender.ask(&release), Err(Errno::INVAL));
        drop(pretender);
        drop(other);
        nothing_is_left(&pool);
    });
}

#[test]
fn a_privileged_port_needs_the_privilege() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let answer = as_uid(FIRST_UID, || claim_range(&pool, Transport::Tcp, 1000, 1));
        assert_eq!(answer.err(), Some(Refusal::PrivilegedPort));
        assert_eq!(
            crate::common::claimable(&pool, Transport::Tcp, 1000),
            Ok(())
        );
    });
}

const FIRST_UID: u32 = 100_000;

/// Attaches with room for tens of thousands of ports.
fn attach(arena: &Arena, limits: Limits) -> Pool {
    let options = AttachOptions {
        ranges: Some("20000-65535".parse().expect("ranges")),
        limits: Some(limits),
        ..arena.options()
    };
    portpool_kernel::attach(&options).expect("attach");
    arena.pool()
}

/// Runs `work` as another user without privilege. The process stays the same.
fn as_uid<T>(uid: u32, work: impl FnOnce() -> T) -> T {
    let become_uid = |uid| {
        set_thread_res_uid(None, Uid::from_raw(uid), None).expect("setresuid");
    };
    become_uid(uid);
    let value = work();
    become_uid(0);
    value
}

fn acquire_on(pool: &Pool, socket: &Socket, port: u16) -> Result<(), Refusal> {
    let range = PortRange::from_numbers(port, 1).expect("range");
    match pool.acquire_on(socket, &Want::Specific(range), Scope::Associated) {
        Ok(_) => Ok(()),
        Err(portpool::AcquireError::Refused { refusal, .. }) => Err(refusal),
        Err(error) => panic!("{error}"),
    }
}

fn nothing_is_left(pool: &Pool) {
    let overview = pool.overview().expect("look");
    assert_eq!(overview.counters.reservations, 0);
    assert_eq!(overview.counters.shared_reservations, 0);
    assert_eq!(overview.counters.shared_ports, 0);
    assert_eq!(overview.tcp.reserved_count, 0);
    assert_eq!(overview.udp.reserved_count, 0);
    assert_eq!(in_use(pool), 0);
}
