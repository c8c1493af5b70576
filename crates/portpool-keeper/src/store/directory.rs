//! Where the records are.

use std::{
    env, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The directory of one pool's records.
///
/// ```text
/// STATE_DIR/lock                  one change at a time
/// STATE_DIR/store.sqlite          the records
/// STATE_DIR/store.sqlite-wal      those of the last commits
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// `PORTPOOL_STATE_DIR`; without it `/var/lib/portpool` in the network namespace of process 1,
    /// and nothing in others: their pools do not get the records of the machine.
    pub fn from_env() -> Option<StateDir> {
        match env::var_os("PORTPOOL_STATE_DIR") {
            Some(path) if !path.is_empty() => Some(StateDir(path.into())),
            _ => is_first_namespace().then(|| StateDir("/var/lib/portpool".into())),
        }
    }

    /// A directory of one's own.
    pub fn new(path: impl Into<PathBuf>) -> StateDir {
        StateDir(path.into())
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The file with the records.
    pub fn store(&self) -> PathBuf {
        self.0.join("store.sqlite")
    }

    /// Refuses a directory that somebody else could put files into, or take them from.
    pub(crate) fn check_owner(&self) -> io::Result<()> {
        let about = fs::metadata(&self.0)?;
        let is_ours = [0, rustix::process::geteuid().as_raw()].contains(&about.uid());
        if is_ours && about.mode() & 0o022 == 0 {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "{} belongs to user {} with mode {:o}: make it root's, writable by nobody else (chown 0, chmod go-w), or \
             name another directory in PORTPOOL_STATE_DIR",
            self.0.display(),
            about.uid(),
            about.mode() & 0o7777
        )))
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }
}

/// Unreadable means no: better to ask for a directory than to hand out the wrong records.
fn is_first_namespace() -> bool {
    let own = fs::read_link("/proc/thread-self/ns/net");
    let first = fs::read_link("/proc/1/ns/net");
    matches!((own, first), (Ok(own), Ok(first)) if own == first)
}
