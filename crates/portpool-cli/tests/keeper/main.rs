//! The keeper as the real binary, against a real pool, in a cgroup and a network namespace of its own.

mod as_root;
mod kit;
mod units;
