//! A port counts as in use as long as a socket is bound to it, and not longer.

use std::net::IpAddr;

use portpool::{PortCount, PortRange, Refusal, Request, Transport, Want, Wildcard};
use portpool_testkit::{Actor, in_arena};
use socket2::Socket;

use crate::common::{
    ACTOR, Kind, V4, V6, bind, claim_range, claimable, connect, counted, errno, in_use, port_of,
    wait_until,
};

#[test]
fn a_connection_from_a_block_keeps_its_port_until_it_is_closed() {
    in_arena!(|arena| {
        let pool = arena.pool();
        for (kind, ip) in [
            (Kind::Tcp, V4),
            (Kind::Tcp, V6),
            (Kind::Udp, V4),
            (Kind::Udp, V6),
        ] {
            let listener = std::net::TcpListener::bind((ip, 0)).expect("listener");
            let peer = listener.local_addr().expect("address").port();
            let transport = kind.transport();
            let block = claim_range(&pool, transport, 20_000, 1).expect("claim");
            let socket = kind.open(ip);
            if kind == Kind::Tcp {
                // A reset leaves no TIME_WAIT behind.
                socket
                    .set_linger(Some(std::time::Duration::ZERO))
                    .expect("SO_LINGER");
            }
            block.associate(&socket).expect("associate");
            connect(&socket, ip, peer).expect("connect");
            assert_eq!(port_of(&socket), 20_000);
            drop(block);
            assert_eq!(counted(&pool, transport, 20_000), 1, "{kind:?} {ip}");
            assert_eq!(claimable(&pool, transport, 20_000), Err(Refusal::InUse));
            drop(socket);
            assert_eq!(claimable(&pool, transport, 20_000), Ok(()), "{kind:?} {ip}");
            drop(listener);
            assert_eq!(in_use(&pool), 0);
        }
    });
}

#[test]
fn a_connection_from_a_block_that_fails_gives_its_port_back() {
    in_arena!(|arena| {
        let pool = arena.pool();
        for ip in [V4, V6] {
            let block = claim_range(&pool, Transport::Tcp, 20_000, 2).expect("claim");
            let socket = Kind::Tcp.open(ip);
            block.associate(&socket).expect("associate");
            for _ in 0..3 {
                assert_ne!(errno(connect(&socket, ip, 9)), None);
            }
            drop(socket);
            assert_eq!(in_use(&pool), 0);
            drop(block);
            assert_eq!(claimable(&pool, Transport::Tcp, 20_000), Ok(()));
        }
    });
}

#[test]
fn sockets_that_lost_an_automatic_port_are_counted_once_and_then_not_at_all() {
    in_arena!(|arena| {
        let pool = arena.pool();
        // Only if an administrator has it so is a port that is counted chosen.
        for (name, value) in [("reserved_ports", "\n"), ("port_range", "20000 29999")] {
            let path = format!("/proc/sys/net/ipv4/ip_local_{name}");
            std::fs::write(&path, value).unwrap_or_else(|error| panic!("write {path}: {error}"));
        }
        for kind in Kind::ALL {
            for ip in [V4, V6] {
                let socket = kind.open(ip);
                for round in 0..50 {
                    bind(&socket, ip, 0).expect("bind to any port");
                    let port = port_of(&socket);
                    assert_eq!(counted(&pool, kind.transport(), port), 1);
                    assert_eq!(in_use(&pool), 1, "{kind:?} {ip} round {round}");
                    match kind {
                        Kind::Udp => {
                            connect(&socket, ip, 9).expect("connect");
                            rustix::net::connect_unspec(&socket).expect("disconnect");
                        }
                        Kind::Tcp | Kind::Mptcp => {
                            assert_ne!(errno(connect(&socket, ip, 9)), None);
                        }
                    }
                    if port_of(&socket) != 0 {
                        // Multipath sockets keep it; another bind would be refused.
                        break;
                    }
                }
                drop(socket);
                assert_eq!(in_use(&pool), 0, "{kind:?} {ip}");
            }
        }
    });
}

