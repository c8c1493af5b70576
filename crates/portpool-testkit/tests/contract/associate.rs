//! Associate and bind: cases 34 to 50 and 53, 54, rules 8 and 10 to 19, 25.

use portpool::{Refusal, Scope, Token, abi::ControlCode};
use portpool_testkit::{Actor, Errno, sys};

use crate::column::{is_embedded, reserved_errno};
use crate::kit::{
    ACTOR, any, associated, bind, bind_port, connect, control, errno, grant, lapse, peer, port_of,
    raw_associate, socket, tcp, udp,
};

/// Cases 34 to 37, rules 11 and 14.
#[test]
fn binding_to_port_zero_takes_the_lowest_free_port_of_the_block() {
    case!(|arena| {
        let pool = arena.pool();
        for kind in ["tcp4", "tcp6", "udp4", "udp6"] {
            let owner = socket(kind);
            let token = grant(&pool, &owner, "20062-20065").token;
            let mut bound = Vec::new();
            for expected in 20_062..=20_065 {
                let consumer = associated(&pool, kind, token);
                assert_eq!(bind_port(&consumer, 0), Ok(expected), "{kind}");
                bound.push(consumer);
            }
            let fifth = associated(&pool, kind, token);
            assert_eq!(bind_port(&fifth, 0), Err(Errno::NOBUFS), "{kind}");
            // The refused socket is as good as before once a port is free again.
            bound.remove(1);
            assert_eq!(bind_port(&fifth, 0), Ok(20_063), "{kind}");
            drop((bound, fifth));
            lapse(&pool, owner, &[token]);
        }
    });
}

/// Cases 38 and 39, rules 12 and 13.
#[test]
fn an_associated_socket_binds_ports_of_its_block_and_no_others() {
    case!(|arena| {
        let pool = arena.pool();
        let (owner, other) = (tcp(), tcp());
        let token = grant(&pool, &owner, "20000-20003").token;
        grant(&pool, &other, "20010");
        let consumer = associated(&pool, "tcp4", token);
        for outside in [19_999, 20_004, 20_010, 80, 65_535] {
            assert_eq!(
                bind_port(&consumer, outside),
                Err(Errno::ADDRNOTAVAIL),
                "{outside}"
            );
        }
        assert_eq!(bind_port(&consumer, 20_002), Ok(20_002));
        assert_eq!(
            bind(&associated(&pool, "tcp4", token), "0.0.0.0:20003"),
            Ok(20_003)
        );
    });
}

/// Case 40.
#[test]
fn within_a_block_a_taken_port_is_in_use() {
    case!(|arena| {
        let pool = arena.pool();
        let owner = tcp();
        let token = grant(&pool, &owner, "20000-20003").token;
        let first = associated(&pool, "tcp4", token);
        let second = associated(&pool, "tcp4", token);
        assert_eq!(bind_port(&first, 20_000), Ok(20_000));
        assert_eq!(bind_port(&second, 20_000), Err(Errno::ADDRINUSE));
        assert_eq!(bind_port(&second, 0), Ok(20_001));
    });
}

/// Case 41, and 67 in module `release`.
#[test]
fn the_owner_socket_may_consume_its_own_block() {
    case!(|arena| {
        let pool = arena.pool();
        let owner = tcp();
        let token = grant(&pool, &owner, "20000-20003").token;
        pool.associate(&owner, token).expect("associate");
        assert_eq!(bind_port(&owner, 0), Ok(20_000));
        assert_eq!(bind_port(&tcp(), 20_001), Err(reserved_errno()));
    });
}

/// Cases 42 and 54, rules 10 and 16.
#[test]
fn associating_consumes_nothing_before_the_bind() {
    case!(|arena| {
        let pool = arena.pool();
        let owner = tcp();
        let token = grant(&pool, &owner, "20000-20003").token;
        let idle: Vec<_> = (0..3).map(|_| associated(&pool, "tcp4", token)).collect();
        assert!(idle.iter().all(|socket| port_of(socket) == 0));
        let bound: Vec<_> = (20_000..=20_003)
            .map(|port| {
                let consumer = associated(&pool, "tcp4", token);
                assert_eq!(bind_port(&consumer, 0), Ok(port));
                consumer
            })
            .collect();
        assert_eq!(bind_port(&idle[0], 0), Err(Errno::NOBUFS));
        drop(bound);
        assert_eq!(bind_port(&idle[0], 0), Ok(20_000));
    });
}

