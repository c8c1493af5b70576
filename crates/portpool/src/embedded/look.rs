//! Looking at the embedded pool: what the processes of this user hold.

use std::fs;

use portpool_core::{Port, Transport, abi::Record};

use super::{owner_file::read_all, registry::Registry};
use crate::{error::LookError, look::PortState};

/// Every live reservation of a network namespace, by transport and first port.
pub(crate) fn reservations(namespace: u64) -> Result<Vec<Record>, LookError> {
    let Some(registry) = Registry::find()? else {
        return Ok(Vec::new());
    };
    let listed = read_all(&registry).map_err(|cause| LookError::Registry {
        path: registry.path().to_owned(),
        cause,
    })?;
    let here = listed.into_iter().filter(|(it, _)| *it == namespace);
    let mut records: Vec<Record> = here.map(|(_, record)| record).collect();
    records.sort_by_key(|record| (record.transport, record.range, record.token));
    Ok(records)
}

/// Who has a port.
pub(crate) fn port(
    namespace: u64,
    transport: Transport,
    port: Port,
) -> Result<PortState, LookError> {
    let reservation = reservations(namespace)?
        .into_iter()
        .find(|record| record.transport == transport && record.range.contains(port));
    // The hold of a UDP port is in the table as any other socket.
    let hold_count = u32::from(transport == Transport::Udp && reservation.is_some());
    Ok(PortState {
        reservation,
        socket_count: socket_count(transport, port).saturating_sub(hold_count),
        held: false,
        excluded: false,
        recent: false,
    })
}

/// The sockets the kernel shows on a port. It does not show TCP sockets that are only bound.
fn socket_count(transport: Transport, port: Port) -> u32 {
    let tables = match transport {
        Transport::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        Transport::Udp => ["/proc/net/udp", "/proc/net/udp6"],
    };
    let text = tables.map(|path| fs::read_to_string(path).unwrap_or_default());
    let rows = text.iter().flat_map(|text| text.lines().skip(1));
    let count = rows.filter(|row| is_bound_to(row, port)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Whether a row is of a live socket with this local port.
pub(super) fn is_bound_to(row: &str, port: Port) -> bool {
    let mut fields = row.split_whitespace().skip(1);
    let local = fields.next().and_then(|address| address.rsplit_once(':'));
    let number = local.and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
    number == Some(port.number()) && fields.nth(1) != Some(TIME_WAIT)
}

const TIME_WAIT: &str = "06";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_of_a_port_are_found() {
        let row = "  1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 0";
        let port = |number| Port::new(number).expect("a port");
        assert!(is_bound_to(row, port(8080)));
        assert!(!is_bound_to(row, port(8081)));
        assert!(!is_bound_to(&row.replace(" 0A ", " 06 "), port(8080)));
    }
}
