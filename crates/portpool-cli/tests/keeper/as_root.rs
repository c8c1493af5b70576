//! Everything here needs root: a pool, network namespaces, other users.

mod acquire;
mod administration;
