//! The argument of `bpf/occupancy.h`, at full speed: of two who cross, never both win.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::Mutex,
    time::{Duration, Instant},
};

use portpool::{AcquireError, Pool, PortRange, Refusal, Token, Want, abi::Scope};
use portpool_testkit::{Arena, Census, Size, in_arena};
use socket2::{Domain, Socket, Type};

use crate::duel::duel;

const FIRST: u16 = 20_000;

fn rounds() -> u32 {
    Size::asked().pick(100_000, 2_000_000)
}

#[test]
fn a_claim_and_a_plain_bind_never_both_succeed() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let owner = tcp();
        let mut tally = Tally::default();
        duel(
            rounds(),
            |_| tcp(),
            |_| claim(&pool, &owner, FIRST, 1),
            |stranger| bind(stranger, FIRST),
            |round, _, claimed, bound| {
                tally.count(claimed.is_some(), bound);
                assert!(
                    claimed.is_none() || !bound,
                    "round {round}: both have the port"
                );
                if let Some(token) = claimed {
                    pool.release_on(&owner, token).expect("release");
                }
            },
        );
        tally.print("claim against bind");
        nothing_left(arena, owner);
    });
}

#[test]
fn two_claims_of_overlapping_blocks_never_both_succeed() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let (one, other) = (tcp(), tcp());
        let mut tally = Tally::default();
        duel(
            rounds(),
            |_| (),
            |()| claim(&pool, &one, FIRST, 200),
            |()| claim(&pool, &other, FIRST + 199, 200),
            |round, (), first, second| {
                tally.count(first.is_some(), second.is_some());
                assert!(
                    first.is_none() || second.is_none(),
                    "round {round}: both have the port"
                );
                for (socket, token) in [(&one, first), (&other, second)] {
                    token
                        .into_iter()
                        .for_each(|token| pool.release_on(socket, token).expect("release"));
                }
            },
        );
        tally.print("claim against claim");
        drop(other);
        nothing_left(arena, one);
    });
}

#[test]
fn the_bind_of_a_released_reservation_and_the_next_claim_never_both_succeed() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let (owner, next) = (tcp(), tcp());
        let mut tally = Tally::default();
        for port in [FIRST, 0] {
            duel(
                rounds(),
                |_| {
                    let token = claim(&pool, &owner, FIRST, 1).expect("claim");
                    let socket = tcp();
                    pool.associate(&socket, token).expect("associate");
                    (token, socket)
                },
                |(token, _)| {
                    pool.release_on(&owner, *token).expect("release");
                    claim(&pool, &next, FIRST, 1)
                },
                |(_, socket)| bind(socket, port),
                |round, _, claimed, bound| {
                    tally.count(claimed.is_some(), bound);
                    assert!(
                        claimed.is_none() || !bound,
                        "round {round}: both have the port"
                    );
                    claimed
                        .into_iter()
                        .for_each(|token| pool.release_on(&next, token).expect("release"));
                },
            );
        }
        tally.print("release and claim against bind");
        drop(next);
        nothing_left(arena, owner);
    });
}

#[test]
fn the_connect_of_a_released_reservation_and_the_next_claim_never_both_succeed() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let (owner, next) = (udp(), udp());
        let mut tally = Tally::default();
        duel(
            rounds(),
            |_| {
                let token = claim(&pool, &owner, FIRST, 1).expect("claim");
                let socket = udp();
                pool.associate(&socket, token).expect("associate");
                (token, socket)
            },
            |(token, _)| {
                pool.release_on(&owner, *token).expect("release");
                claim(&pool, &next, FIRST, 1)
            },
            |(_, socket)| {
                let peer = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9);
                socket.connect(&peer.into()).is_ok()
            },
            |round, (_, socket), claimed, connected| {
                tally.count(claimed.is_some(), connected);
                let local = socket
                    .local_addr()
                    .expect("address")
                    .as_socket()
                    .expect("inet");
                assert!(
                    !connected || local.port() == FIRST,
                    "round {round}: {local}"
                );
                assert!(
                    claimed.is_none() || !connected,
                    "round {round}: both have the port"
                );
                claimed
                    .into_iter()
                    .for_each(|token| pool.release_on(&next, token).expect("release"));
            },
        );
        tally.print("release and claim against connect");
        drop(next);
        nothing_left(arena, owner);
    });
}

