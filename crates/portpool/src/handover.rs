//! Sockets that are handed to a program instead of ports: made from a reservation, and taken back from
//! the environment by the program that gets them.
//!
//! The names in the environment are those of systemd, so whatever is started by socket activation
//! can be started with these. See [`process::exec_with_sockets`](crate::process::exec_with_sockets).

use std::{
    env, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
    process,
    sync::atomic::{AtomicBool, Ordering},
};

use portpool_core::{Port, Transport};
use rustix::net::sockopt;
use socket2::Socket;

use crate::{
    embedded::{self, Held},
    error::{BindError, Failure},
    reservation::{Guard, Reservation},
    sys,
};

/// How far the socket of a port is when it is handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SocketState {
    /// TCP sockets listen: connections queue until the program accepts them. What most programs that
    /// take sockets want, nginx and Go among them.
    #[default]
    Listening,
    /// The sockets are bound, no more; connections are refused until the program listens.
    Bound,
}

/// A socket that is bound to a port which was reserved.
#[derive(Debug)]
pub struct PortSocket {
    transport: Transport,
    port: Port,
    name: String,
    socket: OwnedFd,
}

impl PortSocket {
    /// TCP or UDP.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The port.
    pub fn port(&self) -> Port {
        self.port
    }

    /// The name it has in `LISTEN_FDNAMES`, at first like `tcp-8080`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same socket with another name.
    pub fn named(mut self, name: impl Into<String>) -> PortSocket {
        self.name = name.into();
        self
    }

    /// The listener, of a TCP socket.
    ///
    /// # Errors
    /// The socket itself if it is UDP's.
    pub fn into_tcp(self) -> Result<TcpListener, PortSocket> {
        match self.transport {
            Transport::Tcp => Ok(self.socket.into()),
            Transport::Udp => Err(self),
        }
    }

    /// The socket, of UDP.
    ///
    /// # Errors
    /// The socket itself if it is TCP's.
    pub fn into_udp(self) -> Result<UdpSocket, PortSocket> {
        match self.transport {
            Transport::Udp => Ok(self.socket.into()),
            Transport::Tcp => Err(self),
        }
    }
}

impl AsFd for PortSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<PortSocket> for OwnedFd {
    fn from(socket: PortSocket) -> OwnedFd {
        socket.socket
    }
}

impl Reservation {
    /// A listening socket for each port, for all addresses of both families, those of TCP first. The
    /// reservation ends; the sockets keep the ports.
    ///
    /// In the embedded pool these are the holds themselves, so no port is let go of at any moment.
    /// Only a TCP hold that made way for a loopback socket before cannot listen itself, without
    /// `CAP_NET_RAW`: a new socket takes its place in a [`Window`](crate::Technique::Window).
    ///
    /// # Errors
    /// [`BindError`]; the reservation has ended then. A strict pool refuses the window.
    pub fn into_listeners(self) -> Result<Vec<PortSocket>, BindError> {
        self.into_sockets(SocketState::Listening)
    }

    /// As [`into_listeners`](Reservation::into_listeners), and says whether they listen.
    ///
    /// # Errors
    /// As [`into_listeners`](Reservation::into_listeners).
    pub fn into_sockets(self, state: SocketState) -> Result<Vec<PortSocket>, BindError> {
        let mut sockets = Vec::new();
        match self.guard() {
            Guard::Embedded { held, is_strict } => {
                if *is_strict && let Some(address) = held.iter().find_map(|it| tied_port(it)) {
                    return Err(BindError::Window { address });
                }
                for held in held {
                    sockets.extend(take_holds(held)?);
                }
            }
            Guard::Kernel(_) => {
                for block in self.blocks() {
                    for port in self.ports() {
                        let socket = self.socket_for_all(block.transport, port, state)?;
                        sockets.push((block.transport, port, socket));
                    }
                }
            }
        }
        let sockets = sockets.into_iter().map(|(transport, port, socket)| {
            if (state, transport) == (SocketState::Listening, Transport::Tcp) {
                let listening = socket.listen(BACKLOG);
                listening.map_err(|error| failure(port, "listen", error))?;
            }
            Ok(PortSocket {
                transport,
                port,
                name: format!("{transport}-{port}"),
                socket: socket.into(),
            })
        });
        sockets.collect()
    }
}

impl Reservation {
    /// The silent sockets that hold the ports of the embedded pool, for a supervisor that lets other
    /// programs past them; none in the kernel pool. There is no other descriptor of them.
    ///
    /// From now on whoever has the sockets holds the ports. The reservation stays listed until it
    /// is dropped, but there is nothing left in it to consume or to hand over.
    pub fn take_holds(&mut self) -> Vec<PortSocket> {
        let Guard::Embedded { held, .. } = self.guard() else {
            return Vec::new();
        };
        let sockets = held.iter().flat_map(|held| {
            let transport = held.block.transport;
            let slots = held.take().into_iter();
            slots.map(move |slot| PortSocket {
                transport,
                port: slot.port(),
                name: format!("{transport}-{}", slot.port()),
                socket: slot.hold.into_silent().into(),
            })
        });
        sockets.collect()
    }

