//! Ports that the kernel chooses: none of them is ever a reserved one.

use std::{fs, ops::RangeInclusive};

use portpool::{PortCount, Reservation, Transport, Want, Wildcard};
use portpool_testkit::{Actor, Arena, Errno, Size, in_arena};
use socket2::Socket;

use crate::{
    addresses::{IP_LOCAL_PORT_RANGE, set_number},
    common::{
        Kind, V4, V6, bind, claim_range, claimable, connect, counted, errno, in_use, owner, port_of,
    },
};

#[test]
fn no_automatic_choice_falls_on_a_wildcard_block_after_the_ephemeral_range_was_widened() {
    in_arena!(|arena| {
        let blocks: Vec<Reservation> = (0..60).map(|_| wildcard(arena)).collect();
        let taken: Vec<RangeInclusive<u16>> = blocks.iter().map(numbers).collect();
        fs::write(PORT_RANGE, "1024 65535").expect("widen the range");
        let choices = every_choice(&taken);
        assert!(choices > 0);
    });
}

#[test]
fn no_automatic_choice_falls_on_a_block_that_the_ephemeral_range_closely_surrounds() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let _blocks = Transport::ALL.map(|transport| {
            claim_range(&pool, transport, 8080, 64).expect("a block outside the wildcard ranges")
        });
        // The ports around the block are automatic choice's again, by the administrator's hand.
        let reserved = fs::read_to_string(RESERVED_PORTS).expect("read");
        let mut reserved: portpool::RangeSet = reserved.parse().expect("ranges");
        for (first, count) in [(8064, 16), (8144, 48)] {
            reserved.remove(portpool::PortRange::from_numbers(first, count).expect("range"));
        }
        fs::write(RESERVED_PORTS, format!("{reserved}\n")).expect("write");
        fs::write(PORT_RANGE, "8064 8191").expect("narrow the range");
        let taken = [8080..=8143];
        let choices = every_choice(&taken);
        // With nothing else to choose from, most of them found a port.
        assert!(choices > Size::automatic_choices() * 3 / 2, "{choices}");
        assert_eq!(
            claimable(&pool, Transport::Tcp, 8064),
            Err(portpool::Refusal::Ephemeral)
        );
    });
}

#[test]
fn a_port_range_of_a_socket_gives_no_reserved_port() {
    in_arena!(|_| {
        let _owner = owner(20_000, 64);
        fs::write(PORT_RANGE, "20000 20063").expect("narrow the range");
        for kind in [Kind::Tcp, Kind::Udp] {
            for _ in 0..200 {
                let socket = kind.open(V4);
                let range = 20_063 << 16 | 20_000;
                if set_number(&socket, libc::IPPROTO_IP, IP_LOCAL_PORT_RANGE, range).is_err() {
                    eprintln!("this kernel has no IP_LOCAL_PORT_RANGE (before 6.3)");
                    return;
                }
                assert_ne!(errno(bind(&socket, V4, 0)), None);
                let target = Kind::Udp.open(V4);
                assert_ne!(errno(connect(&socket, V4, 9)), None);
                assert_eq!(port_of(&socket), 0);
                drop(target);
            }
        }
    });
}

#[test]
fn a_pool_of_which_nothing_is_left_to_automatic_choice_says_so_to_the_stranger() {
    in_arena!(|_| {
        let _owner = owner(20_000, 64);
        fs::write(PORT_RANGE, "20000 20063").expect("narrow the range");
        for kind in Kind::ALL {
            let socket = kind.open(V4);
            assert_eq!(errno(bind(&socket, V4, 0)), Some(Errno::ADDRINUSE));
        }
    });
}

#[test]
fn automatic_choice_that_lost_its_sysctl_is_refused_at_bind() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let _owner = owner(20_000, 64);
        fs::write(RESERVED_PORTS, "\n").expect("empty the sysctl");
        fs::write(PORT_RANGE, "20000 20063").expect("narrow the range");
        // bind(0) is judged by the pool besides.
        for kind in Kind::ALL {
            let socket = kind.open(V4);
            assert_eq!(errno(bind(&socket, V4, 0)), Some(Errno::ACCES), "{kind:?}");
            assert_eq!(port_of(&socket), 0);
        }
        // Of connect and sendto the sysctl is the only guard: no hook sees what they choose.
        let sent = Kind::Udp.open(V4);
        connect(&sent, V4, 9).expect("connect");
        assert!((20_000..20_064).contains(&port_of(&sent)));
        assert_eq!(in_use(&pool), 0);
        assert_eq!(
            claimable(&pool, Transport::Tcp, 20_064),
            Err(portpool::Refusal::Ephemeral)
        );
    });
}

