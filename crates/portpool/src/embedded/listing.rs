//! A list as bytes: a head, which says of which version it is and whose, and a place for each block.
//!
//! A reader takes what it finds for what it is: bytes that somebody may be writing this moment, or
//! wrote in error. Head and places have a checksum each; what does not agree with it is read again.

use portpool_core::{
    Port, PortRange, Token, Transport,
    abi::{Record, Tenure},
};

/// A block as it stands in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) namespace: u64,
    pub(crate) token: Token,
    pub(crate) transport: Transport,
    pub(crate) range: PortRange,
    pub(crate) born: u64,
}

/// What a list turns out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Blocks with the namespaces they are of.
    Whole(Vec<(u64, Record)>),
    /// Not written yet.
    Empty,
    /// Read while it was written.
    Torn,
    /// Of another version.
    Foreign,
    /// Something no portpool writes.
    Wrong,
}

/// Who lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lister {
    pub(crate) pid: u32,
    pub(crate) start: u64,
    pub(crate) pid_namespace: u32,
    pub(crate) uid: u32,
    pub(crate) command: String,
}

/// The head of a list of this process.
pub(crate) fn head(lister: &Lister) -> [u8; HEAD_SIZE] {
    let (pid, start) = (lister.pid, lister.start);
    let (space, uid) = (lister.pid_namespace, lister.uid);
    let plain = lister.command.chars().filter(|it| !it.is_control());
    let command: String = plain.take(COMMAND_LENGTH_MAX).collect();
    let owner = format!("{pid} {start} {space} {uid} {command}\n");
    let sum = owner.bytes().map(u64::from).fold(SUM_START, mix);
    let text = format!("{VERSION}\n{sum:016x} {owner}");
    let mut head = [0; HEAD_SIZE];
    head[..text.len()].copy_from_slice(text.as_bytes());
    head
}

/// The words of a place. That of the block goes last into a free place, and first out of it.
pub(crate) fn words(listed: &Listed) -> [u64; PLACE_WORDS] {
    let (first, last) = (listed.range.first(), listed.range.last());
    // Never 0, which marks a place that is free.
    let transport = listed.transport.index() as u64 + 1;
    let block = transport << 32 | u64::from(first.number()) << 16 | u64::from(last.number());
    let content = [listed.namespace, listed.token.value(), listed.born, block];
    let [namespace, token, born, block] = content;
    [namespace, token, born, sum_of(content), block]
}

/// What the bytes of a list say.
pub(crate) fn read(bytes: &[u8]) -> Content {
    let Some(rest) = bytes.strip_prefix(VERSION.as_bytes()) else {
        let start = &bytes[..bytes.len().min(VERSION.len())];
        return match start.iter().all(|byte| *byte == 0) {
            true => Content::Empty,
            false => Content::Foreign,
        };
    };
    let Some(places) = bytes.get(HEAD_SIZE..) else {
        return Content::Torn;
    };
    let Some(owner) = owner_line(&rest[..HEAD_SIZE - VERSION.len()]) else {
        return Content::Torn;
    };
    let Some(lister) = lister(owner) else {
        return Content::Wrong;
    };
    let mut found = Vec::new();
    for place in places.chunks_exact(PLACE_SIZE) {
        match listed(place) {
            Place::Free => {}
            Place::Torn => return Content::Torn,
            Place::Wrong => return Content::Wrong,
            Place::Taken(listed) => found.push((listed.namespace, record(&lister, &listed))),
        }
    }
    Content::Whole(found)
}

enum Place {
    Free,
    Torn,
    Wrong,
    Taken(Listed),
}

