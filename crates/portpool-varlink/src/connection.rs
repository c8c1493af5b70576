//! A Unix socket as a sequence of messages, with a bound and a deadline for everything.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};
use serde::Serialize;

use crate::{
    DESCRIPTOR_COUNT_MAX, MESSAGE_SIZE_MAX,
    frames::{Frames, TooLarge},
};

/// A connected socket that messages go over, with the descriptors that come beside them.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    frames: Frames,
    /// Those that arrived with bytes of the message not yet popped.
    descriptors: Vec<OwnedFd>,
}

/// A message that has arrived.
#[derive(Debug, Default)]
pub struct Received {
    /// Its JSON, not looked at.
    pub text: Vec<u8>,
    /// What came beside it; closed with this value.
    pub descriptors: Vec<OwnedFd>,
}

/// Why no message came or went. The connection is of no use any more, except after a time-out that
/// found no part of a message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The other side has closed, between messages.
    #[error("the other side has closed the connection")]
    Closed,
    /// The other side has closed in the middle of a message.
    #[error("the other side has closed the connection in the middle of a message")]
    Truncated,
    /// The deadline has passed.
    #[error("the other side took too long")]
    TimedOut,
    /// A message is larger than [`MESSAGE_SIZE_MAX`].
    #[error("a message is larger than {MESSAGE_SIZE_MAX} bytes")]
    TooLarge,
    /// More than [`DESCRIPTOR_COUNT_MAX`] descriptors came with a message.
    #[error("more than {DESCRIPTOR_COUNT_MAX} descriptors came with a message")]
    TooManyDescriptors,
    /// Descriptors came with more than one message: whose they are cannot be told.
    #[error(
        "descriptors came with more than one message at once: send one call, then read its reply"
    )]
    AmbiguousDescriptors,
    /// A message is not what it should be.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// A system call failed.
    #[error("{call} failed: {cause}")]
    Io {
        /// The call.
        call: &'static str,
        /// Why it failed.
        cause: io::Error,
    },
}

impl From<TooLarge> for ConnectionError {
    fn from(_: TooLarge) -> ConnectionError {
        ConnectionError::TooLarge
    }
}

impl Connection {
    /// Messages over this connected stream socket.
    pub fn new(socket: OwnedFd) -> Connection {
        Connection {
            socket,
            frames: Frames::default(),
            descriptors: Vec::new(),
        }
    }

    /// Waits for a message: until `idle` for its first byte, and from then on for `whole`, so that nobody
    /// keeps a reader by sending a byte now and then. `None` waits for ever.
    ///
    /// # Errors
    /// [`ConnectionError`].
    pub fn receive(
        &mut self,
        idle: Option<Instant>,
        whole: Duration,
    ) -> Result<Received, ConnectionError> {
        let mut deadline = match self.frames.is_empty() {
            true => idle,
            false => Some(Instant::now() + whole),
        };
        loop {
            if let Some(received) = self.pop()? {
                return Ok(received);
            }
            if !self.wait(PollFlags::IN, deadline)? {
                return Err(ConnectionError::TimedOut);
            }
            let was_empty = self.frames.is_empty();
            self.read()?;
            if was_empty && !self.frames.is_empty() {
                deadline = Some(Instant::now() + whole);
            }
        }
    }

    /// The next message if it is here, without waiting.
    ///
    /// # Errors
    /// [`ConnectionError`].
    pub fn try_receive(&mut self) -> Result<Option<Received>, ConnectionError> {
        loop {
            if let Some(received) = self.pop()? {
                return Ok(Some(received));
            }
            if !self.read()? {
                return Ok(None);
            }
        }
    }

