//! Detaching: the pool of this namespace goes, and with the last pool everything else.

use std::{fs, io};

use portpool_core::abi::{Record, Tenure};

use crate::{
    error::{Error, Failed},
    files::RunDir,
    ledger::Ledger,
    mounts,
    namespace::NetNamespace,
    pool::{Pools, remove_tree},
};

/// What detach did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Detached {
    /// Runtime reservations that ended by it.
    pub ended: Vec<Record>,
    /// Persistent blocks that are in force no more; what is on record comes back with the next attach.
    pub persistent_count: usize,
    /// Whether other namespaces still have pools, so that the programs stay attached.
    pub others_remain: bool,
}

/// Detaches the pool of the calling thread's network namespace. With the last pool, programs,
/// pins and the bpf file system go as well; nothing of portpool is left.
///
/// # Errors
/// [`Error::LiveReservations`] unless `force`, with nothing changed; [`Error::Incomplete`] if some
/// step failed, all others done; [`Error::NotAttached`] and [`Error::Elsewhere`] where nothing of it is
/// in this run directory.
pub fn detach(run: &RunDir, force: bool) -> Result<Detached, Error> {
    let namespace = NetNamespace::current()?;
    if !mounts::is_bpf(&run.bpf()) {
        return Err(not_here(run, namespace));
    }
    let _lock = run.lock()?;
    if let Some(found) = run.other_version() {
        let path = run.path().to_owned();
        return Err(Error::OtherVersion {
            path,
            found,
            own: portpool_core::abi::VERSION,
        });
    }
    let pools = Pools::open(run)?;
    let Some(config) = pools.config(namespace.cookie)? else {
        return Err(not_here(run, namespace));
    };
    let ended = pools.maps(namespace.cookie).and_then(|maps| maps.records());
    let ended = match ended {
        // What cannot be read may be live.
        Err(failed) if !force => return Err(failed.into()),
        ended => ended.unwrap_or_default(),
    };
    let (ended, persistent): (Vec<Record>, Vec<Record>) = ended
        .into_iter()
        .partition(|record| record.tenure == Tenure::Runtime);
    if !ended.is_empty() && !force {
        return Err(Error::LiveReservations(ended));
    }
    let mut failures = Vec::new();
    failures.extend(pools.remove(namespace.cookie).err());
    let ledger = Ledger::open(run, namespace.cookie);
    failures.extend(ledger.and_then(|mut ledger| ledger.close()).err());
    failures.extend(pools.remove_maps(namespace.cookie, Some(config.index)));
    let others_remain = pools.cookies().map_or(true, |cookies| !cookies.is_empty());
    drop(pools);
    failures.extend(remove_if_unused(run));
    if failures.is_empty() {
        Ok(Detached {
            ended,
            persistent_count: persistent.len(),
            others_remain,
        })
    } else {
        Err(Error::Incomplete(failures))
    }
}

/// Why there is nothing to detach. Who may not look at all maps is told that there is no pool.
fn not_here(run: &RunDir, namespace: NetNamespace) -> Error {
    match Pools::is_elsewhere(run, namespace.cookie) {
        Ok(true) => Error::Elsewhere(run.path().to_owned()),
        Ok(false) | Err(_) => Error::NotAttached,
    }
}

/// Takes away links, maps, the bpf file system and the run directory if no pool is left.
pub(crate) fn remove_if_unused(run: &RunDir) -> Vec<Failed> {
    match Pools::open(run).and_then(|pools| pools.cookies()) {
        Ok(cookies) if !cookies.is_empty() => Vec::new(),
        // Without the table nothing can be in it, but a table that cannot be read may be full.
        Err(failed) if failed.cause.kind() != io::ErrorKind::NotFound => vec![failed],
        _ => remove_all(run),
    }
}

/// Takes away links, maps, the bpf file system and the run directory.
pub(crate) fn remove_all(run: &RunDir) -> Vec<Failed> {
    let mut failures = Vec::new();
    if mounts::is_bpf(&run.bpf()) {
        // Links first: from here on nothing is refused, before what the refusals rest on goes.
        for path in [run.links(), run.maps(), run.version()] {
            failures.extend(remove_tree(&path).err());
        }
    }
    failures.extend(mounts::unmount_bpf(run).err());
    if failures.is_empty() {
        // Somebody may be waiting for the lock: the file goes, and they make a new one.
        drop(fs::remove_file(run.path().join("lock")));
        drop(fs::remove_file(run.path().join("events-lock")));
        // Only if nothing else is in it.
        drop(fs::remove_dir(run.path()));
    }
    failures
}
