//! Why an administrative request was not carried out.

use std::io;

use portpool::{LookError, OpenError, Refusal};
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
    #[error(
        "{what}: this needs CAP_NET_ADMIN over the network namespace, and the records are root's"
    )]
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
    #[error(
        "no pool is attached in this network namespace: run `portpool attach` as root, or enter the cgroup it is \
         attached to; `portpool doctor` says what is missing"
    )]
    NotAttached,
    /// It is not known where the records of this network namespace are.
    #[error(
        "this network namespace is not that of process 1, whose records are in /var/lib/portpool: \
         set PORTPOOL_STATE_DIR to a directory of its own"
    )]
    NoStateDir,
    /// The records say no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The kernel pool cannot be opened.
    #[error(transparent)]
    Open(OpenError),
    /// The kernel pool cannot be read.
    #[error(transparent)]
    Look(LookError),
    /// The kernel pool says no.
    #[error(transparent)]
    Kernel(portpool::AdminError),
    /// Attaching, the sysctl or the count of its users failed.
    #[error(transparent)]
    Privileged(portpool_kernel::Error),
    /// The records are changed already, and the kernel could not follow: it will with the next
    /// change, `attach` or the keeper.
    #[error("the records are changed, but not yet what is in force: {0}")]
    HalfDone(#[source] Box<AdminError>),
    /// A system call failed.
    #[error("{what}: {cause}")]
    Failed {
        /// What was tried.
        what: String,
        /// Why it failed.
        cause: io::Error,
    },
}

impl AdminError {
    /// The code of the persistent functions of Windows (spec section 5), where it lists one.
    pub fn windows_code(&self) -> Option<u32> {
        match self {
            AdminError::AccessDenied { .. } => Some(ERROR_ACCESS_DENIED),
            AdminError::SharingViolation { .. } => Some(ERROR_SHARING_VIOLATION),
            AdminError::InvalidParameter(_) => Some(ERROR_INVALID_PARAMETER),
            AdminError::NotFound { .. } => Some(ERROR_NOT_FOUND),
            AdminError::NotAttached
            | AdminError::NoStateDir
            | AdminError::Store(_)
            | AdminError::Open(_)
            | AdminError::Look(_)
            | AdminError::Kernel(_)
            | AdminError::Privileged(_)
            | AdminError::HalfDone(_)
            | AdminError::Failed { .. } => None,
        }
    }

    /// What the kernel pool answered about some ports.
    pub(crate) fn refused(
        ports: Option<(Transport, PortRange)>,
        error: portpool::AdminError,
    ) -> AdminError {
        match (error.refusal(), ports) {
            (Some(Refusal::NotAttached), _) => AdminError::NotAttached,
            (Some(Refusal::NotPermitted | Refusal::PrivilegedPort), _) => {
                let what = error.to_string();
                AdminError::AccessDenied { what }
            }
            (Some(Refusal::InUse), Some((transport, range))) => AdminError::SharingViolation {
                transport,
                range,
                why: IN_USE.to_owned(),
            },
            _ => AdminError::Kernel(error),
        }
    }

    pub(crate) fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> AdminError {
        let what = what.into();
        |cause| match cause.kind() {
            io::ErrorKind::PermissionDenied => AdminError::AccessDenied { what },
            _ => AdminError::Failed { what, cause },
        }
    }
}

impl From<portpool_kernel::Error> for AdminError {
    fn from(error: portpool_kernel::Error) -> AdminError {
        match error {
            portpool_kernel::Error::NotAttached => AdminError::NotAttached,
            error => AdminError::Privileged(error),
        }
    }
}

/// Names as winerror.h has them.
const ERROR_ACCESS_DENIED: u32 = 5;
const ERROR_SHARING_VIOLATION: u32 = 32;
const ERROR_INVALID_PARAMETER: u32 = 87;
const ERROR_NOT_FOUND: u32 = 1168;

const IN_USE: &str = "a port of it is bound, reserved or excluded: `portpool port` says by whom";
