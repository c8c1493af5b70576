//! Calling the keeper, and waiting for it or not.

use std::{
    fmt, io,
    marker::PhantomData,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    event::PollFlags,
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    Connection, ConnectionError, Fault, Reply,
    calls::{Happened, List, Method, Page, Watch},
    connection::wait_for,
};

/// A connection to the keeper, with no call in flight.
///
/// What the connection was granted and has not claimed goes back when it is closed.
#[derive(Debug)]
pub struct Client(Connection);

/// No keeper answers.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach the keeper at {}: {cause}: {}", path.display(), advice(cause))]
pub struct ConnectError {
    /// Where it should listen.
    pub path: PathBuf,
    /// Why it cannot be reached.
    pub cause: io::Error,
}

/// Why a call was not answered as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The keeper says no.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The conversation failed.
    #[error("talking to the keeper: {0}")]
    Connection(#[from] ConnectionError),
}

impl CallError {
    /// The keeper's no, if it is that.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            CallError::Fault(fault) => Some(fault),
            CallError::Connection(_) => None,
        }
    }
}

impl Client {
    /// Connects to the keeper that listens at `path`, which [`socket_path`](crate::socket_path) finds.
    ///
    /// # Errors
    /// [`ConnectError`], at the latest when `timeout` has passed.
    pub fn connect(path: &Path, timeout: Duration) -> Result<Client, ConnectError> {
        let connected = || -> Result<Connection, Errno> {
            let flags = SocketFlags::CLOEXEC;
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            // A keeper that does not accept: connect waits for room in its queue.
            set_socket_timeout(&socket, Timeout::Send, Some(timeout))?;
            connect(&socket, &SocketAddrUnix::new(path)?)?;
            Ok(Connection::new(socket))
        };
        let connection = connected().map_err(|error| ConnectError {
            path: path.to_owned(),
            cause: error.into(),
        });
        connection.map(Client)
    }

    /// A client on a socket that is connected already.
    pub fn on(connection: Connection) -> Client {
        Client(connection)
    }

    /// Calls and waits for the reply.
    ///
    /// # Errors
    /// [`CallError`]; when `timeout` has passed, [`ConnectionError::TimedOut`] and the client is of no use
    /// any more, for the reply may still come.
    pub fn call<M: Method>(
        &mut self,
        parameters: &M,
        timeout: Option<Duration>,
    ) -> Result<M::Reply, CallError> {
        self.call_with(parameters, &[], timeout)
    }

