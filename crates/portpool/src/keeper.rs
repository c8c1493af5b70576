//! Asking the keeper for what a claim alone does not get: ports that automatic choice could pick.
//!
//! The keeper makes them grantable to this process, and then this process claims them itself, so that
//! owner, limits and lifetime are as with any other block. Without a keeper the refusal stays.

use std::{
    os::fd::BorrowedFd,
    path::Path,
    time::{Duration, Instant},
};

use portpool_core::{PortRange, Refusal, Request, Want};
use portpool_varlink::{CallError, Client, Fault, SOCKET_NAME, calls::Acquire};

use crate::error::AcquireError;

/// Ports that this process may claim now. Dropping it gives back what was not claimed.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) range: PortRange,
    /// Its end is the end of the window.
    _client: Client,
}

/// Asks the keeper of a run directory for ports, and waits while they are in use for as long as told.
/// `socket` is one in the network namespace that they are wanted in.
///
/// Nothing comes back if no keeper answers there.
pub(crate) fn ask(
    run_dir: &Path,
    request: &Request,
    socket: BorrowedFd<'_>,
    wait: Duration,
) -> Result<Option<Grant>, AcquireError> {
    let Ok(mut client) = Client::connect(&run_dir.join(SOCKET_NAME), CONNECT_TIMEOUT) else {
        return Ok(None);
    };
    let call = match &request.want {
        Want::Specific(range) => Acquire::exactly(request.transports, *range),
        Want::Wildcard(wanted) => Acquire::any(request.transports, wanted),
    };
    let call = Acquire {
        wait_ms: Some(wait.as_millis().try_into().unwrap_or(u64::MAX)),
        socket: Some(0),
        ..call
    };
    let granted = client.call_with(&call, &[socket], Some(wait.saturating_add(ANSWER_TIMEOUT)));
    match granted {
        Ok(granted) => Ok(Some(Grant {
            range: granted.range,
            _client: client,
        })),
        Err(error) => Err(AcquireError::Keeper {
            request: *request,
            refusal: refusal_of(&error),
            message: error.to_string(),
        }),
    }
}

/// How long there is to wait until a moment.
pub(crate) fn left_until(deadline: Option<Instant>) -> Duration {
    deadline.map_or(Duration::ZERO, |it| {
        it.saturating_duration_since(Instant::now())
    })
}

fn refusal_of(error: &CallError) -> Option<Refusal> {
    match error.fault()? {
        Fault::TimedOut(_) => Some(Refusal::InUse),
        fault => fault.refusal(),
    }
}

/// A keeper that lives accepts at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Beyond what was to be waited for: others may be before us, and each looks at all sockets.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
