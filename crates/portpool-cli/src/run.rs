//! Running a command in ports of its own.
//!
//! In the kernel pool the command may bind them because it descends from the owner. In the embedded
//! pool it is let past the sockets that hold them (`handing`).

use std::{ffi::OsString, io, process::Command};

use portpool::{
    PoolKind, Scope, Transport,
    process::{become_subreaper, spawn_tethered},
};
use rustix::process::Pid;

use crate::{
    acquire::Held,
    args::RunArgs,
    exit::{Answer, Code, Failure},
    explain::Report,
    grant::Grant,
    handing::{self, Zero},
    selectors::Selectors,
    supervise::supervise,
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
    let handing = args.handing;
    let pool = args.pool.open(handing.strict)?;
    let is_embedded = pool.kind() == PoolKind::Embedded;
    let scope = match is_embedded || handing.fd {
        true => Scope::Associated,
        false => {
            check_zero(handing.zero)?;
            Scope::Tree {
                root: None,
                zero_from_block: false,
            }
        }
    };
    let held = Held::acquire(&pool, &args.selectors, scope, args.waiting.wait)?;
    let mut command = Command::new(program);
    command.args(templates.iter().map(|template| template.fill(&held.grant)));
    set_environment(&mut command, &held.grant);
    let report = Report::new(&pool, &held.grant);
    if handing.fd {
        return Err(handing::exec(command, held, &handing, &report));
    }
    become_subreaper().map_err(|error| Failure::failed("become a subreaper", error))?;
    if is_embedded {
        return handing::run(command, held, &args.selectors, &handing, report);
    }
    let status = supervise(|| match spawn_tethered(&mut command) {
        Ok(child) => Ok(Pid::from_child(&child)),
        Err(error) => Err(cannot_start(program, &error)),
    })?;
    drop(held);
    report.decided_by_kernel().tell(handing.explain);
    Ok(status)
}

/// The kernel pool serves bind to port 0 from a block to its owner only, who is not the program.
fn check_zero(zero: Option<Zero>) -> Result<(), Failure> {
    match zero {
        None | Some(Zero::Kernel) => Ok(()),
        Some(Zero::Block | Zero::Error) => Err(Failure::new(
            Code::Failed,
            "--zero: in the kernel pool the kernel chooses for a program that binds port 0: tell the \
             program its {port}, or add --pool embedded",
        )),
    }
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

/// Why a command did not start, in the words and the statuses of shells.
pub(crate) fn cannot_start(program: &std::ffi::OsStr, error: &io::Error) -> Failure {
    let program = program.to_string_lossy();
    if error.kind() == io::ErrorKind::NotFound {
        Failure::new(
            Code::NotFound,
            format!("cannot run {program}: {error}: check its name, or give its path"),
        )
    } else {
        Failure::new(Code::CannotStart, format!("cannot run {program}: {error}"))
    }
}
