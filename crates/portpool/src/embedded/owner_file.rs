//! What one process lists in the registry: a lock that it has as long as it lives, and beside it the
//! list, which is written over as a whole and tells its length and a checksum: a reader that meets a
//! writer reads again. Files made aside and renamed would cost more than the sockets of a small block.
//!
//! Forks share the lock as they share the holds, and lose both when they start a program.

use std::{
    fmt::Write,
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileExt, MetadataExt},
    },
    process,
    sync::Arc,
    thread,
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
    list: File,
    /// The line that tells whose list it is.
    owner: String,
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
        let blocks = blocks(held);
        if self
            .0
            .as_ref()
            .is_some_and(|it| it.publish(&blocks).is_ok())
        {
            return;
        }
        // None yet, or somebody tidied up. Without a list the ports are held all the same, and
        // whoever looks is told what is wrong with the directory.
        self.0 = Entry::make().ok();
        if let Some(entry) = &self.0 {
            drop(entry.publish(&blocks));
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
                        owner: owner(),
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

    fn make_in(registry: &Registry, name: &str) -> io::Result<Option<(OwnedFd, File)>> {
        let lock = registry.make(&format!("{name}{LOCK}"))?;
        // Somebody who looks may have been quicker, and has then taken it away as stale.
        let is_ours = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
            && is_there(registry, name, &lock);
        if !is_ours {
            return Ok(None);
        }
        let list = registry.make(&format!("{name}{LIST}"))?;
        Ok(Some((lock, list.into())))
    }

    fn publish(&self, blocks: &str) -> io::Result<()> {
        // The lock goes last, and whoever tidies up takes both.
        if fstat(&self.lock)?.st_nlink == 0 {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.list
            .write_all_at(text(&self.owner, blocks).as_bytes(), 0)
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
        let mut text = Vec::new();
        File::from(file)
            .take(LIST_SIZE_MAX)
            .read_to_end(&mut text)?;
        if text.is_empty() {
            return Ok(None);
        }
        match whole(&text) {
            Content::Whole(text) => {
                let records = parse(text).ok_or_else(|| invalid("cannot be read"))?;
                return Ok(Some(records));
            }
            Content::Foreign => return Err(invalid("is of another version of portpool")),
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

/// The line about this process.
fn owner() -> String {
    let space = fs::metadata("/proc/self/ns/pid").map_or(0, |file| file.ino());
    let command = fs::read_to_string("/proc/self/comm").unwrap_or_default();
    let command: String = command.trim_end().chars().filter(is_plain).collect();
    format!(
        "owner {} {} {space} {} {command}\n",
        process::id(),
        start(),
        geteuid().as_raw(),
    )
}

fn blocks<'a>(held: impl Iterator<Item = &'a Arc<Held>>) -> String {
    let mut text = String::new();
    for held in held {
        let block = held.block;
        let (token, transport, range) = (block.token, block.transport, block.range);
        let (namespace, born) = (held.namespace, held.born);
        // A string takes everything.
        let _ = writeln!(text, "block {namespace} {token} {transport} {range} {born}");
    }
    text
}

/// The whole of a list. What is in the file after its length is of an earlier, longer one.
pub(super) fn text(owner: &str, blocks: &str) -> String {
    let body = format!("{owner}{blocks}");
    let (length, sum) = (body.len(), checksum(body.as_bytes()));
    format!("{VERSION}\n{length:08} {sum:016x}\n{body}")
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content<'a> {
    /// The lines after the head.
    Whole(&'a str),
    /// Read while it was written.
    Torn,
    /// Of another version.
    Foreign,
}

pub(super) fn whole(text: &[u8]) -> Content<'_> {
    let Some(rest) = text.strip_prefix(VERSION.as_bytes()) else {
        return Content::Foreign;
    };
    let body = || {
        let head = str::from_utf8(rest.get(1..HEAD_SIZE)?).ok()?;
        let (length, sum) = head.split_once(' ')?;
        let end = length.parse::<usize>().ok()?.checked_add(HEAD_SIZE + 1)?;
        let body = rest.get(HEAD_SIZE..end)?.strip_prefix(b"\n")?;
        let sum = u64::from_str_radix(sum, 16).ok()?;
        (checksum(body) == sum).then_some(body)
    };
    match body().map(str::from_utf8) {
        Some(Ok(body)) => Content::Whole(body),
        Some(Err(_)) | None => Content::Torn,
    }
}

/// FNV-1a: against accidents, not against enemies, who cannot write here.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

pub(super) fn parse(text: &str) -> Option<Vec<(u64, Record)>> {
    let mut lines = text.lines();
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

const VERSION: &str = "portpool registry 2";
/// The line of length and checksum, with the line end before it.
const HEAD_SIZE: usize = 1 + 8 + 1 + 16;
const LOCK: &str = ".lock";
const LIST: &str = ".list";
const TRY_COUNT_MAX: u32 = 16;
/// A writer that is put off its processor in the middle of a list is back long before.
const READ_COUNT_MAX: u32 = 10_000;
/// A block for every port of both transports, of about 80 bytes each.
const LIST_SIZE_MAX: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: &str = "block 5 00000000c0ffee00 tcp 20000-20003 77\n";

    #[test]
    fn a_list_reads_back_what_was_written() {
        let list = text("owner 7 9 11 1000 a b\n", BLOCKS);
        let Content::Whole(body) = whole(list.as_bytes()) else {
            panic!("{list}");
        };
        let records = parse(body).expect("a list");
        let (namespace, record) = &records[0];
        assert_eq!((*namespace, record.owner_pid, record.uid), (5, 7, 1000));
        assert_eq!(
            (record.command.as_str(), record.range.to_string()),
            ("a b", "20000-20003".to_owned())
        );
        assert_eq!(parse(&body.replace("tcp", "sctp")), None);
        // What a longer list left behind does not matter.
        let longer = format!("{list}{BLOCKS}");
        assert_eq!(whole(longer.as_bytes()), Content::Whole(body));
    }

    // A length that fills its line and the checksum's overflowed the sum with the head's.
    #[test]
    fn a_list_longer_than_memory_is_not_read() {
        let list = format!("{VERSION}\n{} 0000\n", u64::MAX);
        assert_eq!(whole(list.as_bytes()), Content::Torn);
    }

    #[test]
    fn a_list_that_is_torn_or_of_another_version_is_not_read() {
        let list = text("owner 7 9 11 1000 a\n", BLOCKS);
        for end in VERSION.len()..list.len() {
            assert_eq!(whole(&list.as_bytes()[..end]), Content::Torn, "{end}");
        }
        for at in VERSION.len() + 1..list.len() {
            let mut torn = list.clone().into_bytes();
            torn[at] ^= 1;
            assert_eq!(whole(&torn), Content::Torn, "{at}");
        }
        let other = list.replace("registry 2", "registry 3");
        assert_eq!(whole(other.as_bytes()), Content::Foreign);
        assert_eq!(whole(b""), Content::Foreign);
    }
}
