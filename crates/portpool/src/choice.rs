//! Where a wildcard block goes: what the maps say, as the occupancy that placement works on.

use std::io;

use portpool_core::{
    Occupancy, PortBitmap, PortRange, RangeSet, Transport, Wildcard,
    abi::{COUNTS_SIZE, occupancy, ports_in_use},
    place,
};

/// Where occupancy is read from.
pub(crate) trait Source {
    /// The element of a transport in the map `occupancy`.
    fn occupancy(&self, transport: Transport) -> io::Result<Box<[u8]>>;

    /// The element of a word in the map `counts`.
    fn counts(&self, transport: Transport, word: u32) -> io::Result<[u8; COUNTS_SIZE]>;
}

/// A free block of each of `transports` on the same numbers; `now` is in nanoseconds since boot.
///
/// Nothing comes back if no block fits, even looking at each port by itself.
pub(crate) fn choose(
    source: &impl Source,
    transports: impl Iterator<Item = Transport> + Clone,
    ranges: &RangeSet,
    wanted: &Wildcard,
    now: u64,
    seed: u64,
) -> io::Result<Option<PortRange>> {
    let mut elements = Vec::new();
    for transport in transports {
        elements.push((transport, source.occupancy(transport)?));
    }
    let mut view = reserved_or_held(&elements, now);
    let reserved = view.taken.clone();
    // A word with a socket on one of its ports counts as taken: that spares reading its ports.
    for (_, element) in &elements {
        view.taken.union_with(&words(element, |_| Ok(u64::MAX))?);
    }
    let block = place(&view, ranges, wanted, seed);
    if block.is_some() || view.taken == reserved {
        return Ok(block);
    }
    view.taken = reserved;
    for (transport, element) in &elements {
        view.taken.union_with(&in_use(source, *transport, element)?);
    }
    Ok(place(&view, ranges, wanted, seed))
}

/// The ports that sockets are bound to.
pub(crate) fn in_use(
    source: &impl Source,
    transport: Transport,
    element: &[u8],
) -> io::Result<PortBitmap> {
    words(element, |word| {
        Ok(ports_in_use(&source.counts(transport, word)?))
    })
}

fn reserved_or_held(elements: &[(Transport, Box<[u8]>)], now: u64) -> Occupancy {
    let mut view = Occupancy::default();
    for (_, element) in elements {
        view.taken.union_with(&occupancy::claimed(element));
        view.taken.union_with(&occupancy::held(element));
        view.taken.union_with(&occupancy::excluded(element));
        view.recent.union_with(&occupancy::recent(element, now));
    }
    view
}

