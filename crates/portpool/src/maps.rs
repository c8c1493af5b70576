//! The pinned maps of one pool, opened for reading.
//!
//! Where they cannot be opened the pool still grants and refuses: only looking needs them.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use portpool_core::{
    Transport,
    abi::{COUNTS_SIZE, OCCUPANCY_SIZE, POOL_SIZE, PoolConfig, RECORD_SIZE, Record, counts_key},
};

use crate::{
    choice::Source,
    error::{Failure, LookError},
    sys::{Map, MapKind},
};

/// The maps of the pool of one network namespace.
#[derive(Debug)]
pub(crate) struct Maps {
    cookie: u64,
    run_dir: PathBuf,
    /// The pins that these were opened by.
    pins: Pins,
    pools: Map<8, POOL_SIZE>,
    occupancy: Map<4, OCCUPANCY_SIZE>,
    counts: Map<4, COUNTS_SIZE>,
    reservations: Map<8, RECORD_SIZE>,
    kept: Map<4, 8>,
    /// Read once: doing so for each block would take longer than the claim.
    unprivileged_start: u16,
}

impl Maps {
    pub(crate) fn open(run_dir: &Path, cookie: u64) -> Result<Maps, LookError> {
        let bpf = run_dir.join("bpf");
        let pools = open(bpf.join("maps/pools"), MapKind::Hash)?;
        if read_config(&pools, cookie)?.is_none() {
            return Err(unknown_pool(run_dir, cookie));
        }
        let own = bpf.join(format!("pool-{cookie}"));
        // Before what is in it is opened: if it is another by then, it is not taken for the same.
        let pins = Pins::at(&own).map_err(|cause| LookError::Unreadable {
            path: own.clone(),
            cause,
        })?;
        Ok(Maps {
            cookie,
            run_dir: run_dir.to_owned(),
            pins,
            pools,
            occupancy: open(own.join("occupancy"), MapKind::Array)?,
            counts: open(own.join("counts"), MapKind::Array)?,
            reservations: open(own.join("reservations"), MapKind::Hash)?,
            kept: open(own.join("kept"), MapKind::Array)?,
            unprivileged_start: unprivileged_start(),
        })
    }

    pub(crate) fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Whether the pool was not attached anew since these were opened.
    pub(crate) fn are_current(&self) -> bool {
        Pins::at(&self.pins.directory).is_ok_and(|now| now == self.pins)
    }

    /// The first port that needs no privilege, as it was when the maps were opened.
    pub(crate) fn unprivileged_start(&self) -> u16 {
        self.unprivileged_start
    }

    /// The pool's configuration as it is now.
    pub(crate) fn config(&self) -> Result<PoolConfig, LookError> {
        read_config(&self.pools, self.cookie)?
            .ok_or_else(|| unknown_pool(&self.run_dir, self.cookie))
    }

    /// The ports of a word that automatic choice was kept from when sockets were last counted, as a mask.
    pub(crate) fn kept_in_word(&self, word: u32) -> io::Result<u64> {
        let mut value = [0; 8];
        present(self.kept.read(word.to_ne_bytes(), &mut value)?)?;
        Ok(u64::from_ne_bytes(value))
    }

    /// Every live reservation once, by transport and first port.
    pub(crate) fn records(&self) -> Result<Vec<Record>, LookError> {
        let values = self.reservations.values().map_err(Failure::of("bpf"))?;
        let mut records: Vec<Record> = values.iter().filter_map(Record::from_bytes).collect();
        records.sort_by_key(|record| (record.transport, record.range, record.token));
        records.dedup_by_key(|record| record.token);
        Ok(records)
    }

    /// The live reservation with this token.
    pub(crate) fn record(&self, token: portpool_core::Token) -> Result<Option<Record>, LookError> {
        let mut value = [0; RECORD_SIZE];
        let found = self
            .reservations
            .read(token.value().to_ne_bytes(), &mut value);
        let found = found.map_err(Failure::of("bpf"))?;
        Ok(found.then(|| Record::from_bytes(&value)).flatten())
    }
}

/// The directory of a pool's pins, told from one that comes to be there later.
#[derive(Debug, PartialEq, Eq)]
struct Pins {
    directory: PathBuf,
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl Pins {
    fn at(directory: &Path) -> io::Result<Pins> {
        let about = fs::metadata(directory)?;
        Ok(Pins {
            directory: directory.to_owned(),
            device: about.dev(),
            inode: about.ino(),
            changed: (about.ctime(), about.ctime_nsec()),
        })
    }
}

impl Source for Maps {
    fn occupancy(&self, transport: Transport) -> io::Result<Box<[u8]>> {
        let mut value = vec![0; OCCUPANCY_SIZE].into_boxed_slice();
        let key = (transport.index() as u32).to_ne_bytes();
        let bytes = value.as_mut().try_into().map_err(io::Error::other)?;
        present(self.occupancy.read(key, bytes)?)?;
        Ok(value)
    }

    fn counts(&self, transport: Transport, word: u32) -> io::Result<[u8; COUNTS_SIZE]> {
        let mut value = [0; COUNTS_SIZE];
        let key = counts_key(transport, word).to_ne_bytes();
        present(self.counts.read(key, &mut value)?)?;
        Ok(value)
    }
}

/// The first port that needs no privilege, in the namespace of the calling thread.
pub(crate) fn unprivileged_start() -> u16 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    text.ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(UNPRIVILEGED_START)
}

fn open<const K: usize, const V: usize>(
    path: PathBuf,
    kind: MapKind,
) -> Result<Map<K, V>, LookError> {
    Map::open(&path, kind).map_err(|cause| LookError::Unreadable { path, cause })
}

fn read_config(pools: &Map<8, POOL_SIZE>, cookie: u64) -> Result<Option<PoolConfig>, LookError> {
    let mut value = [0; POOL_SIZE];
    let found = pools.read(cookie.to_ne_bytes(), &mut value);
    let found = found.map_err(Failure::of("bpf"))?;
    Ok(found.then(|| PoolConfig::from_bytes(&value)))
}

fn unknown_pool(run_dir: &Path, cookie: u64) -> LookError {
    LookError::UnknownPool {
        run_dir: run_dir.to_owned(),
        cookie,
    }
}

/// An array has every key.
fn present(found: bool) -> io::Result<()> {
    if found {
        return Ok(());
    }
    Err(io::ErrorKind::NotFound.into())
}

const UNPRIVILEGED_START: u16 = 1024;
