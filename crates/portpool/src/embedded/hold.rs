//! A hold: the silent socket that keeps one port of one transport.

use std::{fs, io};

use portpool_core::{Port, PortRange, Transport};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, ipproto, socket_with, sockopt,
    },
};
use socket2::Socket;

use super::passage::{bind_in_window, is_tied_for_good, untie};
use crate::{error::Failure, maps::unprivileged_start, sys};

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
    pub(crate) fn take_all<T: From<Hold>>(
        transport: Transport,
        range: PortRange,
    ) -> Result<Vec<T>, Miss> {
        let mut holds = Vec::with_capacity(usize::from(range.count().number()));
        // Asked of the first and the last: of every socket it would cost a tenth of the whole. Only the
        // administrator can change the default meanwhile.
        let mut families = Families::Unknown;
        for port in range.ports() {
            let hold = Hold::take(transport, port, &mut families)?;
            if port == range.last() && port != range.first() {
                hold.has_families(families)?;
            }
            holds.push(hold.into());
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
        let address = std::net::SocketAddr::new(address, port.number());
        match rustix::net::bind(&socket, &address) {
            Ok(()) => Ok(Hold { socket, port }),
            Err(error) => Err(miss(port, error)),
        }
    }

    /// Asked of the last hold: whether what the first one was asked still held.
    fn has_families(&self, families: Families) -> Result<(), Miss> {
        let is_default = families == Families::BothByDefault;
        if is_default && self.socket.only_v6().unwrap_or(true) {
            let cause = io::Error::other("net.ipv6.bindv6only was changed meanwhile: try again");
            return Err(Miss::Failed(Failure::of("bind")(cause)));
        }
        Ok(())
    }

    pub(crate) fn port(&self) -> Port {
        self.port
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Lets go of the port. As dropping it, without the C library between.
    pub(crate) fn close(self) {
        sys::close(self.socket.into());
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
    match socket(AddressFamily::INET6, transport) {
        Ok(socket) => {
            if *families == Families::Unknown {
                match sockopt::ipv6_v6only(&socket) {
                    Ok(false) => *families = Families::BothByDefault,
                    Ok(true) | Err(_) => {
                        let both = sockopt::set_ipv6_v6only(&socket, false);
                        both.map_err(|error| failed("setsockopt", error))?;
                    }
                }
            }
            Ok((socket, std::net::Ipv6Addr::UNSPECIFIED.into()))
        }
        Err(Errno::AFNOSUPPORT) => {
            let socket = socket(AddressFamily::INET, transport).map_err(no_socket)?;
            Ok((socket, std::net::Ipv4Addr::UNSPECIFIED.into()))
        }
        Err(error) => Err(no_socket(error)),
    }
}

/// By system calls without the C library between, of which a hold would feel every one.
fn socket(family: AddressFamily, transport: Transport) -> Result<Socket, Errno> {
    let (kind, protocol): (_, Protocol) = match transport {
        Transport::Tcp => (SocketType::STREAM, ipproto::TCP),
        Transport::Udp => (SocketType::DGRAM, ipproto::UDP),
    };
    socket_with(family, kind, SocketFlags::CLOEXEC, Some(protocol)).map(Socket::from)
}

fn no_socket(error: Errno) -> Miss {
    match error {
        Errno::MFILE => Miss::Descriptors,
        _ => failed("socket", error),
    }
}

fn miss(port: Port, error: Errno) -> Miss {
    match error {
        Errno::ADDRINUSE => Miss::Taken(port),
        Errno::ACCESS if port.number() < unprivileged_start() => Miss::Privileged,
        // A kernel pool that was passed over says so of a port that is reserved in it.
        Errno::ACCESS => Miss::Taken(port),
        _ => failed("bind", error),
    }
}

fn failed(call: &'static str, error: Errno) -> Miss {
    Miss::Failed(Failure::of(call)(error.into()))
}

/// More than fits into the smallest buffer.
const DATAGRAM_COUNT_MAX: usize = 64;
const USUAL_BUFFER_SIZE: usize = 212_992;
