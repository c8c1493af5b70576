//! The command `portpool`: words for people around the library and the privileged side.
#![forbid(unsafe_code)]

mod acquire;
mod administer;
mod administrator;
mod args;
mod attach;
mod cgroup;
mod doctor;
mod exit;
mod explain;
mod grammar;
mod grant;
mod group;
mod handing;
mod hold;
mod holder;
mod keeper;
mod look;
mod output;
mod owner;
mod pool;
mod records;
mod run;
mod selectors;
mod signals;
mod socket_owners;
mod status;
mod supervise;
mod template;
#[cfg(test)]
mod testing;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::Parser;

fn main() -> ExitCode {
    let command = Cli::parse().command;
    if command.makes_shared_files() {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    }
    exit::code(match command {
        Command::Run(args) => run::run(&args),
        Command::Acquire(args) => acquire::acquire(&args),
        Command::Hold(args) => hold::hold(&args),
        Command::Rest => handing::serve_rest(),
        Command::Reservations(args) => look::reservations(args),
        Command::Port(args) => look::port(&args),
        Command::Status(args) => status::status(args),
        Command::Doctor(args) => doctor::doctor(args),
        Command::Persist(args) => administer::persist(&args),
        Command::Unpersist(args) => administer::unpersist(&args),
        Command::Exclude(args) => administer::exclude(&args),
        Command::Unexclude(args) => administer::unexclude(&args),
        Command::Attach(args) => attach::attach(&args),
        Command::Detach(args) => attach::detach(args.force),
        Command::Keeper(args) => keeper::keeper(&args),
        Command::Completions(args) => grammar::completions(args.shell),
        Command::Man(args) => grammar::man(args.out.as_deref()),
    })
}
