//! How many requests of each user wait: each looks again every now and then, at the keeper's cost.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use portpool_varlink::Fault;

use super::{super::limits::GRANTS_PER_UID_MAX, Applicant};

/// Those that wait, by user.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiting(Arc<Mutex<HashMap<u32, usize>>>);

/// One that waits, for as long as this lives.
#[derive(Debug)]
pub(super) struct Waits {
    all: Waiting,
    uid: u32,
}

impl Waiting {
    /// # Errors
    /// [`Fault::TooMany`] if as many of this user wait already.
    pub(super) fn enter(&self, applicant: Applicant) -> Result<Waits, Fault> {
        let uid = applicant.caller.uid;
        let mut by_uid = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = by_uid.get(&uid).copied().unwrap_or(0);
        if !applicant.is_administrator && own >= GRANTS_PER_UID_MAX {
            return Err(Fault::TooMany(format!(
                "uid {uid} has {GRANTS_PER_UID_MAX} requests that wait: end one first"
            )));
        }
        by_uid.insert(uid, own + 1);
        let all = self.clone();
        Ok(Waits { all, uid })
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        let mut by_uid = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        match by_uid.get_mut(&self.uid) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(by_uid.remove(&self.uid)),
        }
    }
}
