//! Changing what outlives a process: the store and the kernel together, one change at a time.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use portpool_core::{PortRange, Refusal, Transport, Transports};
use portpool_kernel::RunDir;
use portpool_varlink::{Fault, calls};

use crate::{
    admin::{self, Admin, AdminError},
    store::{Note, StateDir},
};

/// The administration of the pool. Where the store could not be opened it is tried again with each call,
/// so that an administrator who has mended it need not start the keeper anew.
pub(super) struct Administration {
    run: RunDir,
    state: Option<StateDir>,
    admin: Mutex<Option<Admin>>,
}

impl Administration {
    /// Opens the store, and makes what is in force what is on record.
    pub(super) fn open(run: &RunDir, state: Option<StateDir>) -> Administration {
        let administration = Administration {
            run: run.clone(),
            state,
            admin: Mutex::new(None),
        };
        match administration.with(Admin::reconcile) {
            Ok(reconciled) => tracing::debug!(?reconciled, "records and kernel are the same"),
            Err(Fault::NotAllowed(_) | Fault::Failed(_)) if administration.state.is_none() => {
                tracing::info!("no records here: nothing can be made persistent or excluded");
            }
            Err(fault) => {
                tracing::error!(error = %fault, "persistent blocks and exclusions cannot be changed");
            }
        }
        administration
    }

    /// Makes a block persistent.
    pub(super) fn persist(&self, asked: &calls::Persist) -> Result<calls::Named, Fault> {
        let invalid = |name: &str| Fault::InvalidParameter(name.to_owned());
        let note = asked.note.as_deref().map(str::parse::<Note>).transpose();
        let persist = admin::Persist {
            transports: asked.transport.into(),
            range: asked.range,
            group: asked.group,
            note: note.map_err(|_| invalid("note"))?,
        };
        let made = self.with(|admin| admin.persist(&persist))?;
        let token = made.first().map(|made| made.token);
        let token = token.ok_or_else(|| Fault::Failed("no block was made".to_owned()))?;
        Ok(calls::Named { token })
    }

    /// Ends a persistent block.
    pub(super) fn unpersist(&self, transport: Transport, range: PortRange) -> Result<(), Fault> {
        self.with(|admin| admin.unpersist(transport.into(), range))
    }

    /// Keeps automatic choice and reservations away.
    pub(super) fn exclude(&self, transports: Transports, range: PortRange) -> Result<(), Fault> {
        self.with(|admin| admin.exclude(transports, range, None))
    }

    /// Ends that.
    pub(super) fn unexclude(&self, transports: Transports, range: PortRange) -> Result<(), Fault> {
        self.with(|admin| admin.unexclude(transports, range))
    }

    /// What the administrator noted about blocks and exclusions; nothing where there are no records.
    pub(super) fn notes(&self) -> BTreeMap<(Transport, PortRange), String> {
        let listed = self.with(Admin::list).unwrap_or_default();
        let notes = listed.into_iter().filter_map(|it| {
            let note = it.note?.text().to_owned();
            Some(((it.transport, it.range), note))
        });
        notes.collect()
    }

    fn with<T>(&self, act: impl FnOnce(&mut Admin) -> Result<T, AdminError>) -> Result<T, Fault> {
        let mut admin = self.lock();
        if admin.is_none() {
            let state = self
                .state
                .as_ref()
                .ok_or(AdminError::NoStateDir)
                .map_err(fault_of)?;
            *admin = Some(Admin::open(&self.run, state).map_err(fault_of)?);
        }
        let Some(admin) = admin.as_mut() else {
            return Err(Fault::Failed("the records are not open".to_owned()));
        };
        act(admin).map_err(fault_of)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Admin>> {
        self.admin.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the caller is answered.
fn fault_of(error: AdminError) -> Fault {
    let message = error.to_string();
    match error {
        AdminError::InvalidParameter(_) => Fault::InvalidParameter("range".to_owned()),
        AdminError::AccessDenied { .. } => Fault::NotAllowed(message),
        AdminError::SharingViolation { .. } => Fault::refused(Refusal::InUse, message),
        AdminError::NotFound { .. } => Fault::NotFound(message),
        AdminError::NotAttached => Fault::refused(Refusal::NotAttached, message),
        AdminError::Kernel(error) => match error.refusal() {
            Some(refusal) => Fault::refused(refusal, message),
            None => Fault::Failed(message),
        },
        _ => Fault::Failed(message),
    }
}
