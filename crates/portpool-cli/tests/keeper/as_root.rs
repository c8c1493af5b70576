//! Everything here needs root: a pool, network namespaces, other users.

mod acquire;
mod administration;
mod clock;
mod commands;
mod faults;
mod hostile;
mod interop;
mod starting;
mod storm;
mod winsock;
