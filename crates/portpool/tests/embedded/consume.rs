//! Sockets on ports of a held block.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
};

use portpool::{
    AssociateError, BindError, Pool, PoolKind, Refusal, Technique, Transport, Transports,
};
use socket2::{Domain, Type};

use crate::kit::{acquire, any, eventually, pool, socket, wildcard};

const IPS: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
];

fn is_served(listener: &TcpListener) {
    let mut address = listener.local_addr().expect("address");
    if address.ip().is_unspecified() {
        address.set_ip(match address.is_ipv4() {
            true => Ipv4Addr::LOCALHOST.into(),
            false => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let mut client = TcpStream::connect(address).expect("connect");
    let (mut served, _) = listener.accept().expect("accept");
    served.write_all(b"hello").expect("write");
    drop(served);
    let mut text = String::new();
    client.read_to_string(&mut text).expect("read");
    assert_eq!(text, "hello");
}

#[test]
fn a_listener_on_a_held_port_serves_and_can_be_opened_again() {
    let ports = acquire(Transports::Tcp, 1);
    for ip in IPS.into_iter().chain(IPS) {
        let listener = eventually(|| ports.tcp_listener(ip));
        is_served(&listener);
    }
}

#[test]
fn a_udp_socket_on_a_held_port_gets_every_datagram() {
    let ports = acquire(Transports::Udp, 1);
    let client = UdpSocket::bind("127.0.0.1:0").expect("bind");
    for ip in [IPS[0], IPS[1], IPS[3]] {
        let server = eventually(|| ports.udp_socket(ip));
        let port = server.local_addr().expect("address").port();
        for number in 0..50_u8 {
            let to = (Ipv4Addr::LOCALHOST, port);
            client.send_to(&[number], to).expect("send");
            let mut got = [0];
            server.recv(&mut got).expect("receive");
            assert_eq!(got, [number]);
        }
    }
}

#[test]
fn port_zero_takes_the_lowest_free_port_until_the_block_is_exhausted() {
    for transports in [Transports::Tcp, Transports::Udp] {
        for ip in IPS {
            let ports = acquire(transports, 3);
            let mut consumers: Vec<(Box<dyn std::any::Any>, u16)> = Vec::new();
            let open = || -> Result<(Box<dyn std::any::Any>, u16), BindError> {
                match transports {
                    Transports::Tcp => {
                        let it = ports.tcp_listener(ip)?;
                        let port = it.local_addr().expect("address").port();
                        Ok((Box::new(it), port))
                    }
                    _ => {
                        let it = ports.udp_socket(ip)?;
                        let port = it.local_addr().expect("address").port();
                        Ok((Box::new(it), port))
                    }
                }
            };
            for port in ports.ports() {
                let consumer = open().expect("open");
                assert_eq!(consumer.1, port.number());
                consumers.push(consumer);
            }
            let error = open().expect_err("exhausted");
            assert_eq!(error.refusal(), Some(Refusal::NoRoom), "{error}");
            let (_, freed) = consumers.remove(1);
            assert_eq!(eventually(open).1, freed);
        }
    }
}

#[test]
fn a_port_outside_the_block_is_refused() {
    let ports = acquire(Transports::Both, 2);
    let outside = ports.range().last().number() - 2;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, outside));
    let refused = [
        ports.tcp_listener_on(address).map(drop),
        ports.udp_socket_on(address).map(drop),
        ports.bind(&socket(Transport::Udp, Domain::IPV4), address),
    ];
    for answer in refused {
        let error = answer.expect_err("outside");
        assert_eq!(error.refusal(), Some(Refusal::OutsideBlock), "{error}");
    }
}

#[test]
fn a_port_of_the_block_that_is_in_use_is_refused() {
    let ports = acquire(Transports::Tcp, 1);
    let listener = ports.tcp_listener(IPS[0]).expect("listen");
    let address = listener.local_addr().expect("address");
    let error = ports.tcp_listener_on(address).expect_err("in use");
    assert_eq!(error.refusal(), Some(Refusal::InUse), "{error}");
}

#[test]
fn a_connection_comes_from_the_block() {
    let server = TcpListener::bind("127.0.0.1:0").expect("bind");
    let ports = acquire(Transports::Tcp, 2);
    let peer = server.local_addr().expect("address");
    let streams: Vec<TcpStream> = (0..2)
        .map(|_| ports.connect(peer).expect("connect"))
        .collect();
    for (stream, port) in streams.iter().zip(ports.ports()) {
        let local = stream.local_addr().expect("address");
        assert_eq!(local.port(), port.number());
    }
    let error = ports.connect(peer).expect_err("exhausted");
    assert_eq!(error.refusal(), Some(Refusal::NoRoom), "{error}");
}

#[test]
fn a_socket_of_the_caller_is_associated_bound_and_listens() {
    let ports = acquire(Transports::Both, 2);
    for ip in IPS {
        let address = SocketAddr::new(ip, 0);
        let tcp = socket(Transport::Tcp, Domain::for_address(address));
        // For the connections of the round before.
        tcp.set_reuse_address(true).expect("SO_REUSEADDR");
        ports.bind(&tcp, address).expect("bind");
        ports.listen(&tcp, 16).expect("listen");
        is_served(&tcp.into());
        let udp = socket(Transport::Udp, Domain::for_address(address));
        ports.associate(&udp).expect("associate");
        pool().bind(&udp, address).expect("bind");
        let bound = udp.local_addr().expect("address").as_socket();
        let port = bound.expect("an address").port();
        assert_eq!(port, ports.range().first().number());
    }
}

#[test]
fn what_is_not_bound_yet_is_bound_before_it_sends_or_listens() {
    let ports = acquire(Transports::Both, 1);
    let port = ports.range().first().number();
    let peer = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let udp = socket(Transport::Udp, Domain::IPV4);
    ports.associate(&udp).expect("associate");
    let to = peer.local_addr().expect("address");
    ports.send_to(&udp, b"x", to).expect("send");
    let (_, from) = peer.recv_from(&mut [0]).expect("receive");
    assert_eq!(from.port(), port);
    let tcp = socket(Transport::Tcp, Domain::IPV4);
    ports.associate(&tcp).expect("associate");
    ports.listen(&tcp, 1).expect("listen");
    let bound = tcp.local_addr().expect("address").as_socket();
    assert_eq!(bound.expect("an address").port(), port);
}

#[test]
fn sockets_with_reuse_port_share_a_port_of_the_block() {
    let ports = acquire(Transports::Both, 1);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.range().first().number()));
    let mut sockets = Vec::new();
    for transport in Transport::ALL {
        for _ in 0..3 {
            let socket = socket(transport, Domain::IPV4);
            socket.set_reuse_port(true).expect("SO_REUSEPORT");
            ports.bind(&socket, address).expect("bind");
            if transport == Transport::Tcp {
                ports.listen(&socket, 16).expect("listen");
            }
            socket.set_nonblocking(true).expect("nonblocking");
            sockets.push(socket);
        }
    }
    let mut heard = 0;
    for _ in 0..60 {
        let client = UdpSocket::bind("127.0.0.1:0").expect("bind");
        client.send_to(b"x", address).expect("send");
    }
    let groups = sockets
        .iter()
        .filter(|it| it.r#type().ok() == Some(Type::DGRAM));
    let mut hearers = 0;
    for socket in groups {
        let before = heard;
        let mut buffer = [std::mem::MaybeUninit::uninit()];
        while socket.recv(&mut buffer).is_ok() {
            heard += 1;
        }
        hearers += u32::from(heard > before);
    }
    assert_eq!(heard, 60);
    assert!(hearers > 1, "one socket got all");
}

