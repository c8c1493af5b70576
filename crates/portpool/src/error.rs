//! What can go wrong, one enum per operation.
//!
//! A refusal is the pool saying no, a failure a system call that failed for a reason of its own.
//! Messages are whole: what they came from is a field to match, not a source to print after them.

use std::{io, net::SocketAddr, path::PathBuf};

use portpool_core::{Port, PortRange, RangeSet, Refusal, Request, Token, Transport, Want};

/// A system call that failed for a reason that is not the pool's.
#[derive(Debug, thiserror::Error)]
#[error("{call} failed: {cause}")]
pub struct Failure {
    /// The call, such as `socket`.
    pub call: &'static str,
    /// Why it failed.
    pub cause: io::Error,
}

impl Failure {
    pub(crate) fn of(call: &'static str) -> impl Fn(io::Error) -> Failure {
        move |cause| Failure { call, cause }
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
    /// The network namespace has a pool, but that guards another cgroup than this process is in.
    #[error(
        "the pool of this network namespace guards another cgroup (id {cgroup}) than this process is \
         in: start the program in that one, or ask for the embedded pool, which knows nothing of the \
         reservations in the other"
    )]
    OtherCgroup {
        /// The id of the cgroup it guards.
        cgroup: u64,
    },
    /// The pool speaks another version of the control codes.
    #[error(
        "the attached pool is of another version than this library ({}): run `portpool attach` of \
         the same version",
        portpool_core::abi::VERSION
    )]
    VersionMismatch,
    /// `PORTPOOL_POOL` names no kind of pool.
    #[error("PORTPOOL_POOL is {value:?}: set it to kernel, embedded or auto")]
    UnknownKind {
        /// What it is set to.
        value: String,
    },
    /// A system call failed.
    #[error("cannot look for a pool: {0}")]
    Failure(Failure),
}

impl OpenError {
    /// What the pool answered, if it did.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            OpenError::NotAttached | OpenError::OtherCgroup { .. } => Some(Refusal::NotAttached),
            OpenError::VersionMismatch => Some(Refusal::VersionMismatch),
            OpenError::UnknownKind { .. } | OpenError::Failure(_) => None,
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
    /// The embedded pool takes a descriptor for each port of each transport.
    #[error(
        "{request}: {missing_count} more descriptors are needed than the hard limit of {limit} \
         allows: raise it (`ulimit -Hn`) or ask for fewer ports"
    )]
    Descriptors {
        /// What was asked.
        request: Request,
        /// How many descriptors are missing.
        missing_count: u64,
        /// How many this process may have.
        limit: u64,
    },
    /// All ports the embedded pool would choose from are left to automatic choice.
    #[error(
        "{request}: automatic choice (net.ipv4.ip_local_port_range) has all ports that the pool \
         chooses from ({ephemeral}): say `within` which range the block may be chosen"
    )]
    OnlyEphemeral {
        /// What was asked.
        request: Request,
        /// The ports of automatic choice.
        ephemeral: PortRange,
    },
    /// Only the kernel pool lets other programs bind ports of a block by themselves.
    #[error(
        "{request}: programs that bind by themselves need the kernel pool, and this one is embedded: \
         run `portpool attach` as root, or hand them sockets (`Reservation::into_listeners`)"
    )]
    KernelOnly {
        /// What was asked.
        request: Request,
    },
    /// Automatic choice could pick the ports, and the keeper did not make them grantable.
    #[error("the keeper: {message}")]
    Keeper {
        /// What was asked.
        request: Request,
        /// The refusal, if it was one.
        refusal: Option<Refusal>,
        /// The ports, why, and the next step.
        message: String,
    },
    /// A system call failed.
    #[error("{request}: {failure}")]
    Failure {
        /// What was asked.
        request: Request,
        /// What failed.
        failure: Failure,
    },
}

