//! How much a long test does: one size for every run, one for a run by hand.

use std::time::Duration;

/// The size of the long tests: `PORTPOOL_TEST_SIZE=long` (what `cargo xtask test --long` sets), else for CI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Every run.
    Ci,
    /// By hand.
    Long,
}

impl Size {
    /// The size asked for.
    pub fn asked() -> Size {
        match std::env::var("PORTPOOL_TEST_SIZE").as_deref() {
            Ok("long") => Size::Long,
            _ => Size::Ci,
        }
    }

    /// The number for this size.
    pub fn pick<T>(self, ci: T, long: T) -> T {
        match self {
            Size::Ci => ci,
            Size::Long => long,
        }
    }

    /// Rounds of killing an owner; half as many kill a runner and half as many its child.
    pub fn kill_rounds() -> u32 {
        Size::asked().pick(500, 1_000)
    }

    /// How long 64 processes fight over ports.
    pub fn fight_time() -> Duration {
        Size::asked().pick(Duration::from_secs(60), Duration::from_secs(600))
    }

    /// Automatic choices tried against live blocks, each of connect, sendto and bind(0).
    pub fn automatic_choices() -> u32 {
        Size::asked().pick(10_000, 100_000)
    }

    /// Multipath sockets bound and closed.
    pub fn multipath_rounds() -> u32 {
        Size::asked().pick(10_000, 50_000)
    }

    /// Of how many bits of a file one is turned over.
    pub fn bit_stride() -> usize {
        Size::asked().pick(211, 1)
    }

    /// Changes of what is kept clear while somebody else edits the sysctl.
    pub fn grant_rounds() -> u32 {
        Size::asked().pick(20, 1_000)
    }

    /// Persistent blocks put back at once.
    pub fn record_count() -> u16 {
        Size::asked().pick(2_000, 10_000)
    }

    /// Commands of each of several administrators.
    pub fn command_rounds() -> u32 {
        Size::asked().pick(8, 300)
    }

    /// Of how many steps of a command one is its last, where what mends it takes long.
    pub fn fault_stride() -> usize {
        Size::asked().pick(2, 1)
    }

    /// Of how many calls to a disk one fails.
    pub fn call_stride() -> usize {
        Size::asked().pick(3, 1)
    }

    /// Lives of a modelled machine with mishaps.
    pub fn model_lives() -> u32 {
        Size::asked().pick(2_000, 100_000)
    }

    /// Uids that hit their limits.
    pub fn uids() -> u32 {
        Size::asked().pick(1_000, 20_000)
    }
}
