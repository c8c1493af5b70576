//! What the tests of the contract share.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use portpool::{
    AcquireError, Alignment, Block, Pool, PortCount, PortRange, Refusal, Request, Scope, Token,
    Transport, Transports, Want, Wildcard, abi,
};
use portpool_testkit::{Errno, sys};
use socket2::{Domain, Protocol, Socket, Type};

use crate::column::{EMBEDDED, Stage, is_embedded};

pub(crate) const ACTOR: &str = env!("CARGO_BIN_EXE_portpool-actor");

/// A user without any privilege.
pub(crate) const NOBODY: u32 = 65_534;

pub(crate) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(crate) const TREE: Scope = Scope::Tree {
    root: None,
    zero_from_block: false,
};

/// A socket by the words of the actor.
pub(crate) fn socket(kind: &str) -> Socket {
    let (domain, kind, protocol) = match kind {
        "tcp4" => (Domain::IPV4, Type::STREAM, None),
        "tcp6" => (Domain::IPV6, Type::STREAM, None),
        "udp4" => (Domain::IPV4, Type::DGRAM, None),
        "udp6" => (Domain::IPV6, Type::DGRAM, None),
        "mptcp4" => (Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)),
        "udplite4" => (Domain::IPV4, Type::DGRAM, Some(Protocol::UDPLITE)),
        "raw-tcp4" => (Domain::IPV4, Type::RAW, Some(Protocol::TCP)),
        "raw-udp6" => (Domain::IPV6, Type::RAW, Some(Protocol::UDP)),
        "unix" => (Domain::UNIX, Type::STREAM, None),
        "packet" => (Domain::PACKET, Type::DGRAM, None),
        _ => panic!("unknown kind {kind}"),
    };
    Socket::new(domain, kind, protocol).unwrap_or_else(|error| panic!("socket {domain:?}: {error}"))
}

pub(crate) fn tcp() -> Socket {
    socket("tcp4")
}

pub(crate) fn udp() -> Socket {
    socket("udp4")
}

/// Binds and answers the port.
pub(crate) fn bind(socket: &Socket, address: &str) -> Result<u16, Errno> {
    let address: SocketAddr = address.parse().expect("an address");
    // Where no kernel pool decides a bind(2), the library's bind is the one that consumes.
    let bound = match is_embedded() {
        true => EMBEDDED.bind(socket, address),
        false => socket.bind(&address.into()),
    };
    bound.map_err(|error| errno(&error))?;
    Ok(port_of(socket))
}

/// Listens on a bound socket.
pub(crate) fn listen(socket: &Socket, backlog: u32) {
    let listening = match is_embedded() {
        true => EMBEDDED.listen(socket, backlog),
        false => socket.listen(i32::try_from(backlog).expect("a backlog")),
    };
    listening.expect("listen");
}

/// Binds to a port of the loopback address of the socket's family.
pub(crate) fn bind_port(socket: &Socket, port: u16) -> Result<u16, Errno> {
    let address = match socket.domain().expect("domain") {
        Domain::IPV6 => "[::1]",
        _ => "127.0.0.1",
    };
    bind(socket, &format!("{address}:{port}"))
}

pub(crate) fn connect(socket: &Socket, port: u16) -> Result<u16, Errno> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    socket
        .connect(&address.into())
        .map_err(|error| errno(&error))?;
    Ok(port_of(socket))
}

/// The local port, 0 if unbound.
pub(crate) fn port_of(socket: &Socket) -> u16 {
    let address = socket.local_addr().expect("getsockname");
    address.as_socket().expect("an internet address").port()
}

/// A listening socket outside of every block.
pub(crate) fn peer() -> (Socket, u16) {
    let listener = tcp();
    let port = bind_port(&listener, 0).expect("bind the peer");
    // Nobody accepts.
    listener.listen(1024).expect("listen");
    (listener, port)
}

pub(crate) fn errno(error: &io::Error) -> Errno {
    Errno(error.raw_os_error().expect("an errno"))
}

pub(crate) fn range(text: &str) -> PortRange {
    text.parse().expect("a range")
}

pub(crate) fn exactly(text: &str) -> Want {
    Want::Specific(range(text))
}

pub(crate) fn any(count: u16) -> Want {
    Want::Wildcard(wildcard(count))
}

pub(crate) fn wildcard(count: u16) -> Wildcard {
    Wildcard::new(PortCount::new(count).expect("a count"))
}

pub(crate) fn any_within(count: u16, alignment: u16, within: &str) -> Want {
    Want::Wildcard(Wildcard {
        alignment: Alignment::new(alignment).expect("an alignment"),
        within: Some(range(within)),
        ..wildcard(count)
    })
}

pub(crate) fn request(transports: Transports, want: Want) -> Request {
    Request { transports, want }
}

