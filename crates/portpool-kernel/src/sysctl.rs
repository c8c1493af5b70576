//! The sysctls of automatic choice, in the calling process's network namespace.

use std::{fs::File, io, os::unix::fs::FileExt};

use portpool_core::{Port, PortRange, RangeSet};

use crate::error::{Failed, Step};

const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
const EPHEMERAL: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// `net.ipv4.ip_local_reserved_ports`: ports that automatic choice never takes.
pub(crate) fn reserved() -> Result<RangeSet, Failed> {
    reserved_in(&open_reserved()?)
}

/// Its file, to be read often: always that of the network namespace of the thread that opened it.
pub(crate) fn open_reserved() -> Result<File, Failed> {
    File::open(RESERVED).step(|| format!("read {RESERVED}"))
}

/// What is in it now.
pub(crate) fn reserved_in(file: &File) -> Result<RangeSet, Failed> {
    let what = || format!("read {RESERVED}");
    let text = read_whole(file).step(what)?;
    text.parse().map_err(io::Error::other).step(what)
}

/// Makes it this set. A long one takes several writes, and what is not in the first is missing until
/// the next.
pub(crate) fn write_reserved(ports: &RangeSet) -> Result<(), Failed> {
    let what = || format!("write {RESERVED}");
    let mut chunks = chunks(ports).into_iter();
    let first = chunks.next().unwrap_or_else(|| "\n".to_owned());
    let file = File::options().write(true).open(RESERVED).step(what)?;
    file.write_all_at(first.as_bytes(), 0).step(what)?;
    for chunk in chunks {
        file.write_all_at(chunk.as_bytes(), MERGE).step(what)?;
    }
    Ok(())
}

/// Adds ports to it; all others stay in it at every moment.
pub(crate) fn add_reserved(ports: &RangeSet) -> Result<(), Failed> {
    let what = || format!("write {RESERVED}");
    let file = File::options().write(true).open(RESERVED).step(what)?;
    for chunk in chunks(ports) {
        file.write_all_at(chunk.as_bytes(), MERGE).step(what)?;
    }
    Ok(())
}

/// The set as texts that the kernel takes in one piece.
pub(crate) fn chunks(ports: &RangeSet) -> Vec<String> {
    let mut chunks = Vec::new();
    let mut chunk = String::new();
    for range in ports.iter() {
        if chunk.len() > CHUNK_LENGTH {
            chunks.push(std::mem::take(&mut chunk) + "\n");
        }
        let comma = if chunk.is_empty() { "" } else { "," };
        chunk += &format!("{comma}{range}");
    }
    if !chunk.is_empty() {
        chunks.push(chunk + "\n");
    }
    chunks
}

/// `net.ipv4.ip_local_port_range`: where automatic choice takes ports from.
pub(crate) fn ephemeral() -> Result<PortRange, Failed> {
    let text = read(EPHEMERAL)?;
    let what = || format!("read {EPHEMERAL}");
    parse_ephemeral(&text)
        .ok_or_else(|| io::Error::other(format!("unexpected text {text:?}")))
        .step(what)
}

/// What must be kept from automatic choice so that a port once granted stays out of its reach even
/// if the ephemeral range is widened later: the wildcard ranges, and all that lies outside the
/// ephemeral range today.
pub(crate) fn kept_clear(ranges: &RangeSet, ephemeral: PortRange) -> RangeSet {
    RangeSet::from(PortRange::ALL)
        .difference(&RangeSet::from(ephemeral))
        .union(ranges)
}

pub(crate) fn parse_ephemeral(text: &str) -> Option<PortRange> {
    let mut numbers = text
        .split_whitespace()
        .map(|word| word.parse().ok().and_then(Port::new));
    PortRange::between(numbers.next()??, numbers.next()??)
}

fn read(path: &str) -> Result<String, Failed> {
    File::open(path)
        .and_then(|file| read_whole(&file))
        .step(|| format!("read {path}"))
}

/// Reads in one go: the kernel answers what fits the first read of a list of ports, and nothing to
/// the second. It clears as much memory as it is given room, so a list that may be long is read again
/// with more room only if it was cut off.
fn read_whole(file: &File) -> io::Result<String> {
    let mut text = vec![0; LENGTH_USUAL];
    let mut length = file.read_at(&mut text, 0)?;
    // What was cut off fills all the room and has no end of line.
    if length == text.len() && !text.ends_with(b"\n") {
        text = vec![0; LENGTH_MAX];
        length = file.read_at(&mut text, 0)?;
    }
    text.truncate(length);
    String::from_utf8(text).map_err(io::Error::other)
}

const LENGTH_USUAL: usize = 4 * 1024;

/// More than the longest list has: 32,768 single ports.
const LENGTH_MAX: usize = 256 * 1024;

/// An offset at which a write is merged into what is there: any but 0 (`proc_do_large_bitmap`).
const MERGE: u64 = 1;

/// Well within the page that the kernel reads of one write.
const CHUNK_LENGTH: usize = 3_800;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_outside_the_ephemeral_range_is_kept_clear() {
        let ephemeral = parse_ephemeral("32768\t60999\n").expect("range");
        let ranges = "40000-40099".parse().expect("ranges");
        let kept = kept_clear(&ranges, ephemeral);
        assert_eq!(kept.to_string(), "1-32767,40000-40099,61000-65535");
    }

    #[test]
    fn a_long_list_comes_in_pieces_that_fit_a_page() {
        let ports: RangeSet = (1..60_000)
            .step_by(2)
            .filter_map(Port::new)
            .map(PortRange::single)
            .collect();
        let chunks = chunks(&ports);
        assert!(chunks.iter().all(|chunk| chunk.len() < 4_000));
        let read = chunks.iter().map(|chunk| chunk.parse::<RangeSet>());
        let all = read.flat_map(|set| set.expect("ports").iter().collect::<Vec<_>>());
        assert_eq!(all.collect::<RangeSet>(), ports);
        assert!(super::chunks(&RangeSet::new()).is_empty());
    }

    #[test]
    fn a_strange_ephemeral_range_is_not_guessed() {
        assert_eq!(parse_ephemeral("60999 32768"), None);
        assert_eq!(parse_ephemeral("32768"), None);
    }
}
