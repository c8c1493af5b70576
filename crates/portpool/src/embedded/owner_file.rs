//! What one process lists in the registry: a lock that it has as long as it lives, and beside it the
//! list, which it changes in place: a reader that meets a change reads again. Files made aside and renamed
//! would cost more than the sockets of a small block.
//!
//! Forks share the lock as they share the holds, and lose both when they start a program.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    sync::Arc,
    thread,
    time::Duration,
};

use portpool_core::{Token, abi::Record};
use rustix::{
    fs::{FlockOperation, flock, fstat},
    io::Errno,
    process::geteuid,
};

use super::{
    held::Held,
    list::List,
    listing::{self, Content, Lister},
    registry::Registry,
};
use crate::{
    claim::{random, since_boot},
    error::LookError,
    sys::process_id,
};

/// The file of this process, if it has one.
#[derive(Debug)]
pub(crate) struct OwnerFile(Option<Entry>);

#[derive(Debug)]
struct Entry {
    registry: Registry,
    name: String,
    lock: OwnedFd,
    list: List,
    /// When the files were last seen in the directory, in nanoseconds since boot.
    seen: u64,
}

/// All blocks of this process.
type All = BTreeMap<Token, Arc<Held>>;

impl OwnerFile {
    pub(crate) const fn none() -> OwnerFile {
        OwnerFile(None)
    }

    /// Lists blocks, which are among `all` by now.
    ///
    /// Without a list the ports are held all the same, and whoever looks is told what is wrong with the
    /// directory.
    pub(crate) fn enter(&mut self, blocks: &[Arc<Held>], all: &All) {
        let now = blocks.first().map_or(0, |held| held.born);
        if let Some(entry) = &mut self.0
            && entry.is_there(now)
        {
            return entry.enter(blocks);
        }
        // None yet, or somebody tidied up.
        self.begin(all);
    }

    /// Takes a block, which is no longer among `all`, off the list.
    pub(crate) fn strike(&mut self, held: &Held, all: &All) {
        let Some(entry) = &mut self.0 else { return };
        if all.is_empty() {
            entry.remove();
            self.0 = None;
            return;
        }
        let Some(place) = held.place() else { return };
        if entry.list.strike(place).is_err() {
            // Better a new list than one that is wrong.
            self.begin(all);
        }
    }

    /// Begins a list of its own for all blocks.
    fn begin(&mut self, all: &All) {
        for held in all.values() {
            held.set_place(None);
        }
        if let Some(old) = self.0.take() {
            old.remove();
        }
        self.0 = Entry::make().ok();
        if let Some(entry) = &mut self.0 {
            entry.enter(all.values());
        }
    }

    /// Forgets the file without taking it away.
    pub(crate) fn leave_to_parent(self) {
        drop(self.0);
    }
}

impl Entry {
    fn make() -> Result<Entry, LookError> {
        let mut last = Registry::create()?;
        for _ in 0..TRY_COUNT_MAX {
            let registry = last;
            let name = random().map_err(|cause| unlisted(&registry, cause))?;
            let name = format!("{name:016x}");
            let made = Entry::make_in(&registry, &name);
            match made {
                Ok(Some((lock, list))) => {
                    return Ok(Entry {
                        registry,
                        name,
                        lock,
                        list,
                        seen: since_boot(),
                    });
                }
                Ok(None) => last = registry,
                // Somebody else has just taken the empty directory away.
                Err(error) if error.kind() == io::ErrorKind::NotFound => last = Registry::create()?,
                Err(cause) => return Err(unlisted(&registry, cause)),
            }
        }
        Err(unlisted(&last, io::ErrorKind::ResourceBusy.into()))
    }

    fn make_in(registry: &Registry, name: &str) -> io::Result<Option<(OwnedFd, List)>> {
        let lock = registry.make(&format!("{name}{LOCK}"))?;
        // Somebody who looks may have been quicker, and has then taken it away as stale.
        let is_ours = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
            && is_there(registry, name, &lock);
        if !is_ours {
            return Ok(None);
        }
        let file = registry.make(&format!("{name}{LIST}"));
        let list = file.and_then(|file| List::begin(file, &lister()));
        if list.is_err() {
            // A full disk is not made fuller each time.
            remove(registry, name);
            registry.leave();
        }
        Ok(Some((lock, list?)))
    }