    /// Sends a message and copies of descriptors with it, by `deadline`.
    ///
    /// # Errors
    /// [`ConnectionError`].
    pub fn send(
        &mut self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> Result<(), ConnectionError> {
        if descriptors.len() > DESCRIPTOR_COUNT_MAX {
            return Err(ConnectionError::TooManyDescriptors);
        }
        let mut bytes = serde_json::to_vec(message)
            .map_err(|error| ConnectionError::Malformed(error.to_string()))?;
        if bytes.len() > MESSAGE_SIZE_MAX {
            return Err(ConnectionError::TooLarge);
        }
        bytes.push(0);
        let mut rest = &bytes[..];
        let mut descriptors = descriptors;
        while !rest.is_empty() {
            match write(self.socket.as_fd(), rest, descriptors) {
                Ok(size) => {
                    rest = &rest[size..];
                    // The kernel took them with the first byte.
                    descriptors = &[];
                }
                Err(Errno::AGAIN) => {
                    if !self.wait(PollFlags::OUT, Some(deadline))? {
                        return Err(ConnectionError::TimedOut);
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(ConnectionError::Closed),
                Err(error) => return Err(failed("sendmsg")(error)),
            }
        }
        Ok(())
    }

    /// Whether the other side has closed, or closed its sending half: nobody waits for a reply.
    pub fn is_gone(&self) -> bool {
        let mut fds = [PollFd::new(&self.socket, PollFlags::RDHUP)];
        let now = Timespec::default();
        let gone = PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR;
        match poll(&mut fds, Some(&now)) {
            Ok(_) => fds[0].revents().intersects(gone),
            Err(error) => error != Errno::INTR,
        }
    }

    fn pop(&mut self) -> Result<Option<Received>, ConnectionError> {
        let Some(text) = self.frames.pop()? else {
            return Ok(None);
        };
        let descriptors = std::mem::take(&mut self.descriptors);
        if !descriptors.is_empty() && !self.frames.is_empty() {
            return Err(ConnectionError::AmbiguousDescriptors);
        }
        Ok(Some(Received { text, descriptors }))
    }

    /// Reads what is here; whether anything was.
    fn read(&mut self) -> Result<bool, ConnectionError> {
        let mut chunk = [0; CHUNK_SIZE];
        let size = self.frames.room().min(CHUNK_SIZE);
        let mut space = [MaybeUninit::uninit(); RECEIVE_SPACE];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let mut parts = [IoSliceMut::new(&mut chunk[..size])];
        let answer = loop {
            match recvmsg(&self.socket, &mut parts, &mut control, flags) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::CONNRESET) => return Err(ConnectionError::Closed),
                Err(error) => return Err(failed("recvmsg")(error)),
                Ok(answer) => break answer,
            }
        };
        // Owned first, whatever is decided below: what is not kept is closed.
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                self.descriptors.extend(rights);
            }
        }
        if answer.flags.contains(ReturnFlags::CTRUNC)
            || self.descriptors.len() > DESCRIPTOR_COUNT_MAX
        {
            self.descriptors.clear();
            return Err(ConnectionError::TooManyDescriptors);
        }
        match (answer.bytes, self.frames.is_empty()) {
            (0, true) => Err(ConnectionError::Closed),
            (0, false) => Err(ConnectionError::Truncated),
            (size, _) => {
                self.frames.push(&chunk[..size])?;
                Ok(true)
            }
        }
    }

    fn wait(&self, what: PollFlags, deadline: Option<Instant>) -> Result<bool, ConnectionError> {
        wait_for(&self.socket, what, deadline).map_err(failed("poll"))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether the descriptor became ready by the deadline.
pub(crate) fn wait_for(
    socket: &impl AsFd,
    what: PollFlags,
    deadline: Option<Instant>,
) -> Result<bool, Errno> {
    loop {
        let left = deadline.map(|it| it.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left| Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        let mut fds = [PollFd::new(socket, what)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(count) => return Ok(count > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn write(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); SEND_SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        let fits = control.push(SendAncillaryMessage::ScmRights(descriptors));
        debug_assert!(fits, "the space is that of the most descriptors");
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)
}

fn failed(call: &'static str) -> impl Fn(Errno) -> ConnectionError {
    move |error| ConnectionError::Io {
        call,
        cause: error.into(),
    }
}

/// Bytes read at once. Most messages are a few hundred.
const CHUNK_SIZE: usize = 8 * 1024;
const SEND_SPACE: usize = rustix::cmsg_space!(ScmRights(DESCRIPTOR_COUNT_MAX));
/// The kernel closes what does not fit and says so.
const RECEIVE_SPACE: usize = SEND_SPACE;
