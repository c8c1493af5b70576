//! How a socket gets past the hold on its own port, while the hold stays.
//!
//! - *Device*: sockets tied to different interfaces do not collide, and a socket tied to none collides
//!   with all. So the hold is tied to an interface that does not exist, where it still refuses every
//!   ordinary socket, and the other socket to another one while it binds. UDP is untied again by
//!   connecting it to nothing; TCP only with `CAP_NET_RAW`, or it stays on `lo` where its address is.
//!   There is no moment when a stranger fits in, except one that ties its own socket to an interface.
//! - *Window*: the hold allows the address to be reused while the other socket binds and again while
//!   it listens, some microseconds each. The hold was bound without that flag, so the kernel
//!   remembers nothing of it afterwards. Never `SO_REUSEPORT` on TCP: that it does remember.

use std::{
    fs, io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
};

use portpool_core::Transport;
use rustix::net::{connect_unspec, netdevice::name_to_index};
use socket2::{Domain, Protocol, Socket, Type};

/// How a socket of a reservation gets its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Technique {
    /// The kernel pool decides the bind.
    Kernel,
    /// The embedded pool keeps its hold and ties the two sockets to different interfaces.
    Device,
    /// The embedded pool lets its port be reused for some microseconds: another process that binds,
    /// or listens, with `SO_REUSEADDR` at that very moment succeeds.
    Window,
}

impl Technique {
    /// Whether no stranger fits in at any moment.
    pub const fn is_gap_free(self) -> bool {
        match self {
            Technique::Kernel | Technique::Device => true,
            Technique::Window => false,
        }
    }
}

/// How a socket without options would get an address.
pub(crate) fn technique(transport: Transport, ip: IpAddr) -> Technique {
    match transport {
        Transport::Udp => Technique::Device,
        Transport::Tcp if is_loopback(ip) || may_untie() => Technique::Device,
        Transport::Tcp => Technique::Window,
    }
}

/// How this socket would get an address.
pub(crate) fn technique_of(transport: Transport, ip: IpAddr, socket: &Socket) -> Technique {
    if device(socket).is_some() {
        return Technique::Device;
    }
    // Sockets that share a port are grouped only if they are tied alike when they bind.
    match transport {
        Transport::Udp if socket.reuse_port().unwrap_or(false) => Technique::Window,
        transport => technique(transport, ip),
    }
}

/// Binds `socket` to the port of `hold`.
pub(crate) fn bind(
    hold: &Socket,
    socket: &Socket,
    transport: Transport,
    address: SocketAddr,
) -> io::Result<()> {
    match technique_of(transport, address.ip(), socket) {
        Technique::Window if transport == Transport::Udp => {
            // Tied elsewhere, or it would join the group and take its datagrams.
            tie(hold, HOLD_DEVICE)?;
            hold.set_reuse_port(true)?;
            let bound = socket.bind(&address.into());
            hold.set_reuse_port(false)?;
            bound
        }
        Technique::Window => bind_in_window(hold, socket, address),
        Technique::Device | Technique::Kernel => {
            tie(hold, HOLD_DEVICE)?;
            let bound = bind_tied(socket, transport, address);
            if transport == Transport::Tcp {
                restore(hold);
            }
            bound
        }
    }
}

/// Binds `socket` to the port of `hold` whatever that takes.
pub(crate) fn bind_in_window(
    hold: &Socket,
    socket: &Socket,
    address: SocketAddr,
) -> io::Result<()> {
    in_window(hold, socket, || socket.bind(&address.into()))
}

/// Listens on `socket`, which is bound to the port of `hold`: the kernel looks for collisions again.
pub(crate) fn listen(hold: &Socket, socket: &Socket, backlog: i32) -> io::Result<()> {
    if device(socket).is_some() {
        tie(hold, HOLD_DEVICE)?;
        return socket.listen(backlog);
    }
    if !may_untie() {
        return in_window(hold, socket, || socket.listen(backlog));
    }
    tie(hold, HOLD_DEVICE)?;
    tie(socket, DETOUR_DEVICE)?;
    let listening = socket.listen(backlog);
    untie(socket, Transport::Tcp)?;
    restore(hold);
    listening
}

/// Whether listening on a bound socket opens a window.
pub(crate) fn listens_in_window(socket: &Socket) -> bool {
    device(socket).is_none() && !may_untie()
}

