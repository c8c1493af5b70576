//! Holding in the background: both halves of `acquire --while`.
//!
//! The holder is this program started anew rather than a fork. It acquires while the process to hold
//! for still is its ancestor, reports through a pipe, and only then leaves its caller behind.

use std::{
    io::{self, Read, Write},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

use portpool::{
    PoolKind, Refusal, Scope,
    process::{close_inherited, watch},
};
use rustix::{
    io::Errno,
    process::setsid,
    stdio::{dup2_stderr, dup2_stdout},
};
use serde::{Deserialize, Serialize};

use crate::{
    acquire::Held,
    args::{AcquireArgs, HoldArgs},
    exit::{Answer, Code, Failure},
    grant::{Grant, Line},
    output::{self, WARNING},
    owner::is_ancestor,
};

/// The half that the user started: starts the holder and prints what it reports.
pub(crate) fn start(args: &AcquireArgs, root: u32) -> Answer {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("portpool");
    command.arg("hold").arg(format!("--while={root}"));
    command
        .args(args.selectors.to_args())
        .args(args.pool.to_args());
    if let Some(wait) = args.waiting.wait {
        command.arg(format!("--wait={}ms", wait.as_millis()));
    }
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut holder = started.map_err(|error| Failure::failed("start the holder", error))?;
    let grant = listen(&mut holder)?;
    if grant.pool() == PoolKind::Embedded {
        anstream::eprintln!(
            "{WARNING}warning:{WARNING:#} the ports are kept from everybody, process {root} and its \
             descendants included: in the embedded pool only `portpool run` hands ports to programs; \
             with the kernel pool (`portpool attach` as root) they could bind them"
        );
    }
    output::print(&grant.text(args.format, Some(holder.id()))).inspect_err(|_| {
        // Nobody knows of the ports: they must not stay reserved.
        drop(holder.kill());
    })?;
    Ok(0)
}

fn listen(holder: &mut Child) -> Result<Grant, Failure> {
    let silent = || Failure::new(Code::Failed, "the holder ended before it held anything");
    let mut report = String::new();
    let pipe = holder.stdout.as_mut().ok_or_else(silent)?;
    pipe.read_to_string(&mut report)
        .map_err(|error| Failure::failed("listen to the holder", error))?;
    match serde_json::from_str(&report) {
        Ok(Report::Held(lines)) => Grant::from_lines(&lines).ok_or_else(silent),
        Ok(Report::Failed(failure)) => Err(failure),
        Err(_) => Err(silent()),
    }
}

/// What the holder writes to its stdout, once.
#[derive(Debug, Serialize, Deserialize)]
enum Report {
    Held(Vec<Line>),
    Failed(Failure),
}

impl Report {
    /// A reader that is gone is an error: whoever wanted the ports does not any more.
    fn send(&self) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        serde_json::to_writer(&mut stdout, self)?;
        stdout.flush()
    }
}

/// The holder.
pub(crate) fn hold(args: &HoldArgs) -> Answer {
    let root = args.tree_root;
    // Locks and pipes that the caller left open are not the holder's to keep.
    close_inherited().map_err(|error| Failure::failed("close what was inherited", error))?;
    // The kernel named this process after /proc/self/exe; the claim records its name.
    let _ = rustix::thread::set_name(c"portpool");
    // Watched before it is named in the claim, so that it cannot end unnoticed in between.
    let watched = watch(root).map_err(|error| {
        let message = match Errno::from_io_error(&error) {
            Some(Errno::SRCH) => {
                format!("--while {root}: no such process: name one that is running")
            }
            _ => format!("--while {root}: cannot watch it: {error}"),
        };
        Failure::new(Code::Failed, message)
    });
    let held = watched.and_then(|watched| Ok((acquire(args)?, watched)));
    let (held, watched) = match held {
        Ok(held) => held,
        Err(failure) => {
            let code = failure.code.status();
            drop(Report::Failed(failure).send());
            return Ok(code);
        }
    };
    // Not before: until the claim stands, what ends the caller shall end the holder too.
    setsid().map_err(|error| Failure::failed("start a session", error))?;
    drop(std::env::set_current_dir("/"));
    let report = Report::Held(held.grant.lines().collect());
    report.send().map_err(|_| Failure::unheard())?;
    fall_silent().map_err(|error| Failure::failed("leave the caller's files", error))?;
    watched
        .wait(None)
        .map_err(|error| Failure::failed("wait for the process", error))?;
    drop(held);
    Ok(0)
}

fn acquire(args: &HoldArgs) -> Result<Held, Failure> {
    let pool = args.pool.open(false)?;
    let scope = match pool.kind() {
        // Nobody but this process can bind them: the other half says so.
        PoolKind::Embedded if is_ancestor(args.tree_root, std::process::id()) => Scope::Associated,
        PoolKind::Embedded => {
            let text = format!("--while {}: {}", args.tree_root, Refusal::NotAncestor);
            return Err(Failure::new(Code::Failed, text));
        }
        PoolKind::Kernel | PoolKind::Automatic => Scope::Tree {
            root: Some(args.tree_root),
            zero_from_block: false,
        },
    };
    Held::acquire(&pool, &args.selectors, scope, args.waiting.wait)
}

/// Lets go of the caller's stdout and stderr: who waits for their end, as `$(...)` does, goes on.
fn fall_silent() -> io::Result<()> {
    let null = std::fs::File::options().write(true).open("/dev/null")?;
    // stderr first: the end of the report is what the caller waits for.
    dup2_stderr(&null)?;
    dup2_stdout(&null)?;
    Ok(())
}
