//! What the tests of administration share.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
};

use portpool::{Pool, PortRange, RangeSet, Token, Transport, Transports};
use portpool_keeper::{
    Admin, AdminError, StateDir,
    admin::{Persist, Persisted},
};
use portpool_testkit::Arena;
use socket2::{Domain, Protocol, Socket, Type};

/// The state directory of an arena, beside its run directory, which is removed from outside.
pub(crate) fn state(arena: &Arena) -> StateDir {
    StateDir::new(outside(arena).join("state"))
}

pub(crate) fn outside(arena: &Arena) -> &Path {
    arena.run().path().parent().expect("a directory around it")
}

pub(crate) fn admin(arena: &Arena) -> Admin {
    Admin::open(arena.run(), &state(arena)).expect("open the administration")
}

pub(crate) fn range(text: &str) -> PortRange {
    text.parse().expect("range")
}

pub(crate) fn set(text: &str) -> RangeSet {
    text.parse().expect("ports")
}

/// A request for a block without group and note.
pub(crate) fn block(transports: Transports, ports: &str) -> Persist {
    Persist {
        transports,
        range: range(ports),
        group: None,
        note: None,
    }
}

/// Makes one block of TCP.
pub(crate) fn persist(admin: &mut Admin, ports: &str) -> Token {
    let made = admin
        .persist(&block(Transports::Tcp, ports))
        .expect("persist");
    let [Persisted { token, .. }] = made[..] else {
        panic!("{made:?}");
    };
    token
}

pub(crate) fn code<T: std::fmt::Debug>(answer: Result<T, AdminError>) -> u32 {
    let error = answer.expect_err("refused");
    error.windows_code().unwrap_or_else(|| panic!("{error}"))
}

pub(crate) fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

/// Errno of a plain bind, 0 if it succeeds.
pub(crate) fn errno_of_bind(port: u16) -> i32 {
    match bind(port) {
        Ok(_) => 0,
        Err(error) => error.raw_os_error().expect("an errno"),
    }
}

/// A socket of a transport that is associated and bound to any port of the block.
pub(crate) fn consume(pool: &Pool, transport: Transport, token: Token) -> (Socket, u16) {
    let (kind, protocol) = match transport {
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
    };
    let socket = Socket::new(Domain::IPV4, kind, Some(protocol)).expect("socket");
    pool.associate(&socket, token).expect("associate");
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&any.into()).expect("bind");
    let port = socket.local_addr().expect("address").as_socket();
    (socket, port.expect("an address").port())
}

pub(crate) fn reserved() -> RangeSet {
    let mut text = vec![0; 256 * 1024];
    let mut file = std::fs::File::open(RESERVED).expect("open the sysctl");
    let length = io::Read::read(&mut file, &mut text).expect("read the sysctl");
    text.truncate(length);
    String::from_utf8(text)
        .expect("text")
        .parse()
        .expect("ports")
}

pub(crate) const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
