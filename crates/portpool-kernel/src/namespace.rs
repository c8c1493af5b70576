//! The network namespace a process is in, and the default ranges of its pool.

use std::fs;

use portpool_core::{Port, PortRange, RangeSet, abi};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::error::{Failed, Step};

/// A network namespace, by the cookie the kernel gives it: unlike an inode never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetNamespace {
    /// Its cookie.
    pub cookie: u64,
}

impl NetNamespace {
    /// The one the calling thread is in.
    ///
    /// # Errors
    /// If no socket can be made or the kernel is older than 5.14.
    pub fn current() -> Result<NetNamespace, Failed> {
        let what = || "read the cookie of the network namespace".to_owned();
        let socket_of = |family| socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
        let socket = socket_of(AddressFamily::INET).or_else(|_| socket_of(AddressFamily::INET6));
        let socket = socket.step(what)?;
        let cookie = crate::sys::netns_cookie(&socket).step(what)?;
        Ok(NetNamespace { cookie })
    }
}

/// Where wildcard blocks are drawn from unless attach is told: 20000-32767 and 61000-65535, which
/// lie outside the default ephemeral range, without the ports that `/etc/services` names.
pub fn default_ranges() -> RangeSet {
    let services = fs::read_to_string("/etc/services").unwrap_or_default();
    without_services(
        "20000-32767,61000-65535".parse().unwrap_or_default(),
        &services,
    )
}

/// Whether this process sees only a part of the machine's processes.
pub(crate) fn is_nested_pid_namespace() -> bool {
    // The initial pid namespace always has this inode (PROC_PID_INIT_INO).
    const INITIAL: &str = "pid:[4026531836]";
    fs::read_link("/proc/self/ns/pid").map_or(true, |link| link.as_os_str() != INITIAL)
}

/// Takes the named ports out; of more pieces than a pool can have, the largest stay.
pub(crate) fn without_services(mut ranges: RangeSet, services: &str) -> RangeSet {
    for port in services.lines().filter_map(service_port) {
        ranges.remove(PortRange::single(port));
    }
    let mut pieces: Vec<PortRange> = ranges.iter().collect();
    pieces.sort_by_key(|range| std::cmp::Reverse(range.count()));
    pieces.into_iter().take(abi::RANGE_COUNT_MAX).collect()
}

fn service_port(line: &str) -> Option<Port> {
    let entry = line.split('#').next()?;
    let (port, _) = entry.split_whitespace().nth(1)?.split_once('/')?;
    Port::new(port.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_services_are_left_out() {
        let services = "csync2 30865/tcp # cluster\n#x 20001/tcp\nbroken\nssh 22/tcp\n";
        let ranges = without_services("20000-32767".parse().expect("ranges"), services);
        assert_eq!(ranges.to_string(), "20000-30864,30866-32767");
    }

    #[test]
    fn many_services_leave_the_largest_ranges() {
        let services: String = (0..200)
            .map(|n| format!("s{n} {}/udp\n", 20_000 + n * 2))
            .collect();
        let ranges = without_services("20000-32767".parse().expect("ranges"), &services);
        assert_eq!(ranges.iter().count(), abi::RANGE_COUNT_MAX);
        assert!(ranges.contains(Port::new(32_000).expect("port")));
    }
}
