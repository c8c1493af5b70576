//! Attaching with what is on record: in force before the pool grants anybody anything.

use portpool_core::Token;
use portpool_kernel::{AttachOptions, Attached, PutBack, RunDir, attach_with};

use super::{
    AdminError, InForce, KernelPool, Reconciled,
    lock::Lock,
    reconcile::{ports_of, put_back, remove_unrecorded, tokens},
};
use crate::store::{Boot, Records, Sqlite, StateDir, Store, StoreError, random_token};

/// What attaching did.
#[derive(Debug)]
#[non_exhaustive]
pub struct Reattached {
    /// To the kernel.
    pub attached: Attached,
    /// What was put back.
    pub reconciled: Reconciled,
    /// What the administrator should know about the records.
    pub warnings: Vec<String>,
}

/// Attaches the kernel pool for the calling thread's network namespace and puts back what `state` has
/// on record. Without records a running pool keeps what it has.
///
/// # Errors
/// As [`portpool_kernel::attach`], and what keeps records from being read: a pool that guards less
/// than what is on record is worse than none, which everybody notices.
pub fn attach(options: &AttachOptions, state: Option<&StateDir>) -> Result<Reattached, AdminError> {
    let Some(state) = state else {
        return without_records(options, Vec::new());
    };
    if state.path().is_dir() {
        let trust = AdminError::failed("trust the directory of the records");
        state.check_owner().map_err(trust)?;
    }
    // Where nothing can be written nobody else writes either.
    let lock = match state.path().is_dir() {
        true => Lock::open(state).ok(),
        false => None,
    };
    let turn = lock.as_ref().map(Lock::begin).transpose();
    let _turn = turn.map_err(AdminError::failed("lock the records"))?;
    let Some(mut store) = open_store(state)? else {
        return without_records(options, unrecorded(&options.run));
    };
    let records = store.records()?;
    let boot = Boot::current().map_err(AdminError::failed("read the boot's id"))?;
    let (tokens, warnings) = choose_tokens(&options.run, &mut store, &records, &boot)?;
    let mut reconciled = Reconciled::default();
    let (persistent, excluded) = ports_of(&records);
    let is_nothing = records == Records::default();
    let mut act = || {
        // From outside the cgroup that is guarded nothing can be put back, and nothing need be.
        if is_nothing && KernelPool::open(&options.run).is_err() {
            return Ok(());
        }
        let mut in_force = KernelPool::open(&options.run)?;
        remove_unrecorded(&mut in_force, &records, &mut reconciled)?;
        put_back(&mut in_force, &records, &tokens, &mut reconciled)?;
        Ok(())
    };
    let put_back = PutBack {
        persistent,
        excluded,
        act: &mut act,
    };
    let attached = attach_with(options, Some(put_back))?;
    Ok(Reattached {
        attached,
        reconciled,
        warnings,
    })
}

fn without_records(
    options: &AttachOptions,
    warnings: Vec<String>,
) -> Result<Reattached, AdminError> {
    Ok(Reattached {
        attached: attach_with(options, None)?,
        reconciled: Reconciled::default(),
        warnings,
    })
}

/// The store, to be written if it can be.
fn open_store(state: &StateDir) -> Result<Option<Sqlite>, AdminError> {
    if !state.store().exists() {
        return Ok(Sqlite::open_to_read(state)?);
    }
    match Sqlite::open(state) {
        Ok(store) => Ok(Some(store)),
        Err(
            StoreError::ReadOnly { .. }
            | StoreError::Full { .. }
            | StoreError::Failed { .. }
            | StoreError::Busy { .. },
        ) => Ok(Sqlite::open_to_read(state)?),
        Err(error) => Err(error.into()),
    }
}

/// A token for each block, recorded before it is used if that can be.
fn choose_tokens(
    run: &RunDir,
    store: &mut Sqlite,
    records: &Records,
    boot: &Boot,
) -> Result<(Vec<Token>, Vec<String>), AdminError> {
    // Not attached yet, or for the first time.
    let active = KernelPool::open(run).and_then(|mut pool| pool.blocks());
    let (tokens, changes) = tokens(records, &active.unwrap_or_default(), boot, || {
        random_token().map_err(AdminError::failed("draw a token"))
    })?;
    let recorded = match changes.is_empty() {
        true => Ok(()),
        false => store.commit(&changes),
    };
    let warning = recorded.err().map(|error| {
        format!("the tokens of persistent blocks change when the pool is attached again: {error}")
    });
    Ok((tokens, warning.into_iter().collect()))
}

/// Blocks of a running pool whose records are gone.
fn unrecorded(run: &RunDir) -> Vec<String> {
    let active = KernelPool::open(run).and_then(|mut pool| pool.blocks());
    match active.map_or(0, |active| active.len()) {
        0 => Vec::new(),
        count => vec![format!(
            "{count} persistent blocks are in force and not on record: they end with the pool"
        )],
    }
}