fn listed(place: &[u8]) -> Place {
    let mut words = [0; PLACE_WORDS];
    let (bytes, _) = place.as_chunks::<WORD_SIZE>();
    for (word, bytes) in words.iter_mut().zip(bytes) {
        *word = u64::from_ne_bytes(*bytes);
    }
    let [namespace, token, born, sum, block] = words;
    if block == 0 {
        return Place::Free;
    }
    if sum_of([namespace, token, born, block]) != sum {
        return Place::Torn;
    }
    let port = |shift: u32| Port::new((block >> shift & 0xffff) as u16);
    let transport = usize::try_from(block >> 32).ok();
    let transport = transport.and_then(|it| Transport::ALL.get(it.checked_sub(1)?));
    let range = || PortRange::between(port(16)?, port(0)?);
    match (Token::new(token), transport, range()) {
        (Some(token), Some(&transport), Some(range)) => Place::Taken(Listed {
            namespace,
            token,
            transport,
            range,
            born,
        }),
        _ => Place::Wrong,
    }
}

/// The text after the checksum, if it agrees with that.
fn owner_line(head: &[u8]) -> Option<&[u8]> {
    let (sum, rest) = head.strip_prefix(b"\n")?.split_first_chunk::<16>()?;
    let rest = rest.strip_prefix(b" ")?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let sum = u64::from_str_radix(str::from_utf8(sum).ok()?, 16).ok()?;
    let found = rest[..=end].iter().map(|byte| u64::from(*byte));
    (found.fold(SUM_START, mix) == sum).then_some(&rest[..end])
}

fn lister(owner: &[u8]) -> Option<Lister> {
    let mut fields = str::from_utf8(owner).ok()?.splitn(5, ' ');
    Some(Lister {
        pid: fields.next()?.parse().ok()?,
        start: fields.next()?.parse().ok()?,
        pid_namespace: fields.next()?.parse().ok()?,
        uid: fields.next()?.parse().ok()?,
        command: fields.next()?.to_owned(),
    })
}

fn record(lister: &Lister, listed: &Listed) -> Record {
    Record {
        token: listed.token,
        transport: listed.transport,
        range: listed.range,
        tenure: Tenure::Runtime,
        uid: lister.uid,
        owner_pid: lister.pid,
        owner_pid_seen: lister.pid,
        pid_namespace: lister.pid_namespace,
        owner_start: lister.start,
        tree_root: None,
        born: listed.born,
        shared: false,
        command: lister.command.clone(),
    }
}

/// Against accidents, not against enemies, who cannot write here: words that differ in one place never
/// agree.
pub(super) fn sum_of(words: [u64; 4]) -> u64 {
    words.into_iter().fold(SUM_START, mix)
}

fn mix(sum: u64, word: u64) -> u64 {
    (sum ^ word).wrapping_mul(SUM_FACTOR).rotate_left(29)
}

const VERSION: &str = "portpool registry 3";
pub(crate) const HEAD_SIZE: usize = 256;
pub(crate) const PLACE_WORDS: usize = 5;
pub(crate) const WORD_SIZE: usize = size_of::<u64>();
pub(crate) const PLACE_SIZE: usize = PLACE_WORDS * WORD_SIZE;
/// Of the words of a place, that of the block and that of the checksum.
pub(crate) const BLOCK_WORD: usize = 4;
pub(crate) const SUM_WORD: usize = 3;
/// The kernel's are of 15 bytes.
const COMMAND_LENGTH_MAX: usize = 16;
// Those of FNV-1a.
const SUM_START: u64 = 0xcbf2_9ce4_8422_2325;
const SUM_FACTOR: u64 = 0x0100_0000_01b3;

const _: () = assert!(HEAD_SIZE.is_multiple_of(WORD_SIZE));

#[cfg(test)]
mod tests {
    use super::*;

    fn some_lister() -> Lister {
        Lister {
            pid: 7,
            start: 9,
            pid_namespace: 11,
            uid: 1000,
            command: "a b".to_owned(),
        }
    }

    fn some_block() -> Listed {
        Listed {
            namespace: 5,
            token: "00000000c0ffee00".parse().expect("a token"),
            transport: Transport::Udp,
            range: "20000-20003".parse().expect("a range"),
            born: 77,
        }
    }

