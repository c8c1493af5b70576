//! Sockets from a block: associated, then bound.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use portpool_core::{
    Port, Refusal, Token, Transport,
    abi::{ControlCode, Operation, refusal_of, token_bytes},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt},
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::{
    embedded::{self, Held, Technique},
    error::{AssociateError, BindError, Failure},
    reservation::{Block, Guard, Reservation},
    sys,
};

impl Reservation {
    /// A listener on `ip` and any free port of the block, the lowest first.
    ///
    /// # Errors
    /// [`BindError`]; with [`Refusal::NoRoom`] every port of the block is in use.
    pub fn tcp_listener(&self, ip: IpAddr) -> Result<TcpListener, BindError> {
        self.tcp_listener_on(SocketAddr::new(ip, 0))
    }

    /// A listener on a port of the block, or on any free one if the port is 0.
    ///
    /// # Errors
    /// [`BindError`]; with [`Refusal::OutsideBlock`] the port is not one of the block.
    pub fn tcp_listener_on(&self, address: SocketAddr) -> Result<TcpListener, BindError> {
        self.check(address)?;
        let mut tries = 0;
        loop {
            let socket = self.socket(Transport::Tcp, address)?;
            let failed = |call| move |error| failure(address, call, error);
            // As the standard library does: a past listener's connections do not keep the port.
            socket
                .set_reuse_address(true)
                .map_err(failed("setsockopt"))?;
            self.bind_new(&socket, address, Operation::Bind)?;
            tries += 1;
            match self.listen_on(&socket, local_address(&socket)?, BACKLOG) {
                Ok(()) => return Ok(socket.into()),
                // Another thread bound the same port at the same moment and listens already.
                Err(error)
                    if error.refusal() == Some(Refusal::InUse)
                        && address.port() == 0
                        && tries < TRY_COUNT_MAX => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A socket on `ip` and any free port of the block, the lowest first.
    ///
    /// # Errors
    /// [`BindError`]; with [`Refusal::NoRoom`] every port of the block is in use.
    pub fn udp_socket(&self, ip: IpAddr) -> Result<UdpSocket, BindError> {
        self.udp_socket_on(SocketAddr::new(ip, 0))
    }

    /// A socket on a port of the block, or on any free one if the port is 0.
    ///
    /// # Errors
    /// [`BindError`]; with [`Refusal::OutsideBlock`] the port is not one of the block.
    pub fn udp_socket_on(&self, address: SocketAddr) -> Result<UdpSocket, BindError> {
        self.check(address)?;
        let socket = self.socket(Transport::Udp, address)?;
        self.bind_new(&socket, address, Operation::Bind)?;
        Ok(socket.into())
    }

    /// A connection to `peer` from a port of the block.
    ///
    /// # Errors
    /// [`BindError`]; with [`Refusal::NoRoom`] every port of the block is in use.
    pub fn connect(&self, peer: SocketAddr) -> Result<TcpStream, BindError> {
        if let Guard::Embedded { .. } = self.guard() {
            return self.connect_held(peer);
        }
        let socket = self.socket(Transport::Tcp, peer)?;
        let connected = match socket.connect(&peer.into()) {
            // A signal came: the connection goes on being made without us.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => connection_made(&socket),
            answer => answer,
        };
        match connected {
            Ok(()) => Ok(socket.into()),
            Err(error) => Err(self.refused(peer, Operation::Connect, "connect", error)),
        }
    }

    /// Ties a socket that the caller made and has not bound to the block of its transport. Its bind
    /// to port 0 then takes the lowest free port of the block, its bind to another port must be one
    /// of the block, its connect without a bind takes a port of the block.
    ///
    /// Two calls choose a port without asking the pool, so before them the socket must be bound:
    /// [`send_to`](Reservation::send_to) and [`listen`](Reservation::listen) see to it.
    ///
    /// ```no_run
    /// use std::net::SocketAddr;
    /// use socket2::{Domain, Socket, Type};
    ///
    /// # fn bind(ports: &portpool::Reservation) -> Result<(), Box<dyn std::error::Error>> {
    /// let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    /// ports.associate(&socket)?;
    /// socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AssociateError`]; the socket is then as it was.
    pub fn associate(&self, socket: &impl AsFd) -> Result<(), AssociateError> {
        let socket = socket.as_fd();
        let transport = transport_of(socket).ok_or(AssociateError::UnsupportedSocket)?;
        self.associate_with(socket, self.block_of(transport)?.token)
    }

    /// Associates a socket and binds it: to a port of the block, or to the lowest free one if the
    /// port is 0. This is the bind that works in both kinds of pool.
    ///
    /// How it gets past the hold of an embedded pool is what [`technique`](Reservation::technique)
    /// says. There a TCP socket that is bound this way and not on a loopback address listens with
    /// [`listen`](Reservation::listen), since a plain `listen` meets the hold again.
    ///
    /// # Errors
    /// [`BindError`]; the socket is not bound then.
    pub fn bind(&self, socket: &impl AsFd, address: SocketAddr) -> Result<(), BindError> {
        self.check(address)?;
        self.associate(socket)?;
        let socket = SockRef::from(socket);
        self.bind_new(&socket, address, Operation::Bind)
    }

    /// How a socket of this reservation would get an address, and whether others fit in meanwhile.
    pub fn technique(&self, transport: Transport, ip: IpAddr) -> Technique {
        match self.guard() {
            Guard::Kernel(_) => Technique::Kernel,
            Guard::Embedded { .. } => embedded::technique(transport, ip),
        }
    }

    /// Sends a datagram from an associated socket, which is bound to a port of the block first if it
    /// is not bound yet. The kernel by itself would choose a port outside the block.
    ///
    /// # Errors
    /// [`BindError`] from the bind or from the send.
    pub fn send_to(
        &self,
        socket: &impl AsFd,
        data: &[u8],
        peer: SocketAddr,
    ) -> Result<usize, BindError> {
        let socket = SockRef::from(socket);
        self.bind_if_unbound(&socket)?;
        let sent = socket.send_to(data, &peer.into());
        sent.map_err(|error| failure(peer, "sendto", error))
    }

    /// Listens on an associated socket, which is bound to a port of the block first if it is not
    /// bound yet. The kernel by itself would choose a port outside the block.
    ///
    /// # Errors
    /// [`BindError`] from the bind or from the listen.
    pub fn listen(&self, socket: &impl AsFd, backlog: u32) -> Result<(), BindError> {
        let socket = SockRef::from(socket);
        let address = self.bind_if_unbound(&socket)?;
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        self.listen_on(&socket, address, backlog)
    }

    fn listen_on(
        &self,
        socket: &Socket,
        address: SocketAddr,
        backlog: i32,
    ) -> Result<(), BindError> {
        if let Guard::Embedded { is_strict, .. } = self.guard() {
            let held = self.held(Transport::Tcp)?;
            return embedded::listen(held, socket, address, backlog, *is_strict);
        }
        let listening = socket.listen(backlog);
        listening.map_err(|error| self.refused(address, Operation::Bind, "listen", error))
    }

    /// A connection from the lowest free port that has none to the same peer.
    fn connect_held(&self, peer: SocketAddr) -> Result<TcpStream, BindError> {
        // From a loopback address only to one, and then nothing has to be opened for the bind.
        let ip: IpAddr = match peer.ip().to_canonical() {
            IpAddr::V4(ip) if ip.is_loopback() && peer.is_ipv4() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_loopback() => Ipv6Addr::LOCALHOST.into(),
            _ if peer.is_ipv4() => Ipv4Addr::UNSPECIFIED.into(),
            _ => Ipv6Addr::UNSPECIFIED.into(),
        };
        for port in self.ports() {
            let socket = self.socket(Transport::Tcp, peer)?;
            match self.bind_new(&socket, (ip, port.number()).into(), Operation::Bind) {
                Err(error) if error.refusal() == Some(Refusal::InUse) => continue,
                answer => answer?,
            }
            match socket.connect(&peer.into()).or_else(|error| {
                match error.kind() == io::ErrorKind::Interrupted {
                    true => connection_made(&socket),
                    false => Err(error),
                }
            }) {
                Ok(()) => return Ok(socket.into()),
                Err(error) if is_pair_in_use(&error) => {}
                Err(error) => return Err(failure(peer, "connect", error)),
            }
        }
        Err(self.refusal(SocketAddr::new(ip, 0), Refusal::NoRoom))
    }

    fn held(&self, transport: Transport) -> Result<&Held, AssociateError> {
        let held = match self.guard() {
            Guard::Embedded { held, .. } => held.as_slice(),
            Guard::Kernel(_) => &[],
        };
        let mut held = held.iter().map(Arc::as_ref);
        held.find(|held| held.block.transport == transport)
            .ok_or(AssociateError::NoBlock {
                transport,
                range: self.range(),
            })
    }

    fn associate_with(&self, socket: BorrowedFd<'_>, token: Token) -> Result<(), AssociateError> {
        match self.guard() {
            Guard::Kernel(_) => associate(socket, token),
            Guard::Embedded { .. } if !self.is_own() => Err(AssociateError::Refused {
                token,
                refusal: Refusal::ForeignToken,
            }),
            Guard::Embedded { .. } => embedded::associate(socket, token),
        }
    }

    /// A socket bound to a port of the block. With `reuses_address` it gets past connections in
    /// TIME_WAIT, but until it listens others get in who reuse the address as well, unless the block
    /// is still reserved.
    pub(crate) fn bound_socket(
        &self,
        transport: Transport,
        address: SocketAddr,
        reuses_address: bool,
    ) -> Result<Socket, BindError> {
        let socket = self.socket(transport, address)?;
        let failed = |error| failure(address, "setsockopt", error);
        if address.is_ipv6() {
            // The default is a sysctl.
            socket.set_only_v6(false).map_err(failed)?;
        }
        if transport == Transport::Tcp && reuses_address {
            socket.set_reuse_address(true).map_err(failed)?;
        }
        self.bind_new(&socket, address, Operation::Bind)?;
        Ok(socket)
    }

    fn socket(&self, transport: Transport, address: SocketAddr) -> Result<Socket, BindError> {
        let block = self.block_of(transport)?;
        let (kind, protocol) = match transport {
            Transport::Tcp => (Type::STREAM, Protocol::TCP),
            Transport::Udp => (Type::DGRAM, Protocol::UDP),
        };
        let socket = Socket::new(Domain::for_address(address), kind, Some(protocol));
        let socket = socket.map_err(|error| failure(address, "socket", error))?;
        self.associate_with(socket.as_fd(), block.token)?;
        Ok(socket)
    }

    /// Binds an associated socket. Port 0 may give ports that only the kernel knows to be taken:
    /// each further bind then goes on above the last one.
    fn bind_new(
        &self,
        socket: &Socket,
        address: SocketAddr,
        operation: Operation,
    ) -> Result<(), BindError> {
        if let Guard::Embedded { is_strict, .. } = self.guard() {
            let transport = transport_of(socket.as_fd());
            let transport = transport.ok_or(AssociateError::UnsupportedSocket)?;
            return embedded::bind(self.held(transport)?, socket, address, *is_strict);
        }
        let mut lingering = None;
        for _ in 0..=self.range().count().number() {
            match socket.bind(&address.into()) {
                Ok(()) => return Ok(()),
                Err(error) if in_use(&error) && address.port() == 0 => lingering = Some(error),
                Err(error) => {
                    let error = lingering.filter(|_| exhausted(&error)).unwrap_or(error);
                    return Err(self.refused(address, operation, "bind", error));
                }
            }
        }
        Err(self.refusal(address, Refusal::NoRoom))
    }

    /// The address the socket has now.
    fn bind_if_unbound(&self, socket: &Socket) -> Result<SocketAddr, BindError> {
        let bound = local_address(socket)?;
        if bound.port() != 0 {
            return Ok(bound);
        }
        match self.bind_new(socket, bound, Operation::Bind) {
            Ok(()) => local_address(socket),
            // Another thread may have bound it since.
            Err(error) => match local_address(socket)? {
                bound if bound.port() != 0 => Ok(bound),
                _ => Err(error),
            },
        }
    }

    fn block_of(&self, transport: Transport) -> Result<Block, AssociateError> {
        let none = AssociateError::NoBlock {
            transport,
            range: self.range(),
        };
        self.block(transport).ok_or(none)
    }

    /// Refuses a port outside the block before a socket is made.
    fn check(&self, address: SocketAddr) -> Result<(), BindError> {
        match Port::new(address.port()) {
            Some(port) if !self.range().contains(port) => {
                Err(self.refusal(address, Refusal::OutsideBlock))
            }
            _ => Ok(()),
        }
    }

    /// What an error of a system call says. Some numbers are the kernel's own, too.
    fn refused(
        &self,
        address: SocketAddr,
        operation: Operation,
        call: &'static str,
        error: io::Error,
    ) -> BindError {
        match refusal_of(operation, error.raw_os_error().unwrap_or(0)) {
            // The port is one of the block, so it is the address that is not of this machine.
            Some(Refusal::OutsideBlock) | None => failure(address, call, error),
            Some(Refusal::Stranger | Refusal::ForeignToken) if self.is_own() => {
                failure(address, call, error)
            }
            Some(Refusal::Stranger) => self.refusal(address, Refusal::ForeignToken),
            Some(refusal) => self.refusal(address, refusal),
        }
    }

    fn refusal(&self, address: SocketAddr, refusal: Refusal) -> BindError {
        BindError::Refused {
            port: Port::new(address.port()),
            range: self.range(),
            refusal,
        }
    }
}

/// A socket to own a reservation: never bound, closed in a program that is started.
pub(crate) fn owner_socket(transport: Transport) -> Result<OwnedFd, Failure> {
    let (kind, protocol) = match transport {
        Transport::Tcp => (SocketType::STREAM, ipproto::TCP),
        Transport::Udp => (SocketType::DGRAM, ipproto::UDP),
    };
    let socket =
        |family| rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(protocol));
    let socket = socket(AddressFamily::INET6).or_else(|_| socket(AddressFamily::INET));
    socket.map_err(|error| Failure::of("socket")(error.into()))
}

/// Issues the control code associate.
pub(crate) fn associate(socket: BorrowedFd<'_>, token: Token) -> Result<(), AssociateError> {
    let associated = sys::control(socket, ControlCode::Associate, &token_bytes(token));
    associated.map_err(|source| {
        let operation = Operation::Control(ControlCode::Associate);
        match refusal_of(operation, source.raw_os_error().unwrap_or(0)) {
            Some(Refusal::UnknownToken) if is_bound(socket) => AssociateError::Refused {
                token,
                refusal: Refusal::AlreadyBound,
            },
            Some(Refusal::UnsupportedSocket) => AssociateError::UnsupportedSocket,
            Some(refusal) => AssociateError::Refused { token, refusal },
            None => Failure::of("setsockopt")(source).into(),
        }
    })
}

/// The transport a socket has its port of. Whether the pool serves the socket is for it to say.
pub(crate) fn transport_of(socket: BorrowedFd<'_>) -> Option<Transport> {
    match sockopt::socket_protocol(socket).ok()?? {
        ipproto::TCP | ipproto::MPTCP => Some(Transport::Tcp),
        ipproto::UDP => Some(Transport::Udp),
        _ => None,
    }
}

/// Waits for the end of a connect that was interrupted.
fn connection_made(socket: &Socket) -> io::Result<()> {
    loop {
        let mut watched = [PollFd::new(socket, PollFlags::OUT)];
        match poll(&mut watched, None) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => break,
        }
    }
    socket.take_error()?.map_or(Ok(()), Err)
}

pub(crate) fn is_bound(socket: BorrowedFd<'_>) -> bool {
    let address = SockRef::from(&socket).local_addr();
    address.is_ok_and(|address| {
        address
            .as_socket()
            .is_some_and(|address| address.port() != 0)
    })
}

fn local_address(socket: &Socket) -> Result<SocketAddr, BindError> {
    let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let address = socket.local_addr();
    let address = address.map_err(|error| failure(nowhere, "getsockname", error))?;
    let unspecified = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
    Ok(address.as_socket().unwrap_or(unspecified))
}

fn failure(address: SocketAddr, call: &'static str, error: io::Error) -> BindError {
    BindError::Failure {
        address,
        failure: Failure::of(call)(error),
    }
}

fn in_use(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

/// Whether a connection between the same two addresses is still remembered.
fn is_pair_in_use(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable
    )
}

fn exhausted(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOBUFS)
}

const BACKLOG: i32 = 4096;
const TRY_COUNT_MAX: u32 = 64;