impl AcquireError {
    /// What the pool answered, if it did.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            AcquireError::Refused { refusal, .. } => Some(*refusal),
            AcquireError::Keeper { refusal, .. } => *refusal,
            AcquireError::Contended { .. } => Some(Refusal::Busy),
            AcquireError::OutsideRanges { .. }
            | AcquireError::Descriptors { .. }
            | AcquireError::OnlyEphemeral { .. }
            | AcquireError::KernelOnly { .. }
            | AcquireError::Failure { .. } => None,
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
    #[error("token {token}: {failure}")]
    Failure {
        /// The reservation.
        token: Token,
        /// What failed.
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
    #[error("cannot associate the socket: {0}")]
    Failure(Failure),
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
    /// The pool is strict, and this bind or listen would let others in for a moment.
    #[error(
        "{address}: a TCP socket gets past the hold on its port only in a window in which others get \
         in: bind a loopback address, take `Reservation::into_listeners`, get CAP_NET_RAW, attach the \
         kernel pool, or open the pool without `strict`"
    )]
    Window {
        /// The address to bind.
        address: SocketAddr,
    },
    /// The socket could not be associated.
    #[error(transparent)]
    Associate(#[from] AssociateError),
    /// A system call failed.
    #[error("{address}: {failure}")]
    Failure {
        /// The address to bind or to connect to.
        address: SocketAddr,
        /// What failed.
        failure: Failure,
    },
}

impl BindError {
    /// What the pool answered, if it did.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            BindError::Refused { refusal, .. } => Some(*refusal),
            BindError::Associate(error) => error.refusal(),
            BindError::Window { .. } | BindError::Failure { .. } => None,
        }
    }
}

/// Why the state of the pool cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookError {
    /// A map of the pool cannot be opened.
    #[error("cannot open {}: {cause}: {}", path.display(), look_advice(cause))]
    Unreadable {
        /// Where the map is pinned.
        path: PathBuf,
        /// Why it cannot be opened.
        cause: io::Error,
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
    /// The registry of the embedded pool could have been written by others.
    #[error(
        "{} is not to be trusted: {problem}: remove it, or set XDG_RUNTIME_DIR to a directory of your \
         own",
        path.display()
    )]
    UntrustedRegistry {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The registry of the embedded pool cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Registry {
        /// The directory.
        path: PathBuf,
        /// Why it cannot be read.
        cause: io::Error,
    },
    /// Only the kernel pool keeps limits and counts of the whole pool.
    #[error(
        "the embedded pool has no counts of the whole pool: look at its reservations, or run \
         `portpool attach` as root"
    )]
    KernelOnly,
    /// A system call failed.
    #[error("cannot read the maps of the pool: {0}")]
    Failure(Failure),
}

impl From<Failure> for OpenError {
    fn from(failure: Failure) -> OpenError {
        OpenError::Failure(failure)
    }
}

impl From<Failure> for AssociateError {
    fn from(failure: Failure) -> AssociateError {
        AssociateError::Failure(failure)
    }
}

impl From<Failure> for LookError {
    fn from(failure: Failure) -> LookError {
        LookError::Failure(failure)
    }
}