    fn list(places: &[[u64; PLACE_WORDS]]) -> Vec<u8> {
        let mut list = head(&some_lister()).to_vec();
        let words = places.as_flattened().iter();
        list.extend(words.flat_map(|word| word.to_ne_bytes()));
        list
    }

    const FREE: [u64; PLACE_WORDS] = [0; PLACE_WORDS];

    #[test]
    fn a_list_reads_back_what_was_written() {
        let block = some_block();
        let found = read(&list(&[FREE, words(&block), FREE]));
        let record = record(&some_lister(), &block);
        assert_eq!((record.owner_pid, record.uid, record.born), (7, 1000, 77));
        assert_eq!(record.command, "a b");
        assert_eq!(found, Content::Whole(vec![(5, record)]));
        assert_eq!(read(&list(&[])), Content::Whole(Vec::new()));
        // Half a place at the end is one that is not written yet.
        let bytes = list(&[words(&block)]);
        let short = &bytes[..bytes.len() - 1];
        assert_eq!(read(short), Content::Whole(Vec::new()));
        // What an earlier block left behind does not matter.
        let mut left = words(&block);
        left[BLOCK_WORD] = 0;
        assert_eq!(read(&list(&[left])), Content::Whole(Vec::new()));
    }

    #[test]
    fn the_longest_head_has_room() {
        let longest = Lister {
            pid: u32::MAX,
            start: u64::MAX,
            pid_namespace: u32::MAX,
            uid: u32::MAX,
            command: "\u{10ffff}".repeat(40),
        };
        let Content::Whole(records) = read(&head(&longest)) else {
            panic!("unreadable");
        };
        assert!(records.is_empty());
    }

    #[test]
    fn a_list_that_is_torn_or_of_another_version_is_not_read() {
        let bytes = list(&[words(&some_block())]);
        for end in VERSION.len()..HEAD_SIZE {
            assert_eq!(read(&bytes[..end]), Content::Torn, "{end}");
        }
        let text_end = bytes.iter().position(|byte| *byte == 0).expect("an end");
        let bits =
            (HEAD_SIZE * 8..bytes.len() * 8).chain((VERSION.len()..text_end).map(|at| at * 8));
        for bit in bits {
            let mut torn = bytes.clone();
            torn[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&torn), Content::Torn, "bit {bit}");
        }
        let mut other = bytes.clone();
        other[VERSION.len() - 1] = b'2';
        assert_eq!(read(&other), Content::Foreign);
        assert_eq!(read(b"port"), Content::Foreign);
        assert_eq!(read(b""), Content::Empty);
        assert_eq!(read(&[0; 4096]), Content::Empty);
    }

    #[test]
    fn a_place_that_no_portpool_writes_is_told() {
        let [namespace, token, born, _, block] = words(&some_block());
        let of = |token: u64, block: u64| {
            let sum = sum_of([namespace, token, born, block]);
            read(&list(&[[namespace, token, born, sum, block]]))
        };
        assert!(matches!(of(token, block), Content::Whole(_)));
        // No token; another transport; first port 0; the last port below the first.
        assert_eq!(of(0, block), Content::Wrong);
        for block in [
            block | 1 << 32,
            block & !(0xffff << 16),
            block & !0xffff | 1,
            1,
            u64::MAX,
        ] {
            assert_eq!(of(token, block), Content::Wrong, "{block:x}");
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic() {
        let bytes = list(&[words(&some_block()), FREE, words(&some_block())]);
        let mut chance = 1_u64;
        for _ in 0..20_000 {
            let mut wrong = bytes.clone();
            for _ in 0..4 {
                chance = chance
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let at = (chance >> 33) as usize % wrong.len();
                wrong[at] = (chance >> 20) as u8;
            }
            wrong.truncate((chance >> 40) as usize % (bytes.len() + 1));
            // Whatever it is taken for: nothing is listed but what was written.
            if let Content::Whole(found) = read(&wrong) {
                assert!(found.iter().all(|(_, it)| it.range == some_block().range));
            }
        }
    }
}
