//! The fuzz targets of this crate: what must hold of its parsers whatever they are given.

use std::{collections::BTreeMap, io};

use portpool_core::{
    PortBitmap, PortCount, RangeSet, Transport, Transports, Wildcard,
    abi::{COUNTS_SIZE, OCCUPANCY_SIZE, occupancy, ports_in_use},
};

pub use crate::embedded::testing::{listings, owner_file};
use crate::{
    choice::{Source, choose, in_use},
    handover::announced,
};

/// What is said to be passed to this process is taken, is somebody else's, or is refused by name. The
/// bytes are the variables, with line ends between them.
pub fn listen_fds(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n');
    let (pid, count) = (lines.next(), lines.next());
    match announced(pid, count, OWN_PID) {
        Ok(Some(count)) => {
            assert!((0..=65_536).contains(&count));
            assert_eq!(pid.and_then(|pid| pid.parse().ok()), Some(OWN_PID));
        }
        Ok(None) => {}
        Err(error) => assert!(error.to_string().starts_with("LISTEN_"), "{error}"),
    }
}

/// Whatever the maps of the pool hold, a block is chosen that they show as free, or none. The bytes are a
/// seed, a count, and then places in the maps with what is written there.
pub fn maps(bytes: &[u8]) {
    let Some((head, rest)) = bytes.split_first_chunk::<4>() else {
        return;
    };
    let maps = HostileMaps::new(rest);
    let count = PortCount::new(u16::from(head[0]) + 1).expect("not 0");
    let wanted = Wildcard::new(count);
    let ranges: RangeSet = "1-1023,20000-32767,61000-65535".parse().expect("ranges");
    let transports = [Transports::Tcp, Transports::Udp, Transports::Both];
    let transports = transports[usize::from(head[1]) % 3];
    let (now, seed) = (u64::from(head[2]) << 35, u64::from(head[3]));
    let chosen = choose(&maps, transports.iter(), &ranges, &wanted, now, seed);
    let Some(block) = chosen.expect("these maps never fail") else {
        return;
    };
    assert_eq!(block.count(), count);
    assert!(ranges.covers(block));
    for transport in transports.iter() {
        let element = maps.occupancy(transport).expect("an element");
        for taken in [occupancy::claimed, occupancy::held, occupancy::excluded] {
            assert!(!taken(&element).any_in(block), "{block}");
        }
        let bound = in_use(&maps, transport, &element).expect("counts");
        assert!(!bound.any_in(block), "{block}");
    }
}

/// Maps with anything in them.
struct HostileMaps {
    elements: [Box<[u8]>; 2],
    counts: BTreeMap<(Transport, u32), [u8; COUNTS_SIZE]>,
}

impl HostileMaps {
    fn new(bytes: &[u8]) -> HostileMaps {
        let empty = || vec![0; OCCUPANCY_SIZE].into_boxed_slice();
        let mut maps = HostileMaps {
            elements: [empty(), empty()],
            counts: BTreeMap::new(),
        };
        for piece in bytes.chunks_exact(8) {
            let [which, fill, low, high, ref value @ ..] = *piece else {
                continue;
            };
            let transport = Transport::ALL[usize::from(which & 1)];
            let number = u16::from_le_bytes([low, high]);
            if which & 2 == 0 {
                let element = &mut maps.elements[transport.index()];
                let at = usize::from(number) % (OCCUPANCY_SIZE / 4);
                // Up to the end, for maps that are full.
                for word in element
                    .as_chunks_mut::<4>()
                    .0
                    .iter_mut()
                    .skip(at)
                    .take(1 + usize::from(fill) * 16)
                {
                    word.copy_from_slice(value);
                }
            } else {
                let word = u32::from(number) % PortBitmap::WORD_COUNT as u32;
                let counts = maps.counts.entry((transport, word));
                let at = usize::from(fill) % (COUNTS_SIZE / 4) * 4;
                counts.or_insert([0; COUNTS_SIZE])[at..at + 4].copy_from_slice(value);
            }
        }
        maps
    }
}

impl Source for HostileMaps {
    fn occupancy(&self, transport: Transport) -> io::Result<Box<[u8]>> {
        Ok(self.elements[transport.index()].clone())
    }

    fn counts(&self, transport: Transport, word: u32) -> io::Result<[u8; COUNTS_SIZE]> {
        let counts = self.counts.get(&(transport, word));
        let counts = counts.copied().unwrap_or([0; COUNTS_SIZE]);
        assert!(ports_in_use(&counts).count_ones() <= 64);
        Ok(counts)
    }
}

const OWN_PID: u32 = 4_711;

#[cfg(test)]
mod tests {
    use portpool_fuzz::{exercise, exercise_slow};

    #[test]
    fn any_list_of_a_registry_is_read_or_refused() {
        exercise("owner_file", super::owner_file);
    }

    #[test]
    fn any_listing_is_read_as_far_as_it_is_one() {
        exercise("listings", super::listings);
    }

    #[test]
    fn any_promise_of_sockets_is_kept_or_refused_by_name() {
        exercise("listen_fds", super::listen_fds);
    }

    #[test]
    fn maps_with_anything_in_them_lead_to_no_port_that_they_show_as_taken() {
        exercise_slow("maps", super::maps);
    }
}