#[test]
fn association_follows_the_rules_of_the_kernel_pool() {
    let pool = pool();
    let request = wildcard(Transports::Tcp, any(1));
    let ports = pool.acquire(&request).expect("acquire");
    let token = ports.blocks()[0].token;
    let refusal = |answer: Result<(), AssociateError>| answer.expect_err("refused").refusal();
    let udp = socket(Transport::Udp, Domain::IPV4);
    assert_eq!(
        refusal(pool.associate(&udp, token)),
        Some(Refusal::WrongTransport)
    );
    let tcp = socket(Transport::Tcp, Domain::IPV4);
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    tcp.bind(&loopback.into()).expect("bind");
    assert_eq!(
        refusal(pool.associate(&tcp, token)),
        Some(Refusal::AlreadyBound)
    );
    let late = socket(Transport::Tcp, Domain::IPV4);
    pool.associate(&late, token).expect("associate");
    ports.release().expect("release");
    let error = pool.bind(&late, loopback).expect_err("released");
    assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS));
    let fresh = socket(Transport::Tcp, Domain::IPV4);
    assert_eq!(
        refusal(pool.associate(&fresh, token)),
        Some(Refusal::UnknownToken)
    );
}

#[test]
fn a_strict_pool_refuses_what_would_open_a_window() {
    let strict = Pool::builder().kind(PoolKind::Embedded).strict(true);
    let request = wildcard(Transports::Both, any(1));
    let ports = strict.open().expect("open").acquire(&request);
    let ports = ports.expect("acquire");
    for ip in IPS {
        let technique = ports.technique(Transport::Tcp, ip);
        assert_eq!(ports.technique(Transport::Udp, ip), Technique::Device);
        drop(ports.udp_socket(ip).expect("no window for UDP"));
        match ports.tcp_listener(ip) {
            Ok(_) => assert!(technique.is_gap_free(), "{ip}"),
            Err(BindError::Window { .. }) => assert_eq!(technique, Technique::Window),
            Err(error) => panic!("{error}"),
        }
        assert!(!ip.is_loopback() || technique == Technique::Device);
    }
}
