//! Acquire: cases 6 to 24 and 30 to 32, rules 1 to 6, 9, 26 to 28 and 33.

use std::collections::BTreeSet;

use portpool::{Port, Refusal, Scope, Transport};
use portpool_testkit::{Actor, Errno, sys};

use crate::column::{is_embedded, reserved_errno};
use crate::kit::{
    ACTOR, NOBODY, RawAcquire, any, assert_empty, assert_grantable, bind_port, control, exactly,
    grant, is_reserved, lapse, range, refusal, socket, tcp, udp,
};

/// Cases 6, 7, 10 and 31, rules 2 and 4: on a TCP or UDP socket of either family, bound or not.
#[test]
fn a_specific_free_block_is_granted_as_asked() {
    case!(|arena| {
        let pool = arena.pool();
        for (kind, transport) in [
            ("tcp4", Transport::Tcp),
            ("tcp6", Transport::Tcp),
            ("udp4", Transport::Udp),
            ("udp6", Transport::Udp),
        ] {
            for is_bound in [false, true] {
                let owner = socket(kind);
                if is_bound {
                    bind_port(&owner, 0).expect("bind");
                }
                let block = grant(&pool, &owner, "20000-20003");
                assert_eq!(block.range, range("20000-20003"), "{kind}");
                assert_eq!(block.transport, transport);
                let entries = pool.reservations().expect("look");
                assert_eq!(entries.len(), 1);
                assert_eq!(entries[0].range, block.range);
                assert_eq!(entries[0].token, block.token);
                assert_eq!(entries[0].transport, transport);
                assert_eq!(entries[0].owner_pid_seen, std::process::id());
                lapse(&pool, owner, &[block.token]);
            }
        }
        assert_empty(&pool);
    });
}

/// Cases 8 and 9, rules 1 and 3.
#[test]
fn a_wildcard_block_lies_within_the_ranges_of_the_pool() {
    case!(|arena| {
        let pool = arena.pool();
        let ranges = match is_embedded() {
            true => "20000-32767,61000-65535".parse().expect("ranges"),
            false => pool.overview().expect("look").config.ranges,
        };
        for kind in ["tcp4", "udp6"] {
            let owner = socket(kind);
            let block = pool
                .acquire_on(&owner, &any(8), Scope::Associated)
                .expect("acquire");
            assert_eq!(block.range.count().number(), 8);
            assert!(ranges.covers(block.range), "{block:?} is not in {ranges}");
        }
    });
}

/// Case 11, rule 33.
#[test]
fn no_token_is_used_twice() {
    case!(|arena| {
        let pool = arena.pool();
        let owner = tcp();
        let mut seen = BTreeSet::new();
        for _ in 0..1_000 {
            let block = grant(&pool, &owner, "20000");
            assert!(seen.insert(block.token.value()), "{} again", block.token);
            pool.release_on(&owner, block.token).expect("release");
        }
        if is_embedded() {
            return;
        }
        // The caller chooses the token: the kernel refuses one that is in use, even of its own.
        let block = grant(&pool, &owner, "20000");
        assert_eq!(
            RawAcquire::new(20_010, 1, block.token.value()).on(&tcp()),
            Err(Errno(libc::EEXIST))
        );
        assert!(!is_reserved(&pool, Transport::Tcp, 20_010));
    });
}

/// Cases 12 and 72, rule 9.
#[test]
fn one_socket_may_own_several_reservations() {
    case!(|arena| {
        let pool = arena.pool();
        let owner = tcp();
        let mut ports = BTreeSet::new();
        let mut tokens = BTreeSet::new();
        for _ in 0..10 {
            let block = pool
                .acquire_on(&owner, &any(64), Scope::Associated)
                .expect("acquire");
            assert!(tokens.insert(block.token));
            for port in block.range.ports() {
                assert!(ports.insert(port), "port {port} is in two blocks");
            }
        }
        assert_eq!(ports.len(), 640);
        lapse(&pool, owner, &Vec::from_iter(tokens));
        assert_empty(&pool);
    });
}

/// Cases 13, 14, 15 and 20, rules 5, 6 and 27.
#[test]
fn a_block_with_a_taken_port_is_refused_as_in_use() {
    case!(|arena| {
        let pool = arena.pool();
        let owner = tcp();
        grant(&pool, &owner, "20000-20003");
        // The same process, on another socket and on the owner socket itself, of either family.
        for overlapping in [
            "20000",
            "20003",
            "20000-20003",
            "19990-20000",
            "20003-20100",
        ] {
            for other in [&tcp(), &socket("tcp6"), &owner] {
                assert_eq!(
                    refusal(&pool, other, &exactly(overlapping)),
                    Refusal::InUse,
                    "{overlapping}"
                );
            }
        }
        let mut other = Actor::start(ACTOR);
        other
            .ask_all(&["socket a tcp4", "socket b tcp6"])
            .expect("sockets");
        for order in ["acquire a 20000 1 7", "acquire b 20002 4 7"] {
            assert_eq!(other.ask(order), Err(Errno::ADDRINUSE), "{order}");
        }
        // A plain socket that has the port, whatever its address.
        for (kind, address) in [
            ("tcp4", "127.0.0.1:21000"),
            ("tcp4", "127.0.0.9:21000"),
            ("tcp4", "0.0.0.0:21000"),
            ("tcp6", "[::1]:21000"),
            ("tcp6", "[::]:21000"),
        ] {
            other
                .ask_all(&[&format!("socket s {kind}"), &format!("bind s {address}")])
                .expect("bind");
            assert_eq!(
                refusal(&pool, &tcp(), &exactly("21000")),
                Refusal::InUse,
                "{address}"
            );
            other.ask("close s").expect("close");
            assert_grantable(&pool, tcp(), "21000");
        }
    });
}

