//! How much the keeper takes on, for all and for one user. Callers are taken to be hostile.

use std::time::Duration;

/// Connections at a time.
pub(super) const CONNECTIONS_MAX: u32 = 512;
/// Of these only root gets the last ones: an administrator always gets in.
pub(super) const CONNECTIONS_KEPT_FOR_ROOT: u32 = 32;
/// Connections of one user other than root.
pub(super) const CONNECTIONS_PER_UID_MAX: u32 = 32;
/// Descriptors for all of these: the socket, its process, what comes beside a call, a bell to wait on; and
/// some for the rest.
pub(super) const DESCRIPTORS: u64 =
    CONNECTIONS_MAX as u64 * (3 + portpool_varlink::DESCRIPTOR_COUNT_MAX as u64) + 256;

/// Requests for ports that wait or were granted and are not claimed yet, of one user other than root.
pub(super) const GRANTS_PER_UID_MAX: usize = 8;
/// The same, of all users.
pub(super) const GRANTS_MAX: usize = 256;
/// How often one user other than administrators may have automatic choice kept from ports without a pause: each
/// time all sockets are looked at, twice.
pub(super) const GRANTS_AT_ONCE_PER_UID: u64 = 64;
/// After which it may once more.
pub(super) const GRANT_REFILL_TIME: Duration = Duration::from_millis(250);
/// The share of the ephemeral range, in percent, that all users other than administrators may take from
/// automatic choice together.
pub(super) const EPHEMERAL_SHARE_PERCENT: u32 = 25;

/// The longest a request for ports may wait.
pub(super) const WAIT_MAX: Duration = Duration::from_hours(24);
/// From granted to claimed.
pub(super) const WINDOW_TIME: Duration = Duration::from_secs(10);

/// From a reply to the first byte of the next call.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// From the first byte of a call to its last.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// For a reply to be taken.
pub(super) const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// Events kept for a reader that is slow.
pub(super) const EVENTS_QUEUED_MAX: usize = 1024;
/// Events in one message: well below its size.
pub(super) const EVENTS_PER_MESSAGE: usize = 64;
/// Entries in one page: well below the size of a message, notes included.
pub(super) const ENTRIES_PER_PAGE: usize = 64;

/// The stack of a thread that serves one connection: JSON nests at most 128 deep.
pub(super) const STACK_SIZE: usize = 512 * 1024;
