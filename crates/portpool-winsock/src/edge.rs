//! The C side: one function a name.
//!
//! Each looks the same: [`boundary`], the arguments as values that need no trust, the engine, its
//! answer as the number that the documentation gives. Unsafe code of this crate stands here.
#![expect(unsafe_code, reason = "a C ABI is unsafe at every entry")]

pub(crate) mod boundary;
pub(crate) mod memory;
pub(crate) mod overlapped;
pub(crate) mod signals;

mod capi;
mod ioctl;
mod msvc;
mod names;
mod options;
mod order;
mod persistent;
mod provider;
mod results;
mod select;
mod sockets;
mod startup;
mod text;
mod waits;
