//! What a program needs that reserves ports for programs it starts.
//!
//! There are two ways to give a child a port. A child that knows how to use a socket it is given
//! (as with `LISTEN_FDS`) gets one that is bound already:
//!
//! ```no_run
//! use std::process::Command;
//! use portpool::{Pool, PortCount, Request, Transports, Want, Wildcard, process};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let want = Want::Wildcard(Wildcard::new(PortCount::ONE));
//! let ports = Pool::open()?.acquire(&Request { transports: Transports::Tcp, want })?;
//! let mut server = Command::new("server");
//! let number = process::pass_socket(&mut server, ports.tcp_listener([127, 0, 0, 1].into())?);
//! server.arg(format!("--listen-fd={number}")).spawn()?.wait()?;
//! # Ok(())
//! # }
//! ```
//!
//! A child that binds by itself gets the right to, by a reservation of scope tree:
//!
//! ```no_run
//! use std::process::Command;
//! use portpool::{Pool, PortCount, Request, Scope, Transports, Want, Wildcard, process};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let want = Want::Wildcard(Wildcard::new(PortCount::ONE));
//! let request = Request { transports: Transports::Tcp, want };
//! let scope = Scope::Tree { root: None, zero_from_block: false };
//! let ports = Pool::open()?.acquire_scoped(&request, scope)?;
//! let mut server = Command::new("server");
//! server.arg(format!("--port={}", ports.range().first()));
//! process::spawn_tethered(&mut server)?.wait()?;
//! # Ok(())
//! # }
//! ```
//!
//! In both cases the reservation stays this process's: keep it as long as the child is to have the
//! ports. A child never becomes an owner, and the descriptors of the owner sockets are closed in it.

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

use crate::{handover::PortSocket, sys};

/// Lets the calling thread take every signal, whatever mask it was started with. A program that waits
/// for signals and may be started by any other needs that.
///
/// # Errors
/// None that is known.
pub fn unblock_signals() -> io::Result<()> {
    sys::unblock_signals()
}

/// Closes every descriptor from 3 on, which whoever started this program left open in it: locks held and
/// pipes that never end. For the first line of `main`: nothing may have been opened yet.
///
/// # Errors
/// If the kernel is older than 5.9.
pub fn close_inherited() -> io::Result<()> {
    sys::close_from_three()
}

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
    tether(command);
    command.spawn()
}

/// Has the child of `command` start as [`spawn_tethered`] starts it, for who spawns it otherwise.
pub fn tether(command: &mut Command) {
    sys::tether(command);
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
///
/// Clearing close-on-exec in this process instead would leak the socket into whatever another thread
/// starts meanwhile.
pub fn pass_socket(command: &mut Command, socket: impl Into<OwnedFd>) -> RawFd {
    sys::pass(command, socket.into())
}

/// Turns this process into the program of `command`, which finds the sockets at descriptors 3 and up
/// and in `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES`, as systemd passes them.
///
/// In place, since the process id that the program checks must be its own. Nothing of this process
/// lives on but the sockets: reservations end, and destructors do not run. Sockets that are bound
/// keep their ports. Names are ASCII without `:`; others are refused.
///
/// ```no_run
/// use std::process::Command;
/// use portpool::{Pool, PortCount, Request, Transports, Want, Wildcard, process};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let want = Want::Wildcard(Wildcard::new(PortCount::ONE));
/// let ports = Pool::open()?.acquire(&Request { transports: Transports::Tcp, want })?;
/// let mut server = Command::new("gunicorn");
/// server.arg("application");
/// Err(process::exec_with_sockets(server, ports.into_listeners()?).into())
/// # }
/// ```
///
/// # Errors
/// Why the program could not be started. This process is then as it was, but for the sockets.
pub fn exec_with_sockets(
    mut command: Command,
    sockets: impl IntoIterator<Item = PortSocket>,
) -> io::Error {
    let (names, sockets): (Vec<String>, Vec<OwnedFd>) = sockets
        .into_iter()
        .map(|socket| (socket.name().to_owned(), OwnedFd::from(socket)))
        .unzip();
    let is_plain = |name: &String| {
        name.len() <= NAME_LENGTH_MAX && name.bytes().all(|it| it.is_ascii_graphic() && it != b':')
    };
    if let Some(name) = names.iter().find(|name| !is_plain(name)) {
        let text = format!("{name:?} is no name of a socket: choose ASCII without `:`");
        return io::Error::new(io::ErrorKind::InvalidInput, text);
    }
    command
        .env("LISTEN_FDS", sockets.len().to_string())
        .env("LISTEN_PID", std::process::id().to_string())
        .env("LISTEN_FDNAMES", names.join(":"));
    sys::exec_with(command, &sockets)
}

/// Watches another process for its end.
///
/// ```
/// use std::{process::Command, time::Duration};
///
/// let mut child = Command::new("sleep").arg("60").spawn()?;
/// let watched = portpool::process::watch(child.id())?;
/// assert!(!watched.wait(Some(Duration::ZERO))?);
/// child.kill()?;
/// assert!(watched.wait(None)?);
/// # child.wait()?;
/// # Ok::<(), std::io::Error>(())
/// ```
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

/// As long as systemd takes them.
const NAME_LENGTH_MAX: usize = 255;
