//! Why an administrative request was not carried out.

use portpool_core::{PortRange, RangeError, Transport};

use crate::store::StoreError;

/// Why a persistent block or an exclusion was not made, found or ended. Nothing was changed, except
/// where a variant says that it is not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// Port 0, no ports, or ports past 65535.
    #[error(transparent)]
    InvalidParameter(#[from] RangeError),
    /// The caller may not: it takes `CAP_NET_ADMIN` over the network namespace, and root's records.
    #[error("not permitted: {what} (run it as root, or ask the keeper)")]
    AccessDenied {
        /// What was not permitted.
        what: String,
    },
    /// A port is in use, reserved, persistent or excluded already.
    #[error("{range}/{transport}: {why}")]
    SharingViolation {
        /// TCP or UDP.
        transport: Transport,
        /// The ports asked for.
        range: PortRange,
        /// What they clash with.
        why: String,
    },
    /// There is no block or exclusion with exactly these ports.
    #[error(
        "{range}/{transport}: no {what} has exactly these ports; `portpool reservations` lists all"
    )]
    NotFound {
        /// TCP or UDP.
        transport: Transport,
        /// The ports asked for.
        range: PortRange,
        /// A persistent block, or an exclusion.
        what: &'static str,
    },
    /// No pool is attached in this network namespace.
    #[error("no pool is attached in this network namespace: run `portpool attach` as root")]
    NotAttached,
    /// The records say no.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AdminError {
    /// The code of the persistent functions of Windows (spec section 5), where it lists one.
    pub fn windows_code(&self) -> Option<u32> {
        match self {
            AdminError::AccessDenied { .. } => Some(5),
            AdminError::SharingViolation { .. } => Some(32),
            AdminError::InvalidParameter(_) => Some(87),
            AdminError::NotFound { .. } => Some(1168),
            AdminError::NotAttached | AdminError::Store(_) => None,
        }
    }
}
