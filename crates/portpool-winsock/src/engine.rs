//! What the calls do. Nothing here knows a pointer: memory of the caller's is a
//! [`Bytes`](crate::edge::memory::Bytes), an error a [`Code`](crate::codes::Code).
//!
//! - [`startup`]: WSAStartup is counted, and the pool belongs to it.
//! - [`sockets`]: the table of the sockets that this library made.
//! - [`address`]: addresses as Windows lays them out.
//! - [`ioctl`]: the control codes.

pub(crate) mod address;
pub(crate) mod ioctl;
pub(crate) mod sockets;
pub(crate) mod startup;
