//! The sockets that this library made: a SOCKET is the number of their descriptor.
//!
//! A number that is not in the table is no socket, whatever the process has open under it. Whoever
//! works on a socket holds an [`Arc`] of it, so that its number is not given to another one before
//! the work is done.

use std::{
    collections::BTreeMap,
    mem::ManuallyDrop,
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    process,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use portpool::{PoolKind, Port, PortRange, Token, Transport};
use rustix::net::{ipproto, sockopt};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket as Raw, Type};

use super::{address, operations, startup, threads::SocketId};
use crate::{choices, codes::Code};

/// A socket of this library.
#[derive(Debug)]
pub(crate) struct Socket {
    id: SocketId,
    raw: Raw,
    domain: Domain,
    /// What the port is of, if a control code can be issued on it.
    transport: Option<Transport>,
    is_overlapped: bool,
    /// The process that made it; a fork has a copy.
    process: u32,
    is_associated: AtomicBool,
    is_nonblocking: AtomicBool,
    is_closed: AtomicBool,
}

#[derive(Debug)]
struct Table {
    sockets: BTreeMap<RawFd, Arc<Socket>>,
    /// The owner socket of each reservation that was acquired here and not released here.
    owners: BTreeMap<Token, Owner>,
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    socket: RawFd,
    range: PortRange,
}

/// A SOCKET.
pub(crate) type Number = u64;

/// Makes a socket.
///
/// # Errors
/// Families, types and protocols that are not there.
pub(crate) fn create(
    family: i32,
    kind: i32,
    protocol: i32,
    is_overlapped: bool,
) -> Result<Number, Code> {
    startup::check()?;
    let domain = address::domain(family).ok_or(Code::AFNOSUPPORT)?;
    let (kind, protocol) = complete(kind, protocol)?;
    let mut kind = Type::from(kind);
    if choices::CLOSE_ON_EXEC {
        kind = kind.cloexec();
    }
    let raw = Raw::new_raw(domain, kind, Some(Protocol::from(protocol)))?;
    if domain == Domain::IPV6 {
        // On Windows a socket of IPv6 is that alone unless the program says otherwise.
        raw.set_only_v6(true).or_else(ignore_unsupported)?;
    }
    enter(Socket::new(raw, domain, is_overlapped))
}

/// The socket with this number.
///
/// # Errors
/// WSAStartup was not called, or there is none.
pub(crate) fn find(number: Number) -> Result<Arc<Socket>, Code> {
    startup::check()?;
    let number = RawFd::try_from(number).map_err(|_| Code::NOTSOCK)?;
    table().sockets.get(&number).cloned().ok_or(Code::NOTSOCK)
}

/// Closes a socket, with that its reservations end.
///
/// # Errors
/// WSAStartup was not called, or there is none.
pub(crate) fn close(number: Number) -> Result<(), Code> {
    startup::check()?;
    let number = RawFd::try_from(number).map_err(|_| Code::NOTSOCK)?;
    let socket = table().sockets.remove(&number).ok_or(Code::NOTSOCK)?;
    socket.end(number);
    Ok(())
}

pub(crate) fn close_all() {
    loop {
        let Some((number, socket)) = table().sockets.pop_first() else {
            return;
        };
        socket.end(number);
    }
}

/// Notes which socket owns a reservation, and ends the reservation of one that was closed meanwhile.
pub(crate) fn own(socket: &Socket, token: Token, range: PortRange) {
    let owner = Owner {
        socket: socket.raw.as_raw_fd(),
        range,
    };
    table().owners.insert(token, owner);
    // Who closed it may have looked for what it owns before this.
    if socket.is_closed() {
        disown(token);
        if let Some(pool) = startup::pool_if_open() {
            drop(pool.release_on(&socket.raw, token));
        }
    }
}

/// Whether the socket is the owner socket of a reservation.
pub(crate) fn is_owner(socket: &Socket, token: Token) -> bool {
    let number = socket.raw.as_raw_fd();
    let table = table();
    let owner = table.owners.get(&token);
    owner.is_some_and(|owner| owner.socket == number)
}

/// Notes that a reservation is no more.
pub(crate) fn disown(token: Token) {
    table().owners.remove(&token);
}