/// Case 43, rule 19.
#[test]
fn a_bound_socket_cannot_be_associated() {
    case!(|arena| {
        let pool = arena.pool();
        let owner = tcp();
        let token = grant(&pool, &owner, "20000-20003").token;
        let bound = tcp();
        let port = bind_port(&bound, 0).expect("bind");
        let error = pool.associate(&bound, token).expect_err("associate");
        assert_eq!(error.refusal(), Some(Refusal::AlreadyBound));
        assert_eq!(raw_associate(&bound, token.value()), Err(Errno::INVAL));
        // The state of the socket is judged before the token.
        assert_eq!(raw_associate(&bound, 99), Err(Errno::INVAL));
        assert_eq!(port_of(&bound), port);
    });
}

/// Cases 44 and 73, rules 8, 15, 25 and 34.
#[test]
fn only_the_process_that_acquired_may_associate() {
    case!(|arena| {
        let pool = arena.pool();
        let mut owner = Actor::start(ACTOR);
        let token = owner.ask_all(&["socket o tcp4", "acquire o 20000 4 7"]);
        let token: u64 = token.expect("acquire").parse().expect("a token");
        let socket = tcp();
        let error = pool
            .associate(&socket, Token::new(token).expect("a token"))
            .expect_err("associate");
        assert_eq!(error.refusal(), Some(Refusal::ForeignToken));
        assert_eq!(raw_associate(&socket, token), Err(Errno::ACCES));
        // The socket is as it was: its bind leaves the block alone.
        let port = bind_port(&socket, 0).expect("bind");
        assert!(!(20_000..20_004).contains(&port));
        // A fork of the owner process is another process.
        let mine = tcp();
        let token = grant(&pool, &mine, "21000-21003").token;
        assert!(sys::in_fork(|| {
            let socket = tcp();
            assert_eq!(raw_associate(&socket, token.value()), Err(Errno::ACCES));
            assert_eq!(bind_port(&socket, 21_000), Err(reserved_errno()));
            assert_eq!(raw_associate(&mine, token.value()), Err(Errno::ACCES));
        }));
        // It outlives the child's copy of the owner socket.
        assert_eq!(bind_port(&associated(&pool, "tcp4", token), 0), Ok(21_000));
    });
}

/// Rule 8: a socket associated by the owner is of no use to the process it is passed to.
#[test]
fn an_association_does_not_go_with_the_socket() {
    case!(|arena| {
        let pool = arena.pool();
        let owner = tcp();
        let token = grant(&pool, &owner, "20000-20003").token;
        let passed = associated(&pool, "tcp4", token);
        let (_listener, port) = peer();
        assert!(sys::in_fork(|| {
            assert_eq!(bind_port(&passed, 20_000), Err(reserved_errno()));
            if is_embedded() {
                return;
            }
            assert_eq!(bind_port(&passed, 0), Err(Errno::ACCES));
            assert_eq!(connect(&passed, port), Err(Errno::ACCES));
        }));
        assert_eq!(bind_port(&passed, 0), Ok(20_000));
        if is_embedded() {
            // There it is like any other.
            let passed = associated(&pool, "tcp4", token);
            assert!(sys::in_fork(|| {
                let local = connect(&passed, port).expect("connect");
                assert!(!(20_000..20_004).contains(&local));
            }));
        }
    });
}

/// Case 45, rule 24.
#[test]
fn an_unknown_token_is_invalid() {
    case!(|arena| {
        let pool = arena.pool();
        let owner = tcp();
        let token = grant(&pool, &owner, "20000-20003").token;
        for unknown in [0, 1, token.value() ^ 1, !token.value(), u64::MAX] {
            assert_eq!(raw_associate(&tcp(), unknown), Err(Errno::INVAL));
        }
        let unknown = Token::new(token.value() ^ 1).expect("a token");
        let error = pool.associate(&tcp(), unknown).expect_err("associate");
        assert_eq!(error.refusal(), Some(Refusal::UnknownToken));
    });
}