#[test]
fn every_socket_of_a_port_is_counted() {
    in_arena!(|arena| {
        let pool = arena.pool();
        for kind in [Kind::Tcp, Kind::Udp] {
            let mut group: Vec<Socket> = Vec::new();
            for count in 1..=40 {
                let ip = if count % 2 == 0 { V6 } else { V4 };
                let socket = kind.open(ip);
                socket.set_reuse_port(true).expect("SO_REUSEPORT");
                bind(&socket, ip, 20_000).expect("join the group");
                if kind == Kind::Tcp && count % 3 == 0 {
                    socket.listen(1).expect("listen");
                }
                group.push(socket);
                assert_eq!(counted(&pool, kind.transport(), 20_000), count);
            }
            while let Some(socket) = group.pop() {
                assert_eq!(
                    claimable(&pool, kind.transport(), 20_000),
                    Err(Refusal::InUse)
                );
                let copy = socket.try_clone().expect("dup");
                drop(socket);
                assert_eq!(
                    counted(&pool, kind.transport(), 20_000) as usize,
                    group.len() + 1
                );
                drop(copy);
                assert_eq!(
                    counted(&pool, kind.transport(), 20_000) as usize,
                    group.len()
                );
            }
            assert_eq!(claimable(&pool, kind.transport(), 20_000), Ok(()));
        }
    });
}

/// An accepted connection has its listener's port without having bound it: once the listener is gone
/// the port is not in use. An exact claim gets it, a wildcard looks elsewhere for a while. Whether it
/// can be bound meanwhile is the kernel's matter: only if the past listener had SO_REUSEADDR, too.
#[test]
fn a_port_left_to_accepted_connections_is_claimed_by_number_and_avoided_by_wildcards() {
    in_arena!(|arena| {
        let pool = arena.pool();
        for (port, reuse) in [(20_000, true), (20_002, false)] {
            let mut peer = Actor::start(ACTOR);
            let listener = Kind::Tcp.open(V4);
            listener.set_reuse_address(reuse).expect("SO_REUSEADDR");
            bind(&listener, V4, port).expect("bind");
            listener.listen(4).expect("listen");
            peer.ask_all(&["socket c tcp4", &format!("connect c 127.0.0.1:{port}")])
                .expect("connect");
            let (accepted, _) = listener.accept().expect("accept");
            assert_eq!(counted(&pool, Transport::Tcp, port), 1);
            assert_eq!(claimable(&pool, Transport::Tcp, port), Err(Refusal::InUse));
            drop(listener);
            assert_eq!(counted(&pool, Transport::Tcp, port), 0);
            // The port just left is avoided.
            assert_eq!(wildcard_in(&pool, port, 2), port + 1);

            let block = claim_range(&pool, Transport::Tcp, port, 1).expect("an exact claim");
            let refused = bind(&owned(&block, V4), V4, port);
            assert_eq!(errno(refused), Some(portpool_testkit::Errno::ADDRINUSE));
            assert_eq!(counted(&pool, Transport::Tcp, port), 0);
            let address = std::net::SocketAddr::new(V4, port);
            assert_eq!(block.tcp_listener_on(address).is_ok(), reuse);
            drop(accepted);
        }
        assert_eq!(in_use(&pool), 0);
    });
}

#[test]
fn a_port_in_time_wait_is_claimed_by_number_and_avoided_by_wildcards() {
    in_arena!(|arena| {
        let pool = arena.pool();
        let listener = std::net::TcpListener::bind((V4, 20_000)).expect("listener");
        let mut peer = Actor::start(ACTOR);
        peer.ask_all(&["socket c tcp4", "connect c 127.0.0.1:20000"])
            .expect("connect");
        let (accepted, _) = listener.accept().expect("accept");
        // Closing first, this side keeps the port in TIME_WAIT.
        drop((accepted, listener));
        peer.kill();
        wait_until("the connection is in TIME_WAIT", || {
            let table = std::fs::read_to_string("/proc/self/net/tcp").expect("read");
            table.contains(":4E20 ") && table.contains(" 06 ")
        });
        assert_eq!(wildcard_in(&pool, 20_000, 2), 20_001);
        let block = claim_range(&pool, Transport::Tcp, 20_000, 1).expect("an exact claim");
        let address = std::net::SocketAddr::new(V4, 20_000);
        block.tcp_listener_on(address).expect("listen");
    });
}

fn owned(block: &portpool::Reservation, ip: IpAddr) -> Socket {
    let socket = Kind::Tcp.open(ip);
    block.associate(&socket).expect("associate");
    socket
}

/// The first port of a wildcard block of one port within a range.
fn wildcard_in(pool: &portpool::Pool, first: u16, count: u16) -> u16 {
    let wildcard = Wildcard {
        within: Some(PortRange::from_numbers(first, count).expect("range")),
        ..Wildcard::new(PortCount::ONE)
    };
    let request = Request {
        transports: Transport::Tcp.into(),
        want: Want::Wildcard(wildcard),
    };
    let block = pool.acquire(&request).expect("wildcard");
    block.range().first().number()
}