#[test]
fn an_automatic_choice_without_bind_is_not_counted_and_needs_no_count() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let listening = Kind::Tcp.open(V4);
        listening.listen(1).expect("listen without bind");
        let sent = Kind::Udp.open(V4);
        let nowhere = std::net::SocketAddr::new(V4, 9);
        sent.send_to(b"x", &nowhere.into()).expect("sendto");
        assert_eq!(in_use(&pool), 0);
        // The kernel took them from where no reservation may lie.
        for (transport, socket) in [(Transport::Tcp, &listening), (Transport::Udp, &sent)] {
            let port = port_of(socket);
            assert_eq!(counted(&pool, transport, port), 0);
            assert_eq!(
                claimable(&pool, transport, port),
                Err(portpool::Refusal::Ephemeral)
            );
        }
    });
}

const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED_PORTS: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

fn wildcard(arena: &Arena) -> Reservation {
    let request = portpool::Request {
        transports: portpool::Transports::Both,
        want: Want::Wildcard(Wildcard::new(PortCount::new(200).expect("count"))),
    };
    arena.pool().acquire(&request).expect("wildcard")
}

fn numbers(block: &Reservation) -> RangeInclusive<u16> {
    block.range().first().number()..=block.range().last().number()
}

/// Has the kernel choose in each of its ways; how many ports it gave.
fn every_choice(taken: &[RangeInclusive<u16>]) -> u32 {
    let ways: [(&str, Choice); 6] = [
        ("bind", |_| {
            chosen(&[Kind::Tcp, Kind::Udp, Kind::Mptcp], |s, ip| bind(s, ip, 0))
        }),
        ("connect", |peer| {
            chosen(&[Kind::Tcp, Kind::Udp], |s, ip| connect(s, ip, peer))
        }),
        ("sendto", |peer| {
            chosen(&[Kind::Udp], |s, ip| {
                let address = std::net::SocketAddr::new(ip, peer);
                s.send_to(b"x", &address.into()).map(drop)
            })
        }),
        ("listen", |_| {
            chosen(&[Kind::Tcp, Kind::Mptcp], |s, _| s.listen(1))
        }),
        ("bind without port, then connect", |peer| {
            chosen(&[Kind::Tcp, Kind::Udp], |s, ip| {
                let late = libc::IP_BIND_ADDRESS_NO_PORT;
                set_number(s, libc::IPPROTO_IP, late, 1)?;
                bind(s, ip, 0)?;
                connect(s, ip, peer)
            })
        }),
        ("bind with reuse", |_| {
            chosen(&[Kind::Tcp, Kind::Udp], |s, ip| {
                s.set_reuse_address(true)?;
                s.set_reuse_port(true)?;
                bind(s, ip, 0)
            })
        }),
    ];
    let peers = Peers::start();
    let mut found = 0;
    for (name, way) in ways {
        let mut of_way = 0;
        while of_way < Size::automatic_choices() {
            let ports = way(peers.port);
            for port in &ports {
                assert!(
                    *port == 0 || !taken.iter().any(|block| block.contains(port)),
                    "{name} took {port}"
                );
                found += u32::from(*port != 0);
            }
            of_way += u32::try_from(ports.len()).expect("few");
        }
    }
    drop(peers);
    found
}

type Choice = fn(u16) -> Vec<u16>;

/// The ports (0: none) that new sockets of each kind and family have after `choose`.
fn chosen(
    kinds: &[Kind],
    choose: impl Fn(&Socket, std::net::IpAddr) -> std::io::Result<()>,
) -> Vec<u16> {
    let mut ports = Vec::new();
    for kind in kinds {
        for ip in [V4, V6] {
            let socket = kind.open(ip);
            // A connection under way has its port; nobody accepts so many.
            socket.set_nonblocking(true).expect("O_NONBLOCK");
            drop(choose(&socket, ip));
            ports.push(port_of(&socket));
        }
    }
    ports
}

/// A process with a TCP listener and UDP sockets to connect to, on one port of both families.
struct Peers {
    port: u16,
    _process: Actor,
}

impl Peers {
    fn start() -> Peers {
        let mut process = Actor::start(crate::common::ACTOR);
        let port = 9999;
        for (name, kind) in [("t", "tcp6"), ("u", "udp6")] {
            process
                .ask_all(&[
                    &format!("socket {name} {kind}"),
                    &format!("option {name} dual"),
                    &format!("bind {name} [::]:{port}"),
                ])
                .expect("bind the peer");
        }
        process.ask("listen t").expect("listen");
        Peers {
            port,
            _process: process,
        }
    }
}
