//! Sockets from a block through the library: rules 11 to 14, 17 and 21, and what raw calls get.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    process::Command,
};

use portpool::{BindError, Port, Refusal, Reservation, Transport, Transports, process};
use portpool_testkit::Actor;

use crate::column::reserved_errno;
use crate::kit::{
    ACTOR, LOOPBACK, any, assert_empty, associated, bind_port, exactly, grant, peer, port_of,
    range, request, tcp, udp,
};

#[test]
fn listeners_and_datagram_sockets_come_from_the_block() {
    case!(|arena| {
        let pool = arena.pool();
        let reservation = both(&pool, "20000-20003");
        let listener = reservation.tcp_listener(LOOPBACK).expect("listener");
        assert_eq!(listener.local_addr().expect("address").port(), 20_000);
        let six = reservation
            .tcp_listener(IpAddr::V6(Ipv6Addr::UNSPECIFIED))
            .expect("listener");
        assert_eq!(six.local_addr().expect("address").port(), 20_001);
        let third = SocketAddr::new(LOOPBACK, 20_003);
        let third = reservation.tcp_listener_on(third).expect("listener");
        assert_eq!(third.local_addr().expect("address").port(), 20_003);
        let datagrams = reservation.udp_socket(LOOPBACK).expect("socket");
        assert_eq!(datagrams.local_addr().expect("address").port(), 20_000);
        let on = SocketAddr::new(LOOPBACK, 20_002);
        let datagrams = reservation.udp_socket_on(on).expect("socket");
        assert_eq!(datagrams.local_addr().expect("address").port(), 20_002);
    });
}

/// Rules 13 and 14, as errors of the library.
#[test]
fn a_socket_that_cannot_come_from_the_block_says_why() {
    case!(|arena| {
        let pool = arena.pool();
        let reservation = both(&pool, "20000-20001");
        let outside = SocketAddr::new(LOOPBACK, 20_002);
        let error = reservation.tcp_listener_on(outside).expect_err("outside");
        assert_eq!(error.refusal(), Some(Refusal::OutsideBlock));
        let error = reservation.udp_socket_on(outside).expect_err("outside");
        assert_eq!(error.refusal(), Some(Refusal::OutsideBlock));
        let first = reservation.tcp_listener(LOOPBACK).expect("listener");
        let error = reservation
            .tcp_listener_on(first.local_addr().expect("address"))
            .expect_err("in use");
        assert_eq!(error.refusal(), Some(Refusal::InUse));
        let second = reservation.tcp_listener(LOOPBACK).expect("listener");
        let error = reservation.tcp_listener(LOOPBACK).expect_err("exhausted");
        assert_eq!(error.refusal(), Some(Refusal::NoRoom));
        assert!(error.to_string().contains("20000-20001"), "{error}");
        let (_listener, port) = peer();
        let error = reservation
            .connect(SocketAddr::new(LOOPBACK, port))
            .expect_err("exhausted");
        assert_eq!(error.refusal(), Some(Refusal::NoRoom));
        let foreign = SocketAddr::new("192.0.2.1".parse().expect("ip"), 0);
        drop((first, second));
        let error = reservation.tcp_listener_on(foreign).expect_err("foreign");
        assert!(matches!(error, BindError::Failure { .. }), "{error}");
        let tcp_only = pool
            .acquire(&request(Transports::Tcp, exactly("21000")))
            .expect("acquire");
        let error = tcp_only.udp_socket(LOOPBACK).expect_err("no UDP block");
        assert_eq!(error.refusal(), Some(Refusal::WrongTransport));
    });
}

/// Rule 17: through the library every implicit bind draws from the block.
#[test]
fn connect_send_to_and_listen_bind_within_the_block_first() {
    case!(|arena| {
        let pool = arena.pool();
        let reservation = both(&pool, "20000-20003");
        let (listener, port) = peer();
        let stream = reservation
            .connect(SocketAddr::new(LOOPBACK, port))
            .expect("connect");
        assert_eq!(stream.local_addr().expect("address").port(), 20_000);
        let (_, from) = listener.accept().expect("accept");
        assert_eq!(from.as_socket().expect("address").port(), 20_000);

        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").expect("receiver");
        let to = receiver.local_addr().expect("address");
        let sender = udp();
        reservation.associate(&sender).expect("associate");
        for _ in 0..2 {
            assert_eq!(reservation.send_to(&sender, b"x", to).expect("send"), 1);
            let (_, from) = receiver.recv_from(&mut [0; 8]).expect("receive");
            assert_eq!(from.port(), 20_000);
        }

        let waiting = tcp();
        reservation.associate(&waiting).expect("associate");
        reservation.listen(&waiting, 4).expect("listen");
        assert_eq!(port_of(&waiting), 20_001);
        std::net::TcpStream::connect(("127.0.0.1", 20_001)).expect("connect");
    });
}

