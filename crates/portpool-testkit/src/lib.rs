//! What tests of the kernel pool stand on.
//!
//! - [`isolated`] runs a test's body in a process with its own cgroup, network namespace, mount
//!   namespace and attached pool, and leaves nothing behind, however the body ends.
//! - [`Actor`] is another process that does to sockets what it is told.
//! - [`stranger`] has users without a right to a port, one of them a persistent one.
//! - [`programs`] has real servers that know nothing of portpool.
//! - [`marks`] are what the pool knows of sockets.
//! - [`Census`] counts all that a pool has taken, so that a test can say that nothing is left.
//!
//! Development only; nothing here is a part of the product.

mod actor;
mod arena;
mod census;
mod chance;
pub mod marks;
pub mod programs;
mod size;
pub mod stranger;
pub mod sys;

pub use actor::{Actor, Errno};
pub use arena::{Arena, for_each_pool, isolated, program, test_name, unattached};
pub use census::Census;
pub use chance::Chance;
pub use size::Size;

/// Runs the body of the test function it stands in by [`isolated`].
#[macro_export]
macro_rules! in_arena {
    ($body:expr) => {{
        fn here() {}
        $crate::isolated(std::any::type_name_of_val(&here), $body)
    }};
}

/// Like [`in_arena!`], with no pool attached yet.
#[macro_export]
macro_rules! in_bare_arena {
    ($body:expr) => {{
        fn here() {}
        $crate::unattached(std::any::type_name_of_val(&here), $body)
    }};
}