impl Socket {
    fn new(raw: Raw, domain: Domain, is_overlapped: bool) -> Socket {
        let transport = transport_of(raw.as_fd());
        Socket {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            raw,
            domain,
            transport,
            is_overlapped,
            process: process::id(),
            is_associated: AtomicBool::new(false),
            is_nonblocking: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn id(&self) -> SocketId {
        self.id
    }

    /// Whether it is in the table no more, and here only for those who work on it.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    pub(crate) fn is_overlapped(&self) -> bool {
        self.is_overlapped
    }

    pub(crate) fn raw(&self) -> &Raw {
        &self.raw
    }

    pub(crate) fn number(&self) -> Number {
        self.raw.as_raw_fd() as Number
    }

    pub(crate) fn domain(&self) -> Domain {
        self.domain
    }

    pub(crate) fn transport(&self) -> Option<Transport> {
        self.transport
    }

    pub(crate) fn set_associated(&self) {
        self.is_associated.store(true, Ordering::Release);
    }

    /// Whether the socket has a port. Those without ports always count as bound.
    pub(crate) fn is_bound(&self) -> bool {
        let Ok(address) = self.raw.local_addr() else {
            return false;
        };
        address.as_socket().is_none_or(|it| it.port() != 0)
    }

    /// # Errors
    /// Those of `bind` in Winsock.
    pub(crate) fn bind(&self, address: &SockAddr) -> Result<(), Code> {
        if choices::OWNER_BINDS_WITHOUT_ASSOCIATING {
            self.associate_for(address)?;
        }
        let Some((pool, address)) = self.association().zip(address.as_socket()) else {
            let bound = self.raw.bind(address);
            return bound.map_err(|error| choices::bind_failed(&error, false));
        };
        let mut busy = 0;
        loop {
            match pool.bind(&self.raw, address) {
                // Port 0 may give ports that only the kernel knows to be taken: the next try goes on
                // above them, and when all were tried the pool has no room.
                Err(error)
                    if error.raw_os_error() == Some(libc::EADDRINUSE)
                        && address.port() == 0
                        && busy < PORT_COUNT =>
                {
                    busy += 1;
                }
                answer => return answer.map_err(|error| choices::bind_failed(&error, true)),
            }
        }
    }

    /// Associates a socket that is not yet, if the address has a port that this process reserved.
    fn associate_for(&self, address: &SockAddr) -> Result<(), Code> {
        let port = address.as_socket().and_then(|it| Port::new(it.port()));
        let (Some(port), false) = (port, self.is_associated() || self.is_bound()) else {
            return Ok(());
        };
        let owners = table().owners.clone();
        let mut owned = owners
            .iter()
            .filter(|(_, owner)| owner.range.contains(port));
        let pool = startup::pool()?;
        // One of them may be of the other transport.
        if owned.any(|(token, _)| pool.associate(self, *token).is_ok()) {
            self.set_associated();
        }
        Ok(())
    }

    pub(crate) fn is_associated(&self) -> bool {
        self.is_associated.load(Ordering::Acquire)
    }

    /// Binds an associated socket that is not bound, before a call that would have the kernel choose
    /// a port by itself.
    ///
    /// # Errors
    /// Those of [`bind`](Socket::bind).
    pub(crate) fn bind_in_block(&self, peer: Option<&SockAddr>) -> Result<(), Code> {
        if self.association().is_none() || self.is_bound() {
            return Ok(());
        }
        self.bind(&self.nowhere(peer))
    }

    /// As [`bind_in_block`](Socket::bind_in_block), before a connect: the kernel pool sees to that
    /// by itself, and then one port may serve for several peers.
    ///
    /// # Errors
    /// Those of [`bind`](Socket::bind).
    pub(crate) fn bind_to_connect(&self, peer: &SockAddr) -> Result<(), Code> {
        match self.association() {
            Some(pool) if pool.kind() == PoolKind::Embedded => self.bind_in_block(Some(peer)),
            _ => Ok(()),
        }
    }

    /// # Errors
    /// Those of `listen` in Winsock.
    pub(crate) fn listen(&self, backlog: i32) -> Result<(), Code> {
        if !self.is_bound() {
            return Err(Code::INVAL);
        }
        match self.association() {
            Some(pool) => Ok(pool.listen(&self.raw, u32::try_from(backlog).unwrap_or(0))?),
            None => Ok(self.raw.listen(backlog)?),
        }
    }

    /// # Errors
    /// Those of `accept` in Winsock.
    pub(crate) fn accept(&self) -> Result<(Number, SockAddr), Code> {
        let (raw, peer) = retry(|| self.raw.accept_raw())?;
        if choices::CLOSE_ON_EXEC {
            raw.set_cloexec(true)?;
        }
        let accepted = Socket::new(raw, self.domain, self.is_overlapped);
        // As on Windows, and not as on Linux.
        if self.is_nonblocking.load(Ordering::Acquire) {
            accepted.set_nonblocking(true)?;
        }
        Ok((enter(accepted)?, peer))
    }

    /// # Errors
    /// Those of the system call.
    pub(crate) fn set_nonblocking(&self, is_nonblocking: bool) -> Result<(), Code> {
        self.raw.set_nonblocking(is_nonblocking)?;
        self.is_nonblocking.store(is_nonblocking, Ordering::Release);
        Ok(())
    }

    /// The pool that the socket is associated in, if it is.
    fn association(&self) -> Option<portpool::Pool> {
        self.is_associated().then(startup::pool_if_open).flatten()
    }

    /// Any address for port 0: a loopback one if the peer is.
    fn nowhere(&self, peer: Option<&SockAddr>) -> SockAddr {
        let peer = peer.and_then(SockAddr::as_socket);
        let is_loopback = peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback());
        let address: SocketAddr = match (self.domain == Domain::IPV4, is_loopback) {
            (true, true) => (Ipv4Addr::LOCALHOST, 0).into(),
            (true, false) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            // ::1 cannot reach an IPv4 address in IPv6 clothes.
            (false, true) if peer.is_some_and(|it| it.ip() == Ipv6Addr::LOCALHOST) => {
                (Ipv6Addr::LOCALHOST, 0).into()
            }
            (false, _) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        address.into()
    }

    /// Ends a socket that is in the table no more.
    fn end(self: Arc<Socket>, number: RawFd) {
        // First: what is started from now on sees it, what was started before is cancelled.
        self.is_closed.store(true, Ordering::SeqCst);
        operations::cancel_of_socket(self.id);
        let owned: Vec<Token> = {
            let mut table = table();
            let owners = &mut table.owners;
            let owned = owners.iter().filter(|(_, owner)| owner.socket == number);
            let owned = owned.map(|(token, _)| *token).collect();
            owners.retain(|_, owner| owner.socket != number);
            owned
        };
        if self.process != process::id() {
            // What the parent has of it is the parent's to end.
            return;
        }
        let is_shared = Arc::strong_count(&self) > 1;
        // The embedded pool does not see a socket close, and the kernel pool only once those who
        // work on it have let go of it.
        if let Some(pool) = startup::pool_if_open()
            && (pool.kind() == PoolKind::Embedded || is_shared)
        {
            for token in owned {
                // What was released by other means is gone already.
                drop(pool.release_on(&self.raw, token));
            }
        }
        if is_shared {
            // Wakes those who wait for something to happen on it.
            drop(self.raw.shutdown(Shutdown::Both));
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}

/// Repeats a call that a signal interrupted.
pub(crate) fn retry<T>(mut call: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            answer => return answer,
        }
    }
}

/// What type and protocol are if one of them is left out.
fn complete(kind: i32, protocol: i32) -> Result<(i32, i32), Code> {
    let known = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW];
    match (kind, protocol) {
        (0, libc::IPPROTO_UDP) => Ok((libc::SOCK_DGRAM, protocol)),
        (0, 0 | libc::IPPROTO_TCP) => Ok((libc::SOCK_STREAM, protocol)),
        (0, _) => Ok((libc::SOCK_RAW, protocol)),
        (kind, _) if known.contains(&kind) => Ok((kind, protocol)),
        _ => Err(Code::SOCKTNOSUPPORT),
    }
}

