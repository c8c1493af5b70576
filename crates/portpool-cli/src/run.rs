//! Running a command in ports of its own.

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitStatus},
};

use portpool::{
    Pool, PoolKind, Scope, Transport,
    process::{become_subreaper, spawn_tethered, unblock_signals},
};
use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions, getpgid, getpid, getsid, kill_process},
};
use signal_hook::{
    consts::signal::{SIGCHLD, SIGHUP},
    low_level::siginfo::{Cause, Origin},
};

use crate::{
    acquire::Held,
    args::RunArgs,
    exit::{Answer, Code, Failure},
    grant::Grant,
    selectors::Selectors,
    signals,
    template::{PortCounts, Template},
};

/// The command `run`.
pub(crate) fn run(args: &RunArgs) -> Answer {
    let [program, arguments @ ..] = &*args.command else {
        return Err(Failure::new(
            Code::Usage,
            "no command to run: name one after --",
        ));
    };
    let templates = templates(&args.selectors, arguments)?;
    let pool = Pool::builder().kind(PoolKind::Kernel).open()?;
    become_subreaper().map_err(|error| Failure::failed("become a subreaper", error))?;
    let scope = Scope::Tree {
        root: None,
        zero_from_block: false,
    };
    let held = Held::acquire(&pool, &args.selectors, scope, args.waiting.wait)?;
    let mut command = Command::new(program);
    command.args(templates.iter().map(|template| template.fill(&held.grant)));
    set_environment(&mut command, &held.grant);
    let status = supervise(&mut command)?;
    drop(held);
    Ok(status)
}

fn templates(selectors: &Selectors, arguments: &[OsString]) -> Result<Vec<Template>, Failure> {
    let port_counts = PortCounts {
        tcp: selectors.port_count(Transport::Tcp),
        udp: selectors.port_count(Transport::Udp),
    };
    let templates = arguments
        .iter()
        .map(|text| Template::parse(text, port_counts));
    templates
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::new(Code::Usage, error.to_string()))
}

fn set_environment(command: &mut Command, grant: &Grant) {
    for (name, value) in grant.variables() {
        match value {
            Some(value) => command.env(name, value),
            // Not the one of somebody around us.
            None => command.env_remove(name),
        };
    }
}

/// Starts the command, passes signals on to it, and returns its status once it has ended. Descendants
/// that lost their parent come to this process and are reaped with it.
fn supervise(command: &mut Command) -> Result<u8, Failure> {
    // Before the start, so that no end is missed.
    let mut signals =
        signals::to_pass_on().map_err(|error| Failure::failed("catch signals", error))?;
    // Whoever started this may have blocked them, and the end of the command would go unnoticed.
    unblock_signals().map_err(|error| Failure::failed("catch signals", error))?;
    let child = spawn_tethered(command).map_err(|error| cannot_start(command, &error))?;
    let child = Pid::from_child(&child);
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

fn cannot_start(command: &Command, error: &io::Error) -> Failure {
    let program = command.get_program().to_string_lossy();
    if error.kind() == io::ErrorKind::NotFound {
        Failure::new(
            Code::NotFound,
            format!("cannot run {program}: {error}: check its name, or give its path"),
        )
    } else {
        Failure::new(Code::CannotStart, format!("cannot run {program}: {error}"))
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

/// Whether the command got the signal without our doing: it sent it itself, or the terminal did, which
/// sends to all of a process group. A hang-up alone it sends to the leader of the session only.
fn has_it_already(child: Pid, origin: &Origin) -> bool {
    if let Some(sender) = origin.process {
        return sender.pid == child.as_raw_pid();
    }
    let is_leader = getsid(None) == Ok(getpid());
    origin.cause == Cause::Kernel
        && getpgid(Some(child)) == getpgid(None)
        && !(origin.signal == SIGHUP && is_leader)
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