/// The words with bound sockets, each with the bits that `mask` gives it.
fn words(element: &[u8], mask: impl Fn(u32) -> io::Result<u64>) -> io::Result<PortBitmap> {
    let mut words = [0; PortBitmap::WORD_COUNT];
    for word in occupancy::words_in_use(element) {
        words[word as usize] = mask(word)?;
    }
    Ok(PortBitmap::from_words(&words))
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::BTreeMap};

    use portpool_core::{PortCount, abi::OCCUPANCY_SIZE};

    use super::*;

    /// Two transports of a pool, in the bytes the kernel would give.
    #[derive(Default)]
    struct Fake {
        claimed: BTreeMap<Transport, PortBitmap>,
        recent: BTreeMap<Transport, PortBitmap>,
        bound: BTreeMap<Transport, PortBitmap>,
        count_reads: Cell<u32>,
    }

    impl Fake {
        fn with(
            mut self,
            field: fn(&mut Fake) -> &mut BTreeMap<Transport, PortBitmap>,
            transport: Transport,
            range: &str,
        ) -> Fake {
            let bitmap = field(&mut self).entry(transport).or_default();
            bitmap.set_range(range.parse().expect("range"));
            self
        }

        fn claimed(self, transport: Transport, range: &str) -> Fake {
            self.with(|fake| &mut fake.claimed, transport, range)
        }

        fn recent(self, transport: Transport, range: &str) -> Fake {
            self.with(|fake| &mut fake.recent, transport, range)
        }

        fn bound(self, transport: Transport, range: &str) -> Fake {
            self.with(|fake| &mut fake.bound, transport, range)
        }

        fn word(&self, transport: Transport, word: u32) -> u64 {
            let bitmap = self.bound.get(&transport);
            bitmap.map_or(0, |bitmap| bitmap.words()[word as usize])
        }
    }

    impl Source for Fake {
        fn occupancy(&self, transport: Transport) -> io::Result<Box<[u8]>> {
            let mut bytes = vec![0; OCCUPANCY_SIZE];
            let mut write = |offset: usize, bitmap: Option<&PortBitmap>| {
                for (index, word) in bitmap
                    .iter()
                    .flat_map(|bitmap| bitmap.words().iter().enumerate())
                {
                    bytes[offset + index * 8..][..8].copy_from_slice(&word.to_ne_bytes());
                }
            };
            write(0, self.claimed.get(&transport));
            write(16_384, self.recent.get(&transport));
            for word in (0..1024).filter(|word| self.word(transport, *word) != 0) {
                let count = self.word(transport, word).count_ones();
                bytes[32_768 + word as usize * 4..][..4].copy_from_slice(&count.to_ne_bytes());
            }
            Ok(bytes.into())
        }

        fn counts(&self, transport: Transport, word: u32) -> io::Result<[u8; COUNTS_SIZE]> {
            self.count_reads.set(self.count_reads.get() + 1);
            let mut bytes = [0; COUNTS_SIZE];
            for bit in (0..64).filter(|bit| self.word(transport, word) >> bit & 1 == 1) {
                bytes[bit * 4] = 1;
            }
            Ok(bytes)
        }
    }

    fn chosen(fake: &Fake, transports: &[Transport], ranges: &str, count: u16) -> Vec<String> {
        let ranges = ranges.parse().expect("ranges");
        let wanted = Wildcard::new(PortCount::new(count).expect("count"));
        let place = |seed| {
            let transports = transports.iter().copied();
            choose(fake, transports, &ranges, &wanted, 0, seed).expect("a fake never fails")
        };
        let mut blocks: Vec<_> = (0..64)
            .filter_map(place)
            .map(|block| block.to_string())
            .collect();
        blocks.sort();
        blocks.dedup();
        blocks
    }

    const TCP: &[Transport] = &[Transport::Tcp];
    const BOTH: &[Transport] = &Transport::ALL;

    #[test]
    fn reserved_ports_are_never_chosen() {
        let fake = Fake::default().claimed(Transport::Tcp, "20000-20003");
        assert_eq!(chosen(&fake, TCP, "20000-20005", 2), ["20004-20005"]);
        assert!(chosen(&fake, TCP, "20000-20005", 3).is_empty());
    }

    #[test]
    fn the_ports_of_the_other_transport_do_not_matter() {
        let fake = Fake::default().claimed(Transport::Udp, "20000-20003");
        assert_eq!(chosen(&fake, TCP, "20000-20001", 2), ["20000-20001"]);
    }

    #[test]
    fn a_block_of_both_is_free_in_each() {
        let fake = Fake::default()
            .claimed(Transport::Tcp, "20000-20001")
            .claimed(Transport::Udp, "20004-20005");
        assert_eq!(chosen(&fake, BOTH, "20000-20005", 2), ["20002-20003"]);
    }

    #[test]
    fn a_word_with_a_socket_is_left_alone_while_another_has_room() {
        let fake = Fake::default().bound(Transport::Tcp, "20032");
        assert_eq!(
            chosen(&fake, TCP, "20032-20095,20096-20097", 2),
            ["20096-20097"]
        );
        assert_eq!(fake.count_reads.get(), 0);
    }

    #[test]
    fn each_port_is_looked_at_when_words_are_too_coarse() {
        let fake = Fake::default().bound(Transport::Tcp, "20032-20093");
        assert_eq!(chosen(&fake, TCP, "20032-20095", 2), ["20094-20095"]);
        assert!(chosen(&fake, TCP, "20032-20095", 3).is_empty());
        assert!(fake.count_reads.get() > 0);
    }

    #[test]
    fn recent_ports_rest_while_others_are_free() {
        let fake = Fake::default().recent(Transport::Tcp, "20000-20004");
        assert_eq!(chosen(&fake, TCP, "20000-20005", 1), ["20005"]);
        assert_eq!(chosen(&fake, TCP, "20000-20001", 2), ["20000-20001"]);
    }
}