/// What no program of the kernel pool can steer: a raw sendto or listen of an associated, unbound
/// socket gets an ordinary port, outside the block and outside everybody else's.
#[test]
fn a_raw_sendto_or_listen_of_an_associated_socket_gets_a_port_nobody_reserved() {
    case!(|arena| {
        let pool = arena.pool();
        let owners = (tcp(), udp());
        let others: Vec<_> = (0..16)
            .map(|_| pool.acquire(&request(Transports::Both, any(200))))
            .collect::<Result<_, _>>()
            .expect("acquire");
        let tokens = [
            grant(&pool, &owners.0, "61000-61003").token,
            grant(&pool, &owners.1, "61000-61003").token,
        ];
        crate::kit::set_sysctl("ipv4/ip_local_port_range", "1024 65535");
        let entries = pool.reservations().expect("look");
        let to: SocketAddr = "127.0.0.1:9".parse().expect("address");
        for _ in 0..200 {
            let sender = associated(&pool, "udp4", tokens[1]);
            sender.send_to(b"x", &to.into()).expect("sendto");
            let waiting = associated(&pool, "tcp4", tokens[0]);
            waiting.listen(1).expect("listen");
            for (transport, port) in [
                (Transport::Udp, port_of(&sender)),
                (Transport::Tcp, port_of(&waiting)),
            ] {
                let port = Port::new(port).expect("a port");
                let reserved = |entry: &&portpool::Entry| {
                    entry.transport == transport && entry.range.contains(port)
                };
                assert_eq!(entries.iter().find(reserved), None, "{transport} {port}");
            }
        }
        drop(others);
    });
}

#[test]
fn dropping_or_releasing_a_reservation_frees_its_ports() {
    case!(|arena| {
        let pool = arena.pool();
        let reservation = both(&pool, "20000-20003");
        assert_eq!(reservation.range(), range("20000-20003"));
        assert_eq!(bind_port(&tcp(), 20_000), Err(reserved_errno()));
        drop(reservation);
        assert_empty(&pool);
        let reservation = both(&pool, "20000-20003");
        let listener = reservation.tcp_listener(LOOPBACK).expect("listener");
        reservation.release().expect("release");
        assert_eq!(pool.reservations().expect("look"), []);
        // Rule 21: what is bound stays so.
        let client = std::net::TcpStream::connect(("127.0.0.1", 20_000));
        client.expect("connect").write_all(b"x").expect("write");
        let (mut stream, _) = listener.accept().expect("accept");
        assert_eq!(stream.read(&mut [0; 8]).expect("read"), 1);
        assert_eq!(bind_port(&tcp(), 20_001), Ok(20_001));
    });
}

/// A child never becomes owner, but serves what it was handed, and after the reservation's end too.
#[test]
fn a_bound_socket_can_be_handed_to_a_child() {
    case!(|arena| {
        let pool = arena.pool();
        let reservation = both(&pool, "20000-20003");
        let listener = reservation.tcp_listener(LOOPBACK).expect("listener");
        let mut command = Command::new(ACTOR);
        let number = process::pass_socket(&mut command, listener);
        let mut child = Actor::spawn(&mut command);
        drop(command);
        child.ask(&format!("inherit s {number}")).expect("inherit");
        let client = std::net::TcpStream::connect(("127.0.0.1", 20_000)).expect("connect");
        child.ask("accept s c").expect("accept");
        child.ask("socket t tcp4").expect("socket");
        assert_eq!(child.ask("bind t 127.0.0.1:20001"), Err(reserved_errno()));
        drop((client, reservation));
        assert_eq!(child.ask("address s").as_deref(), Ok("127.0.0.1:20000"));
        child.ask("bind t 127.0.0.1:20001").expect("bind");
    });
}

/// A closed listener's connections keep its port only from sockets without `SO_REUSEADDR`.
#[test]
fn a_listener_takes_over_a_port_with_connections_of_a_past_one() {
    case!(|arena| {
        let pool = arena.pool();
        let reservation = both(&pool, "20000");
        let listener = reservation.tcp_listener(LOOPBACK).expect("listener");
        let client = std::net::TcpStream::connect(("127.0.0.1", 20_000)).expect("connect");
        let (accepted, _) = listener.accept().expect("accept");
        drop(listener);
        let again = reservation.tcp_listener(LOOPBACK).expect("listener");
        assert_eq!(again.local_addr().expect("address").port(), 20_000);
        drop((client, accepted));
    });
}

fn both(pool: &portpool::Pool, ports: &str) -> Reservation {
    pool.acquire(&request(Transports::Both, exactly(ports)))
        .expect("acquire")
}
