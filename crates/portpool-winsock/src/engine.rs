//! What the calls do. Nothing here knows a pointer: memory of the caller's is a
//! [`Bytes`](crate::edge::memory::Bytes), an error a [`Code`](crate::codes::Code).
//!
//! - [`startup`]: WSAStartup is counted, and the pool belongs to it.
//! - [`sockets`]: the table of the sockets that this library made; [`address`], [`options`] and
//!   [`readiness`] put what belongs to them in the words of Linux.
//! - [`ioctl`]: the control codes; [`asker`] is who makes ports grantable, and the only one that
//!   takes its time; [`operations`] are those that wait for it.
//! - [`keeper`] is the service behind [`asker`] and behind [`persistent`] blocks.
//! - [`formats`]: printf as programs for Windows use it.
//! - [`events`] and [`threads`]: what can be waited for, and who waits.

pub(crate) mod address;
pub(crate) mod asker;
pub(crate) mod events;
pub(crate) mod formats;
pub(crate) mod ioctl;
pub(crate) mod keeper;
pub(crate) mod operations;
pub(crate) mod options;
pub(crate) mod persistent;
pub(crate) mod readiness;
pub(crate) mod sockets;
pub(crate) mod startup;
pub(crate) mod threads;