#[test]
fn of_two_releases_exactly_one_ends_the_reservation() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let (owner, other) = (tcp(), tcp());
        let mut tally = Tally::default();
        duel(
            rounds(),
            |_| claim(&pool, &owner, FIRST, 70).expect("the ports of the last round are free"),
            |token| pool.release_on(&owner, *token).is_ok(),
            |token| pool.release_on(&other, *token).is_ok(),
            |round, _, one, two| {
                tally.count(one, two);
                assert!(one != two, "round {round}: released {one} and {two}");
            },
        );
        tally.print("release against release");
        drop(other);
        nothing_left(arena, owner);
    });
}

#[test]
fn a_release_that_meets_the_close_of_the_owner_socket_frees_everything_once() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let other = tcp();
        let mut tally = Tally::default();
        duel(
            rounds(),
            |_| {
                let owner = tcp();
                let tokens = [FIRST, FIRST + 100].map(|first| {
                    claim(&pool, &owner, first, 70).expect("the ports of the last round are free")
                });
                (Mutex::new(Some(owner)), tokens)
            },
            |(_, tokens)| pool.release_on(&other, tokens[1]).is_ok(),
            |(owner, _)| drop(owner.lock().expect("lock").take()),
            |_, _, released, ()| tally.count(released, !released),
        );
        tally.print("release against close");
        nothing_left(arena, other);
    });
}

#[test]
fn a_claim_that_meets_the_close_of_a_bound_socket_leaves_the_counts_right() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let owner = tcp();
        duel(
            rounds(),
            |_| {
                let socket = tcp();
                assert!(bind(&socket, FIRST), "the port of the last round is free");
                Mutex::new(Some(socket))
            },
            |_| {
                let deadline = Instant::now() + Duration::from_secs(60);
                loop {
                    if let Some(token) = claim(&pool, &owner, FIRST, 1) {
                        return token;
                    }
                    assert!(
                        Instant::now() < deadline,
                        "the port of a closed socket stays taken"
                    );
                }
            },
            |socket| drop(socket.lock().expect("lock").take()),
            |_, _, token, ()| pool.release_on(&owner, token).expect("release"),
        );
        nothing_left(arena, owner);
    });
}

pub(crate) fn tcp() -> Socket {
    Socket::new(Domain::IPV4, Type::STREAM, None).expect("socket")
}

fn udp() -> Socket {
    Socket::new(Domain::IPV4, Type::DGRAM, None).expect("socket")
}

/// The token, or nothing if the port is in use.
pub(crate) fn claim(pool: &Pool, owner: &Socket, first: u16, count: u16) -> Option<Token> {
    let range = PortRange::from_numbers(first, count).expect("range");
    match pool.acquire_on(owner, &Want::Specific(range), Scope::Associated) {
        Ok(block) => Some(block.token),
        Err(AcquireError::Refused {
            refusal: Refusal::InUse,
            ..
        }) => None,
        Err(error) => panic!("claim: {error}"),
    }
}

pub(crate) fn bind(socket: &Socket, port: u16) -> bool {
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    socket.bind(&address.into()).is_ok()
}

pub(crate) fn nothing_left(arena: &Arena, owner: Socket) {
    drop(owner);
    Census::await_nothing(arena);
    let owner = tcp();
    claim(&arena.pool(), &owner, FIRST, 400).expect("the pool still grants");
}

/// How often which of the two won: a duel that one side always wins tests nothing.
#[derive(Default)]
pub(crate) struct Tally([u32; 4]);

impl Tally {
    pub(crate) fn count(&mut self, left: bool, right: bool) {
        self.0[usize::from(left) * 2 + usize::from(right)] += 1;
    }

    pub(crate) fn print(&self, what: &str) {
        let [none, right, left, both] = self.0;
        println!("{what}: left {left}, right {right}, none {none}, both {both}");
        assert!(left > 0 && (right > 0 || both > 0), "one side never wins");
    }
}
