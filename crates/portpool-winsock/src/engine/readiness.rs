//! Waiting for sockets to become readable or writable.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use super::sockets::Socket;
use crate::codes::Code;

/// What happened on each of these sockets, once anything has or the time is over.
///
/// # Errors
/// Those of the system call.
pub(crate) fn await_sockets(
    wanted: &[(Arc<Socket>, PollFlags)],
    timeout: Option<Duration>,
) -> Result<Vec<PollFlags>, Code> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let mut watched: Vec<PollFd<'_>> = wanted
            .iter()
            .map(|(socket, flags)| PollFd::new(socket, *flags))
            .collect();
        let left = deadline.map(|it| it.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut watched, left.as_ref()) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(watched.iter().map(PollFd::revents).collect()),
        }
    }
}
