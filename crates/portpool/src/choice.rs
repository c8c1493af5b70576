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