    /// Blocks that the list has no room for, or no disk, are not in it.
    fn enter<'a>(&mut self, blocks: impl IntoIterator<Item = &'a Arc<Held>>) {
        for held in blocks {
            held.set_place(self.list.enter(&held.listed()).ok());
        }
    }

    /// Whether the files are still in the directory, which somebody may have tidied. Asked now and then:
    /// each time it would cost a tenth of a reservation.
    fn is_there(&mut self, now: u64) -> bool {
        if now.saturating_sub(self.seen) < SEEN_TIME.as_nanos() as u64 {
            return true;
        }
        self.seen = now;
        // The lock goes last, and whoever tidies up takes both.
        fstat(&self.lock).is_ok_and(|status| status.st_nlink != 0)
    }

    fn remove(&self) {
        remove(&self.registry, &self.name);
        self.registry.leave();
    }
}

/// What every live process lists; files of processes that are gone are taken away.
pub(crate) fn read_all(registry: &Registry) -> io::Result<Vec<(u64, Record)>> {
    let mut found = Vec::new();
    for name in registry.names(LOCK)? {
        if is_stale(registry, &name)? {
            continue;
        }
        let Some(records) = read(registry, &name)? else {
            continue;
        };
        found.extend(records);
    }
    if found.is_empty() {
        registry.leave();
    }
    Ok(found)
}

/// What one process lists; nothing if it has not listed anything yet.
fn read(registry: &Registry, name: &str) -> io::Result<Option<Vec<(u64, Record)>>> {
    let invalid = |problem: &str| {
        let message = format!("{name}{LIST} {problem}");
        io::Error::new(io::ErrorKind::InvalidData, message)
    };
    for _ in 0..READ_COUNT_MAX {
        let file = match registry.open(&format!("{name}{LIST}")) {
            Ok(file) => file,
            // Not made yet, or the owner is just ending.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        File::from(file)
            .take(LIST_SIZE_MAX)
            .read_to_end(&mut bytes)?;
        match listing::read(&bytes) {
            Content::Whole(records) => return Ok(Some(records)),
            Content::Empty => return Ok(None),
            Content::Foreign => return Err(invalid("is of another version of portpool")),
            Content::Wrong => return Err(invalid("cannot be read")),
            // Its owner is writing it just now.
            Content::Torn => thread::yield_now(),
        }
    }
    Err(invalid("does not agree with its checksum"))
}

fn unlisted(registry: &Registry, cause: io::Error) -> LookError {
    LookError::Registry {
        path: registry.path().to_owned(),
        cause,
    }
}

/// Whether the owner is gone; then its files are, too. What cannot be told is an error: a shortage of
/// descriptors must not hide who lives.
fn is_stale(registry: &Registry, name: &str) -> io::Result<bool> {
    let lock = match registry.open(&format!("{name}{LOCK}")) {
        Ok(lock) => lock,
        // Gone just now, or no file of ours.
        Err(error) if is_no_lock(&error) => return Ok(true),
        Err(error) => return Err(error),
    };
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            remove(registry, name);
            Ok(true)
        }
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn is_no_lock(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::NotFound, io::ErrorKind::InvalidData];
    kinds.contains(&error.kind()) || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

/// The lock last: without one the rest is nobody's.
fn remove(registry: &Registry, name: &str) {
    for suffix in [LIST, LOCK] {
        registry.remove(&format!("{name}{suffix}"));
    }
}

fn is_there(registry: &Registry, name: &str, lock: &impl AsFd) -> bool {
    let found = registry.open(&format!("{name}{LOCK}"));
    let inode = |status: rustix::fs::Stat| (status.st_dev, status.st_ino);
    let found = found.ok().and_then(|file| fstat(file).ok()).map(inode);
    found.is_some() && found == fstat(lock).ok().map(inode)
}

fn lister() -> Lister {
    Lister {
        pid: process_id(),
        start: start(),
        pid_namespace: fs::metadata("/proc/self/ns/pid").map_or(0, |file| file.ino() as u32),
        uid: geteuid().as_raw(),
        command: fs::read_to_string("/proc/self/comm")
            .unwrap_or_default()
            .trim_end()
            .to_owned(),
    }
}

/// The start of this process in nanoseconds since boot, to a hundredth of a second.
fn start() -> u64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().nth(19);
    ticks.and_then(|ticks| ticks.parse().ok()).unwrap_or(0) * 10_000_000
}

const LOCK: &str = ".lock";
const LIST: &str = ".list";
const TRY_COUNT_MAX: u32 = 16;
/// A writer that is put off its processor in the middle of a list is back long before.
const READ_COUNT_MAX: u32 = 10_000;
/// A block for every port of both transports takes a third of it.
const LIST_SIZE_MAX: u64 = 16 << 20;
/// How long files that were there are taken to be there still.
const SEEN_TIME: Duration = Duration::from_secs(1);
