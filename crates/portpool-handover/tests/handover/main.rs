//! Programs that know nothing of portpool are handed ports, and nobody else gets in.
//!
//! Each test runs the supervisor as a process of its own, without privilege even if the tests are
//! run by root, unless it says otherwise.

mod adversary;
mod programs;
mod stage;
mod traps;
mod ways;
