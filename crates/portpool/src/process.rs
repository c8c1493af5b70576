//! What a program needs that reserves ports for programs it starts.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
    process::{Child, Command},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, getpid, pidfd_open, set_child_subreaper},
};

use crate::sys;

/// Spawns a child that is killed as soon as the calling thread ends, however it ends, and that
/// starts with no signal blocked.
///
/// The kernel ties the child to the thread, not to the process: call this from a thread that lives
/// as long as the program, such as the main one. Signals that are ignored stay ignored in the child,
/// as `nohup` relies on; handlers are reset by the exec.
///
/// # Errors
/// As [`Command::spawn`].
pub fn spawn_tethered(command: &mut Command) -> io::Result<Child> {
    sys::tether(command);
    command.spawn()
}

/// Makes this process the parent of its descendants whose own parent ends, so that they stay in its
/// tree: a daemon started under a reservation of scope tree keeps the right to its ports.
///
/// # Errors
/// None on the kernels that can have a pool.
pub fn become_subreaper() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Leaves a socket open in the child that `command` starts, and in no other child, and returns its
/// number there. The command keeps the socket open here until it is dropped.
pub fn pass_socket(command: &mut Command, socket: impl Into<OwnedFd>) -> RawFd {
    sys::pass(command, socket.into())
}

/// Watches another process for its end.
///
/// # Errors
/// `ESRCH` if there is no process with this id.
pub fn watch(pid: u32) -> io::Result<Pidfd> {
    let none = || io::Error::from_raw_os_error(libc::ESRCH);
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = pidfd_open(pid.ok_or_else(none)?, PidfdFlags::empty())?;
    Ok(Pidfd(process))
}

/// A process that is watched for its end. Readable, for `poll`, once it has ended.
#[derive(Debug)]
pub struct Pidfd(OwnedFd);

impl Pidfd {
    /// Waits until the process has ended or `timeout` has passed, for ever without one, and says
    /// whether it has ended.
    ///
    /// # Errors
    /// None that a caller could mend.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        let start = Instant::now();
        loop {
            let left = timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            let mut watched = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut watched, left.as_ref()) {
                Ok(count) => return Ok(count > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
