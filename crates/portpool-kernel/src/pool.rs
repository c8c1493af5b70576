//! The maps of one namespace's pool, and the table of pools.

use std::{
    cell::OnceCell,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use portpool_core::{
    Port, PortBitmap, RangeSet, Transport,
    abi::{
        COUNTS_SIZE, OCCUPANCY_SIZE, POOL_COUNT_MAX, POOL_SIZE, PoolConfig, RECORD_SIZE, Record,
        TALLY_COUNT, occupancy,
    },
};

use rustix::thread::{MembarrierCommand, membarrier};

use crate::{
    error::{Error, Failed, Step},
    files::RunDir,
    sys::{MapShape, NO_PREALLOC, Object, TYPE_ARRAY, TYPE_HASH, TYPE_PERCPU_ARRAY},
};

/// A map that every pool has one of, and the map of maps it hangs in.
struct Inner {
    outer: &'static str,
    shape: MapShape,
    /// Whether everybody may look.
    public: bool,
}

/// The map of maps of [`PoolMaps::count_binds`].
const COUNTING: &str = "counting";

/// Mirrors `bpf/maps.h`: the kernel refuses a map whose shape is not that of its map of maps.
const INNER: [Inner; 9] = [
    Inner {
        outer: "occupancies",
        shape: array("occupancy", OCCUPANCY_SIZE as u32, 2),
        public: true,
    },
    Inner {
        outer: "counts",
        shape: array("counts", COUNTS_SIZE as u32, 2048),
        public: true,
    },
    Inner {
        outer: "reservations",
        shape: hash("reservations", 8, RECORD_SIZE as u32),
        public: true,
    },
    Inner {
        outer: "kept",
        shape: array("kept", 8, 1024),
        public: true,
    },
    Inner {
        outer: COUNTING,
        shape: array("counting", 8, 1024),
        public: true,
    },
    Inner {
        outer: "uids",
        shape: hash("uids", 4, 8),
        public: false,
    },
    Inner {
        outer: "roots",
        shape: hash("roots", 16, 256),
        public: false,
    },
    Inner {
        outer: "windows",
        shape: MapShape {
            max_entries: 1024,
            ..hash("windows", 8, 48)
        },
        public: false,
    },
    Inner {
        outer: "tallies",
        shape: MapShape {
            map_type: TYPE_PERCPU_ARRAY,
            ..array("tallies", 8, TALLY_COUNT)
        },
        public: false,
    },
];

const ELSEWHERE_PATIENCE: Duration = Duration::from_secs(2);

/// Mirrors `bpf/maps.h`: the table of pools.
const TABLE: MapShape = MapShape {
    max_entries: POOL_COUNT_MAX,
    ..hash("pools", 8, POOL_SIZE as u32)
};

/// The table of pools and the maps of maps.
pub(crate) struct Pools {
    table: Object,
    run: RunDir,
}

/// The pool that programs find without a search: mirrors `struct first_pool`.
struct FirstPool {
    map: Object,
    cookie: u64,
}

impl Pools {
    /// Opens the pinned table.
    pub(crate) fn open(run: &RunDir) -> Result<Pools, Failed> {
        let path = run.map("pools");
        let table = Object::open(&path).step(|| format!("open {}", path.display()))?;
        Ok(Pools {
            table,
            run: run.clone(),
        })
    }

    /// Opens the pinned table to look only, which needs no privilege.
    pub(crate) fn look(run: &RunDir) -> Result<Pools, Failed> {
        let path = run.map("pools");
        let table = Object::open_to_read(&path).step(|| format!("open {}", path.display()))?;
        Ok(Pools {
            table,
            run: run.clone(),
        })
    }

    /// Whether a pool of this namespace is in another table than that of this run directory: it was
    /// attached with another one, or under the same name in another mount namespace.
    ///
    /// Both would answer the same control codes and count the same sockets, to the ruin of both. One
    /// whose mount namespace has just ended takes the kernel a moment to take away: that is waited for.
    pub(crate) fn is_elsewhere(run: &RunDir, cookie: u64) -> Result<bool, Failed> {
        let deadline = Instant::now() + ELSEWHERE_PATIENCE;
        while Pools::is_in_another_table(run, cookie)? {
            if Instant::now() >= deadline {
                return Ok(true);
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "polls a condition, with a deadline"
            )]
            thread::sleep(Duration::from_millis(10));
        }
        Ok(false)
    }

    fn is_in_another_table(run: &RunDir, cookie: u64) -> Result<bool, Failed> {
        let what = || "look for other pools of this network namespace".to_owned();
        let own = Object::open(&run.map("pools")).and_then(|table| table.map_id());
        let own = own.ok();
        for (id, table) in Object::maps_like(&TABLE).step(what)? {
            let mut bytes = [0; POOL_SIZE];
            if Some(id) != own && table.lookup(&cookie.to_ne_bytes(), &mut bytes).step(what)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) fn config(&self, cookie: u64) -> Result<Option<PoolConfig>, Failed> {
        let mut bytes = [0; POOL_SIZE];
        let there = self
            .table
            .lookup(&cookie.to_ne_bytes(), &mut bytes)
            .step(|| "read the table of pools".into())?;
        Ok(there.then(|| PoolConfig::from_bytes(&bytes)))
    }

    pub(crate) fn put(&self, cookie: u64, config: &PoolConfig) -> Result<(), Failed> {
        self.table
            .update(&cookie.to_ne_bytes(), &config.to_bytes())
            .step(|| "write the table of pools".into())?;
        let first = FirstPool::open(&self.run)?;
        if first.cookie == cookie || (first.cookie == 0 && first.prepare(config)?) {
            first.write(cookie, config)?;
        }
        Ok(())
    }

    pub(crate) fn remove(&self, cookie: u64) -> Result<bool, Failed> {
        let first = FirstPool::open(&self.run)?;
        if first.cookie == cookie {
            first.clear()?;
        }
        self.table
            .delete(&cookie.to_ne_bytes())
            .step(|| "write the table of pools".into())
    }

    /// Cookies of the namespaces that have a pool.
    pub(crate) fn cookies(&self) -> Result<Vec<u64>, Failed> {
        self.table.keys().step(|| "read the table of pools".into())
    }

    /// The lowest slot no pool has.
    pub(crate) fn free_index(&self) -> Result<u32, Error> {
        let mut used = Vec::new();
        for cookie in self.cookies()? {
            used.extend(self.config(cookie)?.map(|config| config.index));
        }
        (0..POOL_COUNT_MAX)
            .find(|index| !used.contains(index))
            .ok_or(Error::TooManyPools)
    }

    /// Makes a pool's maps, pins them and hangs them into the maps of maps at `index`.
    pub(crate) fn create_maps(&self, cookie: u64, index: u32) -> Result<(), Failed> {
        let directory = self.run.pool(cookie);
        fs::create_dir(&directory).step(|| format!("make {}", directory.display()))?;
        for inner in &INNER {
            let what = || format!("make the map {} of the pool", inner.shape.name);
            let map = Object::create_map(&inner.shape).step(what)?;
            let path = directory.join(inner.shape.name);
            map.pin(&path).step(what)?;
            set_mode(&path, if inner.public { 0o444 } else { 0o600 })?;
            let outer = Object::open(&self.run.map(inner.outer)).step(what)?;
            outer
                .update(&index.to_ne_bytes(), &map.as_inner())
                .step(what)?;
        }
        Ok(())
    }

    /// Takes a pool's maps away again; goes on after a failure and answers all of them.
    pub(crate) fn remove_maps(&self, cookie: u64, index: Option<u32>) -> Vec<Failed> {
        let mut failures = Vec::new();
        if let Some(index) = index {
            for inner in &INNER {
                let what = || format!("take the pool out of the map {}", inner.outer);
                let taken = Object::open(&self.run.map(inner.outer))
                    .and_then(|outer| outer.delete(&index.to_ne_bytes()))
                    .step(what);
                failures.extend(taken.err());
            }
        }
        failures.extend(remove_tree(&self.run.pool(cookie)).err());
        failures
    }

    /// The maps of a pool, each opened when it is asked for: most that is done needs one or two.
    pub(crate) fn maps(&self, cookie: u64) -> Result<PoolMaps, Failed> {
        let directory = self.run.pool(cookie);
        if !directory.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotFound))
                .step(|| format!("open {}", directory.display()));
        }
        let map = |name: &str| Lazy::at(directory.join(name));
        Ok(PoolMaps {
            occupancy: map("occupancy"),
            counts: map("counts"),
            reservations: map("reservations"),
            kept: map("kept"),
            counting: map("counting"),
            countings: Lazy::at(self.run.map(COUNTING)),
        })
    }
}

