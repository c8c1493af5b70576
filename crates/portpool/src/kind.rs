//! The two kinds of pool, and which one is opened.

use std::{env, os::fd::AsFd, str::FromStr};

use portpool_core::Transport;

use crate::{error::OpenError, pool::attached, socket::owner_socket};

/// A kind of pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// Kernel where it is attached, else embedded. No open pool is of this kind.
    #[default]
    Automatic,
    /// eBPF programs that root attached enforce the reservations.
    Kernel,
    /// The process holds a socket on every port it reserves: no privilege, no set-up.
    Embedded,
}

impl PoolKind {
    /// `auto`, `kernel` or `embedded`, as in `PORTPOOL_POOL`.
    pub const fn name(self) -> &'static str {
        match self {
            PoolKind::Automatic => "auto",
            PoolKind::Kernel => "kernel",
            PoolKind::Embedded => "embedded",
        }
    }
}

impl std::fmt::Display for PoolKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for PoolKind {
    type Err = OpenError;

    /// # Errors
    /// Anything but `auto`, `kernel` and `embedded`.
    fn from_str(text: &str) -> Result<PoolKind, OpenError> {
        let kinds = [PoolKind::Automatic, PoolKind::Kernel, PoolKind::Embedded];
        let found = kinds.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| OpenError::UnknownKind {
            value: text.to_owned(),
        })
    }
}

/// Which kind of pool was opened, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// [`PoolKind::Kernel`] or [`PoolKind::Embedded`].
    pub kind: PoolKind,
    /// Why, as a fragment: `no pool is attached to this network namespace`.
    pub reason: &'static str,
}

/// What a pool is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// For everything.
    Reserve,
    /// To look at it, which takes no socket that it guards.
    Look,
}

/// Decides, for the network namespace of the calling thread, and says whether the pool guards the
/// sockets of the caller. `asked` goes before the environment. `elsewhere` gives the cgroup that the
/// namespace's pool guards, if that can be read.
pub(crate) fn choose(
    asked: Option<PoolKind>,
    purpose: Purpose,
    elsewhere: impl Fn() -> Option<u64>,
) -> Result<(Choice, bool), OpenError> {
    let (kind, by_caller) = match asked {
        Some(kind) => (kind, true),
        None => (kind_from_environment()?, false),
    };
    let reason = match (kind, by_caller) {
        (PoolKind::Automatic, _) => "a pool is attached to this network namespace",
        (_, true) => "the program asked for it",
        (_, false) => "PORTPOOL_POOL asks for it",
    };
    if kind == PoolKind::Embedded {
        return Ok((Choice { kind, reason }, true));
    }
    let probed = match probe() {
        Err(OpenError::NotAttached) => elsewhere(),
        Err(error) => return Err(error),
        Ok(()) => {
            let kind = PoolKind::Kernel;
            return Ok((Choice { kind, reason }, true));
        }
    };
    match (probed, kind, purpose) {
        (Some(_), _, Purpose::Look) => Ok((
            Choice {
                kind: PoolKind::Kernel,
                reason: "the pool of this network namespace, which guards another cgroup than that \
                         of this process",
            },
            false,
        )),
        // Not a reason for the embedded one: it might hold what is reserved in the other.
        (Some(cgroup), _, Purpose::Reserve) => Err(OpenError::OtherCgroup { cgroup }),
        (None, PoolKind::Automatic, _) => Ok((
            Choice {
                kind: PoolKind::Embedded,
                reason: "no pool is attached to this network namespace, or none that guards this cgroup",
            },
            true,
        )),
        (None, PoolKind::Kernel | PoolKind::Embedded, _) => Err(OpenError::NotAttached),
    }
}

fn probe() -> Result<(), OpenError> {
    attached(owner_socket(Transport::Udp)?.as_fd())
}

fn kind_from_environment() -> Result<PoolKind, OpenError> {
    match env::var_os("PORTPOOL_POOL").filter(|value| !value.is_empty()) {
        Some(value) => value.to_string_lossy().parse(),
        None => Ok(PoolKind::Automatic),
    }
}
