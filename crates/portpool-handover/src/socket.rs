//! What is asked of and set on a socket, whosever it is.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
};

use portpool_core::{Port, Transport};
use rustix::net::{AddressFamily, getsockname, sockopt};

use crate::sys::options::{netns_cookie, option, set_option};

/// A socket of IPv4 or IPv6 with ports of TCP or UDP.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Socket<'fd>(BorrowedFd<'fd>);

impl<'fd> Socket<'fd> {
    /// Nothing if it is another kind of socket, or none.
    pub(crate) fn new(socket: BorrowedFd<'fd>) -> Option<(Socket<'fd>, Transport)> {
        let kind = option(&socket, libc::SOL_SOCKET, libc::SO_TYPE).ok()?;
        let protocol = option(&socket, libc::SOL_SOCKET, libc::SO_PROTOCOL).ok()?;
        let domain = sockopt::socket_domain(socket).ok()?;
        if domain != AddressFamily::INET && domain != AddressFamily::INET6 {
            return None;
        }
        // The kind as well: raw sockets carry these protocols too, and have no ports.
        let transport = match (kind, protocol) {
            (libc::SOCK_STREAM, libc::IPPROTO_TCP | libc::IPPROTO_MPTCP) => Transport::Tcp,
            (libc::SOCK_DGRAM, libc::IPPROTO_UDP) => Transport::Udp,
            _ => return None,
        };
        Some((Socket(socket), transport))
    }

    pub(crate) fn bind(self, address: &SocketAddr) -> io::Result<()> {
        Ok(rustix::net::bind(self.0, address)?)
    }

    pub(crate) fn listen(self, backlog: i32) -> io::Result<()> {
        Ok(rustix::net::listen(self.0, backlog)?)
    }

    /// Unties it from its device, without privilege, if it is of UDP; port and address stay.
    pub(crate) fn disconnect(self) -> io::Result<()> {
        Ok(rustix::net::connect_unspec(self.0)?)
    }

    /// Ties it to a device, or to none. Only the first device can be set without privilege.
    pub(crate) fn set_device(self, index: u32) -> io::Result<()> {
        let index = i32::try_from(index).map_err(io::Error::other)?;
        set_option(&self.0, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, index)
    }

    pub(crate) fn device(self) -> io::Result<u32> {
        let index = option(&self.0, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX)?;
        u32::try_from(index).map_err(io::Error::other)
    }

    pub(crate) fn set_reuses_address(self, value: bool) -> io::Result<()> {
        Ok(sockopt::set_socket_reuseaddr(self.0, value)?)
    }

    pub(crate) fn reuses_address(self) -> io::Result<bool> {
        Ok(sockopt::socket_reuseaddr(self.0)?)
    }

    pub(crate) fn reuses_port(self) -> io::Result<bool> {
        Ok(sockopt::socket_reuseport(self.0)?)
    }

    pub(crate) fn is_listening(self) -> io::Result<bool> {
        Ok(sockopt::socket_acceptconn(self.0)?)
    }

    /// The address it is bound to; port 0 if it is not.
    pub(crate) fn address(self) -> io::Result<SocketAddr> {
        let address = SocketAddr::try_from(getsockname(self.0)?);
        address.map_err(|_| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))
    }

    /// The port it is bound to.
    pub(crate) fn port(self) -> Option<Port> {
        Port::new(self.address().ok()?.port())
    }

    pub(crate) fn is_v6(self) -> io::Result<bool> {
        Ok(sockopt::socket_domain(self.0)? == AddressFamily::INET6)
    }

    pub(crate) fn is_v6_only(self) -> io::Result<bool> {
        Ok(self.is_v6()? && sockopt::ipv6_v6only(self.0)?)
    }

    pub(crate) fn is_multipath(self) -> io::Result<bool> {
        let protocol = option(&self.0, libc::SOL_SOCKET, libc::SO_PROTOCOL)?;
        Ok(protocol == libc::IPPROTO_MPTCP)
    }

    /// Whether a bind to port 0 leaves the choice of a port to `connect`.
    pub(crate) fn defers_port(self) -> bool {
        option(&self.0, libc::SOL_IP, IP_BIND_ADDRESS_NO_PORT).is_ok_and(|value| value != 0)
    }

    pub(crate) fn netns_cookie(self) -> io::Result<u64> {
        netns_cookie(&self.0)
    }

    pub(crate) fn cookie(self) -> io::Result<u64> {
        Ok(sockopt::socket_cookie(self.0)?)
    }

    pub(crate) fn inode(self) -> io::Result<u64> {
        Ok(rustix::fs::fstat(self.0)?.st_ino)
    }
}

impl AsFd for Socket<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0
    }
}

const IP_BIND_ADDRESS_NO_PORT: i32 = 24;