impl FirstPool {
    fn open(run: &RunDir) -> Result<FirstPool, Failed> {
        let what = || "read the first pool".to_owned();
        let map = Object::open(&run.map("first_pool")).step(what)?;
        let mut bytes = [0; POOL_SIZE + 8];
        map.lookup(&[0; 4], &mut bytes).step(what)?;
        let mut cookie = [0; 8];
        cookie.copy_from_slice(&bytes[POOL_SIZE..]);
        let cookie = u64::from_ne_bytes(cookie);
        Ok(FirstPool { map, cookie })
    }

    /// Makes an entry that is nobody's ready for the cookie of this pool: programs that still read the pool that was
    /// there are over, and whoever sees the cookie sees the rest. False where that cannot be waited for
    /// (nohz_full): then it stays nobody's, and pools are found by a search.
    fn prepare(&self, config: &PoolConfig) -> Result<bool, Failed> {
        if membarrier(MembarrierCommand::Global).is_err() {
            return Ok(false);
        }
        self.write(0, config)?;
        Ok(membarrier(MembarrierCommand::Global).is_ok())
    }

    /// Makes the entry nobody's. The pool stays in it: programs may be reading it.
    fn clear(&self) -> Result<(), Failed> {
        let what = || "clear the first pool".to_owned();
        let mut bytes = [0; POOL_SIZE + 8];
        self.map.lookup(&[0; 4], &mut bytes).step(what)?;
        bytes[POOL_SIZE..].fill(0);
        self.map.update(&[0; 4], &bytes).step(what)
    }