fn refused(request: &Request, range: Option<PortRange>, refusal: Refusal) -> String {
    match (refusal, range, request.want) {
        (Refusal::Ephemeral, Some(range), Want::Specific(_)) => format!(
            "{request}: automatic choice could give these ports to any socket: choose ports outside \
             net.ipv4.ip_local_port_range, run the keeper (`portpool keeper` as root), which makes them \
             grantable, or enter {range} into net.ipv4.ip_local_reserved_ports and run `portpool attach` \
             again"
        ),
        (Refusal::Ephemeral, Some(range), Want::Wildcard(_)) => format!(
            "{request}: automatic choice could give {range} to any socket, because \
             net.ipv4.ip_local_reserved_ports has lost ranges of the pool: run `portpool attach` again"
        ),
        (Refusal::PrivilegedPort, Some(range), Want::Wildcard(_)) => {
            format!("{request}, tried {range}: {refusal}")
        }
        (Refusal::NotAttached, ..) => format!("{request}: {}", OpenError::NotAttached),
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

fn look_advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
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

#[cfg(test)]
mod tests {
    use portpool_core::{PortCount, Transports, Wildcard};

    use super::*;

    fn range(text: &str) -> PortRange {
        text.parse().expect("range")
    }

    fn specific() -> Request {
        Request {
            transports: Transports::Both,
            want: Want::Specific(range("8080-8083")),
        }
    }

    fn wildcard() -> Request {
        Request {
            transports: Transports::Tcp,
            want: Want::Wildcard(Wildcard::new(PortCount::ONE)),
        }
    }

    fn acquire_refused(request: Request, range: Option<PortRange>, refusal: Refusal) -> String {
        let error = AcquireError::Refused {
            request,
            range,
            refusal,
        };
        assert_eq!(error.refusal(), Some(refusal));
        error.to_string()
    }

    #[test]
    fn a_refusal_names_the_ports_and_the_next_step() {
        assert_eq!(
            acquire_refused(specific(), Some(range("8080-8083")), Refusal::InUse),
            "8080-8083 (tcp and udp): a port of the block is bound or reserved: choose other ports \
             or release it first"
        );
        assert_eq!(
            acquire_refused(wildcard(), None, Refusal::NoRoom),
            "any port (tcp): no free run of ports is long enough: ask for fewer ports or release \
             some"
        );
        let privileged = acquire_refused(wildcard(), Some(range("80")), Refusal::PrivilegedPort);
        assert!(
            privileged.starts_with("any port (tcp), tried 80: "),
            "{privileged}"
        );
    }

    #[test]
    fn ports_that_automatic_choice_could_pick_name_the_setting_and_the_command() {
        for request in [specific(), wildcard()] {
            let text = acquire_refused(request, Some(range("8080-8083")), Refusal::Ephemeral);
            for needed in [
                "8080-8083",
                "net.ipv4.ip_local_reserved_ports",
                "`portpool attach`",
            ] {
                assert!(text.contains(needed), "{text}");
            }
        }
    }

    #[test]
    fn a_range_elsewhere_is_named_beside_those_of_the_pool() {
        let error = AcquireError::OutsideRanges {
            within: range("100-200"),
            ranges: "20000-32767,61000-65535".parse().expect("ranges"),
        };
        let text = error.to_string();
        assert!(text.contains("100-200") && text.contains("20000-32767,61000-65535"));
        assert_eq!((error.refusal(), error.is_temporary()), (None, false));
    }

    #[test]
    fn only_ports_that_others_give_back_are_worth_waiting_for() {
        let temporary = |refusal| {
            let request = specific();
            let error = AcquireError::Refused {
                request,
                range: None,
                refusal,
            };
            error.is_temporary()
        };
        let all = Refusal::ALL.into_iter();
        let waited: Vec<_> = all.filter(|refusal| temporary(*refusal)).collect();
        assert_eq!(waited, [Refusal::InUse, Refusal::NoRoom, Refusal::Busy]);
    }

    #[test]
    fn a_failure_names_the_call_the_ports_and_the_cause() {
        let failure = Failure::of("socket")(io::Error::from_raw_os_error(24));
        let request = specific();
        let error = AcquireError::Failure { request, failure };
        let text = error.to_string();
        assert!(text.starts_with("8080-8083 (tcp and udp): socket failed: "));
        assert_eq!(error.refusal(), None);
    }

    #[test]
    fn whoever_cannot_look_is_told_the_path_and_what_to_do() {
        let path = PathBuf::from("/run/portpool/bpf/maps/pools");
        let cause = io::Error::from(io::ErrorKind::NotFound);
        let text = LookError::Unreadable { path, cause }.to_string();
        assert!(text.starts_with("cannot open /run/portpool/bpf/maps/pools: "));
        assert!(text.contains("PORTPOOL_RUN_DIR"), "{text}");
    }

    #[test]
    fn a_full_block_is_told_from_a_taken_port() {
        let refused = |port, refusal| {
            let range = range("8080-8083");
            let error = BindError::Refused {
                port,
                range,
                refusal,
            };
            error.to_string()
        };
        let full = refused(None, Refusal::NoRoom);
        let taken = refused(Port::new(8081), Refusal::InUse);
        assert!(full.starts_with("any port of 8080-8083: every port of the block is in use"));
        assert!(taken.starts_with("port 8081 of 8080-8083: in use by another socket"));
    }
}
