//! Persistent blocks and exclusions: records, kernel pool and sysctl changed together.
//!
//! To make something: kernel first, which judges it, then the record, then the answer. To end
//! something: the record first, then the kernel. So what was answered is on record, and whatever a
//! crash leaves is either on record and put back, or not on record and taken away: by the next
//! change, by `attach`, or by the keeper, which all [`reconcile`](Admin::reconcile).

mod attach;
mod error;
pub(crate) mod fault;
mod in_force;
mod lock;
mod reconcile;
mod work;

use std::{io, path::PathBuf, time::SystemTime};

use portpool_core::{PortRange, Token, Transport, Transports};
use portpool_kernel::RunDir;

pub use attach::{Reattached, attach};
pub use error::AdminError;
pub use in_force::{ActiveBlock, InForce, KernelPool};
pub use reconcile::{Conflict, Reconciled};

use crate::store::{Boot, Note, Sqlite, StateDir, Store, StoreError};
use lock::Lock;
use work::Work;

/// The one way to change what outlives a boot.
#[derive(Debug)]
pub struct Admin<S = Sqlite, K = KernelPool> {
    work: Work<S, K>,
    lock: Option<Lock>,
    mark: Option<Mark>,
    /// Whether something of ours may be half done.
    is_unfinished: bool,
}

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

/// Something on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What it is.
    pub kind: Kind,
    /// TCP or UDP.
    pub transport: Transport,
    /// Its ports.
    pub range: PortRange,
    /// What the administrator said about it.
    pub note: Option<Note>,
    /// When it was made.
    pub created: SystemTime,
    /// Whether the kernel pool has it as well. If not, something was in its way.
    pub is_in_force: bool,
}

/// What something on record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A persistent block.
    Block {
        /// The group whose members may consume it.
        group: Option<u32>,
        /// Its name, if it is in force.
        token: Option<Token>,
    },
    /// An exclusion.
    Exclusion,
}

impl Admin {
    /// Opens the records in `state` and the pool of the calling thread's network namespace. What a
    /// crash left half done is mended with the first change.
    ///
    /// # Errors
    /// [`AdminError`]; nothing was changed, but a state directory without records may have been made.
    pub fn open(run: &RunDir, state: &StateDir) -> Result<Admin, AdminError> {
        let in_force = KernelPool::open(run)?;
        let mark = Mark {
            path: run.path().join("store-failed"),
            store: state.store(),
        };
        mark.check()?;
        let lock = open_lock(state)?;
        let store = {
            let what = || format!("lock {}", state.path().display());
            let _turn = lock.begin().map_err(AdminError::failed(what()))?;
            Sqlite::open(state)?
        };
        let boot = Boot::current().map_err(AdminError::failed("read the boot's id"))?;
        Ok(Admin {
            work: Work::new(store, in_force, boot),
            lock: Some(lock),
            mark: Some(mark),
            is_unfinished: false,
        })
    }
}

impl<S: Store, K: InForce> Admin<S, K> {
    /// Over a store and something that enforces, which nobody else changes.
    pub fn over(store: S, in_force: K, boot: Boot) -> Admin<S, K> {
        Admin {
            work: Work::new(store, in_force, boot),
            lock: None,
            mark: None,
            is_unfinished: true,
        }
    }

    /// Makes a block persistent. Once it answers, the block is there after any crash; without an
    /// answer it is wholly there or not at all.
    ///
    /// # Errors
    /// [`AdminError::SharingViolation`] if a port of it is bound, reserved or excluded; then, and with
    /// all other errors, there is no such block, but see [`StoreError::Failed`].
    pub fn persist(&mut self, persist: &Persist) -> Result<Vec<Persisted>, AdminError> {
        self.in_turn("persist", |work| work.persist(persist))
    }

    /// Ends the persistent blocks with exactly these ports, of each of the transports. Sockets bound
    /// to them keep their ports.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] if one is missing, with nothing changed.
    pub fn unpersist(
        &mut self,
        transports: Transports,
        range: PortRange,
    ) -> Result<(), AdminError> {
        self.in_turn("unpersist", |work| work.unpersist(transports, range))
    }

