//! Being told to stop: SIGTERM and SIGINT, as something to wait for.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::{SigId, consts, low_level};

/// Readable once the process was told to stop.
#[derive(Debug)]
pub(super) struct Stop {
    asked: UnixStream,
    registered: Vec<SigId>,
}

impl Stop {
    /// From here on the signals do nothing but this.
    pub(super) fn on_signals() -> io::Result<Stop> {
        let (asked, ask) = UnixStream::pair()?;
        asked.set_nonblocking(true)?;
        let mut registered = Vec::new();
        for signal in [consts::SIGTERM, consts::SIGINT] {
            registered.push(low_level::pipe::register(signal, ask.try_clone()?)?);
        }
        Ok(Stop { asked, registered })
    }

    /// Whether it was told to.
    pub(super) fn is_asked(&self) -> bool {
        self.wait(Duration::ZERO)
    }

    /// Waits for it, and says whether it came.
    pub(super) fn wait(&self, time: Duration) -> bool {
        let timeout = Timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&self.asked, PollFlags::IN)];
        poll(&mut fds, Some(&timeout)) == Ok(1)
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.asked.as_fd()
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            low_level::unregister(id);
        }
    }
}