/// Case 18, rule 27. The busy port is in the first, a middle and the last word of the block.
#[test]
fn a_block_is_granted_whole_or_not_at_all() {
    case!(|arena| {
        let pool = arena.pool();
        for busy in [20_001, 20_100, 20_199] {
            let socket = tcp();
            bind_port(&socket, busy).expect("bind");
            assert_eq!(
                refusal(&pool, &tcp(), &exactly("20000-20199")),
                Refusal::InUse
            );
            drop(socket);
            assert_empty(&pool);
            for port in range("20000-20199").ports().map(Port::number) {
                bind_port(&tcp(), port).expect("a port of the refused block");
            }
        }
        assert_grantable(&pool, tcp(), "20000-20199");
    });
}

/// Cases 19 and 60, rule 4.
#[test]
fn tcp_and_udp_are_reserved_independently() {
    case!(|arena| {
        let pool = arena.pool();
        let (tcp_owner, udp_owner) = (tcp(), udp());
        let token = grant(&pool, &tcp_owner, "20000-20003").token;
        bind_port(&udp(), 20_001).expect("plain UDP bind");
        grant(&pool, &udp_owner, "20000-20003");
        lapse(&pool, tcp_owner, &[token]);
        bind_port(&tcp(), 20_001).expect("plain TCP bind");
        assert_eq!(bind_port(&udp(), 20_001), Err(reserved_errno()));
    });
}

/// Cases 21 to 23, rule 26. The library cannot say the bad ones: `PortRange` has no such values.
#[test]
fn a_block_has_ports_and_ends_at_65535() {
    case!(|arena| {
        let pool = arena.pool();
        let owner = tcp();
        for (first, count) in [
            (20_000, 0),
            (65_535, 2),
            (65_535, 65_535),
            (1, 65_535),
            (2, 65_535),
            (0, 1),
            (0, 0),
        ] {
            let answer = RawAcquire::new(first, count, 7).on(&owner);
            // All of 1-65535 is well-formed, but automatic choice picks from the middle of it.
            let expected = if (first, count) == (1, 65_535) {
                Errno::ADDRNOTAVAIL
            } else {
                Errno::INVAL
            };
            assert_eq!(answer, Err(expected), "{first}+{count}");
        }
        assert_empty(&pool);
        let block = grant(&pool, &owner, "65535");
        assert_eq!(block.range, range("65535"));
    });
}

/// Case 24, rule 28.
#[test]
fn a_wildcard_that_fits_nowhere_finds_no_room() {
    case!(|arena| {
        let pool = arena.pool();
        assert_eq!(refusal(&pool, &tcp(), &any(60_000)), Refusal::NoRoom);
        assert_empty(&pool);
    });
}

/// Case 30.
#[test]
fn only_plain_tcp_and_udp_sockets_take_control_codes() {
    case!(|arena| {
        let pool = arena.pool();
        let owner = tcp();
        let block = grant(&pool, &owner, "20000");
        for kind in [
            "raw-tcp4", "raw-udp6", "udplite4", "mptcp4", "unix", "packet",
        ] {
            let other = socket(kind);
            let request = RawAcquire::new(20_010, 1, 7).to_bytes();
            let token = block.token.value().to_ne_bytes();
            for (code, value) in [(100, &request[..]), (101, &token), (102, &token)] {
                if is_embedded() {
                    break;
                }
                assert_eq!(
                    control(&other, code, value),
                    Err(Errno::OPNOTSUPP),
                    "code {code} on {kind}"
                );
            }
            assert_eq!(
                refusal(&pool, &other, &exactly("20010")),
                Refusal::UnsupportedSocket
            );
            let error = pool.associate(&other, block.token).expect_err("associate");
            assert_eq!(error.refusal(), Some(Refusal::UnsupportedSocket), "{kind}");
            let error = pool.release_on(&other, block.token).expect_err("release");
            assert_eq!(error.refusal(), Some(Refusal::UnsupportedSocket), "{kind}");
        }
    });
}

/// Case 32.
#[test]
fn reserving_needs_no_privilege() {
    case!(|arena| {
        assert!(sys::in_fork(|| {
            sys::become_uid(NOBODY).expect("setuid");
            let pool = arena.pool();
            let owner = tcp();
            let block = grant(&pool, &owner, "20000-20003");
            let other = udp();
            pool.acquire_on(&other, &any(4), Scope::Associated)
                .expect("wildcard");
            let consumer = tcp();
            pool.associate(&consumer, block.token).expect("associate");
            assert_eq!(bind_port(&consumer, 0), Ok(20_000));
            pool.release_on(&owner, block.token).expect("release");
        }));
        assert_empty(&arena.pool());
    });
}
