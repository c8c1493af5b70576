//! The keeper as a service: its socket, who may ask for what, and what it watches over.

mod access;
mod caller;
mod exposition;
mod grants;
mod hub;
mod limits;
mod listener;
mod log;
mod metrics;
mod seats;
mod stop;
mod world;

use std::{io, path::PathBuf};

pub use exposition::MetricsAddress;

/// Why the keeper cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeeperError {
    /// One serves this run directory already.
    #[error(
        "{}: another keeper serves this pool{}: stop it first, or set PORTPOOL_RUN_DIR", run_dir.display(),
        pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
    )]
    AnotherKeeper {
        /// The run directory.
        run_dir: PathBuf,
        /// The other's process, if it says.
        pid: Option<u32>,
    },
    /// It was started with more sockets than it knows what to do with.
    #[error("LISTEN_FDS passes {0} sockets: pass one, the keeper's")]
    PassedSockets(usize),
    /// A step failed.
    #[error("{what}: {cause}")]
    Step {
        /// What was tried.
        what: String,
        /// Why it failed.
        cause: io::Error,
    },
}

impl KeeperError {
    fn step(what: String, cause: io::Error) -> KeeperError {
        KeeperError::Step { what, cause }
    }
}

/// Dies here if a test says so; nothing in a release build.
fn fault_point(_name: &str) {}
