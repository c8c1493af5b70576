//! The privileged side of portpool: loading the kernel programs, attaching them to a cgroup,
//! their pins and maps, one pool per network namespace, the sysctl that keeps automatic choice
//! away, and the look at what this machine can do.
//!
//! Absent here: anything an unprivileged program needs (crate `portpool`), choosing ports
//! (`portpool-core`), words for people beyond errors and findings (`portpool-cli`).

mod attach;
mod cgroup;
mod detach;
mod diag;
mod doctor;
mod error;
pub mod events;
mod files;
mod grant;
mod held;
mod ledger;
mod mounts;
mod namespace;
mod pool;
mod programs;
mod reap;
mod sys;
mod sysctl;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod testing;

pub use attach::{AttachOptions, Attached, PutBack, attach, attach_with};
pub use detach::{Detached, detach};
pub use diag::{SilentSocket, silent_tcp_sockets};
pub use doctor::{Finding, Verdict, doctor};
pub use error::{Error, Failed};
pub use files::RunDir;
pub use grant::{KeptClear, keep_exactly, kept_for, let_go, make_grantable};
pub use ledger::Reason;
pub use namespace::{NetNamespace, default_ranges};
