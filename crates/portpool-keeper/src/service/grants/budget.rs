//! How often each user may have automatic choice kept from ports: it makes the keeper look at all sockets, while
//! nobody else changes the pool.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use super::{
    super::limits::{GRANT_REFILL_TIME, GRANTS_AT_ONCE_PER_UID},
    Applicant,
};

/// When each user has its whole budget again, in nanoseconds since boot; who is not here has it now.
#[derive(Debug, Default)]
pub(super) struct Budget(Mutex<HashMap<u32, u64>>);

impl Budget {
    /// Takes one off, unless it is an administrator's.
    ///
    /// # Errors
    /// Why there is none left now.
    pub(super) fn spend(&self, applicant: Applicant, now: u64) -> Result<(), String> {
        if applicant.is_administrator {
            return Ok(());
        }
        let uid = applicant.caller.uid;
        let one = u64::try_from(GRANT_REFILL_TIME.as_nanos()).unwrap_or(u64::MAX);
        let mut whole_at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        whole_at.retain(|_, at| *at > now);
        let at = whole_at.get(&uid).copied().unwrap_or(now) + one;
        if at - now > one * GRANTS_AT_ONCE_PER_UID {
            return Err(format!(
                "uid {uid} asks for ports of automatic choice too often: {GRANTS_AT_ONCE_PER_UID} times at \
                 once, then once in {GRANT_REFILL_TIME:?}: try again later, or choose ports outside it"
            ));
        }
        whole_at.insert(uid, at);
        Ok(())
    }
}
