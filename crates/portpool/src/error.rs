//! What can go wrong, one enum per operation.
//!
//! A refusal is the pool saying no, a failure a system call that failed for a reason of its own.

use std::{io, net::SocketAddr, path::PathBuf};

use portpool_core::{Port, PortRange, RangeSet, Refusal, Request, Token, Transport, Want};

/// A system call that failed for a reason that is not the pool's.
#[derive(Debug, thiserror::Error)]
#[error("{call} failed")]
pub struct Failure {
    /// The call, such as `socket`.
    pub call: &'static str,
    /// Why it failed.
    pub source: io::Error,
}

impl Failure {
    pub(crate) fn of(call: &'static str) -> impl Fn(io::Error) -> Failure {
        move |source| Failure { call, source }
    }
}

/// Why there is no pool to work with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The network namespace of the calling thread has no pool.
    #[error(
        "no pool is attached to this network namespace: run `portpool attach` as root, or enter the \
         cgroup it is attached to"
    )]
    NotAttached,
    /// The pool speaks another version of the control codes.
    #[error(
        "the attached pool is of another version than this library ({}): run `portpool attach` of \
         the same version",
        portpool_core::abi::VERSION
    )]
    VersionMismatch,
    /// A system call failed.
    #[error("cannot look for a pool: {} failed: {}", .0.call, .0.source)]
    Failure(#[from] Failure),
}

impl OpenError {
    /// What the pool answered, if it did.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            OpenError::NotAttached => Some(Refusal::NotAttached),
            OpenError::VersionMismatch => Some(Refusal::VersionMismatch),
            OpenError::Failure(_) => None,
        }
    }
}

/// Why no reservation was made. Nothing is reserved then, of either transport.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcquireError {
    /// The pool refused.
    #[error("{}", refused(request, *range, *refusal))]
    Refused {
        /// What was asked.
        request: Request,
        /// The block it was refused for, if one had been chosen.
        range: Option<PortRange>,
        /// Why.
        refusal: Refusal,
    },
    /// Others were quicker with each of the blocks tried.
    #[error("{request}: others took each of {tries} blocks in turn: try again")]
    Contended {
        /// What was asked.
        request: Request,
        /// How many blocks were tried.
        tries: u32,
    },
    /// A wildcard block was wanted where the pool chooses none.
    #[error(
        "no port of {within} is in the ranges that the pool chooses from ({ranges}): choose `within` \
         from these, ask for the exact ports, or add {within} to the ranges of `portpool attach`"
    )]
    OutsideRanges {
        /// Where the block was wanted.
        within: PortRange,
        /// Where the pool chooses from.
        ranges: RangeSet,
    },
    /// A system call failed.
    #[error("{request}: {} failed: {}", failure.call, failure.source)]
    Failure {
        /// What was asked.
        request: Request,
        /// What failed.
        #[source]
        failure: Failure,
    },
}

impl AcquireError {
    /// What the pool answered, if it did.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            AcquireError::Refused { refusal, .. } => Some(*refusal),
            AcquireError::Contended { .. } => Some(Refusal::Busy),
            AcquireError::OutsideRanges { .. } | AcquireError::Failure { .. } => None,
        }
    }

    /// Whether the same request may succeed once others have given ports back.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self.refusal(),
            Some(Refusal::InUse | Refusal::NoRoom | Refusal::Busy)
        )
    }
}

/// Why a reservation was not released.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The pool refused.
    #[error("token {token}: {}", release_refused(*refusal))]
    Refused {
        /// The reservation.
        token: Token,
        /// Why.
        refusal: Refusal,
    },
    /// A system call failed.
    #[error("token {token}: {} failed: {}", failure.call, failure.source)]
    Failure {
        /// The reservation.
        token: Token,
        /// What failed.
        #[source]
        failure: Failure,
    },
}

impl ReleaseError {
    /// What the pool answered, if it did.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            ReleaseError::Refused { refusal, .. } => Some(*refusal),
            ReleaseError::Failure { .. } => None,
        }
    }
}

/// Why a socket was not associated. It is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AssociateError {
    /// The pool refused.
    #[error("token {token}: {refusal}")]
    Refused {
        /// The reservation.
        token: Token,
        /// Why.
        refusal: Refusal,
    },
    /// The reservation has no block of the socket's transport.
    #[error("the reservation of {range} has no {transport} ports: acquire it for {transport} too")]
    NoBlock {
        /// The transport of the socket.
        transport: Transport,
        /// The ports of the reservation.
        range: PortRange,
    },
    /// The socket is neither TCP nor UDP.
    #[error("{}", Refusal::UnsupportedSocket)]
    UnsupportedSocket,
    /// A system call failed.
    #[error("cannot associate the socket: {} failed: {}", .0.call, .0.source)]
    Failure(#[from] Failure),
}

