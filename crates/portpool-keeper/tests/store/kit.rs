//! What the tests of the store share.

use std::{fs, path::PathBuf, time::SystemTime};

use portpool_core::{PortRange, Token, Transport};
use portpool_keeper::store::{Block, Boot, Change, Exclusion, Records, Sqlite, StateDir, Store};
use tempfile::TempDir;

/// A directory for records that goes with this value.
pub(crate) struct Place {
    pub(crate) directory: TempDir,
    pub(crate) state: StateDir,
}

impl Place {
    pub(crate) fn new() -> Place {
        let directory = tempfile::tempdir().expect("a directory");
        let state = StateDir::new(directory.path().join("state"));
        Place { directory, state }
    }

    /// A place in the directory of an arena, which is removed from outside.
    pub(crate) fn within(arena: &portpool_testkit::Arena) -> Place {
        let outside = arena.run().path().parent().expect("a directory around it");
        let directory = tempfile::tempdir_in(outside).expect("a directory");
        let state = StateDir::new(directory.path().join("state"));
        Place { directory, state }
    }

    /// A place with a file that an earlier portpool wrote.
    pub(crate) fn with_file(name: &str) -> Place {
        let place = Place::new();
        let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        fs::create_dir(place.state.path()).expect("make the directory");
        fs::copy(data.join(name), place.state.store()).expect("copy the file");
        place
    }

    pub(crate) fn open(&self) -> Sqlite {
        Sqlite::open(&self.state).expect("open the store")
    }

    /// What a reader sees.
    pub(crate) fn read(&self) -> Records {
        let store = Sqlite::open_to_read(&self.state).expect("open the store");
        store.expect("a store").records().expect("read the records")
    }
}

pub(crate) fn range(text: &str) -> PortRange {
    text.parse().expect("range")
}

pub(crate) fn boot() -> Boot {
    Boot::new("0b0e8d5c-6f0c-4a3c-9d0c-3f2f8f8f8f8f")
}

pub(crate) fn block(transport: Transport, ports: &str) -> Block {
    let token = Token::new(u64::from(range(ports).first().number()) << 16 | 1).expect("token");
    Block {
        transport,
        range: range(ports),
        group: Some(4_294_967_294),
        note: Some("web, März".parse().expect("note")),
        created: SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_795_000_000),
        token: Some((boot(), token)),
    }
}

pub(crate) fn exclusion(transport: Transport, ports: &str) -> Exclusion {
    Exclusion {
        transport,
        range: range(ports),
        note: None,
        created: SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_795_000_001),
    }
}

/// Some of everything.
pub(crate) fn example() -> Vec<Change> {
    vec![
        Change::AddBlock(block(Transport::Tcp, "5000-5019")),
        Change::AddBlock(Block {
            group: None,
            note: None,
            token: None,
            ..block(Transport::Udp, "5000-5019")
        }),
        Change::AddExclusion(exclusion(Transport::Tcp, "8080")),
        Change::AddExclusion(exclusion(Transport::Udp, "1-65535")),
    ]
}
