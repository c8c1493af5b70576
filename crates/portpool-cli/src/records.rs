//! What is on record, for those who may read it: notes, and what is not in force.

use portpool::{Entry, PortRange, Tenure, Transport};
use portpool_keeper::{
    StateDir, Store, StoreError,
    store::{Records, Sqlite},
};

/// What is on record, nothing if there are no records or they are not ours to read.
///
/// # Errors
/// What is wrong with the records.
pub(crate) fn read() -> Result<Records, StoreError> {
    let Some(state) = StateDir::from_env() else {
        return Ok(Records::default());
    };
    let read = match Sqlite::open_to_read(&state) {
        Ok(Some(mut store)) => store.records(),
        Ok(None) => Ok(Records::default()),
        Err(error) => Err(error),
    };
    match read {
        Err(StoreError::Unreadable { cause, .. })
            if cause.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Ok(Records::default())
        }
        read => read,
    }
}

/// The note of a persistent block.
pub(crate) fn note_of(records: &Records, entry: &Entry) -> Option<String> {
    if entry.tenure == Tenure::Runtime {
        return None;
    }
    let found = records
        .blocks
        .iter()
        .find(|block| (block.transport, block.range) == (entry.transport, entry.range));
    found?.note.as_ref().map(ToString::to_string)
}

/// The exclusion that a port is part of, and its note.
pub(crate) fn exclusion_of(
    records: &Records,
    transport: Transport,
    port: portpool::Port,
) -> Option<(PortRange, Option<String>)> {
    let found = records
        .exclusions
        .iter()
        .find(|exclusion| exclusion.transport == transport && exclusion.range.contains(port))?;
    Some((found.range, found.note.as_ref().map(ToString::to_string)))
}

/// Blocks and exclusions on record, by transport and range, with their notes.
pub(crate) fn lines(records: &Records) -> impl Iterator<Item = (Transport, PortRange, String)> {
    let blocks = records
        .blocks
        .iter()
        .map(|block| (block.transport, block.range, block.note.as_ref()));
    let exclusions = records.exclusions.iter().map(|exclusion| {
        (
            exclusion.transport,
            exclusion.range,
            exclusion.note.as_ref(),
        )
    });
    blocks.chain(exclusions).map(|(transport, range, note)| {
        let note = note.map_or(String::new(), |note| format!(" ({note})"));
        (transport, range, note)
    })
}
