//! Which process descends from which.

use std::{fs, iter};

/// Whether a process, or a thread of it, is the other one or descends from it.
pub(crate) fn is_of_tree(thread: u32, root: u32) -> bool {
    let Some(process) = number(thread, "Tgid:") else {
        return false;
    };
    let line = iter::successors(Some(process), |process| {
        number(*process, "PPid:").filter(|parent| *parent != 0)
    });
    line.take(GENERATION_COUNT_MAX)
        .any(|process| process == root)
}

/// A number of /proc/PID/status.
pub(crate) fn number(process: u32, name: &str) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok()
}

/// As many as the kernel pool looks at.
const GENERATION_COUNT_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_a_process_and_what_descends_from_it() {
        let (own, parent) = (std::process::id(), std::os::unix::process::parent_id());
        assert!(is_of_tree(own, own) && is_of_tree(own, parent));
        assert!(!is_of_tree(parent, own));
        let thread = rustix::thread::gettid()
            .as_raw_nonzero()
            .get()
            .unsigned_abs();
        assert!(is_of_tree(thread, own));
    }
}
