//! Hands held ports to programs that know nothing of portpool, without privilege.
//!
//! A held port has a bound, silent socket on it, its *guard*, which keeps everybody out, the program
//! it is meant for included. [`spawn()`] starts that program under a seccomp filter that passes its
//! `bind` and `listen` to this process, which does them on the program's own socket, past the guard.
//!
//! ```no_run
//! use std::process::Command;
//! use portpool_core::Transport;
//! use portpool_handover::{Guard, Options, spawn};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let guard = Guard::hold_any(Transport::Tcp)?;
//! let mut server = Command::new("server");
//! server.arg(format!("--port={}", guard.port()));
//! let mut served = spawn(server, vec![guard], &Options::default())?;
//! let status = served.wait()?;
//! for used in served.finish().uses { // Once its daemons have ended too.
//!     eprintln!("{used}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! How a socket gets past the guard depends on the transport, the address and the rights of this
//! process; some ways leave others no moment, one does. Each [`Use`] says which it was, and
//! [`Options::strict`] forbids the one that does.
//!
//! Deliberately absent: choosing ports to hold, the kernel pool (which needs none of this), words
//! for people, async.
#![deny(unsafe_code)]

mod address;
mod ancestry;
mod call;
mod error;
mod fresh;
mod group;
mod guard;
mod held;
mod message;
mod options;
mod outer;
mod packet;
mod rest;
mod socket;
mod spawn;
mod supervisor;
mod swap;
mod sys;
mod technique;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod testing;

pub use error::{Error, HoldError};
pub use guard::Guard;
pub use options::{Options, Zero};
pub use rest::Rest;
pub use spawn::{Finished, SUPERVISED_VARIABLE, Supervised, spawn};
pub use technique::{Technique, Use};