fn enter(socket: Socket) -> Result<Number, Code> {
    let number = socket.number();
    let previous = table()
        .sockets
        .insert(socket.raw.as_raw_fd(), Arc::new(socket));
    if let Some(previous) = previous {
        // Somebody closed its descriptor behind our back: the number is the new socket's now.
        let previous = Arc::into_inner(previous).map(|it| OwnedFd::from(it.raw));
        let _theirs = previous.map(ManuallyDrop::new);
    }
    Ok(number)
}

fn transport_of(socket: BorrowedFd<'_>) -> Option<Transport> {
    let domain = SockRef::from(&socket).domain().ok()?;
    if domain != Domain::IPV4 && domain != Domain::IPV6 {
        return None;
    }
    match (
        SockRef::from(&socket).r#type().ok()?,
        sockopt::socket_protocol(socket).ok()??,
    ) {
        (Type::STREAM, ipproto::TCP) => Some(Transport::Tcp),
        (Type::DGRAM, ipproto::UDP) => Some(Transport::Udp),
        _ => None,
    }
}

fn ignore_unsupported(error: std::io::Error) -> std::io::Result<()> {
    match error.raw_os_error() {
        Some(libc::ENOPROTOOPT | libc::EOPNOTSUPP) => Ok(()),
        _ => Err(error),
    }
}

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

static TABLE: Mutex<Table> = Mutex::new(Table {
    sockets: BTreeMap::new(),
    owners: BTreeMap::new(),
});

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

const PORT_COUNT: u32 = 65_536;

#[cfg(test)]
mod tests {
    use portpool::{Block, PortCount, Scope, Want, Wildcard};

    use super::*;

    #[test]
    fn a_reservation_granted_to_a_socket_that_is_closed_ends_at_once() {
        startup::start(startup::VERSION_MAX).expect("start");
        let number = create(address::AF_INET, 0, 0, true).expect("a socket");
        let socket = find(number).expect("the socket");
        let pool = startup::pool().expect("a pool");
        let want = Want::Wildcard(Wildcard::new(PortCount::new(1).expect("a count")));
        let block = pool.acquire_on(&socket, &want, Scope::Associated);
        let Block { token, range, .. } = block.expect("a block");
        close(number).expect("close");
        own(&socket, token, range);
        assert!(pool.release_on(&socket, token).is_err(), "it lives on");
        assert!(!table().owners.contains_key(&token));
        startup::clean_up().expect("clean up");
    }
}