    /// As [`call`](Client::call), with copies of descriptors.
    ///
    /// # Errors
    /// As [`call`](Client::call).
    pub fn call_with<M: Method>(
        &mut self,
        parameters: &M,
        descriptors: &[BorrowedFd<'_>],
        timeout: Option<Duration>,
    ) -> Result<M::Reply, CallError> {
        let deadline = deadline_of(timeout);
        send(&mut self.0, parameters, false, descriptors)?;
        let received = self.0.receive(deadline, REPLY_TIMEOUT)?;
        Ok(read_reply(&received.text)?.0)
    }

    /// Calls without waiting.
    ///
    /// # Errors
    /// [`CallError`] if the call cannot be sent.
    pub fn start<M: Method>(self, parameters: &M) -> Result<Pending<M>, CallError> {
        self.start_with(parameters, &[])
    }

    /// As [`start`](Client::start), with copies of descriptors.
    ///
    /// # Errors
    /// As [`start`](Client::start).
    pub fn start_with<M: Method>(
        mut self,
        parameters: &M,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Pending<M>, CallError> {
        send(&mut self.0, parameters, false, descriptors)?;
        Ok(Pending {
            connection: self.0,
            is_answered: false,
            method: PhantomData,
        })
    }

    /// Everything the keeper lists, page by page.
    ///
    /// # Errors
    /// As [`call`](Client::call); `timeout` is for each page.
    pub fn list(
        &mut self,
        timeout: Option<Duration>,
    ) -> Result<Vec<crate::calls::Entry>, CallError> {
        let mut entries = Vec::new();
        let mut after = None;
        loop {
            let Page {
                entries: some,
                next,
            } = self.call(&List { after }, timeout)?;
            entries.extend(some);
            if next.is_none() {
                return Ok(entries);
            }
            after = next;
        }
    }

    /// Watches events from now on: what happens after this has returned will be told.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn watch(mut self, timeout: Option<Duration>) -> Result<Stream, CallError> {
        let deadline = deadline_of(timeout);
        send(&mut self.0, &Watch {}, true, &[])?;
        // The first reply says that watching has begun.
        let received = self.0.receive(deadline, REPLY_TIMEOUT)?;
        read_reply::<Happened>(&received.text)?;
        Ok(Stream(self.0))
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A call that may not have been answered yet.
///
/// Its descriptor is readable as soon as [`poll`](Pending::poll) will answer. Dropping it cancels the
/// call: the keeper sees the connection close, and what it had granted goes back.
pub struct Pending<M> {
    connection: Connection,
    is_answered: bool,
    method: PhantomData<fn() -> M>,
}

impl<M: Method> Pending<M> {
    /// The reply if it is here, without waiting. Once it was handed out there is none any more.
    ///
    /// # Errors
    /// [`CallError`]; the call is over then.
    pub fn poll(&mut self) -> Result<Option<M::Reply>, CallError> {
        if self.is_answered {
            return Ok(None);
        }
        match self.connection.try_receive() {
            Ok(None) => Ok(None),
            Ok(Some(received)) => self.answer(&received.text),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for the reply; nothing if `timeout` passed first, and the call goes on.
    ///
    /// # Errors
    /// [`CallError`]; the call is over then.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<M::Reply>, CallError> {
        let deadline = deadline_of(timeout);
        loop {
            if self.is_answered {
                return Ok(None);
            }
            if let Some(reply) = self.poll()? {
                return Ok(Some(reply));
            }
            let ready = wait_for(&self.connection, PollFlags::IN, deadline);
            let is_ready = ready.map_err(|error| ConnectionError::Io {
                call: "poll",
                cause: error.into(),
            })?;
            if !is_ready {
                return Ok(None);
            }
        }
    }

    /// Ends the call by closing the connection; nothing stays reserved by it.
    pub fn cancel(self) {
        drop(self);
    }

    /// The client again, to keep what was granted until it is claimed, or to call anew.
    ///
    /// # Errors
    /// The pending call itself, if it was not answered yet.
    pub fn into_client(self) -> Result<Client, Pending<M>> {
        match self.is_answered {
            true => Ok(Client(self.connection)),
            false => Err(self),
        }
    }

    fn answer(&mut self, text: &[u8]) -> Result<Option<M::Reply>, CallError> {
        self.is_answered = true;
        Ok(Some(read_reply(text)?.0))
    }
}

impl<M> AsFd for Pending<M> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

impl<M> fmt::Debug for Pending<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("connection", &self.connection)
            .field("is_answered", &self.is_answered)
            .finish_non_exhaustive()
    }
}

/// Events as they come.
#[derive(Debug)]
pub struct Stream(Connection);

impl Stream {
    /// Waits for the next events; nothing if `timeout` passed first.
    ///
    /// # Errors
    /// [`CallError`]; there are no more events then.
    pub fn next(&mut self, timeout: Option<Duration>) -> Result<Option<Happened>, CallError> {
        let deadline = deadline_of(timeout);
        match self.0.receive(deadline, REPLY_TIMEOUT) {
            Ok(received) => Ok(Some(read_reply(&received.text)?.0)),
            Err(ConnectionError::TimedOut) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A call on its way out, without a copy of its parameters.
#[derive(Serialize)]
struct Outgoing<'a, P> {
    method: &'static str,
    parameters: &'a P,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more: bool,
}

/// When a call that may take so long is given up: never, if that is beyond all times there are.
fn deadline_of(timeout: Option<Duration>) -> Option<Instant> {
    Instant::now().checked_add(timeout?)
}

fn send<M: Method>(
    connection: &mut Connection,
    parameters: &M,
    more: bool,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), CallError> {
    let call = Outgoing {
        method: M::NAME,
        parameters,
        more,
    };
    connection.send(&call, descriptors, Instant::now() + SEND_TIMEOUT)?;
    Ok(())
}

/// What a reply says, and whether more follow.
fn read_reply<R: DeserializeOwned>(text: &[u8]) -> Result<(R, bool), CallError> {
    let malformed = |error: serde_json::Error| ConnectionError::Malformed(error.to_string());
    let reply: Reply = serde_json::from_slice(text).map_err(malformed)?;
    let parameters: Map<String, Value> = reply.parameters.unwrap_or_default();
    if let Some(name) = reply.error {
        return Err(Fault::from_wire(name, parameters).into());
    }
    let parameters = serde_json::from_value(Value::Object(parameters)).map_err(malformed)?;
    Ok((parameters, reply.continues))
}

fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "start it with `portpool keeper` as root, or set PORTPOOL_RUN_DIR to its run directory"
        }
        io::ErrorKind::WouldBlock => "it has more connections waiting than it takes on: try again",
        _ => "see whether this process may use the run directory",
    }
}

/// From the first byte of a reply to its last.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// A call fits into the socket's buffer; this is for a keeper that reads nothing.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
