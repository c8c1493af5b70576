//! What one process lists in the registry: a lock that it has as long as it lives, and beside it the
//! list, written aside and renamed into place.
//!
//! Forks share the lock as they share the holds, and lose both when they start a program.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    process,
    sync::Arc,
};

use portpool_core::{
    Token,
    abi::{Record, Tenure},
};
use rustix::{
    fs::{FlockOperation, flock, fstat},
    io::Errno,
    process::geteuid,
};

use super::{held::Held, registry::Registry};
use crate::{claim::random, error::LookError};

/// The file of this process, if it has one.
#[derive(Debug)]
pub(crate) struct OwnerFile(Option<Entry>);

#[derive(Debug)]
struct Entry {
    registry: Registry,
    name: String,
    lock: OwnedFd,
}

impl OwnerFile {
    pub(crate) const fn none() -> OwnerFile {
        OwnerFile(None)
    }

    /// Lists these blocks, and nothing else.
    pub(crate) fn write<'a>(&mut self, held: impl ExactSizeIterator<Item = &'a Arc<Held>>) {
        if held.len() == 0 {
            if let Some(entry) = self.0.take() {
                entry.remove();
            }
            return;
        }
        let text = list(held);
        if self.0.as_ref().is_some_and(|it| it.publish(&text).is_ok()) {
            return;
        }
        // None yet, or somebody tidied up. Without a list the ports are held all the same, and
        // whoever looks is told what is wrong with the directory.
        self.0 = Entry::make().ok();
        if let Some(entry) = &self.0 {
            drop(entry.publish(&text));
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
            let made = random().and_then(|name| Entry::make_in(&registry, &format!("{name:016x}")));
            match made {
                Ok(Some((name, lock))) => {
                    return Ok(Entry {
                        registry,
                        name,
                        lock,
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

    fn make_in(registry: &Registry, name: &str) -> io::Result<Option<(String, OwnedFd)>> {
        let lock = registry.make(&format!("{name}{LOCK}"))?;
        // Somebody who looks may have been quicker, and has then taken it away as stale.
        let is_ours = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
            && is_there(registry, name, &lock);
        Ok(is_ours.then(|| (name.to_owned(), lock)))
    }

    fn publish(&self, text: &str) -> io::Result<()> {
        if !is_there(&self.registry, &self.name, &self.lock) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let aside = format!("{}{ASIDE}", self.name);
        self.registry.remove(&aside);
        let mut file = File::from(self.registry.make(&aside)?);
        file.write_all(text.as_bytes())?;
        self.registry
            .rename(&aside, &format!("{}{LIST}", self.name))
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
        if is_stale(registry, &name) {
            continue;
        }
        let file = match registry.open(&format!("{name}{LIST}")) {
            Ok(file) => file,
            // Not written yet, or the owner is just ending.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        File::from(file)
            .take(LIST_SIZE_MAX)
            .read_to_string(&mut text)?;
        let records = parse(&text).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{name}{LIST} is of another version of portpool"),
            )
        })?;
        found.extend(records);
    }
    if found.is_empty() {
        registry.leave();
    }
    Ok(found)
}

fn unlisted(registry: &Registry, cause: io::Error) -> LookError {
    LookError::Registry {
        path: registry.path().to_owned(),
        cause,
    }
}

/// Whether the owner is gone; then its files are, too.
fn is_stale(registry: &Registry, name: &str) -> bool {
    let Ok(lock) = registry.open(&format!("{name}{LOCK}")) else {
        return true;
    };
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            remove(registry, name);
            true
        }
        Err(error) => error != Errno::WOULDBLOCK,
    }
}

/// The lock last: without one the rest is nobody's.
fn remove(registry: &Registry, name: &str) {
    for suffix in [ASIDE, LIST, LOCK] {
        registry.remove(&format!("{name}{suffix}"));
    }
}

fn is_there(registry: &Registry, name: &str, lock: &impl AsFd) -> bool {
    let found = registry.open(&format!("{name}{LOCK}"));
    let inode = |status: rustix::fs::Stat| (status.st_dev, status.st_ino);
    let found = found.ok().and_then(|file| fstat(file).ok()).map(inode);
    found.is_some() && found == fstat(lock).ok().map(inode)
}

fn list<'a>(held: impl Iterator<Item = &'a Arc<Held>>) -> String {
    let space = fs::metadata("/proc/self/ns/pid").map_or(0, |file| file.ino());
    let command = fs::read_to_string("/proc/self/comm").unwrap_or_default();
    let command: String = command.trim_end().chars().filter(is_plain).collect();
    let mut text = format!(
        "{VERSION}\nowner {} {} {space} {} {command}\n",
        process::id(),
        start(),
        geteuid().as_raw(),
    );
    for held in held {
        let block = held.block;
        text.push_str(&format!(
            "block {} {} {} {} {}\n",
            held.namespace, block.token, block.transport, block.range, held.born
        ));
    }
    text
}

fn parse(text: &str) -> Option<Vec<(u64, Record)>> {
    let mut lines = text.lines();
    if lines.next()? != VERSION {
        return None;
    }
    let mut owner = lines.next()?.strip_prefix("owner ")?.splitn(5, ' ');
    let owner_pid = owner.next()?.parse().ok()?;
    let owner_start = owner.next()?.parse().ok()?;
    let pid_namespace = owner.next()?.parse().ok()?;
    let uid = owner.next()?.parse().ok()?;
    let command = owner.next()?;
    let block = |line: &str| {
        let mut fields = line.strip_prefix("block ")?.split(' ');
        let namespace = fields.next()?.parse().ok()?;
        let token: Token = fields.next()?.parse().ok()?;
        let record = Record {
            token,
            transport: fields.next()?.parse().ok()?,
            range: fields.next()?.parse().ok()?,
            tenure: Tenure::Runtime,
            uid,
            owner_pid,
            owner_pid_seen: owner_pid,
            pid_namespace,
            owner_start,
            tree_root: None,
            born: fields.next()?.parse().ok()?,
            shared: false,
            command: command.to_owned(),
        };
        Some((namespace, record))
    };
    lines.map(block).collect()
}

/// The start of this process in nanoseconds since boot, to a hundredth of a second.
fn start() -> u64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().nth(19);
    ticks.and_then(|ticks| ticks.parse().ok()).unwrap_or(0) * 10_000_000
}

fn is_plain(character: &char) -> bool {
    !character.is_control()
}

const VERSION: &str = "portpool registry 1";
const LOCK: &str = ".lock";
const LIST: &str = ".list";
const ASIDE: &str = ".aside";
const TRY_COUNT_MAX: u32 = 16;
/// A block for every port of both transports, of about 80 bytes each.
const LIST_SIZE_MAX: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_another_version_is_not_read() {
        let list = "portpool registry 1\nowner 7 9 11 1000 a b\n\
                    block 5 00000000c0ffee00 tcp 20000-20003 77\n";
        let records = parse(list).expect("a list");
        let (namespace, record) = &records[0];
        assert_eq!((*namespace, record.owner_pid, record.uid), (5, 7, 1000));
        assert_eq!(
            (record.command.as_str(), record.range.to_string()),
            ("a b", "20000-20003".to_owned())
        );
        assert_eq!(parse(&list.replace("registry 1", "registry 2")), None);
        assert_eq!(parse(&list.replace("tcp", "sctp")), None);
        assert_eq!(parse(""), None);
    }
}
