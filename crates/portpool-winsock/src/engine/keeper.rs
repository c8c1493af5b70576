//! The keeper of portpool: it makes ports grantable, and it keeps persistent blocks.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use portpool::{PortRange, Refusal, Transport};
use portpool_varlink::{
    CallError, Client, Fault, Pending,
    calls::{Acquire, Method},
    socket_path,
};

use super::{
    asker::{Asked, Asker},
    sockets::Socket,
};
use crate::{choices, codes::Code};

/// The keeper of this environment.
pub(crate) struct Keeper;

/// Why the keeper did not do what it was asked.
pub(crate) enum No {
    /// It cannot be reached, or could not be understood.
    Unreachable,
    /// The caller may not.
    NotAllowed,
    /// There is nothing of exactly these ports.
    NotFound,
    /// The rules of the pool.
    Refused(Refusal),
    /// A limit of the keeper.
    TooMany,
    /// It failed itself, or did not answer in time.
    Failed,
}

impl Keeper {
    /// Calls and waits for the answer.
    ///
    /// # Errors
    /// [`No`].
    pub(crate) fn call<M: Method>(&self, method: &M) -> Result<M::Reply, No> {
        let mut client = connect().map_err(|()| No::Unreachable)?;
        client
            .call(method, Some(ANSWER_TIMEOUT))
            .map_err(|error| no(&error))
    }
}

impl Asker for Keeper {
    fn ask(
        &self,
        socket: &Socket,
        transport: Transport,
        range: PortRange,
    ) -> Result<Arc<dyn Asked>, Code> {
        let client = connect().map_err(|()| choices::SERVICE_UNREACHABLE)?;
        let call = Acquire {
            socket: Some(0),
            ..Acquire::exactly(transport.into(), range)
        };
        // The socket says which network namespace is meant.
        let pending = client.start_with(&call, &[socket.as_fd()]);
        let pending = pending.map_err(|error| acquire_code(&no(&error)))?;
        let descriptor = pending.as_fd().try_clone_to_owned()?;
        Ok(Arc::new(Question {
            descriptor,
            pending: Mutex::new(pending),
        }))
    }
}

/// A call under way. The keeper sees it dropped and takes back what it granted.
struct Question {
    descriptor: OwnedFd,
    pending: Mutex<Pending<Acquire>>,
}

impl Asked for Question {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    fn answer(&self) -> Option<Result<(), Code>> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        match pending.poll() {
            Ok(None) => None,
            Ok(Some(_granted)) => Some(Ok(())),
            Err(error) => Some(Err(acquire_code(&no(&error)))),
        }
    }
}

fn connect() -> Result<Client, ()> {
    Client::connect(&socket_path(), CONNECT_TIMEOUT).map_err(drop)
}

fn no(error: &CallError) -> No {
    let Some(fault) = error.fault() else {
        return match error {
            CallError::Connection(portpool_varlink::ConnectionError::TimedOut) => No::Failed,
            _ => No::Unreachable,
        };
    };
    match fault {
        Fault::Refused {
            refusal: Some(refusal),
            ..
        } => No::Refused(*refusal),
        Fault::NotAllowed(_) => No::NotAllowed,
        Fault::NotFound(_) => No::NotFound,
        Fault::TooMany(_) => No::TooMany,
        Fault::TimedOut(_) | Fault::Failed(_) | Fault::Refused { refusal: None, .. } => No::Failed,
        // It speaks of another network namespace, or another language: it is not the one to ask.
        _ => No::Unreachable,
    }
}

fn acquire_code(no: &No) -> Code {
    match no {
        No::Refused(refusal) => choices::acquire_refused(*refusal),
        No::NotAllowed => Code::ACCES,
        No::TooMany => choices::OVER_A_LIMIT,
        No::Unreachable | No::NotFound | No::Failed => choices::SERVICE_UNREACHABLE,
    }
}

/// A keeper that does not even accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Persistent blocks are written to disk before the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
