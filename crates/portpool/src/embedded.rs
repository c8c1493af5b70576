//! The embedded pool: ports are reserved by holding them.
//!
//! The reserving process keeps a *hold* on every port of a block: a bound, silent socket that no
//! bind of a stranger gets past. What is not here: privilege, a daemon, a thread, and any way for a
//! plain `bind` of this process to get past its own hold; [`passage`] is how the library does it.
//!
//! - [`hold`]: one port; [`held`]: one block; [`roster`]: all blocks of this process.
//! - [`mod@acquire`] takes a block, from the ports that [`ranges`] allows, if [`descriptors`] last.
//! - [`consume`] binds sockets to ports of a block.
//! - [`registry`] and [`owner_file`] tell the other processes of the user who holds what, by a [`list`],
//!   whose bytes are [`listing`]'s.

mod acquire;
mod consume;
mod descriptors;
mod held;
mod hold;
mod list;
mod listing;
mod look;
mod owner_file;
mod passage;
mod ranges;
mod registry;
mod roster;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod testing;

pub(crate) use acquire::{Blocks, acquire, namespace};
pub(crate) use consume::{associate, associated, bind, listen, release_token, served_transport};
pub(crate) use held::Held;
pub(crate) use look::{port, reservations};
pub use passage::Technique;
pub(crate) use passage::technique;
pub(crate) use roster::{hand_over, is_held, release};
