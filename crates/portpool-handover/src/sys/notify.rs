//! The listener of a seccomp filter: calls come in, answers go out.

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    ptr,
};

/// The end at which the calls that the filter stops come in.
#[derive(Debug)]
pub(crate) struct Listener(OwnedFd);

/// A call that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notification {
    pub(crate) id: u64,
    /// The calling thread, as this process sees it; 0 if it does not.
    pub(crate) thread: u32,
    pub(crate) number: i64,
    pub(crate) arguments: [u64; 6],
}

/// The answer to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The kernel goes on with the call as if nobody had asked.
    Continue,
    /// The call returns 0.
    Done,
    /// The call fails with this error number.
    Fail(i32),
}

impl Listener {
    pub(crate) fn new(listener: OwnedFd) -> Listener {
        let listener = Listener(listener);
        // Linux 6.6 and later: saves a switch of CPU. Elsewhere it goes without.
        let flags: u64 = SYNC_WAKE_UP;
        // SAFETY: the request takes its argument by value.
        let _ = unsafe {
            libc::ioctl(
                listener.0.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS,
                flags,
            )
        };
        listener
    }

    /// Takes the next call; waits if there is none.
    pub(crate) fn receive(&self) -> io::Result<Notification> {
        // SAFETY: a structure of integers, for which zeros are a valid value, and what the kernel
        // demands to be passed.
        let mut raw: libc::seccomp_notif = unsafe { mem::zeroed() };
        self.control(libc::SECCOMP_IOCTL_NOTIF_RECV, &mut raw)?;
        Ok(Notification {
            id: raw.id,
            thread: raw.pid,
            number: raw.data.nr.into(),
            arguments: raw.data.args,
        })
    }

    /// Whether the call still waits, and with it the thread that made it is the one it was.
    pub(crate) fn is_waiting(&self, id: u64) -> bool {
        let mut id = id;
        self.control(libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &mut id)
            .is_ok()
    }

    /// Answers a call.
    pub(crate) fn answer(&self, id: u64, answer: Answer) -> io::Result<()> {
        let (error, flags) = match answer {
            Answer::Continue => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
            Answer::Done => (0, 0),
            Answer::Fail(errno) => (-errno, 0),
        };
        let mut raw = libc::seccomp_notif_resp {
            id,
            val: 0,
            error,
            flags,
        };
        self.control(libc::SECCOMP_IOCTL_NOTIF_SEND, &mut raw)
    }

    /// Puts `source` in the place of descriptor `number` of the caller.
    pub(crate) fn replace(
        &self,
        id: u64,
        number: RawFd,
        source: BorrowedFd<'_>,
        closes_on_exec: bool,
    ) -> io::Result<()> {
        let mut raw = libc::seccomp_notif_addfd {
            id,
            flags: libc::SECCOMP_ADDFD_FLAG_SETFD as u32,
            srcfd: source.as_raw_fd() as u32,
            newfd: number as u32,
            newfd_flags: if closes_on_exec {
                libc::O_CLOEXEC as u32
            } else {
                0
            },
        };
        self.control(libc::SECCOMP_IOCTL_NOTIF_ADDFD, &mut raw)
    }

    fn control<T>(&self, request: libc::Ioctl, value: &mut T) -> io::Result<()> {
        // SAFETY: each request of this module is made with the structure that its number encodes
        // the size of, which the kernel reads and writes; it is borrowed exclusively.
        let answer = unsafe { libc::ioctl(self.0.as_raw_fd(), request, ptr::from_mut(value)) };
        if answer >= 0 {
            return Ok(());
        }
        Err(io::Error::last_os_error())
    }
}

impl From<Listener> for OwnedFd {
    fn from(listener: Listener) -> OwnedFd {
        listener.0
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`.
const SYNC_WAKE_UP: u64 = 1;

// Sizes are part of the request numbers; `seccomp` of a later kernel may know longer structures and
// then still takes these.
const _: () = assert!(mem::size_of::<libc::seccomp_notif>() == 80);
const _: () = assert!(mem::size_of::<libc::seccomp_notif_resp>() == 24);
const _: () = assert!(mem::size_of::<libc::seccomp_notif_addfd>() == 24);