impl AssociateError {
    /// What the pool answered, or would have.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            AssociateError::Refused { refusal, .. } => Some(*refusal),
            AssociateError::NoBlock { .. } => Some(Refusal::WrongTransport),
            AssociateError::UnsupportedSocket => Some(Refusal::UnsupportedSocket),
            AssociateError::Failure(_) => None,
        }
    }
}

/// Why no socket of a block could be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The pool refused, or the kernel because the port is taken.
    #[error("{}", bind_refused(*port, *range, *refusal))]
    Refused {
        /// The port asked for, or nothing for any of the block.
        port: Option<Port>,
        /// The ports of the reservation.
        range: PortRange,
        /// Why.
        refusal: Refusal,
    },
    /// The socket could not be associated.
    #[error(transparent)]
    Associate(#[from] AssociateError),
    /// A system call failed.
    #[error("{address}: {} failed: {}", failure.call, failure.source)]
    Failure {
        /// The address to bind or to connect to.
        address: SocketAddr,
        /// What failed.
        #[source]
        failure: Failure,
    },
}

impl BindError {
    /// What the pool answered, if it did.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            BindError::Refused { refusal, .. } => Some(*refusal),
            BindError::Associate(error) => error.refusal(),
            BindError::Failure { .. } => None,
        }
    }
}

/// Why the state of the pool cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookError {
    /// A map of the pool cannot be opened.
    #[error("cannot open {}: {source}: {}", path.display(), look_advice(source))]
    Unreadable {
        /// Where the map is pinned.
        path: PathBuf,
        /// Why it cannot be opened.
        source: io::Error,
    },
    /// The maps are another pool's.
    #[error(
        "the maps under {} know no pool of this network namespace (cookie {cookie}): set \
         PORTPOOL_RUN_DIR to the directory this pool was attached with",
        run_dir.display()
    )]
    UnknownPool {
        /// The run directory.
        run_dir: PathBuf,
        /// The namespace.
        cookie: u64,
    },
    /// A system call failed.
    #[error("cannot read the maps of the pool: {} failed: {}", .0.call, .0.source)]
    Failure(#[from] Failure),
}

fn refused(request: &Request, range: Option<PortRange>, refusal: Refusal) -> String {
    match (refusal, range, request.want) {
        (Refusal::Ephemeral, Some(range), Want::Specific(_)) => format!(
            "{request}: automatic choice could still give these ports to any socket: enter {range} \
             into net.ipv4.ip_local_reserved_ports, add it to the ranges of `portpool attach`, or \
             run the keeper"
        ),
        (Refusal::Ephemeral, Some(range), Want::Wildcard(_)) => format!(
            "{request}: automatic choice could still give {range} to any socket, because \
             net.ipv4.ip_local_reserved_ports has lost the ranges of the pool: run `portpool attach` \
             again"
        ),
        (_, Some(range), Want::Wildcard(_)) => format!("{request}, tried {range}: {refusal}"),
        _ => format!("{request}: {refusal}"),
    }
}

fn release_refused(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::ForeignToken => {
            "the reservation belongs to another process: release it from its owner process"
        }
        other => other.message(),
    }
}

fn bind_refused(port: Option<Port>, range: PortRange, refusal: Refusal) -> String {
    let wanted = port.map_or_else(|| "any port".to_owned(), |port| format!("port {port}"));
    match refusal {
        Refusal::NoRoom => format!(
            "{wanted} of {range}: every port of the block is in use, or it was released: close a \
             socket of it or acquire a larger block"
        ),
        Refusal::InUse => format!(
            "{wanted} of {range}: in use by another socket: close it, choose another port of the \
             block, or wait for its last connections to end"
        ),
        other => format!("{wanted} of {range}: {other}"),
    }
}

fn look_advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => {
            "show /run/portpool of the host here, or set PORTPOOL_RUN_DIR to the directory the pool \
             was attached with"
        }
        io::ErrorKind::PermissionDenied => {
            "bpf(2) or the directory is closed to this process: allow it, or ask for exact ports"
        }
        _ => "run `portpool attach` of the same version, or ask for exact ports",
    }
}
