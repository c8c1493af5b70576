//! The grants of this keeper for the next one, in the run directory: they mean nothing after a boot.

use std::{fs, io, path::Path};

use portpool::Caller;
use portpool_core::{PortRange, Transports};
use serde::{Deserialize, Serialize};

use super::{
    Applicant,
    table::{Grant, Phase, Table},
};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    version: u32,
    grants: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    first: u16,
    count: u16,
    transports: String,
    uid: u32,
    pid: u32,
    start_ticks: u64,
    is_administrator: bool,
}

/// What is noted; nothing if there are no notes.
pub(super) fn read(path: &Path) -> Result<Table, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Table::default()),
        Err(error) => return Err(failed(&error)),
        Ok(text) => text,
    };
    let page: Page = serde_json::from_slice(&text).map_err(|error| failed(&error))?;
    if page.version != VERSION {
        return Err(failed(&format!(
            "version {} is not {VERSION}",
            page.version
        )));
    }
    let mut table = Table::default();
    for line in page.grants {
        let range =
            PortRange::from_numbers(line.first, line.count).map_err(|error| failed(&error))?;
        let transports: Transports = line.transports.parse().map_err(|error| failed(&error))?;
        let caller = Caller {
            uid: line.uid,
            pid: line.pid,
            start_ticks: line.start_ticks,
        };
        table.enter(Grant {
            range,
            transports,
            applicant: Applicant {
                caller,
                is_administrator: line.is_administrator,
            },
            // Whatever it was: the window is to be closed, and then it shows.
            phase: Phase::Open { deadline: 0 },
        });
    }
    Ok(table)
}

/// Notes what there is. Moved into place, so that it is read whole or as it was before.
pub(super) fn write(path: &Path, table: &Table) -> io::Result<()> {
    let grants = table.iter().map(|grant| Line {
        first: grant.range.first().number(),
        count: grant.range.count().number(),
        transports: grant.transports.to_string(),
        uid: grant.applicant.caller.uid,
        pid: grant.applicant.caller.pid,
        start_ticks: grant.applicant.caller.start_ticks,
        is_administrator: grant.applicant.is_administrator,
    });
    let page = Page {
        version: VERSION,
        grants: grants.collect(),
    };
    let aside = path.with_extension("new");
    fs::write(&aside, serde_json::to_vec(&page)?)?;
    fs::rename(&aside, path)
}

const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn notes_read_back_what_was_noted_and_nothing_is_guessed() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("grants");
        assert!(read(&path).unwrap().ids().is_empty());
        let mut table = Table::default();
        table.enter(Grant::stray("40000-40003".parse().unwrap()));
        write(&path, &table).unwrap();
        let again = read(&path).unwrap();
        assert_eq!(again.ranges(), table.ranges());
        assert!(
            again
                .iter()
                .all(|it| it.phase == Phase::Open { deadline: 0 })
        );
        for text in ["", "{}", "{\"version\":2,\"grants\":[]}"] {
            fs::write(&path, text).unwrap();
            assert!(read(&path).is_err(), "{text}");
        }
    }
}
