//! Who is at the other end of a connection.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::sys;

/// The process that connected, as the kernel recorded it then.
#[derive(Debug)]
pub struct Peer {
    /// Its process id, as this process sees it; 0 if it cannot be seen from here.
    pub pid: u32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its other groups.
    pub groups: Vec<u32>,
    /// The process itself: its number may be another's by now, this is not. Absent before Linux 6.5.
    pub pidfd: Option<OwnedFd>,
}

impl Peer {
    /// The peer of a connected Unix socket.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn of(socket: &impl AsFd) -> io::Result<Peer> {
        let credentials = rustix::net::sockopt::socket_peercred(socket)?;
        Ok(Peer {
            pid: credentials.pid.as_raw_pid().unsigned_abs(),
            uid: credentials.uid.as_raw(),
            gid: credentials.gid.as_raw(),
            groups: sys::peer_groups(socket.as_fd())?,
            pidfd: sys::peer_pidfd(socket.as_fd())?,
        })
    }

    /// Whether the process lives, so that what `/proc` says of its number is about it. Ask after reading.
    pub fn lives(&self) -> bool {
        match &self.pidfd {
            None => self.pid != 0,
            Some(pidfd) => {
                let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
                poll(&mut fds, Some(&Timespec::default())) == Ok(0)
            }
        }
    }

    /// Whether it is in the group.
    pub fn is_in_group(&self, group: u32) -> bool {
        self.gid == group || self.groups.contains(&group)
    }
}

/// The network namespace that a socket is in, by a number that is never given twice in a boot.
///
/// # Errors
/// If the descriptor is no socket.
pub fn netns_cookie(socket: &impl AsFd) -> io::Result<u64> {
    sys::netns_cookie(socket.as_fd())
}
