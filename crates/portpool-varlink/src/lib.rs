//! How programs talk to the keeper: [Varlink](https://varlink.org) on a Unix socket, JSON messages that
//! end with a NUL byte, descriptors beside them.
//!
//! - [`Connection`] is the codec: messages of bounded size with a bounded number of descriptors, each
//!   read and write with a deadline. Nothing a peer sends makes it allocate more than one message.
//! - [`calls`] is the interface `io.portpool` as types; its text is [`INTERFACE`].
//! - [`Client`] calls and blocks; a [`Pending`] call can be waited on, polled and cancelled.
//! - [`Peer`] is who is at the other end, as the kernel says.
//!
//! Absent here: a server loop, access rules, anything that reserves a port. Those are the keeper's. No
//! async, no thread.
#![deny(unsafe_code)]

pub mod calls;
mod client;
mod connection;
mod fault;
mod frames;
mod introspection;
mod message;
mod peer;
mod sys;
mod wire;

use std::{env, path::PathBuf};

pub use client::{CallError, Client, ConnectError, Pending, Stream};
pub use connection::{Connection, ConnectionError, Received};
pub use fault::Fault;
pub use frames::{Frames, TooLarge};
pub use introspection::{
    INTERFACE, INTERFACE_NAME, SERVICE, SERVICE_NAME, ServiceAnswer, ServiceCard,
};
pub use message::{Call, Reply};
pub use peer::{Peer, netns_cookie};

/// The bytes of a message, without the NUL that ends it.
pub const MESSAGE_SIZE_MAX: usize = 64 * 1024;

/// The descriptors of a message.
pub const DESCRIPTOR_COUNT_MAX: usize = 4;

/// Where the keeper of this environment listens: `keeper.sock` in `PORTPOOL_RUN_DIR`.
pub fn socket_path() -> PathBuf {
    let run_dir = env::var_os("PORTPOOL_RUN_DIR").filter(|path| !path.is_empty());
    run_dir
        .map_or_else(|| PathBuf::from("/run/portpool"), PathBuf::from)
        .join(SOCKET_NAME)
}

/// The keeper's socket in the run directory.
pub const SOCKET_NAME: &str = "keeper.sock";
