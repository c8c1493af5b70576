//! Who makes ports grantable that automatic choice could pick: the one that is asked, and the only
//! step of a request that may take its time.

use std::{os::fd::BorrowedFd, sync::Arc};

use portpool::{PortRange, Transport};

use super::{keeper::Keeper, sockets::Socket};
use crate::codes::Code;

/// Somebody to ask.
pub(crate) trait Asker: Sync {
    /// Asks that this process may claim these ports on that socket; does not wait for the answer.
    ///
    /// # Errors
    /// Nobody is there.
    fn ask(
        &self,
        socket: &Socket,
        transport: Transport,
        range: PortRange,
    ) -> Result<Arc<dyn Asked>, Code>;
}

/// A question that was asked. What was granted and not claimed goes back when it is dropped.
pub(crate) trait Asked: Send + Sync {
    /// Readable when [`answer`](Asked::answer) has something to say.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// Yes, no, or nothing yet; does not wait.
    fn answer(&self) -> Option<Result<(), Code>>;
}

/// Who is asked in this process.
pub(crate) fn asker() -> &'static dyn Asker {
    &Keeper
}
