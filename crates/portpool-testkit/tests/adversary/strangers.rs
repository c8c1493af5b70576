//! Every way a stranger can bind a port by its number.

use std::net::{IpAddr, Ipv4Addr};

use portpool::{PortCount, Request, Reservation, Transports, Want, Wildcard};
use portpool_testkit::{Actor, Errno, in_arena};
use socket2::{Domain, Protocol, Socket, Type};

use crate::common::{ACTOR, claim_range};

#[test]
fn a_stranger_is_refused_a_reserved_port_in_every_way_of_binding() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let specific = [
            claim_range(&pool, portpool::Transport::Tcp, 8080, 4).expect("8080"),
            claim_range(&pool, portpool::Transport::Udp, 8080, 4).expect("8080"),
        ];
        let wildcard = pool.acquire(&Request {
            transports: Transports::Both,
            want: Want::Wildcard(Wildcard::new(PortCount::new(4).expect("count"))),
        });
        let wildcard = wildcard.expect("wildcard");
        let mut strangers = [Actor::start(ACTOR), Actor::start_as(ACTOR, 65_534)];
        let mut tried = 0;
        for blocks in [&specific[..], std::slice::from_ref(&wildcard)] {
            for state in [State::Idle, State::Bound, State::Listening] {
                let consumed: Vec<Socket> = blocks
                    .iter()
                    .flat_map(|block| consume(block, state))
                    .collect();
                let port = blocks[0].range().first().number() + 1;
                for stranger in &mut strangers {
                    for way in ways() {
                        let answer = try_way(stranger, &way, port);
                        assert_eq!(answer, Err(Errno::ACCES), "{way:?} {state:?} {port}");
                        tried += 1;
                    }
                }
                drop(consumed);
            }
        }
        assert_eq!(tried, 2 * 3 * 2 * 3 * 6 * 4);
    });
}

#[test]
fn a_refused_socket_can_be_bound_to_a_free_port() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let _blocks = [
            claim_range(&pool, portpool::Transport::Tcp, 20_000, 4).expect("tcp"),
            claim_range(&pool, portpool::Transport::Udp, 20_000, 4).expect("udp"),
        ];
        let mut stranger = Actor::start_as(ACTOR, 65_534);
        for way in ways() {
            assert_eq!(try_way(&mut stranger, &way, 20_001), Err(Errno::ACCES));
            let free = format!("bind s {}", way.at(20_004));
            assert_eq!(stranger.ask(&free), Ok(String::new()), "{way:?}");
        }
    });
}

/// What the owner does with the second port of its block.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Idle,
    Bound,
    Listening,
}

fn consume(block: &Reservation, state: State) -> Vec<Socket> {
    if state == State::Idle {
        return Vec::new();
    }
    let kinds = block.blocks().iter().map(|block| match block.transport {
        portpool::Transport::Tcp => (Type::STREAM, Protocol::TCP),
        portpool::Transport::Udp => (Type::DGRAM, Protocol::UDP),
    });
    kinds
        .map(|(kind, protocol)| {
            let socket = Socket::new(Domain::IPV4, kind, Some(protocol)).expect("socket");
            socket.set_reuse_port(true).expect("SO_REUSEPORT");
            socket.set_reuse_address(true).expect("SO_REUSEADDR");
            block.associate(&socket).expect("associate");
            let port = block.range().first().number() + 1;
            let address = (Ipv4Addr::UNSPECIFIED, port);
            let address = std::net::SocketAddr::from(address);
            socket.bind(&address.into()).expect("the owner's bind");
            if state == State::Listening && protocol == Protocol::TCP {
                socket.listen(16).expect("the owner's listen");
            }
            socket
        })
        .collect()
}

/// A socket with its options, and an address without port.
#[derive(Debug)]
struct Way {
    kind: String,
    options: Vec<&'static str>,
    ip: IpAddr,
}

impl Way {
    fn at(&self, port: u16) -> std::net::SocketAddr {
        std::net::SocketAddr::new(self.ip, port)
    }
}

fn ways() -> Vec<Way> {
    let addresses: [(&str, &str, Option<&str>); 6] = [
        ("4", "0.0.0.0", None),
        ("4", "127.0.0.1", None),
        ("6", "::1", None),
        ("6", "::", Some("v6only")),
        ("6", "::", Some("dual")),
        ("6", "::ffff:127.0.0.1", Some("dual")),
    ];
    let reuse: [&[&str]; 4] = [
        &[],
        &["reuseaddr"],
        &["reuseport"],
        &["reuseaddr", "reuseport"],
    ];
    let mut ways = Vec::new();
    for protocol in ["tcp", "udp", "mptcp"] {
        for (family, ip, only) in addresses {
            for reuse in reuse {
                ways.push(Way {
                    kind: format!("{protocol}{family}"),
                    options: only.iter().chain(reuse).copied().collect(),
                    ip: ip.parse().expect("an address"),
                });
            }
        }
    }
    ways
}

fn try_way(stranger: &mut Actor, way: &Way, port: u16) -> Result<String, Errno> {
    stranger
        .ask(&format!("socket s {}", way.kind))
        .expect("socket");
    for option in &way.options {
        stranger
            .ask(&format!("option s {option}"))
            .expect("an option");
    }
    stranger.ask(&format!("bind s {}", way.at(port)))
}
