//! Whether this process may attach programs to the kernel, as far as files in /proc and /sys tell.
//!
//! Only the tests themselves know for sure; what is missed here makes them fail, not pass.

use std::path::Path;

use anyhow::{Context, Result};

/// What keeps tests from attaching to the kernel, if anything does.
///
/// # Errors
///
/// Fails if /proc cannot be read.
pub(crate) fn obstacle() -> Result<Option<&'static str>> {
    let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("read {path}"));
    Ok(if !may_administer(&read("/proc/self/status")?) {
        Some("tests that attach to the kernel need root")
    } else if !is_initial_user_namespace(&read("/proc/self/uid_map")?) {
        Some("root in a user namespace cannot load BPF programs")
    } else if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        Some("this kernel has no BPF type information (/sys/kernel/btf/vmlinux)")
    } else if !read("/proc/self/mountinfo")?.contains(" - cgroup2 ") {
        Some("cgroup v2 is not mounted")
    } else {
        None
    })
}

fn may_administer(status: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & NEEDED == NEEDED)
}

/// Elsewhere a full set of capabilities means nothing to bpf(2).
fn is_initial_user_namespace(uid_map: &str) -> bool {
    let numbers: Vec<&str> = uid_map.split_whitespace().collect();
    numbers == ["0", "0", "4294967295"]
}

const CAP_NET_ADMIN: u64 = 1 << 12;
const CAP_SYS_ADMIN: u64 = 1 << 21;
const NEEDED: u64 = CAP_NET_ADMIN | CAP_SYS_ADMIN;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capabilities_decide_who_may_administer() {
        assert!(may_administer("Name:\tsh\nCapEff:\t000001ffffffffff\n"));
        assert!(!may_administer(
            "CapPrm:\t000001ffffffffff\nCapEff:\t0000000000000000\n"
        ));
        assert!(!may_administer("CapEff:\t00000000a80425fb\n"));
        assert!(!may_administer(""));
    }

    #[test]
    fn a_mapped_root_is_not_root() {
        assert!(is_initial_user_namespace(
            "         0          0 4294967295\n"
        ));
        assert!(!is_initial_user_namespace(
            "         0       1000          1\n"
        ));
    }
}
