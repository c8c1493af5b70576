//! All that a pool has taken, read from its maps.

use std::{
    fmt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use portpool_core::abi::{COUNTS_SIZE, OCCUPANCY_SIZE, RECORD_SIZE, occupancy};

use crate::{Arena, sys::bpf::Map};

/// What is taken of one pool. All zero means that nothing is reserved, bound or charged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Records of reservations, ending ones too.
    pub records: usize,
    /// Claimed ports of TCP and UDP.
    pub claimed: u32,
    /// Bound sockets, by the counts of ports.
    pub bound: u64,
    /// Bound sockets, by the counts of words.
    pub bound_by_word: u64,
    /// Ports of kernel sockets.
    pub held: u32,
    /// The counter of reservations.
    pub reservations: u32,
    /// The counter of reservations of callers without `CAP_NET_ADMIN`.
    pub shared_reservations: u32,
    /// The counter of their ports.
    pub shared_ports: u32,
    /// Tree scopes that serve port 0.
    pub zero_roots: u32,
    /// Uids with something charged to them.
    pub charged_uids: usize,
    /// Tokens that roots of tree scopes have.
    pub rooted_tokens: usize,
}

impl Census {
    /// Reads the maps of the pool of the calling thread's network namespace.
    pub fn of(arena: &Arena) -> Census {
        let cookie = arena.pool().netns_cookie();
        Census::read(&arena.run().path().join(format!("bpf/pool-{cookie}")))
    }

    /// Reads the maps pinned in a directory.
    pub fn read(pins: &Path) -> Census {
        let mut census = Census::default();
        for (_, transport) in entries::<4, OCCUPANCY_SIZE>(pins, "occupancy") {
            census.claimed += occupancy::claimed(&transport).count();
            census.held += occupancy::held(&transport).count();
            for word in 0..1024 {
                census.bound_by_word += u64::from(number(&transport, IN_USE + word * 4));
            }
            census.reservations += number(&transport, TOTALS);
            census.shared_reservations += number(&transport, TOTALS + 4);
            census.shared_ports += number(&transport, TOTALS + 8);
            census.zero_roots += number(&transport, TOTALS + 12);
        }
        for (_, ports) in entries::<4, COUNTS_SIZE>(pins, "counts") {
            for port in 0..64 {
                census.bound += u64::from(number(&ports, port * 4));
            }
        }
        census.records = entries::<8, RECORD_SIZE>(pins, "reservations").len();
        let uids = entries::<4, 8>(pins, "uids");
        census.charged_uids = uids.iter().filter(|(_, charge)| *charge != [0; 8]).count();
        for (_, root) in entries::<16, 256>(pins, "roots") {
            census.rooted_tokens += root.chunks(8).filter(|token| **token != [0; 8]).count();
        }
        census
    }

    /// Waits until everything is given back.
    ///
    /// # Panics
    /// If something is left after a long time.
    pub fn await_nothing(arena: &Arena) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let census = Census::of(arena);
            if census == Census::default() {
                return;
            }
            assert!(Instant::now() < deadline, "left in the pool: {census}");
            #[expect(
                clippy::disallowed_methods,
                reason = "polls a condition, with a deadline"
            )]
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Where `struct pp_occupancy` has the counts of words and the counters of the pool.
const IN_USE: usize = 32_768;
const TOTALS: usize = 36_872;

fn entries<const K: usize, const V: usize>(pins: &Path, name: &str) -> Vec<([u8; K], [u8; V])> {
    let path = pins.join(name);
    Map::open(&path)
        .and_then(|map| map.entries())
        .unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

fn number(bytes: &[u8], offset: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_ne_bytes(number)
}
