//! Who changes what outlives a boot: the keeper, where one answers.

use std::time::Duration;

use portpool::Refusal;
use portpool_keeper::AdminError;
use portpool_varlink::{CallError, Client, Fault, calls::Method, socket_path};
use rustix::thread::{CapabilitySet, capabilities};

use crate::exit::{Code, Failure};

/// What the keeper answers; nothing if the caller is to do it without one: none listens, or it keeps the
/// pool of another network namespace, or it does not count the caller's capability.
pub(crate) fn ask<M: Method>(call: &M) -> Result<Option<M::Reply>, Failure> {
    // What is left of a keeper that was killed refuses as well.
    let Ok(mut client) = Client::connect(&socket_path(), CONNECT_TIMEOUT) else {
        return Ok(None);
    };
    match client.call(call, Some(ANSWER_TIMEOUT)) {
        Ok(reply) => Ok(Some(reply)),
        Err(CallError::Fault(fault)) => judge(&fault, has_capability()).map(|()| None),
        Err(error) => {
            let next_step =
                "`portpool reservations` and `portpool status` tell whether it was done";
            let message = format!("the keeper did not answer: {error}: {next_step}");
            Err(Failure::new(Code::Failed, message))
        }
    }
}

/// The keeper's no, unless it is none to this caller.
fn judge(fault: &Fault, has_capability: bool) -> Result<(), Failure> {
    match fault {
        Fault::OtherNamespace(_) => Ok(()),
        // It counts root and its group, and leaves other holders of the capability to the kernel.
        Fault::NotAllowed(_) if has_capability => Ok(()),
        fault if fault.refusal() == Some(Refusal::NotAttached) => {
            Err(AdminError::NotAttached.into())
        }
        fault => Err(Failure::new(Code::Failed, fault.to_string())),
    }
}

/// Whether the kernel would let this process change a pool itself.
fn has_capability() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_ADMIN))
}

/// A keeper that lives accepts at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Changes are made one after the other, and each is on disk before it is answered.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_it_after_a_no_of_the_keeper() {
        let text = || "no".to_owned();
        assert_eq!(judge(&Fault::OtherNamespace(text()), false), Ok(()));
        assert_eq!(judge(&Fault::NotAllowed(text()), true), Ok(()));
        let refused = |fault: Fault| judge(&fault, false).unwrap_err();
        assert_eq!(refused(Fault::NotAllowed(text())).text(), "no");
        let in_use = refused(Fault::refused(Refusal::InUse, "taken"));
        assert_eq!((in_use.code, in_use.text()), (Code::Failed, "taken"));
        let no_pool = refused(Fault::refused(Refusal::NotAttached, "none"));
        assert_eq!(no_pool.code, Code::NoPool);
        for fault in [Fault::TooMany(text()), Fault::Failed(text())] {
            assert_eq!(judge(&fault, true).unwrap_err().code, Code::Failed);
        }
    }
}
