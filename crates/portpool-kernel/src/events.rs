//! What the kernel programs tell and count, for logs and metrics: births and deaths of reservations
//! through a ring buffer, answers by operation and errno. Root reads both, nobody depends on either.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    path::PathBuf,
};

use aya::maps::{Map, MapData, MapError, PerCpuArray, RingBuf};
use portpool_core::abi::{Event, Operation, TALLY_COUNT, WATCH_SIZE, tally};

use crate::{
    error::{Failed, Step},
    files::RunDir,
    sys::Object,
};

/// The births and deaths of reservations in all pools of a run directory, as they happen.
///
/// There is one reader at a time: a second one is refused. While there is none nothing is told, or
/// after one that was killed nothing that is kept; whoever opens this therefore looks at the
/// reservations after it has.
pub struct Events {
    ring: RingBuf<MapData>,
    state: Object,
    pin: Pin,
    /// Locked as long as this reads.
    _lock: File,
}

impl Events {
    /// Starts to listen.
    ///
    /// # Errors
    /// [`Failed`] if no pool is attached, without root's rights, and while another process listens.
    pub fn open(run: &RunDir) -> Result<Events, Failed> {
        let what = || "listen to the kernel pool".to_owned();
        let lock = run.lock_events()?;
        // Before what is there is opened: if it is another by then, it is not taken for the same.
        let pin = Pin::at(run.map("events")).step(what)?;
        let data = MapData::from_pin(run.map("events")).map_err(into_io);
        let mut ring = RingBuf::try_from(Map::RingBuf(data.step(what)?))
            .map_err(into_io)
            .step(what)?;
        let state = Object::open(&run.map("watch_state")).step(what)?;
        // What a reader before this one has left is old.
        while ring.next().is_some() {}
        write_watch(&state, true).step(what)?;
        Ok(Events {
            ring,
            state,
            pin,
            _lock: lock,
        })
    }

    /// The next event, if there is one. To wait for it poll the descriptor.
    pub fn next_event(&mut self) -> Option<Event> {
        loop {
            let item = self.ring.next()?;
            if let Some(event) = Event::from_bytes(&item) {
                return Some(event);
            }
        }
    }

    /// Whether these are still those of the run directory. After detaching and attaching again they are
    /// not, and nothing is told here any more: drop this, then open it anew.
    pub fn are_current(&self) -> bool {
        Pin::at(self.pin.path.clone()).is_ok_and(|now| now == self.pin)
    }

    /// How many events found no room since this was opened, because they were not read in time.
    ///
    /// # Errors
    /// [`Failed`] if the count cannot be read.
    pub fn dropped_count(&self) -> Result<u64, Failed> {
        let mut bytes = [0; WATCH_SIZE];
        self.state
            .lookup(&[0; 4], &mut bytes)
            .step(|| "read how many events were dropped".to_owned())?;
        let count = std::array::from_fn(|index| bytes[8 + index]);
        Ok(u64::from_ne_bytes(count))
    }
}

/// A pin, told from one that comes to be there later.
#[derive(Debug, PartialEq, Eq)]
struct Pin {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// Not that of the last change: attaching again sets the modes of pins.
    made: (i64, i64),
}

impl Pin {
    fn at(path: PathBuf) -> io::Result<Pin> {
        let about = fs::metadata(&path)?;
        Ok(Pin {
            device: about.dev(),
            inode: about.ino(),
            made: (about.mtime(), about.mtime_nsec()),
            path,
        })
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // If it fails the ring fills up and the rest is dropped, which costs little.
        drop(write_watch(&self.state, false));
    }
}

/// How often an operation has had an answer since the pool was attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// What was asked. Of everything but acquire only refusals are counted.
    pub operation: Operation,
    /// The errno, 0 if it was done, nothing for all errnos that no table has.
    pub errno: Option<i32>,
    /// How often.
    pub count: u64,
}

/// The counts of the pool with this cookie that are not 0.
///
/// # Errors
/// [`Failed`] if there is no such pool, and without root's rights.
pub fn tallies(run: &RunDir, cookie: u64) -> Result<Vec<Tally>, Failed> {
    let what = || "read the answers counted".to_owned();
    let data = MapData::from_pin(run.pool(cookie).join("tallies")).map_err(into_io);
    let map = PerCpuArray::<_, u64>::try_from(Map::PerCpuArray(data.step(what)?));
    let map = map.map_err(into_io).step(what)?;
    let mut found = Vec::new();
    for key in 0..TALLY_COUNT {
        let counts = map.get(&key, 0).map_err(into_io).step(what)?;
        let count = counts.iter().sum();
        if let (Some((operation, errno)), 1..) = (tally(key), count) {
            found.push(Tally {
                operation,
                errno,
                count,
            });
        }
    }
    Ok(found)
}

fn write_watch(state: &Object, listening: bool) -> io::Result<()> {
    let mut bytes = [0; WATCH_SIZE];
    bytes[..4].copy_from_slice(&u32::from(listening).to_ne_bytes());
    state.update(&[0; 4], &bytes)
}

fn into_io(error: MapError) -> io::Error {
    match error {
        MapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}