    fn write(&self, cookie: u64, config: &PoolConfig) -> Result<(), Failed> {
        let mut bytes = [0; POOL_SIZE + 8];
        bytes[..POOL_SIZE].copy_from_slice(&config.to_bytes());
        bytes[POOL_SIZE..].copy_from_slice(&cookie.to_ne_bytes());
        self.map
            .update(&[0; 4], &bytes)
            .step(|| "write the first pool".into())
    }
}

/// What a pool knows of its ports.
pub(crate) struct PoolMaps {
    occupancy: Lazy,
    pub(crate) counts: Lazy,
    reservations: Lazy,
    kept: Lazy,
    counting: Lazy,
    countings: Lazy,
}

/// A pinned map, opened once it is used.
pub(crate) struct Lazy {
    path: PathBuf,
    map: OnceCell<Object>,
}

impl Lazy {
    fn at(path: PathBuf) -> Lazy {
        let map = OnceCell::new();
        Lazy { path, map }
    }

    /// The map.
    pub(crate) fn open(&self) -> Result<&Object, Failed> {
        if let Some(map) = self.map.get() {
            return Ok(map);
        }
        let map = Object::open(&self.path).step(|| format!("open {}", self.path.display()))?;
        Ok(self.map.get_or_init(|| map))
    }
}

impl PoolMaps {
    /// The live reservations.
    pub(crate) fn records(&self) -> Result<Vec<Record>, Failed> {
        let what = || "read the reservations".to_owned();
        let mut records = Vec::new();
        let reservations = self.reservations.open()?;
        for token in reservations.keys().step(what)? {
            let mut bytes = [0; RECORD_SIZE];
            if reservations
                .lookup(&token.to_ne_bytes(), &mut bytes)
                .step(what)?
            {
                records.extend(Record::from_bytes(&bytes));
            }
        }
        Ok(records)
    }

    pub(crate) fn occupancy(&self, transport: Transport) -> Result<Vec<u8>, Failed> {
        let mut bytes = vec![0; OCCUPANCY_SIZE];
        self.occupancy
            .open()?
            .lookup(&transport_key(transport), &mut bytes)
            .step(|| "read the occupied ports".into())?;
        Ok(bytes)
    }

    /// Notes from which ports automatic choice was kept while the sockets were swept.
    pub(crate) fn note_kept(&self, ports: &RangeSet) -> Result<(), Failed> {
        let mut bitmap = PortBitmap::empty();
        ports.iter().for_each(|range| bitmap.set_range(range));
        write_bits(self.kept.open()?, &bitmap)
            .step(|| "note what is kept from automatic choice".into())
    }

    /// Counts binds of these ports too from now on. When it returns, every bind that was not counted
    /// for want of this is over, so that a sweep begun then finds its socket: after that, and not
    /// before, the ports may be granted.
    pub(crate) fn count_binds(&self, index: u32, ports: &RangeSet) -> Result<(), Failed> {
        let mut bitmap = self.counting()?;
        ports.iter().for_each(|range| bitmap.set_range(range));
        write_bits(self.counting.open()?, &bitmap)
            .step(|| "note which ports are counted".into())?;
        // Before a change of a map of maps returns, the kernel waits for all programs that run.
        self.countings
            .open()?
            .update(&index.to_ne_bytes(), &self.counting.open()?.as_inner())
            .step(|| "wait for the programs that run".into())
    }

