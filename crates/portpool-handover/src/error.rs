//! What can go wrong before the program runs. Afterwards it sees errors of its own calls.

use std::io;

use portpool_core::{Port, Transport};

/// Why a port is not held.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HoldError {
    /// The port cannot be bound: most often somebody has it.
    #[error("cannot hold {transport} port {port}: {cause}")]
    Taken {
        /// Of the port.
        transport: Transport,
        /// The port wanted.
        port: Port,
        /// `EADDRINUSE`, or another error of `socket` or `bind`.
        cause: io::Error,
    },
    /// The kernel had no port to give.
    #[error("cannot hold any {transport} port: {cause}")]
    NoneFree {
        /// Of the port.
        transport: Transport,
        /// Why the last try failed.
        cause: io::Error,
    },
    /// The socket given is no guard of this port.
    #[error(
        "the socket is no hold of {transport} port {port}: it must be bound to the port of every \
         address, silent and without reuse options"
    )]
    NotAHold {
        /// As which it was given.
        transport: Transport,
        /// As which it was given.
        port: Port,
    },
}

/// Why a program was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This process is itself served by a supervisor of portpool, which cannot be asked.
    #[error(
        "this program runs under portpool already, which cannot be reached from here, and a program \
         can be handed ports by one supervisor only: give the outer one all the ports, or start this \
         one outside"
    )]
    Nested,
    /// The supervisor around this one has the port itself.
    #[error(
        "{transport} port {port} is one of the portpool around this program, which may bind it without \
         more ado: start it without asking for that port"
    )]
    OfOuter {
        /// Of the port.
        transport: Transport,
        /// The port.
        port: Port,
    },
    /// A filter over this process has a listener already; the kernel allows one.
    #[error(
        "another program (a container runtime, a sandbox) listens to the system calls of this one, \
         and the kernel allows one listener: start it outside, or pass sockets instead"
    )]
    OtherListener,
    /// The kernel knows no seccomp filters, no listeners or not the way of waiting that is needed.
    #[error("this kernel cannot hand over ports: Linux 5.19 with seccomp filters is needed")]
    Unsupported,
    /// The filter was refused.
    #[error("cannot filter the system calls of the program: {cause}")]
    Filter {
        /// What the kernel, or a sandbox, answered.
        cause: io::Error,
    },
    /// The program was not started.
    #[error("cannot start the program: {cause}")]
    Spawn {
        /// What [`Command::spawn`](std::process::Command::spawn) answered.
        cause: io::Error,
    },
    /// Something else failed.
    #[error("{call} failed: {cause}")]
    Failure {
        /// What was called.
        call: &'static str,
        /// Why it failed.
        cause: io::Error,
    },
}

impl Error {
    pub(crate) fn of<E: Into<io::Error>>(call: &'static str) -> impl Fn(E) -> Error {
        move |cause| Error::Failure {
            call,
            cause: cause.into(),
        }
    }
}
