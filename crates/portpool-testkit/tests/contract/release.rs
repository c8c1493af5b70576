//! Release and lifetime: cases 62 to 65 and 67 to 73, rules 7, 9, 20 to 25 and 34.

use std::cell::RefCell;

use portpool::{Refusal, Scope, Token};
use portpool_testkit::{Actor, Errno, sys};

use crate::column::{is_embedded, reserved_errno};
use crate::kit::{
    ACTOR, LOOPBACK, any, assert_empty, assert_grantable, associated, bind_port, connect, exactly,
    grant, lapse, listen, peer, port_of, raw_associate, raw_release, refusal, socket, tcp, udp,
};

/// Cases 62 and 63, rule 20.
#[test]
fn a_block_is_released_on_any_socket_of_its_transport() {
    case!(|arena| {
        let pool = arena.pool();
        let owner = tcp();
        let bound = tcp();
        bind_port(&bound, 0).expect("bind");
        for other in [&owner, &tcp(), &socket("tcp6"), &bound] {
            let token = grant(&pool, &owner, "20000-20003").token;
            pool.release_on(other, token).expect("release");
            assert_grantable(&pool, tcp(), "20000-20003");
        }
        let token = grant(&pool, &owner, "20000-20003").token;
        let error = pool.release_on(&udp(), token).expect_err("release");
        assert_eq!(error.refusal(), Some(Refusal::WrongTransport));
        assert_eq!(raw_release(&udp(), token.value()), Err(Errno::INVAL));
        assert_eq!(bind_port(&tcp(), 20_000), Err(reserved_errno()));
    });
}

/// Cases 64 and 73, rules 25 and 34.
#[test]
fn only_the_process_that_acquired_may_release() {
    case!(|arena| {
        let pool = arena.pool();
        let mut owner = Actor::start(ACTOR);
        let token = owner.ask_all(&["socket o tcp4", "acquire o 20000 4 7"]);
        let token: u64 = token.expect("acquire").parse().expect("a token");
        let error = pool
            .release_on(&tcp(), Token::new(token).expect("a token"))
            .expect_err("release");
        assert_eq!(error.refusal(), Some(Refusal::ForeignToken));
        assert_eq!(raw_release(&tcp(), token), Err(Errno::INVAL));
        let mine = tcp();
        let token = grant(&pool, &mine, "21000").token;
        assert!(sys::in_fork(|| {
            assert_eq!(raw_release(&mine, token.value()), Err(Errno::INVAL));
        }));
        for port in [20_000, 21_000] {
            assert_eq!(bind_port(&tcp(), port), Err(reserved_errno()), "intact");
        }
        owner.ask("release o 7").expect("release");
        pool.release_on(&mine, token).expect("release");
    });
}

/// Case 65, rule 24.
#[test]
fn a_block_is_released_once() {
    case!(|arena| {
        let pool = arena.pool();
        let owner = tcp();
        let token = grant(&pool, &owner, "20000-20003").token;
        pool.release_on(&owner, token).expect("release");
        let error = pool.release_on(&owner, token).expect_err("release");
        assert_eq!(error.refusal(), Some(Refusal::UnknownToken));
        for unknown in [token.value(), 0, 1, u64::MAX] {
            assert_eq!(raw_release(&owner, unknown), Err(Errno::INVAL));
        }
    });
}

/// Case 67, rules 21 and 27: the port stays the socket's, and nobody else is granted it.
#[test]
fn bound_sockets_keep_their_ports_after_a_release() {
    case!(|arena| {
        let pool = arena.pool();
        let owner = tcp();
        let token = grant(&pool, &owner, "20000-20003").token;
        pool.associate(&owner, token).expect("associate");
        assert_eq!(bind_port(&owner, 0), Ok(20_000));
        listen(&owner, 4);
        let consumer = associated(&pool, "tcp4", token);
        assert_eq!(bind_port(&consumer, 20_002), Ok(20_002));
        pool.release_on(&owner, token).expect("release");
        assert_eq!((port_of(&owner), port_of(&consumer)), (20_000, 20_002));
        assert_eq!(
            refusal(&pool, &tcp(), &exactly("20000-20003")),
            Refusal::InUse
        );
        connect(&tcp(), 20_000).expect("connect to the listener");
        // What is not bound is anybody's.
        assert_eq!(bind_port(&tcp(), 20_001), Ok(20_001));
        drop(consumer);
        assert_grantable(&pool, tcp(), "20001-20003");
    });
}

