//! Who has the ports that were asked for, as far as this process can see it.

use portpool::{AcquireError, Entry, Pool, PortRange, Refusal, Transport};

use crate::{output::printable, owner::Owner, socket_owners::Sockets};

/// What to say of a refusal: the refusal, and who has the ports if that can be told.
pub(crate) fn explained(pool: &Pool, error: &AcquireError) -> String {
    let AcquireError::Refused {
        request,
        range: Some(range),
        refusal: Refusal::InUse,
    } = error
    else {
        return error.to_string();
    };
    let mut holders = reserved(pool, *range, |transport| {
        request.transports.contains(transport)
    });
    if holders.is_empty() {
        holders = bound(*range, request.transports.iter());
    }
    match holders.is_empty() {
        true => error.to_string(),
        false => format!("{error} ({})", holders.join("; ")),
    }
}

fn reserved(pool: &Pool, range: PortRange, wanted: impl Fn(Transport) -> bool) -> Vec<String> {
    let entries = pool.reservations().unwrap_or_default().into_iter();
    let overlapping = entries.filter(|it| wanted(it.transport) && it.range.overlaps(range));
    let lines = overlapping.map(|entry: Entry| {
        let owner = Owner::of(&entry);
        format!(
            "{}/{} is reserved by pid {}, user {}: {}",
            entry.range,
            entry.transport,
            owner.pid_text(),
            printable(&owner.user_text()),
            owner.command_text()
        )
    });
    lines.take(HOLDER_COUNT_MAX).collect()
}

fn bound(range: PortRange, transports: impl Iterator<Item = Transport>) -> Vec<String> {
    let sockets = Sockets::read();
    let mut lines = Vec::new();
    for transport in transports {
        for port in range.ports().filter(|port| sockets.has(transport, *port)) {
            if lines.len() == HOLDER_COUNT_MAX {
                return lines;
            }
            let what = format!("{port}/{transport}");
            lines.push(
                match sockets.processes(transport, port).into_iter().next() {
                    Some((pid, Some(command))) => {
                        format!("{what} is bound by pid {pid}: {command}")
                    }
                    Some((pid, None)) => format!("{what} is bound by pid {pid}"),
                    None => format!("{what} is bound by a process that only root can see"),
                },
            );
        }
    }
    lines
}

/// A few are enough to know what to do.
const HOLDER_COUNT_MAX: usize = 3;
