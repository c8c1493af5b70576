//! Programs whose ports are no longer held: their calls are answered as without portpool.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

use crate::sys::notify::{Answer, Listener};

/// The calls of what a program has left behind, which wait until somebody answers them: this process,
/// or another that is given the descriptor. Dropped, they fail with `ENOSYS`.
#[derive(Debug)]
pub struct Rest(Listener);

impl Rest {
    pub(crate) fn new(listener: Listener) -> Rest {
        Rest(listener)
    }

    /// Leaves every call to the kernel until no process is left.
    ///
    /// # Errors
    /// If the descriptor it was made from has no such calls.
    pub fn serve(&self) -> io::Result<()> {
        while self.wait()? {
            let notification = match self.0.receive() {
                Ok(notification) => notification,
                // Its caller was killed meanwhile, or this process was interrupted.
                Err(error) if is_passing(&error) => continue,
                Err(error) => return Err(error),
            };
            // Nobody waits for the answer if the caller was killed.
            let _ = self.0.answer(notification.id, Answer::Continue);
        }
        Ok(())
    }

    fn wait(&self) -> io::Result<bool> {
        loop {
            let mut watched = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut watched, None) {
                Ok(_) => return Ok(watched[0].revents().contains(PollFlags::IN)),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl From<OwnedFd> for Rest {
    fn from(descriptor: OwnedFd) -> Rest {
        Rest(Listener::new(descriptor))
    }
}

impl From<Rest> for OwnedFd {
    fn from(rest: Rest) -> OwnedFd {
        rest.0.into()
    }
}

impl AsFd for Rest {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn is_passing(error: &io::Error) -> bool {
    let passing = [Errno::NOENT, Errno::INTR].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|it| passing.contains(&it))
}
