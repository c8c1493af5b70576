//! A held port.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
};

use portpool_core::{Port, Transport};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};

use crate::{HoldError, socket::Socket};

/// A port of one transport, held by a bound, silent socket of every address.
#[derive(Debug)]
pub struct Guard {
    pub(crate) transport: Transport,
    pub(crate) port: Port,
    pub(crate) socket: OwnedFd,
    pub(crate) twins: Twins,
}

/// Sockets that are bound to the same port as the guard of a TCP port, one address family each.
#[derive(Debug, Default)]
pub(crate) struct Twins {
    /// `0.0.0.0`.
    pub(crate) v4: Option<OwnedFd>,
    /// `[::]` of IPv6 alone.
    pub(crate) v6: Option<OwnedFd>,
}

impl Guard {
    /// Holds a port: nobody else has it or can take it as long as the guard lives.
    ///
    /// # Errors
    /// [`HoldError::Taken`] if somebody has the port, or had a TCP connection of it a minute ago.
    pub fn hold(transport: Transport, port: Port) -> Result<Guard, HoldError> {
        let taken = |cause| HoldError::Taken {
            transport,
            port,
            cause,
        };
        Ok(Guard {
            transport,
            port,
            socket: held(transport, port.number()).map_err(taken)?,
            twins: Twins::default(),
        })
    }

    /// Holds a port that the kernel chooses, or the supervisor around this process if there is one.
    ///
    /// # Errors
    /// [`HoldError::NoneFree`] if there is none.
    pub fn hold_any(transport: Transport) -> Result<Guard, HoldError> {
        let mut cause = io::Error::from_raw_os_error(libc::EADDRINUSE);
        for _ in 0..TRY_COUNT {
            // Bound again by number: a port that the kernel chose is lost on a disconnect.
            match chosen(transport).map(|port| Guard::hold(transport, port)) {
                Ok(Ok(guard)) => return Ok(guard),
                Ok(Err(HoldError::Taken { cause: taken, .. })) => cause = taken,
                Ok(Err(error)) => return Err(error),
                Err(error) => cause = error,
            }
        }
        Err(HoldError::NoneFree { transport, cause })
    }

    /// Takes a socket that holds the port already: bound to the port of `[::]` for both families, or of
    /// `0.0.0.0` where there is no IPv6, without reuse options, silent.
    ///
    /// Other descriptors of the same socket are open at the caller's risk: the guard sets options of
    /// it, and a socket that is handed over must have none.
    ///
    /// # Errors
    /// [`HoldError::NotAHold`] if it does not.
    pub fn new(transport: Transport, port: Port, socket: OwnedFd) -> Result<Guard, HoldError> {
        if !is_hold(transport, port, &socket) {
            return Err(HoldError::NotAHold { transport, port });
        }
        Ok(Guard {
            transport,
            port,
            socket,
            twins: Twins::default(),
        })
    }

    /// Adds the sockets that let a program bind `0.0.0.0`, or `[::]` of IPv6 alone, without
    /// privilege and without a gap. A guard of UDP needs none.
    ///
    /// Making them leaves, for some microseconds, room for others with `SO_REUSEADDR`: do it right
    /// after the hold, before anybody is told the port.
    ///
    /// # Errors
    /// [`HoldError::Taken`] if somebody fitted in, or a socket failed; the guard is as it was.
    pub fn add_twins(&mut self) -> Result<(), HoldError> {
        if self.transport == Transport::Tcp {
            self.twins = self.new_twins().map_err(|cause| HoldError::Taken {
                transport: self.transport,
                port: self.port,
                cause,
            })?;
        }
        Ok(())
    }

    /// The transport.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The port.
    pub fn port(&self) -> Port {
        self.port
    }

    fn new_twins(&self) -> io::Result<Twins> {
        let (guard, _) = Socket::new(self.socket.as_fd())
            .ok_or(libc::ENOTSOCK)
            .map_err(number)?;
        if !guard.is_v6()? {
            return Ok(Twins::default()); // The guard itself is the one of 0.0.0.0.
        }
        let v4 = plain(Transport::Tcp, Family::V4)?;
        let v6 = plain(Transport::Tcp, Family::V6Only)?;
        sockopt::set_socket_reuseaddr(&v4, true)?;
        sockopt::set_socket_reuseaddr(&v6, true)?;
        guard.set_reuses_address(true)?;
        let bound = bind_to(&v4, Family::V4, self.port.number())
            .and_then(|()| bind_to(&v6, Family::V6Only, self.port.number()));
        guard.set_reuses_address(false)?;
        sockopt::set_socket_reuseaddr(&v4, false)?;
        sockopt::set_socket_reuseaddr(&v6, false)?;
        bound?;
        Ok(Twins {
            v4: Some(v4),
            v6: Some(v6),
        })
    }
}

