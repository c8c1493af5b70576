//! The real command with records of its own, and what is left by it.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use portpool::{PortRange, RangeSet, Tenure, Transport};
use portpool_keeper::{
    StateDir, Store,
    store::{Records, Sqlite},
};
use portpool_testkit::Arena;
use serde_json::Value;

/// An arena with records.
pub(crate) struct Place<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) state: PathBuf,
}

impl<'a> Place<'a> {
    pub(crate) fn new(arena: &'a Arena) -> Place<'a> {
        let outside = arena.run().path().parent().expect("a directory around it");
        let state = outside.join("state");
        Place { arena, state }
    }

    /// The command with the words of a line as its arguments.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portpool"));
        command
            .args(line.split_whitespace())
            .env("PORTPOOL_STATE_DIR", &self.state)
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, line: &str) -> Output {
        self.command(line).output().expect("run portpool")
    }

    /// Stdout of a command that succeeds.
    pub(crate) fn done(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {}", stderr(&output));
        String::from_utf8(output.stdout).expect("text")
    }

    pub(crate) fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.done(line)).expect("json")
    }

    /// Stderr of a command that ends with status 1.
    pub(crate) fn refused(&self, line: &str) -> String {
        let output = self.run(line);
        assert_eq!(output.status.code(), Some(1), "{line}: {}", stderr(&output));
        stderr(&output)
    }

    /// Attaches, as at boot or for an update.
    pub(crate) fn attach(&self) -> String {
        let cgroup = self.arena.cgroup().display();
        self.done(&format!("attach --private-mounts --cgroup {cgroup}"))
    }

    pub(crate) fn records(&self) -> Records {
        let store = Sqlite::open_to_read(&StateDir::new(&self.state)).expect("open the records");
        store.map_or(Records::default(), |mut store| {
            store.records().expect("read the records")
        })
    }

    /// Asserts that what is in force is what is on record, and the sysctl likewise.
    pub(crate) fn assert_in_step(&self, why: &str) {
        let (records, pool) = (self.records(), self.arena.pool());
        let recorded: BTreeSet<(Transport, PortRange)> = records
            .blocks
            .iter()
            .map(|block| (block.transport, block.range))
            .collect();
        let active: BTreeSet<(Transport, PortRange)> = pool
            .reservations()
            .expect("look")
            .iter()
            .filter(|entry| entry.tenure != Tenure::Runtime)
            .map(|entry| (entry.transport, entry.range))
            .collect();
        assert_eq!(active, recorded, "{why}");
        for transport in Transport::ALL {
            let exclusions = records.exclusions.iter();
            let wanted = exclusions.filter(|exclusion| exclusion.transport == transport);
            let wanted = wanted.map(|exclusion| exclusion.range).collect();
            assert_eq!(pool.excluded(transport).expect("look"), wanted, "{why}");
        }
        let blocks = records.blocks.iter().map(|block| block.range);
        let exclusions = records.exclusions.iter().map(|exclusion| exclusion.range);
        let run = self.arena.run();
        let kept = |reason| portpool_kernel::kept_for(run, reason).expect("look");
        // What the pool keeps clear in any case is not kept clear for them.
        let blocks: RangeSet = blocks.collect();
        assert_eq!(
            kept(portpool_kernel::Reason::Persistent),
            blocks.difference(&kept(portpool_kernel::Reason::Attached)),
            "{why}"
        );
        assert_eq!(
            kept(portpool_kernel::Reason::Excluded),
            exclusions.collect(),
            "{why}"
        );
    }
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Errno of a plain bind, 0 if it succeeds.
pub(crate) fn errno_of_bind(port: u16) -> i32 {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => 0,
        Err(error) => error.raw_os_error().expect("an errno"),
    }
}

pub(crate) const EACCES: i32 = 13;
