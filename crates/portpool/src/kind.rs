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

/// Decides, for the network namespace of the calling thread. `asked` goes before the environment.
pub(crate) fn choose(asked: Option<PoolKind>) -> Result<Choice, OpenError> {
    let (kind, by_caller) = match asked {
        Some(kind) => (kind, true),
        None => (kind_from_environment()?, false),
    };
    let reason = match (kind, by_caller) {
        (PoolKind::Automatic, _) => return choose_automatically(),
        (_, true) => "the program asked for it",
        (_, false) => "PORTPOOL_POOL asks for it",
    };
    if kind == PoolKind::Kernel {
        probe()?;
    }
    Ok(Choice { kind, reason })
}

fn choose_automatically() -> Result<Choice, OpenError> {
    match probe() {
        Ok(()) => Ok(Choice {
            kind: PoolKind::Kernel,
            reason: "a pool is attached to this network namespace",
        }),
        // Another version is an error: it might hold what this program asks for.
        Err(OpenError::NotAttached) => Ok(Choice {
            kind: PoolKind::Embedded,
            reason: "no pool is attached to this network namespace, or none that guards this cgroup",
        }),
        Err(error) => Err(error),
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