/// Unties a socket from `lo` if that is allowed; it does no harm there if not.
pub(crate) fn untie_if_allowed(socket: &Socket) {
    restore(socket);
}

/// Whether a TCP socket is tied to an interface and this process may not change that.
pub(crate) fn is_tied_for_good(socket: &Socket) -> bool {
    device(socket).is_some() && !may_untie()
}

/// Makes a hold an ordinary socket again, or says that it cannot be one.
pub(crate) fn untie(socket: &Socket, transport: Transport) -> io::Result<()> {
    match transport {
        _ if device(socket).is_none() => Ok(()),
        Transport::Udp => Ok(connect_unspec(socket)?),
        Transport::Tcp => socket.bind_device_by_index_v4(None),
    }
}

fn bind_tied(socket: &Socket, transport: Transport, address: SocketAddr) -> io::Result<()> {
    // A caller's own choice of interface serves as well, and so does the one in the address.
    let zone = matches!(address, SocketAddr::V6(address) if address.scope_id() != 0);
    if zone || device(socket).is_some() {
        return socket.bind(&address.into());
    }
    let mut last = io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
    for detour in detours(socket, transport, address)? {
        tie(socket, detour)?;
        let bound = socket.bind(&address.into());
        let is_there = transport == Transport::Tcp && is_loopback(address.ip());
        if !is_there {
            untie(socket, transport)?;
        }
        match bound {
            Err(error) if is_elsewhere(&error) => last = error,
            answer => return answer,
        }
    }
    Err(last)
}

/// The interfaces to bind on, one after the other. IPv4 and `[::]` take one that does not exist; an
/// address in an IPv6 socket wants the one it belongs to.
fn detours(
    socket: &Socket,
    transport: Transport,
    address: SocketAddr,
) -> io::Result<Vec<NonZeroU32>> {
    let tcp_loopback = transport == Transport::Tcp && is_loopback(address.ip());
    if !tcp_loopback && (address.is_ipv4() || address.ip() == Ipv6Addr::UNSPECIFIED) {
        return Ok(vec![DETOUR_DEVICE]);
    }
    if is_loopback(address.ip()) {
        return Ok(interface(socket, "lo")?.into_iter().collect());
    }
    let table = fs::read_to_string("/proc/net/dev")?;
    let names = table.lines().filter_map(|line| line.split_once(':'));
    let mut found = Vec::new();
    for (name, _) in names.take(INTERFACE_COUNT_MAX) {
        // An interface may go at any moment.
        found.extend(interface(socket, name.trim()).ok().flatten());
    }
    Ok(found)
}

fn interface(socket: &Socket, name: &str) -> io::Result<Option<NonZeroU32>> {
    Ok(NonZeroU32::new(name_to_index(socket, name)?))
}

fn in_window(
    hold: &Socket,
    socket: &Socket,
    step: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let before = socket.reuse_address()?;
    if !before {
        socket.set_reuse_address(true)?;
    }
    hold.set_reuse_address(true)?;
    let answer = step();
    hold.set_reuse_address(false)?;
    if !before {
        socket.set_reuse_address(false)?;
    }
    answer
}

fn tie(socket: &Socket, to: NonZeroU32) -> io::Result<()> {
    if device(socket) == Some(to) {
        return Ok(());
    }
    socket.bind_device_by_index_v4(Some(to))
}

/// Untied, a hold refuses those strangers as well that tie their socket to an interface.
fn restore(socket: &Socket) {
    if device(socket).is_some() {
        // Without the privilege it stays as it is, and still refuses all others.
        drop(socket.bind_device_by_index_v4(None));
    }
}

fn device(socket: &Socket) -> Option<NonZeroU32> {
    socket.device_index_v4().ok().flatten()
}

/// Whether this process may take a TCP socket off its interface.
fn may_untie() -> bool {
    let probe = || -> io::Result<()> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        tie(&socket, DETOUR_DEVICE)?;
        socket.bind_device_by_index_v4(None)
    };
    probe().is_ok()
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

fn is_elsewhere(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENODEV | libc::EADDRNOTAVAIL)
    )
}

// Numbers that no interface has: the kernel counts up from 1 and does not ask for existence.
const DETOUR_DEVICE: NonZeroU32 = NonZeroU32::new(i32::MAX as u32).unwrap();
const HOLD_DEVICE: NonZeroU32 = NonZeroU32::new(i32::MAX as u32 - 1).unwrap();
const INTERFACE_COUNT_MAX: usize = 1024;