/// Case 46, rule 4.
#[test]
fn a_token_is_for_sockets_of_its_own_transport() {
    case!(|arena| {
        let pool = arena.pool();
        for (own, other) in [("tcp4", "udp4"), ("udp6", "tcp6")] {
            let owner = socket(own);
            let block = pool
                .acquire_on(&owner, &any(4), Scope::Associated)
                .expect("acquire");
            let wrong = socket(other);
            let error = pool.associate(&wrong, block.token).expect_err("associate");
            assert_eq!(error.refusal(), Some(Refusal::WrongTransport));
            assert_eq!(
                raw_associate(&wrong, block.token.value()),
                Err(Errno::INVAL)
            );
        }
    });
}

/// Cases 48 to 50: a token is exactly 8 readable bytes.
#[test]
fn a_malformed_token_is_refused() {
    case!(|arena| {
        let pool = arena.pool();
        let owner = tcp();
        let token = grant(&pool, &owner, "20000-20003").token;
        let mut value = token.value().to_ne_bytes().to_vec();
        value.resize(64, 0);
        let codes = [ControlCode::Associate as i32, ControlCode::Release as i32];
        for code in codes {
            for length in [0, 1, 4, 7, 9, 16, 64] {
                let answer = control(&tcp(), code, &value[..length]);
                assert_eq!(answer, Err(Errno::INVAL), "code {code}, {length} bytes");
            }
            for address in [0, 1, 4096] {
                let answer = sys::set_at(&tcp(), portpool::abi::LEVEL, code, address, 8);
                let error = answer.expect_err("an unreadable token");
                assert_eq!(errno(&error), Errno(libc::EFAULT), "{address}");
            }
        }
        assert_eq!(bind_port(&associated(&pool, "tcp4", token), 0), Ok(20_000));
    });
}

/// Case 53, rule 18.
#[test]
fn the_last_association_counts() {
    case!(|arena| {
        let pool = arena.pool();
        let owner = tcp();
        let first = grant(&pool, &owner, "20000-20003").token;
        let second = grant(&pool, &owner, "21000-21003").token;
        let consumer = tcp();
        for token in [first, second] {
            pool.associate(&consumer, token).expect("associate");
        }
        assert_eq!(bind_port(&consumer, 20_000), Err(Errno::ADDRNOTAVAIL));
        assert_eq!(bind_port(&consumer, 0), Ok(21_000));
        // A refused association leaves the earlier one.
        let consumer = associated(&pool, "tcp4", first);
        assert_eq!(raw_associate(&consumer, 99), Err(Errno::INVAL));
        assert_eq!(bind_port(&consumer, 0), Ok(20_000));
    });
}

/// Rule 17, case 52: TCP and UDP, and an exhausted block.
#[test]
fn connecting_an_associated_socket_takes_a_port_of_the_block() {
    case!(|arena| {
        let pool = arena.pool();
        let (_listener, port) = peer();
        for kind in ["tcp4", "udp4"] {
            let owner = socket(kind);
            let token = grant(&pool, &owner, "20000-20001").token;
            let first = associated(&pool, kind, token);
            assert_eq!(connect(&first, port), Ok(20_000), "{kind}");
            let second = associated(&pool, kind, token);
            assert_eq!(connect(&second, port), Ok(20_001), "{kind}");
            let third = associated(&pool, kind, token);
            assert_eq!(connect(&third, port), Err(Errno::NOBUFS), "{kind}");
        }
        let owner = udp();
        let token = grant(&pool, &owner, "22000-22001").token;
        let six = associated(&pool, "udp6", token);
        let to: std::net::SocketAddr = "[::1]:9".parse().expect("address");
        six.connect(&to.into()).expect("connect");
        assert_eq!(port_of(&six), 22_000);
    });
}
