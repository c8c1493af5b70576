//! One change of records, kernel and sysctl at a time, and whether the last one came to its end.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
};

use rustix::fs::{FlockOperation, OFlags, flock};

use crate::store::StateDir;

/// The lock file of a state directory.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    pub(crate) fn open(state: &StateDir) -> io::Result<Lock> {
        if !state.path().is_dir() {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o700).create(state.path())?;
        }
        state.check_owner()?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            // Who can open it can lock it.
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(state.lock())?;
        Ok(Lock(file))
    }

    /// Waits for the turn, which ends with the answer.
    pub(crate) fn begin(&self) -> io::Result<Turn<'_>> {
        flock(&self.0, FlockOperation::LockExclusive)?;
        let mut turn = Turn {
            file: &self.0,
            is_clean: true,
        };
        let mut text = [0; WIDTH];
        match turn.file.read_at(&mut text, 0)? {
            WIDTH => turn.is_clean = text.starts_with(IDLE.as_bytes()),
            // Its room is taken now, so that a full disk does not keep anybody from noting.
            _ => turn.note(IDLE)?,
        }
        Ok(turn)
    }
}

/// A turn at the lock.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    file: &'a File,
    is_clean: bool,
}

impl Turn<'_> {
    /// Whether the one before came to its end.
    pub(crate) fn is_clean(&self) -> bool {
        self.is_clean
    }

    /// Notes what is being done: for the next process, not for the next boot, so without a sync.
    pub(crate) fn note(&self, what: &str) -> io::Result<()> {
        let text = format!("{what:<WIDTH$.WIDTH$}");
        self.file.write_all_at(text.as_bytes(), 0)
    }

    /// Notes that nothing is left half done.
    pub(crate) fn finish(&self) -> io::Result<()> {
        self.note(IDLE)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Fails only for a descriptor that is none.
        let _ = flock(self.file, FlockOperation::Unlock);
    }
}

const IDLE: &str = "idle";
const WIDTH: usize = 64;