    fn socket_for_all(
        &self,
        transport: Transport,
        port: Port,
        state: SocketState,
    ) -> Result<Socket, BindError> {
        // The reservation ends before a socket that is only bound listens.
        let reuses_address = state == SocketState::Listening;
        let bind =
            |ip: IpAddr| self.bound_socket(transport, (ip, port.number()).into(), reuses_address);
        let bound = bind(Ipv6Addr::UNSPECIFIED.into());
        match bound {
            Err(BindError::Failure { failure, .. })
                if failure.cause.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
            {
                bind(Ipv4Addr::UNSPECIFIED.into())
            }
            answer => answer,
        }
    }
}

/// A socket that this process was started with.
#[derive(Debug)]
pub struct InheritedSocket {
    /// Its name in `LISTEN_FDNAMES`, or `unknown`.
    pub name: String,
    /// The socket; closed in programs that this one starts.
    pub socket: OwnedFd,
}

/// Takes the sockets that this process was started with; none if it was not started that way.
///
/// Call it once, early in `main`: it takes the descriptors 3 and up for its own, and a second call
/// finds none. The variables stay: to remove them is not safe while other threads run. A child is not
/// misled by them, for `LISTEN_PID` is not its process id.
///
/// ```
/// for inherited in portpool::handover::from_environment()? {
///     println!("started with {}", inherited.name);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// A variable that cannot be read, or a descriptor that is no open socket; then none is taken.
pub fn from_environment() -> io::Result<Vec<InheritedSocket>> {
    let [owner, count] = ["LISTEN_PID", "LISTEN_FDS"].map(|name| env::var(name).ok());
    let Some(count) = announced(owner.as_deref(), count.as_deref(), process::id())? else {
        return Ok(Vec::new());
    };
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(Vec::new());
    }
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').filter(|name| !name.is_empty());
    let sockets = sys::adopt(FIRST_NUMBER, count, |socket| {
        sockopt::socket_type(socket).is_ok()
    })?;
    let named = sockets.into_iter().map(|socket| InheritedSocket {
        name: names.next().unwrap_or("unknown").to_owned(),
        socket,
    });
    Ok(named.collect())
}

/// How many sockets `LISTEN_PID` and `LISTEN_FDS` promise the process `own_pid`.
pub(crate) fn announced(
    owner: Option<&str>,
    count: Option<&str>,
    own_pid: u32,
) -> io::Result<Option<RawFd>> {
    let Some((owner, count)) = owner.zip(count) else {
        return Ok(None);
    };
    let wrong = |name: &str, value: &str| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name} is {value:?}, which is no number that could be meant"),
        )
    };
    let pid: u32 = owner.parse().map_err(|_| wrong("LISTEN_PID", owner))?;
    if pid != own_pid {
        return Ok(None);
    }
    let number = count.parse().ok();
    let number = number.filter(|count| (0..=SOCKET_COUNT_MAX).contains(count));
    number.map(Some).ok_or_else(|| wrong("LISTEN_FDS", count))
}

/// The first port whose hold cannot be handed over.
fn tied_port(held: &Held) -> Option<SocketAddr> {
    let slots = held.slots();
    let mut holds = slots.iter().map(|slot| &slot.hold);
    let tied = holds.find(|hold| !hold.may_be_handed_over(held.block.transport))?;
    Some((Ipv6Addr::UNSPECIFIED, tied.port().number()).into())
}

/// The holds of a block as ordinary sockets.
fn take_holds(held: &Held) -> Result<Vec<(Transport, Port, Socket)>, BindError> {
    let transport = held.block.transport;
    let slots = embedded::hand_over(held).into_iter();
    let sockets = slots.map(|slot| {
        let port = slot.port();
        let socket = slot.hold.into_socket(transport);
        let socket = socket.map_err(|error| failure(port, "setsockopt", error))?;
        Ok((transport, port, socket))
    });
    sockets.collect()
}

fn failure(port: Port, call: &'static str, error: io::Error) -> BindError {
    BindError::Failure {
        address: SocketAddr::from((Ipv6Addr::UNSPECIFIED, port.number())),
        failure: Failure::of(call)(error),
    }
}

static TAKEN: AtomicBool = AtomicBool::new(false);

const FIRST_NUMBER: RawFd = 3;
const SOCKET_COUNT_MAX: RawFd = 65_536;
const BACKLOG: i32 = 4096;