/// The addresses that a held socket is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6Only,
    Both,
}

impl Family {
    pub(crate) fn collides(self, other: Family) -> bool {
        self == other || self == Family::Both || other == Family::Both
    }
}

/// A socket bound to the port of every address of both families, or of IPv4 where there is no other.
pub(crate) fn held(transport: Transport, port: u16) -> io::Result<OwnedFd> {
    match held_by(transport, Family::Both, port) {
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            held_by(transport, Family::V4, port)
        }
        other => other,
    }
}

pub(crate) fn held_by(transport: Transport, family: Family, port: u16) -> io::Result<OwnedFd> {
    let socket = plain(transport, family)?;
    bind_to(&socket, family, port)?;
    Ok(socket)
}

/// A socket that is not bound, close-on-exec and without any option but the one of its family.
pub(crate) fn plain(transport: Transport, family: Family) -> io::Result<OwnedFd> {
    let domain = match family {
        Family::V4 => AddressFamily::INET,
        Family::V6Only | Family::Both => AddressFamily::INET6,
    };
    let kind = match transport {
        Transport::Tcp => SocketType::STREAM,
        Transport::Udp => SocketType::DGRAM,
    };
    let socket = socket_with(domain, kind, SocketFlags::CLOEXEC, None)?;
    if domain == AddressFamily::INET6 {
        sockopt::set_ipv6_v6only(&socket, family == Family::V6Only)?;
    }
    Ok(socket)
}

pub(crate) fn bind_to(socket: &OwnedFd, family: Family, port: u16) -> io::Result<()> {
    let address = match family {
        Family::V4 => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        Family::V6Only | Family::Both => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
    };
    Ok(rustix::net::bind(socket, &address)?)
}

fn chosen(transport: Transport) -> io::Result<Port> {
    let socket = held(transport, 0)?;
    let (socket, _) = Socket::new(socket.as_fd())
        .ok_or(libc::ENOTSOCK)
        .map_err(number)?;
    socket.port().ok_or(libc::EADDRINUSE).map_err(number)
}

fn is_hold(transport: Transport, port: Port, socket: &OwnedFd) -> bool {
    let Some((socket, its_transport)) = Socket::new(socket.as_fd()) else {
        return false;
    };
    let is_wide = socket.address().is_ok_and(|it| it.ip().is_unspecified());
    let is_open = |answer: io::Result<bool>| answer.unwrap_or(true);
    its_transport == transport
        && socket.port() == Some(port)
        && is_wide
        && !is_open(socket.is_v6_only())
        && !is_open(socket.is_listening())
        && !is_open(socket.reuses_address())
        && !is_open(socket.reuses_port())
}

fn number(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

/// Each try fails only if somebody takes the port between two calls.
const TRY_COUNT: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_port_refuses_everybody() {
        for transport in Transport::ALL {
            let mut guard = Guard::hold_any(transport).expect("hold");
            assert_kept(&guard);
            guard.add_twins().expect("twins");
            assert_kept(&guard);
        }
    }

    #[test]
    fn only_a_silent_socket_of_every_address_is_a_hold() {
        let port = Guard::hold_any(Transport::Tcp).expect("hold").port();
        let of = |family, listening| {
            let socket = held_by(Transport::Tcp, family, port.number()).expect("bind");
            if listening {
                rustix::net::listen(&socket, 1).expect("listen");
            }
            socket
        };
        let good = Guard::new(Transport::Tcp, port, of(Family::Both, false));
        drop(good.expect("a hold"));
        for (family, listening) in [(Family::Both, true), (Family::V6Only, false)] {
            let bad = Guard::new(Transport::Tcp, port, of(family, listening));
            assert!(matches!(bad, Err(HoldError::NotAHold { .. })));
        }
        let udp = Guard::new(Transport::Udp, port, of(Family::Both, false));
        assert!(udp.is_err());
    }

    fn assert_kept(guard: &Guard) {
        for family in [Family::V4, Family::V6Only, Family::Both] {
            for flags in 0..4 {
                let socket = plain(guard.transport(), family).expect("socket");
                sockopt::set_socket_reuseaddr(&socket, flags & 1 != 0).expect("option");
                sockopt::set_socket_reuseport(&socket, flags & 2 != 0).expect("option");
                let bound = bind_to(&socket, family, guard.port().number());
                let error = bound.expect_err("held").raw_os_error();
                assert_eq!(error, Some(libc::EADDRINUSE), "{family:?} {flags}");
            }
        }
    }
}
