//! The real command: with a pool attached, in a cgroup and a network namespace of its own, and without.

mod attached;
mod choice;
mod embedded;
mod handing;
mod kit;
