//! What the maps and the ring buffer of the kernel pool hold, as bytes that a hostile program put there.

use portpool_core::{
    Limits, Occupancy, Port, PortBitmap, PortCount, PortRange, RangeSet, Wildcard,
    abi::{
        COUNTS_SIZE, Counters, Event, OCCUPANCY_SIZE, POOL_SIZE, PoolConfig, RANGE_COUNT_MAX,
        RECORD_SIZE, Record, occupancy, ports_in_use, tally,
    },
    place,
};

/// Whatever the bytes: they are read as a record, an event, a pool or as nothing, and never as a range
/// that is none. The first byte says which.
pub fn abi(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    match kind % 5 {
        0 => check_record(&sized(bytes)),
        1 => check_event(bytes),
        2 => check_pool(&sized(bytes)),
        3 => check_counts(&sized(bytes)),
        _ => check_occupancy(bytes),
    }
}

fn check_record(bytes: &[u8; RECORD_SIZE]) {
    let Some(record) = Record::from_bytes(bytes) else {
        return;
    };
    check_range(record.range);
    assert!(!record.command.contains('\0'));
    assert!(record.command.chars().count() <= 16);
}

fn check_event(bytes: &[u8]) {
    let Some(event) = Event::from_bytes(bytes) else {
        return;
    };
    check_range(event.range);
    assert!(!event.command.contains('\0'));
    assert!(!event.what.name().is_empty());
    assert!(tally(event.pool_index).is_none_or(|(_, errno)| errno.is_none_or(|it| it >= 0)));
}

fn check_pool(bytes: &[u8; POOL_SIZE]) {
    let config = PoolConfig::from_bytes(bytes);
    assert!(config.ranges.iter().count() <= RANGE_COUNT_MAX);
    let again = PoolConfig::from_bytes(&config.to_bytes());
    assert_eq!(again, config);
    // What a reader does with it next.
    let wanted = Wildcard::new(PortCount::ONE);
    let block = place(&Occupancy::default(), &config.ranges, &wanted, config.id);
    assert_eq!(block.is_some(), !config.ranges.is_empty());
    let Limits { shared_percent, .. } = config.limits;
    assert_eq!(again.limits.shared_percent, shared_percent);
}

fn check_counts(bytes: &[u8; COUNTS_SIZE]) {
    let mask = ports_in_use(bytes);
    for (bit, count) in bytes.as_chunks::<4>().0.iter().enumerate() {
        assert_eq!(mask >> bit & 1 == 1, *count != [0; 4]);
    }
}

/// Of the bytes each nine are a place and what is written there.
fn check_occupancy(bytes: &[u8]) {
    let mut element = vec![0; OCCUPANCY_SIZE];
    let mut now = 0;
    for piece in bytes.chunks_exact(10) {
        let at = usize::from(u16::from_le_bytes([piece[0], piece[1]])) % (OCCUPANCY_SIZE / 8) * 8;
        element[at..at + 8].copy_from_slice(&piece[2..]);
        now = u64::from_ne_bytes(std::array::from_fn(|index| piece[2 + index]));
    }
    let bitmaps = [
        (occupancy::claimed(&element), 0),
        (occupancy::held(&element), 8_192),
        (occupancy::excluded(&element), 36_888),
    ];
    for (bitmap, offset) in bitmaps {
        let bits = element[offset..offset + 8_192].iter();
        let count: u32 = bits.map(|byte| byte.count_ones()).sum();
        assert_eq!(bitmap.count(), count);
        // Port 0 is none, whatever its bit says.
        let ports = RangeSet::from(&bitmap).len_ports();
        assert_eq!(ports, count - (bitmap.words()[0] & 1) as u32);
    }
    let recent = occupancy::recent(&element, now);
    assert!(recent.count() <= 65_536);
    let words = occupancy::words_in_use(&element);
    assert!(words.into_iter().all(|word| word < 1_024));
    let _ = Counters::from_bytes(&element);
    check_choice(occupancy::claimed(&element), recent, now);
}

/// A block is never chosen on a port that has its bit.
fn check_choice(taken: PortBitmap, recent: PortBitmap, seed: u64) {
    let view = Occupancy { taken, recent };
    let wanted = Wildcard::new(PortCount::new(64).expect("not 0"));
    let ranges = RangeSet::from(PortRange::ALL);
    if let Some(block) = place(&view, &ranges, &wanted, seed) {
        assert!(!view.taken.any_in(block), "{block}");
    }
}

fn check_range(range: PortRange) {
    let (first, last) = (range.first(), range.last());
    assert!(Port::FIRST <= first && first <= last && last <= Port::LAST);
    let count = u32::from(last.number()) - u32::from(first.number()) + 1;
    assert_eq!(u32::from(range.count().number()), count);
}

/// The bytes, with zeros after them or cut.
fn sized<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut sized = [0; N];
    let length = bytes.len().min(N);
    sized[..length].copy_from_slice(&bytes[..length]);
    sized
}

#[cfg(test)]
mod tests {
    use crate::exercise_slow;

    #[test]
    fn any_bytes_of_a_map_are_read_as_something_that_can_be() {
        exercise_slow("abi", super::abi);
    }
}
