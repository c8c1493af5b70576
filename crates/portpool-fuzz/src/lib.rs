//! What must hold of everything that reads what others wrote, whatever they wrote.
//!
//! A *target* is a function of bytes that panics if something does not hold. It has one name and two
//! users: the programs in the folder `fuzz` give it to libFuzzer, which looks for inputs that take it to
//! new places (`cargo xtask fuzz`), and a test runs it with [`exercise()`], which needs no tool.
//!
//! The targets of what is public are here. A crate with parsers of its own has theirs in its module
//! `testing`, which is there for its tests and with the feature `testing`.
//!
//! Absent here: libFuzzer, and anything that needs a kernel pool.
#![forbid(unsafe_code)]

mod abi;
mod draws;
mod exercise;
pub mod placement;
pub mod range_set;
mod spec;
mod varlink;

pub use abi::abi;
pub use draws::Draws;
pub use exercise::{exercise, exercise_slow};
pub use spec::spec;
pub use varlink::varlink;