    /// The ports whose binds are counted.
    pub(crate) fn counting(&self) -> Result<PortBitmap, Failed> {
        read_bits(self.counting.open()?).step(|| "read which ports are counted".into())
    }

    /// Those of the ports whose binds are not counted.
    pub(crate) fn uncounted(&self, ports: &RangeSet) -> Result<RangeSet, Failed> {
        Ok(ports.difference(&RangeSet::from(&self.counting()?)))
    }

    /// What [`note_kept`](Self::note_kept) noted.
    pub(crate) fn kept(&self) -> Result<RangeSet, Failed> {
        let bitmap = read_bits(self.kept.open()?)
            .step(|| "read what is kept from automatic choice".into())?;
        Ok(RangeSet::from(&bitmap))
    }

    /// Whether automatic choice was kept from all of these, asked of no more words than needed.
    pub(crate) fn are_kept(&self, ports: &RangeSet) -> Result<bool, Failed> {
        for range in ports.iter() {
            for word in range.first().number() / 64..=range.last().number() / 64 {
                let mut bytes = [0; 8];
                self.kept
                    .open()?
                    .lookup(&u32::from(word).to_ne_bytes(), &mut bytes)
                    .step(|| "read what is kept from automatic choice".into())?;
                let kept = u64::from_ne_bytes(bytes);
                let is_missing = |port: &Port| kept >> (port.number() % 64) & 1 == 0;
                let within = range.ports().filter(|port| port.number() / 64 == word);
                if within.into_iter().any(|port| is_missing(&port)) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The ports that reservations have, of either transport.
    pub(crate) fn claimed(&self) -> Result<RangeSet, Failed> {
        let mut claimed = RangeSet::new();
        for transport in Transport::ALL {
            let bitmap = occupancy::claimed(&self.occupancy(transport)?);
            claimed = claimed.union(&RangeSet::from(&bitmap));
        }
        Ok(claimed)
    }

    /// Whether any socket is bound, or any port reserved or held.
    pub(crate) fn is_idle(&self) -> Result<bool, Failed> {
        for transport in Transport::ALL {
            let bytes = self.occupancy(transport)?;
            let bound = occupancy::words_in_use(&bytes).next().is_some();
            if bound || !occupancy::claimed(&bytes).is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// One bit a port.
fn write_bits(map: &Object, bitmap: &PortBitmap) -> io::Result<()> {
    for (word, bits) in (0u32..).zip(bitmap.words()) {
        map.update(&word.to_ne_bytes(), &bits.to_ne_bytes())?;
    }
    Ok(())
}

fn read_bits(map: &Object) -> io::Result<PortBitmap> {
    let mut words = [0; PortBitmap::WORD_COUNT];
    for (word, bits) in (0u32..).zip(&mut words) {
        let mut bytes = [0; 8];
        map.lookup(&word.to_ne_bytes(), &mut bytes)?;
        *bits = u64::from_ne_bytes(bytes);
    }
    Ok(PortBitmap::from_words(&words))
}

pub(crate) fn transport_key(transport: Transport) -> [u8; 4] {
    match transport {
        Transport::Tcp => 0u32.to_ne_bytes(),
        Transport::Udp => 1u32.to_ne_bytes(),
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<(), Failed> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .step(|| format!("set the mode of {}", path.display()))
}

/// Removes a directory of pins with what is in it. No error if it is not there.
///
/// Spares descriptors: a shortage of them may be why it is called.
pub(crate) fn remove_tree(path: &Path) -> Result<(), Failed> {
    if !path.exists() || fs::remove_dir(path).is_ok() {
        return Ok(());
    }
    let what = || format!("remove {}", path.display());
    for entry in fs::read_dir(path).step(what)? {
        let pin = entry.step(what)?.path();
        fs::remove_file(&pin)
            .or_else(|_| fs::remove_dir(&pin))
            .step(|| format!("remove {}", pin.display()))?;
    }
    fs::remove_dir(path).step(what)
}

const fn array(name: &'static str, value_size: u32, max_entries: u32) -> MapShape {
    MapShape {
        name,
        map_type: TYPE_ARRAY,
        key_size: 4,
        value_size,
        max_entries,
        flags: 0,
    }
}

const fn hash(name: &'static str, key_size: u32, value_size: u32) -> MapShape {
    let (map_type, max_entries, flags) = (TYPE_HASH, 16_384, NO_PREALLOC);
    MapShape {
        name,
        map_type,
        key_size,
        value_size,
        max_entries,
        flags,
    }
}
