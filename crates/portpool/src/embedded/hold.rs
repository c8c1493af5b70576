//! A hold: the silent socket that keeps one port of one transport.

use std::{fs, io};

use portpool_core::{Port, PortRange, Transport};
use rustix::net::RecvFlags;
use socket2::{Domain, Protocol, Socket, Type};

use super::passage::{bind_in_window, is_tied_for_good, untie};
use crate::{error::Failure, maps::unprivileged_start};

/// A socket bound to `[::]` and a port, without a reuse flag, that never listens.
///
/// It refuses every other socket, IPv4 and IPv6, whatever address and flags that has.
#[derive(Debug)]
pub(crate) struct Hold {
    socket: Socket,
    port: Port,
}

/// Why a port could not be held.
#[derive(Debug)]
pub(crate) enum Miss {
    /// Somebody has this port.
    Taken(Port),
    /// Ports as low as this one need a privilege.
    Privileged,
    /// This process has as many descriptors as it may.
    Descriptors,
    /// A system call failed for another reason.
    Failed(Failure),
}

impl Hold {
    /// Takes every port of a range, of which nobody must have any; what was taken before a miss is let
    /// go of.
    pub(crate) fn take_all(transport: Transport, range: PortRange) -> Result<Vec<Hold>, Miss> {
        let mut holds = Vec::with_capacity(usize::from(range.count().number()));
        // Asked of the first and the last: of every socket it would cost a tenth of the whole. Only the
        // administrator can change the default meanwhile.
        let mut families = Families::Unknown;
        for port in range.ports() {
            holds.push(Hold::take(transport, port, &mut families)?);
        }
        let last = holds.get(1..).and_then(<[Hold]>::last);
        let last = last.filter(|_| families == Families::BothByDefault);
        if last.is_some_and(|it| it.socket.only_v6().unwrap_or(true)) {
            let cause = io::Error::other("net.ipv6.bindv6only was changed meanwhile: try again");
            return Err(Miss::Failed(Failure::of("bind")(cause)));
        }
        Ok(holds)
    }

    fn take(transport: Transport, port: Port, families: &mut Families) -> Result<Hold, Miss> {
        let (socket, address) = all_addresses(transport, families)?;
        if transport == Transport::Udp {
            // Nobody reads what strangers send here: let them fill as little memory as possible.
            let smallest = socket.set_recv_buffer_size(0);
            smallest.map_err(|error| Miss::Failed(Failure::of("setsockopt")(error)))?;
        }
        let address: std::net::SocketAddr = (address, port.number()).into();
        match socket.bind(&address.into()) {
            Ok(()) => Ok(Hold { socket, port }),
            Err(error) => Err(miss(port, error)),
        }
    }

    pub(crate) fn port(&self) -> Port {
        self.port
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The hold as it is.
    pub(crate) fn into_silent(self) -> Socket {
        self.socket
    }

    /// An ordinary socket with the port, for all addresses: the hold itself, so that nothing is let
    /// go of, or if that is tied to an interface for good, a new one that takes its place in a window.
    pub(crate) fn into_socket(self, transport: Transport) -> io::Result<Socket> {
        if !self.may_be_handed_over(transport) {
            return self.replaced(transport);
        }
        untie(&self.socket, transport)?;
        if transport == Transport::Udp {
            discard_queue(&self.socket);
            self.socket.set_recv_buffer_size(usual_buffer_size())?;
        }
        Ok(self.socket)
    }

    /// Whether the hold itself can become an ordinary socket.
    pub(crate) fn may_be_handed_over(&self, transport: Transport) -> bool {
        transport == Transport::Udp || !is_tied_for_good(&self.socket)
    }

    fn replaced(self, transport: Transport) -> io::Result<Socket> {
        let (socket, ip) =
            all_addresses(transport, &mut Families::Unknown).map_err(|miss| match miss {
                Miss::Failed(failure) => failure.cause,
                _ => io::Error::from_raw_os_error(libc::EMFILE),
            })?;
        let address = (ip, self.port.number()).into();
        bind_in_window(&self.socket, &socket, address)?;
        Ok(socket)
    }
}

/// What was sent while nobody listened is nobody's.
fn discard_queue(socket: &Socket) {
    let mut nothing = [0_u8; 1];
    for _ in 0..DATAGRAM_COUNT_MAX {
        if rustix::net::recv(socket, &mut nothing, RecvFlags::DONTWAIT | RecvFlags::TRUNC).is_err()
        {
            return;
        }
    }
}

fn usual_buffer_size() -> usize {
    let text = fs::read_to_string("/proc/sys/net/core/rmem_default");
    let size = text.ok().and_then(|text| text.trim().parse::<usize>().ok());
    // The kernel doubles what it is told.
    size.unwrap_or(USUAL_BUFFER_SIZE) / 2
}

/// What is known of the families of a new IPv6 socket, which a sysctl decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Families {
    Unknown,
    /// Both need not be asked for.
    BothByDefault,
}

/// A socket for both families and their unspecified address, or for IPv4 where there is no other.
fn all_addresses(
    transport: Transport,
    families: &mut Families,
) -> Result<(Socket, std::net::IpAddr), Miss> {
    let (kind, protocol) = match transport {
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
    };
    match Socket::new(Domain::IPV6, kind, Some(protocol)) {
        Ok(socket) => {
            if *families == Families::Unknown {
                match socket.only_v6() {
                    Ok(false) => *families = Families::BothByDefault,
                    Ok(true) | Err(_) => {
                        let both = socket.set_only_v6(false);
                        both.map_err(|error| Miss::Failed(Failure::of("setsockopt")(error)))?;
                    }
                }
            }
            Ok((socket, std::net::Ipv6Addr::UNSPECIFIED.into()))
        }
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            let socket = Socket::new(Domain::IPV4, kind, Some(protocol)).map_err(no_socket)?;
            Ok((socket, std::net::Ipv4Addr::UNSPECIFIED.into()))
        }
        Err(error) => Err(no_socket(error)),
    }
}

fn no_socket(error: io::Error) -> Miss {
    match error.raw_os_error() {
        Some(libc::EMFILE) => Miss::Descriptors,
        _ => Miss::Failed(Failure::of("socket")(error)),
    }
}

fn miss(port: Port, error: io::Error) -> Miss {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => Miss::Taken(port),
        Some(libc::EACCES) if port.number() < unprivileged_start() => Miss::Privileged,
        // A kernel pool that was passed over says so of a port that is reserved in it.
        Some(libc::EACCES) => Miss::Taken(port),
        _ => Miss::Failed(Failure::of("bind")(error)),
    }
}

/// More than fits into the smallest buffer.
const DATAGRAM_COUNT_MAX: usize = 64;
const USUAL_BUFFER_SIZE: usize = 212_992;