    /// The token of the persistent block with exactly these ports. This needs no privilege beyond
    /// opening; [`Pool::lookup_persistent`](portpool::Pool::lookup_persistent) needs none at all.
    ///
    /// # Errors
    /// [`AdminError::NotFound`].
    pub fn lookup(&mut self, transport: Transport, range: PortRange) -> Result<Token, AdminError> {
        self.work.lookup(transport, range)
    }

    /// Keeps ports from automatic choice and from reservations; explicit binds succeed as ever.
    ///
    /// # Errors
    /// [`AdminError::SharingViolation`] if a port is bound, reserved or excluded.
    pub fn exclude(
        &mut self,
        transports: Transports,
        range: PortRange,
        note: Option<&Note>,
    ) -> Result<(), AdminError> {
        self.in_turn("exclude", |work| work.exclude(transports, range, note))
    }

    /// Ends the exclusions with exactly these ports, of each of the transports.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] if one is missing, with nothing changed.
    pub fn unexclude(
        &mut self,
        transports: Transports,
        range: PortRange,
    ) -> Result<(), AdminError> {
        self.in_turn("unexclude", |work| work.unexclude(transports, range))
    }

    /// All that is on record, by kind, transport and first port.
    ///
    /// # Errors
    /// [`AdminError`] if records or kernel cannot be read.
    pub fn list(&mut self) -> Result<Vec<Listed>, AdminError> {
        self.work.list()
    }

    /// Makes what is in force what is on record.
    ///
    /// # Errors
    /// [`AdminError`]; what was done until then stays.
    pub fn reconcile(&mut self) -> Result<Reconciled, AdminError> {
        self.is_unfinished = true;
        let mut reconciled = Reconciled::default();
        self.in_turn_after("reconcile", |_| Ok(()), |first| reconciled = first)?;
        Ok(reconciled)
    }

    fn in_turn<T>(
        &mut self,
        what: &str,
        act: impl FnOnce(&mut Work<S, K>) -> Result<T, AdminError>,
    ) -> Result<T, AdminError> {
        self.in_turn_after(what, act, drop)
    }

    /// Acts while nobody else does, after what was left half done is mended.
    fn in_turn_after<T>(
        &mut self,
        what: &str,
        act: impl FnOnce(&mut Work<S, K>) -> Result<T, AdminError>,
        mended: impl FnOnce(Reconciled),
    ) -> Result<T, AdminError> {
        let failed = || AdminError::failed("lock the records");
        self.mark.as_ref().map_or(Ok(()), Mark::check)?;
        let turn = match &self.lock {
            Some(lock) => Some(lock.begin().map_err(failed())?),
            None => None,
        };
        let is_clean = turn.as_ref().is_none_or(lock::Turn::is_clean);
        if self.is_unfinished || !is_clean {
            mended(self.work.reconcile()?);
            self.is_unfinished = false;
        }
        let note = |turn: &lock::Turn<'_>| turn.note(what);
        turn.as_ref().map_or(Ok(()), note).map_err(failed())?;
        fault::point(what, "begun");
        let answer = act(&mut self.work);
        self.is_unfinished = self.work.take_unfinished();
        if let (Err(AdminError::Store(StoreError::Failed { what, .. })), Some(mark)) =
            (&answer, &self.mark)
        {
            // Where not even this can be written, the store of this process refuses at least.
            drop(std::fs::write(&mark.path, what));
        }
        if !self.is_unfinished {
            let finish = |turn: &lock::Turn<'_>| turn.finish();
            // Otherwise the next turn has nothing to mend, and finds so.
            drop(turn.as_ref().map_or(Ok(()), finish));
        }
        answer
    }
}

/// What says until the next boot that a write failed.
#[derive(Debug)]
struct Mark {
    path: PathBuf,
    store: PathBuf,
}

impl Mark {
    fn check(&self) -> Result<(), StoreError> {
        match self.path.exists() {
            false => Ok(()),
            true => Err(StoreError::Stopped {
                path: self.store.clone(),
                mark: self.path.clone(),
            }),
        }
    }
}

fn open_lock(state: &StateDir) -> Result<Lock, AdminError> {
    Lock::open(state).map_err(|cause| match cause.kind() {
        io::ErrorKind::ReadOnlyFilesystem => StoreError::ReadOnly {
            path: state.store(),
        }
        .into(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full {
            path: state.store(),
        }
        .into(),
        _ => AdminError::failed(format!("open {}", state.path().display()))(cause),
    })
}
