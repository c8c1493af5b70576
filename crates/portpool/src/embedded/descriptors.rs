//! Descriptors: each held port takes one, and a process may have only so many.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How far the hard limit is from what was wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shortage {
    pub(crate) missing_count: u64,
    pub(crate) limit: u64,
}

/// Sees to it that `needed` more descriptors can be opened, raising the soft limit up to the hard
/// one if that takes it.
pub(crate) fn make_room(needed: u64) -> Result<(), Shortage> {
    let open = open_count();
    let limits = getrlimit(Resource::Nofile);
    let wanted = open + needed + SPARE_COUNT;
    let raised = match (limits.current, limits.maximum) {
        (None, _) => return Ok(()),
        (Some(soft), _) if soft >= wanted => return Ok(()),
        (_, Some(hard)) if hard < open + needed => {
            return Err(Shortage {
                missing_count: open + needed - hard,
                limit: hard,
            });
        }
        // All of it at once: the next block will want more.
        (_, Some(hard)) => hard,
        (_, None) => wanted,
    };
    let raised = Rlimit {
        current: Some(raised),
        maximum: limits.maximum,
    };
    // Where this is forbidden the block may still fit.
    let _ = setrlimit(Resource::Nofile, raised);
    Ok(())
}

fn open_count() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

/// What the rest of the program may open meanwhile.
const SPARE_COUNT: u64 = 64;
