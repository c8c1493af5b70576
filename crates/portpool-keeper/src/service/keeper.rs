//! What the calls do, once it is decided that the caller may.

use std::time::Instant;

use portpool_core::{
    PortRange, Transport,
    abi::{Record, Tenure},
};
use portpool_varlink::{
    Fault,
    calls::{
        Description, Done, Entry, EntryKind, Exclude, List, Lookup, Named, Page, Persist,
        Persisted, Unexclude, Unpersist,
    },
};

use super::{
    access::Access,
    administration::Administration,
    grants::Grants,
    hub::Hub,
    limits::ENTRIES_PER_PAGE,
    metrics::{Load, Metrics},
    pool_world::PoolWorld,
    seats::Seats,
    world::World,
};

/// Everything that connections share.
pub(super) struct Keeper {
    pub(super) cookie: u64,
    /// The slot of the pool, as events name it.
    pub(super) pool_index: u32,
    pub(super) administration: Administration,
    pub(super) world: PoolWorld,
    pub(super) access: Access,
    pub(super) grants: Grants<PoolWorld>,
    pub(super) hub: Hub,
    pub(super) metrics: Metrics,
    pub(super) seats: Seats,
}

impl Keeper {
    /// What keeper this is.
    pub(super) fn describe(&self) -> Result<Description, Fault> {
        let records = self.world.reservations();
        let (_, windows) = self.grants.counts();
        Ok(Description {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            namespace: self.cookie,
            attached: records.is_ok(),
            ephemeral: self.world.ephemeral().map_err(Fault::Failed)?,
            reservations: records.map_or(0, |it| it.len() as u64),
            windows: windows as u64,
        })
    }

    /// The token of a persistent block.
    pub(super) fn lookup(&self, asked: Lookup) -> Result<Named, Fault> {
        let Lookup { transport, range } = asked;
        let found = self.world.lookup_persistent(transport, range);
        match found.map_err(|error| Fault::Failed(error.to_string()))? {
            Some(token) => Ok(Named { token }),
            None => Err(not_found(transport, range, "persistent reservation")),
        }
    }

    /// Makes a block persistent.
    pub(super) fn persist(&self, asked: &Persist) -> Result<Persisted, Fault> {
        self.timed(|| self.administration.persist(asked))
    }

    /// Ends a persistent block.
    pub(super) fn unpersist(&self, asked: Unpersist) -> Result<Done, Fault> {
        self.timed(|| self.administration.unpersist(asked.transports, asked.range))?;
        Ok(Done {})
    }

    /// Excludes ports.
    pub(super) fn exclude(&self, asked: &Exclude) -> Result<Done, Fault> {
        self.timed(|| self.administration.exclude(asked))?;
        Ok(Done {})
    }

    /// Ends an exclusion.
    pub(super) fn unexclude(&self, asked: Unexclude) -> Result<Done, Fault> {
        self.timed(|| self.administration.unexclude(asked.transports, asked.range))?;
        Ok(Done {})
    }

    /// Durable changes, timed if they were made: a refusal writes nothing.
    fn timed<T>(&self, change: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        let start = Instant::now();
        let answer = change();
        if answer.is_ok() {
            self.metrics.stored(start.elapsed());
        }
        answer
    }

    /// Some entries, in the order of kind, transport and first port: what comes or goes between two pages
    /// does not move the others. The records are root's, and so notes are shown to administrators alone.
    pub(super) fn list(&self, asked: &List, is_administrator: bool) -> Result<Page, Fault> {
        let after = match &asked.after {
            None => None,
            Some(text) => match cursor(text) {
                Some(after) => Some(after),
                None => return Err(Fault::InvalidParameter("after".to_owned())),
            },
        };
        let mut entries = self.entries()?;
        if is_administrator {
            self.add_notes(&mut entries);
        }
        entries.sort_by_key(place);
        let mut rest = entries
            .into_iter()
            .filter(|entry| after.is_none_or(|after| place(entry) > after));
        let entries: Vec<Entry> = rest.by_ref().take(ENTRIES_PER_PAGE).collect();
        let last = entries.last().map(place).filter(|_| rest.next().is_some());
        let next = last.map(|(kind, transport, first)| format!("{kind}-{transport}-{first}"));
        Ok(Page { entries, next })
    }

    fn entries(&self) -> Result<Vec<Entry>, Fault> {
        let failed = |error: &dyn std::fmt::Display| Fault::Failed(error.to_string());
        let records = self.world.reservations().map_err(|error| failed(&error))?;
        let mut entries: Vec<Entry> = records.iter().map(entry_of).collect();
        for transport in Transport::ALL {
            let excluded = self
                .world
                .excluded(transport)
                .map_err(|error| failed(&error))?;
            entries.extend(excluded.iter().map(|range| Entry {
                kind: EntryKind::Exclusion,
                ..blank(transport, range)
            }));
        }
        Ok(entries)
    }

    fn add_notes(&self, entries: &mut [Entry]) {
        let mut notes = self.administration.notes();
        for entry in entries {
            if entry.kind != EntryKind::Runtime {
                entry.note = notes.remove(&(entry.transport, entry.range));
            }
        }
    }

    /// The metrics as they are read.
    pub(super) fn metrics_text(&self) -> String {
        let (waiting, windows) = self.grants.counts();
        let load = Load {
            connections: self.seats.taken(),
            watchers: self.hub.watcher_count(),
            waiting,
            windows,
        };
        self.metrics
            .text(&self.world, self.world.run(), self.cookie, load)
            .unwrap_or_else(|_| "# EOF\n".to_owned())
    }
}

fn entry_of(record: &Record) -> Entry {
    let blank = blank(record.transport, record.range);
    let (kind, group) = match record.tenure {
        Tenure::Runtime => (EntryKind::Runtime, None),
        Tenure::Persistent { group } => (EntryKind::Persistent, group),
    };
    Entry {
        kind,
        token: Some(record.token),
        uid: Some(record.uid),
        pid: (kind == EntryKind::Runtime).then_some(record.owner_pid),
        command: Some(record.command.clone()),
        group,
        ..blank
    }
}

fn blank(transport: Transport, range: PortRange) -> Entry {
    Entry {
        kind: EntryKind::Runtime,
        transport,
        range,
        token: None,
        uid: None,
        pid: None,
        command: None,
        group: None,
        note: None,
    }
}

/// Where an entry stands in the list.
fn place(entry: &Entry) -> (u8, u8, u16) {
    let kind = match entry.kind {
        EntryKind::Runtime => 0,
        EntryKind::Persistent => 1,
        EntryKind::Exclusion => 2,
    };
    (
        kind,
        entry.transport.protocol(),
        entry.range.first().number(),
    )
}

pub(super) fn cursor(text: &str) -> Option<(u8, u8, u16)> {
    let mut parts = text.split('-');
    let place = (
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
    );
    parts.next().is_none().then_some(place)
}

fn not_found(transport: Transport, range: PortRange, what: &str) -> Fault {
    Fault::NotFound(format!(
        "{range}/{transport}: no {what} has exactly these ports; `portpool reservations` lists all"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_the_list_reads_back() {
        let entry = Entry {
            kind: EntryKind::Exclusion,
            ..blank(Transport::Udp, "5000-5001".parse().unwrap())
        };
        let (kind, transport, first) = place(&entry);
        assert_eq!(
            cursor(&format!("{kind}-{transport}-{first}")),
            Some(place(&entry))
        );
        for text in ["", "1", "1-6", "1-6-80-2", "1-6-70000", "a-6-80"] {
            assert_eq!(cursor(text), None, "{text}");
        }
    }
}
