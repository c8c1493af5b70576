//! Puts a socket that is bound already in the place of a program's.

use std::{io, os::fd::OwnedFd};

use rustix::io::ioctl_fionbio;

use crate::{
    call::Call,
    fresh,
    socket::Socket,
    sys::options::{option, set_option},
};

/// Replaces the program's `socket` by `twin`, if nobody can tell the difference afterwards, and says
/// whether it did.
///
/// `SO_REUSEADDR` is not taken over: the twin is bound and does not listen yet, and with the option
/// it would let others in who have it too.
pub(crate) fn swap(call: &Call<'_>, socket: Socket<'_>, twin: &OwnedFd) -> io::Result<bool> {
    if socket.is_multipath()? || socket.reuses_port()? {
        return Ok(false);
    }
    let thread = call.notification.thread;
    let inode = socket.inode()?;
    let Some(flags) = fresh::fresh(thread, call.descriptor(), inode) else {
        return Ok(false);
    };
    if !copy_options(socket, twin) {
        return Ok(false);
    }
    ioctl_fionbio(twin, flags.is_nonblocking)?;
    call.replace_socket(twin, flags.closes_on_exec)?;
    Ok(true)
}

/// Gives `twin` the options of `socket`; false if one cannot be given.
fn copy_options(socket: Socket<'_>, twin: &OwnedFd) -> bool {
    OPTIONS.iter().all(|&(level, name, scale)| {
        let Ok(wanted) = option(&socket, level, name) else {
            return true; // Not known to sockets of this family or to this kernel.
        };
        let is_equal = || option(twin, level, name).is_ok_and(|it| it == wanted);
        is_equal() || (set_option(twin, level, name, wanted / scale).is_ok() && is_equal())
    })
}

/// Options that servers set before they bind. Those of some other type (filters, keys, memberships)
/// are not here: nothing tells whether they are set.
const OPTIONS: &[(i32, i32, i32)] = &[
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
    (libc::SOL_SOCKET, libc::SO_OOBINLINE, 1),
    (libc::SOL_SOCKET, libc::SO_PRIORITY, 1),
    (libc::SOL_SOCKET, libc::SO_MARK, 1),
    (libc::SOL_SOCKET, libc::SO_RCVLOWAT, 1),
    (libc::SOL_SOCKET, libc::SO_BUSY_POLL, 1),
    (libc::SOL_SOCKET, libc::SO_INCOMING_CPU, 1),
    (libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1),
    // The kernel doubles what it is given.
    (libc::SOL_SOCKET, libc::SO_RCVBUF, 2),
    (libc::SOL_SOCKET, libc::SO_SNDBUF, 2),
    (libc::SOL_IP, libc::IP_TOS, 1),
    (libc::SOL_IP, libc::IP_TTL, 1),
    (libc::SOL_IP, libc::IP_FREEBIND, 1),
    (libc::SOL_IP, libc::IP_TRANSPARENT, 1),
    (libc::SOL_IPV6, libc::IPV6_TCLASS, 1),
    (libc::SOL_IPV6, libc::IPV6_UNICAST_HOPS, 1),
    (libc::SOL_TCP, libc::TCP_NODELAY, 1),
    (libc::SOL_TCP, libc::TCP_CORK, 1),
    (libc::SOL_TCP, libc::TCP_MAXSEG, 1),
    (libc::SOL_TCP, libc::TCP_KEEPIDLE, 1),
    (libc::SOL_TCP, libc::TCP_KEEPINTVL, 1),
    (libc::SOL_TCP, libc::TCP_KEEPCNT, 1),
    (libc::SOL_TCP, libc::TCP_SYNCNT, 1),
    (libc::SOL_TCP, libc::TCP_LINGER2, 1),
    (libc::SOL_TCP, libc::TCP_DEFER_ACCEPT, 1),
    (libc::SOL_TCP, libc::TCP_WINDOW_CLAMP, 1),
    (libc::SOL_TCP, libc::TCP_USER_TIMEOUT, 1),
    (libc::SOL_TCP, libc::TCP_FASTOPEN, 1),
    (libc::SOL_TCP, libc::TCP_SAVE_SYN, 1),
];
