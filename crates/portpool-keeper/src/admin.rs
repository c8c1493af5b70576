//! Persistent blocks and exclusions: records, kernel pool and sysctl changed together.

mod error;

use portpool_core::{PortRange, Token, Transport, Transports};

pub use error::AdminError;

use crate::store::Note;

/// A block to be made persistent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// TCP, UDP, or both: then all or nothing.
    pub transports: Transports,
    /// The ports.
    pub range: PortRange,
    /// The group whose members may consume it, beside those with `CAP_NET_ADMIN`.
    pub group: Option<u32>,
    /// Something about it.
    pub note: Option<Note>,
}

/// A persistent block of one transport, as it is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persisted {
    /// TCP or UDP.
    pub transport: Transport,
    /// Its ports.
    pub range: PortRange,
    /// Its name until the next boot.
    pub token: Token,
}
