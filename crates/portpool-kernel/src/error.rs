//! What can go wrong with attaching and detaching, and what to do about it.

use std::{io, path::PathBuf};

use portpool_core::{LimitError, RangeSet, abi::Record};

/// Why an attach or detach was refused or failed. Nothing is left half done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A step failed.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// A limit is out of range.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// No cgroup v2 hierarchy is mounted.
    #[error(
        "no cgroup v2 hierarchy is mounted: mount one with `mount -t cgroup2 none /sys/fs/cgroup`"
    )]
    NoCgroup,
    /// The cgroup named is not a directory of a cgroup v2 hierarchy.
    #[error("{0} is not a cgroup v2 directory: name one below the cgroup2 mount")]
    NotACgroup(PathBuf),
    /// Mounts made here would die with this mount namespace, and the guard with them.
    #[error(
        "this is a private mount namespace: the pins in {0} would vanish with it and the guard with \
         them; run attach in the initial mount namespace (nsenter -t 1 -m), or allow it with \
         --private-mounts"
    )]
    PrivateMounts(PathBuf),
    /// The programs attached already are of another version.
    #[error(
        "the pool in {path} has layout version {found}, this program has {own}: detach with the \
         version that attached it, then attach again"
    )]
    OtherVersion {
        /// The run directory.
        path: PathBuf,
        /// What is there.
        found: String,
        /// What this program speaks.
        own: u32,
    },
    /// The programs are attached to another cgroup.
    #[error("the programs in {path} are attached to another cgroup than {cgroup}: detach first")]
    OtherCgroup {
        /// The run directory.
        path: PathBuf,
        /// The cgroup asked for.
        cgroup: PathBuf,
    },
    /// Too many wildcard ranges.
    #[error("{0} ranges are too many: give at most 64 with --range")]
    TooManyRanges(usize),
    /// There is no range to draw wildcard blocks from.
    #[error("there is no range to draw wildcard blocks from: give one with --range")]
    NoRange,
    /// All slots for pools are taken.
    #[error("256 network namespaces have a pool already: detach one first")]
    TooManyPools,
    /// This network namespace has a pool that is not in this run directory.
    #[error(
        "this network namespace has a pool already, which is not in {0}: set PORTPOOL_RUN_DIR to the \
         directory it was attached with, or enter the mount namespace it was attached in"
    )]
    Elsewhere(PathBuf),
    /// No pool is attached in this network namespace.
    #[error("no pool is attached in this network namespace")]
    NotAttached,
    /// Detaching would end reservations that live.
    #[error(
        "{} reservations are live, first {}: end them, or end them all with --force",
        .0.len(), first_of(.0)
    )]
    LiveReservations(Vec<Record>),
    /// Some steps of a detach failed; the others were done.
    #[error("detach went on to the end, but: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Incomplete(Vec<Failed>),
    /// What is on record could not be put back.
    #[error("{0}")]
    PutBack(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The sysctl that keeps automatic choice away did not take the ports.
    #[error(
        "net.ipv4.ip_local_reserved_ports lacks {missing} after it was written: somebody else \
         changes it; attach again"
    )]
    SysctlLost {
        /// What is missing from it.
        missing: RangeSet,
    },
    /// Ports that were taken out of the sysctl came back again and again.
    #[error(
        "net.ipv4.ip_local_reserved_ports has ports again that were taken out: somebody else changes \
         it all the time; try again"
    )]
    SysctlContended,
}

/// A step that failed: what was tried, and why it failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {cause}{}", hint(.cause))]
pub struct Failed {
    /// What was tried.
    pub what: String,
    /// Why it failed.
    #[source]
    pub cause: io::Error,
}

/// Names the step when it fails.
pub(crate) trait Step<T> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T, Failed>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T, Failed> {
        self.map_err(|error| Failed {
            what: what(),
            cause: error.into(),
        })
    }
}

fn hint(cause: &io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            " (attaching needs root, or CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_SYS_ADMIN; \
             `portpool doctor` says what is missing)"
        }
        Some(libc::EROFS) => " (read-only here, as /proc/sys is in many containers)",
        _ => "",
    }
}

fn first_of(records: &[Record]) -> String {
    records.first().map_or_else(String::new, |record| {
        format!(
            "{} {} of pid {} ({})",
            record.transport, record.range, record.owner_pid, record.command
        )
    })
}