/// Acquires on a socket what must be granted.
pub(crate) fn grant(pool: &Pool, socket: &Socket, ports: &str) -> Block {
    pool.acquire_on(socket, &exactly(ports), Scope::Associated)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// The end of an owner socket and of all it owns: the kernel pool sees to it, elsewhere the program
/// releases.
pub(crate) fn lapse(pool: &Pool, owner: Socket, tokens: &[Token]) {
    if is_embedded() {
        for token in tokens {
            pool.release_on(&owner, *token).expect("release");
        }
    }
    drop(owner);
}

/// Acquires what must be granted, and gives it back.
pub(crate) fn assert_grantable(pool: &Pool, owner: Socket, ports: &str) {
    let token = grant(pool, &owner, ports).token;
    lapse(pool, owner, &[token]);
}

/// Acquires on a socket what must be refused.
pub(crate) fn refusal(pool: &Pool, socket: &Socket, want: &Want) -> Refusal {
    refused(pool.acquire_on(socket, want, Scope::Associated))
}

pub(crate) fn refused<T>(answer: Result<T, AcquireError>) -> Refusal {
    match answer {
        Ok(_) => panic!("granted"),
        Err(error) => error
            .refusal()
            .unwrap_or_else(|| panic!("failed, not refused: {error}")),
    }
}

/// An unbound socket associated with a token.
pub(crate) fn associated(pool: &Pool, kind: &str, token: Token) -> Socket {
    let socket = socket(kind);
    pool.associate(&socket, token).expect("associate");
    socket
}

/// The control code acquire, any field of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RawAcquire {
    pub(crate) token: u64,
    pub(crate) root_start: u64,
    pub(crate) root_pid: u32,
    pub(crate) first: u16,
    pub(crate) count: u16,
    pub(crate) flags: u16,
    pub(crate) zero: [u16; 3],
}

impl RawAcquire {
    pub(crate) fn new(first: u16, count: u16, token: u64) -> RawAcquire {
        RawAcquire {
            token,
            first,
            count,
            ..RawAcquire::default()
        }
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(abi::ACQUIRE_SIZE);
        bytes.extend(self.token.to_ne_bytes());
        bytes.extend(self.root_start.to_ne_bytes());
        bytes.extend(self.root_pid.to_ne_bytes());
        for number in [self.first, self.count, self.flags] {
            bytes.extend(number.to_ne_bytes());
        }
        bytes.extend(self.zero.iter().flat_map(|number| number.to_ne_bytes()));
        bytes
    }

    pub(crate) fn on(self, socket: &Socket) -> Result<(), Errno> {
        control(socket, abi::ControlCode::Acquire as i32, &self.to_bytes())
    }
}

/// The order to an actor to issue a control code with any value on the socket `name`.
pub(crate) fn order(name: &str, code: abi::ControlCode, value: &[u8]) -> String {
    let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("bytes {name} {} {hex}", code as i32)
}

/// A control code as raw bytes.
pub(crate) fn control(socket: &Socket, code: i32, value: &[u8]) -> Result<(), Errno> {
    sys::set_raw(socket, abi::LEVEL, code, value, value.len() as i64).map_err(|error| errno(&error))
}

/// Associates past the library, which answers itself where there are no control codes.
pub(crate) fn raw_associate(socket: &Socket, token: u64) -> Result<(), Errno> {
    if is_embedded() {
        let token = Token::new(token).ok_or(Errno::INVAL)?;
        let associated = EMBEDDED.associate(socket, token);
        return associated.map_err(|error| number(abi::ControlCode::Associate, error.refusal()));
    }
    control(
        socket,
        abi::ControlCode::Associate as i32,
        &token.to_ne_bytes(),
    )
}

/// Releases past the library, as far as that can be.
pub(crate) fn raw_release(socket: &Socket, token: u64) -> Result<(), Errno> {
    if is_embedded() {
        let token = Token::new(token).ok_or(Errno::INVAL)?;
        let released = EMBEDDED.release_on(socket, token);
        return released.map_err(|error| number(abi::ControlCode::Release, error.refusal()));
    }
    control(
        socket,
        abi::ControlCode::Release as i32,
        &token.to_ne_bytes(),
    )
}

/// The number that the control code would answer.
fn number(code: abi::ControlCode, refusal: Option<Refusal>) -> Errno {
    let refusal = refusal.expect("a refusal, not a failure");
    let number = abi::errno_of(abi::Operation::Control(code), refusal);
    Errno(number.unwrap_or_else(|| panic!("{refusal:?} is no answer to {code:?}")))
}

/// Whether a port is reserved.
pub(crate) fn is_reserved(pool: &Pool, transport: Transport, port: u16) -> bool {
    let port = portpool::Port::new(port).expect("a port");
    let state = pool.port(transport, port).expect("look at a port");
    state.reservation.is_some()
}

/// Nothing is reserved, counted against a limit, or bound.
pub(crate) fn assert_empty(pool: &Pool) {
    assert_eq!(pool.reservations().expect("look at the reservations"), []);
    if is_embedded() {
        return;
    }
    let overview = pool.overview().expect("look at the pool");
    let counters = overview.counters;
    assert_eq!(
        (
            counters.reservations,
            counters.shared_reservations,
            counters.shared_ports
        ),
        (0, 0, 0)
    );
    for of in [&overview.tcp, &overview.udp] {
        assert_eq!((of.reserved_count, of.in_use_count), (0, 0));
    }
}

/// Writes a sysctl of the arena's own network namespace.
pub(crate) fn set_sysctl(name: &str, value: &str) {
    let path = format!("/proc/sys/net/{name}");
    fs::write(&path, value).unwrap_or_else(|error| panic!("write {path}: {error}"));
}

/// Attaches the kernel pool with these ranges; the embedded one has fixed ones.
pub(crate) fn attach_ranges(arena: &Stage<'_>, ranges: &str) -> Pool {
    if is_embedded() {
        return arena.pool();
    }
    let options = portpool_kernel::AttachOptions {
        ranges: Some(ranges.parse().expect("ranges")),
        ..arena.options()
    };
    portpool_kernel::attach(&options).expect("attach");
    arena.pool()
}
