//! Sockets, claims and counts, as the tests of this binary say them.

use std::{
    fmt::Debug,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use portpool::{
    AcquireError, Pool, Port, PortRange, Refusal, Request, Reservation, Transport, Want,
};
use portpool_testkit::{Actor, Errno};
use socket2::{Domain, Protocol, Socket, Type};

pub(crate) const ACTOR: &str = env!("CARGO_BIN_EXE_portpool-actor");

pub(crate) const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(crate) const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// A protocol that binds ports of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    Udp,
    Mptcp,
}

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [Kind::Tcp, Kind::Udp, Kind::Mptcp];

    /// The usual kind of a transport.
    pub(crate) fn of(transport: Transport) -> Kind {
        match transport {
            Transport::Tcp => Kind::Tcp,
            Transport::Udp => Kind::Udp,
        }
    }

    pub(crate) fn transport(self) -> Transport {
        match self {
            Kind::Tcp | Kind::Mptcp => Transport::Tcp,
            Kind::Udp => Transport::Udp,
        }
    }

    /// A new socket for addresses like `ip`.
    pub(crate) fn open(self, ip: IpAddr) -> Socket {
        let (kind, protocol) = match self {
            Kind::Tcp => (Type::STREAM, Protocol::TCP),
            Kind::Udp => (Type::DGRAM, Protocol::UDP),
            Kind::Mptcp => (Type::STREAM, Protocol::MPTCP),
        };
        let domain = Domain::for_address(SocketAddr::new(ip, 0));
        Socket::new(domain, kind, Some(protocol)).expect("socket")
    }
}

/// A process that has `count` ports from `first` in both transports and does nothing with them.
/// Its owner sockets are `t` (token 7) and `u` (token 8).
pub(crate) fn owner(first: u16, count: u16) -> Actor {
    let mut owner = Actor::start(ACTOR);
    owner
        .ask_all(&[
            "socket t tcp4",
            &format!("acquire t {first} {count} 7"),
            "socket u udp4",
            &format!("acquire u {first} {count} 8"),
        ])
        .expect("acquire");
    owner
}

/// The errno a call failed with.
pub(crate) fn errno<T: Debug>(result: io::Result<T>) -> Option<Errno> {
    result
        .err()
        .map(|error| Errno(error.raw_os_error().expect("an errno")))
}

pub(crate) fn bind(socket: &Socket, ip: IpAddr, port: u16) -> io::Result<()> {
    socket.bind(&SocketAddr::new(ip, port).into())
}

pub(crate) fn connect(socket: &Socket, ip: IpAddr, port: u16) -> io::Result<()> {
    socket.connect(&SocketAddr::new(ip, port).into())
}

/// The port a socket is bound to, 0 if to none.
pub(crate) fn port_of(socket: &Socket) -> u16 {
    let address = socket.local_addr().expect("getsockname");
    address.as_socket().map_or(0, |address| address.port())
}

/// Reserves ports for this process.
pub(crate) fn claim_range(
    pool: &Pool,
    transport: Transport,
    first: u16,
    count: u16,
) -> Result<Reservation, Refusal> {
    let request = Request {
        transports: transport.into(),
        want: Want::Specific(PortRange::from_numbers(first, count).expect("range")),
    };
    match pool.acquire(&request) {
        Ok(reservation) => Ok(reservation),
        Err(AcquireError::Refused { refusal, .. }) => Err(refusal),
        Err(error) => panic!("claim {first} and {count} more: {error}"),
    }
}

/// Whether one port can be claimed; it is given back at once.
pub(crate) fn claimable(pool: &Pool, transport: Transport, port: u16) -> Result<(), Refusal> {
    claim_range(pool, transport, port, 1).map(drop)
}

/// How many sockets the pool counts at a port.
pub(crate) fn counted(pool: &Pool, transport: Transport, port: u16) -> u32 {
    let port = Port::new(port).expect("a port");
    pool.port(transport, port).expect("look").socket_count
}

/// Ports in use, TCP and UDP together.
pub(crate) fn in_use(pool: &Pool) -> u32 {
    let overview = pool.overview().expect("look");
    overview.tcp.in_use_count + overview.udp.in_use_count
}

/// Waits until a condition holds.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

/// Runs a tool of iproute2 and the like.
pub(crate) fn tool(line: &str) -> Result<(), String> {
    let mut words = line.split_whitespace();
    let mut command = std::process::Command::new(words.next().expect("a tool"));
    let output = command.args(words).output().map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
