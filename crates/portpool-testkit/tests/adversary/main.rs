//! What strangers, exhausted memory, kernel sockets and namespaces do to a pool.

mod addresses;
mod automatic;
mod before_attach;
mod common;
mod groups;
mod in_use;
mod kernel_sockets;
mod limits;
mod memory;
mod multipath;
mod namespaces;
mod passed;
mod ring;
mod strangers;
mod walk;
