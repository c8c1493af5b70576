//! Where the embedded pool chooses from: the pool's default ranges, without ports that automatic
//! choice, a service or a privilege has a claim to.
//!
//! Holding a port keeps automatic choice from it, so ephemeral ports could be had as well; but who
//! holds many of them leaves the connections of everybody too few.

use std::fs;

use portpool_core::{Port, PortRange, RangeSet, Wildcard};

use crate::{maps::unprivileged_start, pool::default_ranges};

/// The ranges for a request: where the caller says, or else the default ones.
pub(crate) fn ranges_for(wanted: &Wildcard) -> RangeSet {
    match wanted.within {
        Some(within) => RangeSet::from(within),
        None => usual_ranges(),
    }
}

/// The ports that automatic choice picks from.
pub(crate) fn ephemeral_range() -> Option<PortRange> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    ephemeral_in(&text)
}

fn usual_ranges() -> RangeSet {
    let mut ranges = default_ranges();
    let services = fs::read_to_string("/etc/services").unwrap_or_default();
    for port in service_ports(&services) {
        ranges.remove(PortRange::single(port));
    }
    if let Some(ephemeral) = ephemeral_range() {
        ranges.remove(ephemeral);
    }
    let below = Port::new(unprivileged_start().saturating_sub(1));
    if let Some(below) = below.and_then(|last| PortRange::between(Port::FIRST, last)) {
        ranges.remove(below);
    }
    ranges
}

pub(super) fn ephemeral_in(text: &str) -> Option<PortRange> {
    let mut numbers = text.split_whitespace().map(str::parse);
    let (first, last) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    PortRange::between(first, last)
}

/// The ports of lines like `postgresql 5432/tcp postgres`.
pub(super) fn service_ports(text: &str) -> impl Iterator<Item = Port> {
    text.lines().filter_map(|line| {
        let line = line.split('#').next()?;
        let (port, _) = line.split_whitespace().nth(1)?.split_once('/')?;
        port.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ephemeral_range_is_read_from_the_sysctl() {
        let range = ephemeral_in("32768\t60999\n");
        assert_eq!(range, "32768-60999".parse().ok());
        assert_eq!(ephemeral_in("nonsense"), None);
    }

    #[test]
    fn ports_with_a_name_are_read_from_the_services() {
        let text = "# a comment\ntfido 60177/tcp\nhttp 80/tcp www # web\nbroken\n";
        let ports: Vec<u16> = service_ports(text).map(Port::number).collect();
        assert_eq!(ports, [60177, 80]);
    }
}