/// Cases 68 and 69, rule 7: also when another process holds a copy of the owner socket.
#[test]
fn a_block_is_free_at_the_last_close_of_its_owner_socket() {
    case!(|arena| {
        let pool = arena.pool();
        let mut other = Actor::start(ACTOR);
        other.ask("socket s tcp4").expect("socket");
        let owner = tcp();
        let token = grant(&pool, &owner, "20000-20003").token;
        let copy = owner.try_clone().expect("dup");
        drop(owner);
        assert_eq!(other.ask("bind s 127.0.0.1:20000"), Err(reserved_errno()));
        drop(copy);
        if is_embedded() {
            assert_eq!(other.ask("bind s 127.0.0.1:20000"), Err(reserved_errno()));
            pool.release_on(&tcp(), token).expect("release");
        }
        other.ask("bind s 127.0.0.1:20000").expect("bind");
        let mut owner = Actor::start(ACTOR);
        owner
            .ask_all(&[
                "socket o tcp4",
                "acquire o 21000 4 7",
                "acquire o 22000 4 8",
                "socket u udp6",
                "acquire u 21000 4 9",
            ])
            .expect("acquire");
        assert_eq!(pool.reservations().expect("look").len(), 3);
        owner.kill();
        assert_eq!(pool.reservations().expect("look"), []);
        assert_grantable(&pool, tcp(), "21000-21003");
    });
}

/// Case 70: as for a release.
#[test]
fn bound_sockets_keep_their_ports_after_the_end_of_the_owner_socket() {
    case!(|arena| {
        let pool = arena.pool();
        let owner = tcp();
        let token = grant(&pool, &owner, "20000-20003").token;
        let consumer = associated(&pool, "tcp4", token);
        assert_eq!(bind_port(&consumer, 0), Ok(20_000));
        lapse(&pool, owner, &[token]);
        listen(&consumer, 4);
        connect(&tcp(), 20_000).expect("connect");
        assert_eq!(refusal(&pool, &tcp(), &exactly("20000")), Refusal::InUse);
        drop(consumer);
        assert_grantable(&pool, tcp(), "20000");
    });
}

/// Case 71, rule 22: bind, bind to a port of the past block, connect.
#[test]
fn an_association_with_a_released_block_finds_no_port() {
    case!(|arena| {
        let pool = arena.pool();
        let (_listener, port) = peer();
        let owner = tcp();
        let token = grant(&pool, &owner, "20000-20003").token;
        let consumer = associated(&pool, "tcp4", token);
        pool.release_on(&owner, token).expect("release");
        assert_eq!(bind_port(&consumer, 0), Err(Errno::NOBUFS));
        assert_eq!(bind_port(&consumer, 20_000), Err(Errno::NOBUFS));
        if !is_embedded() {
            assert_eq!(connect(&consumer, port), Err(Errno::NOBUFS));
        }
        assert_eq!(raw_associate(&tcp(), token.value()), Err(Errno::INVAL));
        // Nor when the ports are somebody else's meanwhile.
        let other = udp();
        let token = grant(&pool, &other, "20000-20003").token;
        grant(&pool, &owner, "20000-20003");
        assert_eq!(bind_port(&consumer, 0), Err(Errno::NOBUFS));
        assert_eq!(raw_associate(&consumer, token.value()), Err(Errno::INVAL));
    });
}

/// Case 72, rule 9, and the limit of a socket after releases through another one.
#[test]
fn a_closed_socket_ends_all_its_reservations() {
    case!(|arena| {
        let pool = arena.pool();
        let (owner, other) = (tcp(), tcp());
        for _ in 0..3 {
            let mut tokens = Vec::new();
            for _ in 0..32 {
                let block = pool.acquire_on(&owner, &any(2), Scope::Associated);
                tokens.push(block.expect("acquire").token);
            }
            assert_eq!(refusal(&pool, &owner, &any(2)), Refusal::SocketLimit);
            // Released on another socket, they still make room on their owner.
            for token in tokens {
                pool.release_on(&other, token).expect("release");
            }
        }
        let mut tokens = Vec::new();
        for _ in 0..3 {
            let block = pool.acquire_on(&owner, &any(2), Scope::Associated);
            tokens.push(block.expect("acquire").token);
        }
        assert_eq!(pool.reservations().expect("look").len(), 3);
        lapse(&pool, owner, &tokens);
        assert_empty(&pool);
    });
}

/// Case 73, rule 34.
#[test]
fn a_block_survives_the_end_of_a_child() {
    case!(|arena| {
        let pool = arena.pool();
        let reservation = pool
            .acquire(&crate::kit::request(
                portpool::Transports::Both,
                exactly("20000-20003"),
            ))
            .expect("acquire");
        let reservation = RefCell::new(Some(reservation));
        assert!(sys::in_fork(|| {
            // The child's copy: it cannot be consumed, and dropping it gives nothing back.
            let copy = reservation.take().expect("a copy");
            let refused = copy.tcp_listener(LOOPBACK);
            let error = refused.expect_err("a listener in the child");
            assert_eq!(error.refusal(), Some(Refusal::ForeignToken), "{error}");
        }));
        let reservation = reservation.take().expect("the reservation");
        assert_eq!(bind_port(&tcp(), 20_000), Err(reserved_errno()));
        assert_eq!(bind_port(&udp(), 20_000), Err(reserved_errno()));
        reservation.tcp_listener(LOOPBACK).expect("listener");
    });
}
