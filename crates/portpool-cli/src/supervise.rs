//! Waiting for the command that `run` has started, and passing signals on to it.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

use portpool::process::unblock_signals;
use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions, getpgid, getpid, getsid, kill_process},
};
use signal_hook::{
    consts::signal::{SIGCHLD, SIGHUP},
    low_level::siginfo::{Cause, Origin},
};

use crate::{exit::Failure, signals};

/// Starts the command, passes signals on to it, and returns its status once it has ended. Descendants
/// that lost their parent come to this process and are reaped with it.
pub(crate) fn supervise(start: impl FnOnce() -> Result<Pid, Failure>) -> Result<u8, Failure> {
    // Before the start, so that no end is missed.
    let mut signals =
        signals::to_pass_on().map_err(|error| Failure::failed("catch signals", error))?;
    // Whoever started this may have blocked them, and the end of the command would go unnoticed.
    unblock_signals().map_err(|error| Failure::failed("catch signals", error))?;
    let child = start()?;
    loop {
        for origin in signals.wait() {
            if origin.signal == SIGCHLD {
                if let Some(status) = reap(child) {
                    return Ok(status_of(status));
                }
            } else if !has_it_already(child, &origin) {
                pass_on(child, origin.signal);
            }
        }
    }
}

/// Reaps every process that has ended, and gives the status of the child if it is among them.
fn reap(child: Pid) -> Option<ExitStatus> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == child => {
                return Some(ExitStatus::from_raw(status.as_raw()));
            }
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Whether the command got the signal without our doing: the terminal sent it, which sends to all of a
/// process group (a hang-up alone it sends to the leader of the session only), or the command itself
/// did so.
///
/// What the command sends may be for its group or for this process alone: nothing tells one from the
/// other while both are in one group, and to pass on the first would be to send it twice. Only a
/// command with a group of its own can have meant nobody but this process.
fn has_it_already(child: Pid, origin: &Origin) -> bool {
    let is_of_one_group = getpgid(Some(child)) == getpgid(None);
    if let Some(sender) = origin.process {
        return sender.pid == child.as_raw_pid() && is_of_one_group;
    }
    let is_leader = getsid(None) == Ok(getpid());
    origin.cause == Cause::Kernel && is_of_one_group && !(origin.signal == SIGHUP && is_leader)
}

/// The child is not reaped yet, so its id is nobody else's.
fn pass_on(child: Pid, signal: i32) {
    if let Some(signal) = Signal::from_named_raw(signal) {
        // Fails only if the child has taken another user's identity: then it is not ours to tell.
        let _ = kill_process(child, signal);
    }
}

fn status_of(status: ExitStatus) -> u8 {
    let number = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 1,
    };
    u8::try_from(number).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_passes_and_a_signal_is_added_to_128() {
        assert_eq!(status_of(ExitStatus::from_raw(0)), 0);
        assert_eq!(status_of(ExitStatus::from_raw(255 << 8)), 255);
        assert_eq!(status_of(ExitStatus::from_raw(9)), 137);
        assert_eq!(status_of(ExitStatus::from_raw(15 | 0x80)), 143);
    }
}
