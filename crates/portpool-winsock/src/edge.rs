//! The C side: one function a name.
//!
//! Each looks the same: [`boundary`], the arguments as values that need no trust, the engine, its
//! answer as the number that the documentation gives. Unsafe code of this crate stands here.
#![expect(unsafe_code, reason = "a C ABI is unsafe at every entry")]

pub(crate) mod boundary;
pub(crate) mod memory;

mod capi;
mod ioctl;
mod order;
mod sockets;
mod startup;
mod text;
