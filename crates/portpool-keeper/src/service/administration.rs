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

    /// Makes blocks persistent.
    pub(super) fn persist(&self, asked: &calls::Persist) -> Result<calls::Persisted, Fault> {
        let persist = admin::Persist {
            transports: asked.transports,
            range: asked.range,
            group: asked.group,
            note: parse_note(asked.note.as_deref())?,
        };
        let made = self.with(|admin| admin.persist(&persist))?;
        let blocks = made.iter().map(|made| calls::Block {
            transport: made.transport,
            token: made.token,
        });
        Ok(calls::Persisted {
            blocks: blocks.collect(),
        })
    }

    /// Ends persistent blocks.
    pub(super) fn unpersist(&self, transports: Transports, range: PortRange) -> Result<(), Fault> {
        self.with(|admin| admin.unpersist(transports, range))
    }

    /// Keeps automatic choice and reservations away.
    pub(super) fn exclude(&self, asked: &calls::Exclude) -> Result<(), Fault> {
        let note = parse_note(asked.note.as_deref())?;
        self.with(|admin| admin.exclude(asked.transports, asked.range, note.as_ref()))
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

pub(super) fn parse_note(text: Option<&str>) -> Result<Option<Note>, Fault> {
    let note = text.map(str::parse::<Note>).transpose();
    note.map_err(|_| Fault::InvalidParameter("note".to_owned()))
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
        AdminError::Open(error) if error.refusal() == Some(Refusal::NotAttached) => {
            Fault::refused(Refusal::NotAttached, message)
        }
        AdminError::Kernel(error) => match error.refusal() {
            Some(refusal) => Fault::refused(refusal, message),
            None => Fault::Failed(message),
        },
        _ => Fault::Failed(message),
    }
}
