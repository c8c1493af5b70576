//! Requests, records and map values as bytes.

use crate::{Limits, PortBitmap, PortRange, RangeSet, Token, Transport};

use super::RANGE_COUNT_MAX;

/// Bytes of an acquire request.
pub const ACQUIRE_SIZE: usize = 32;
/// Bytes of a record in the map `reservations`.
pub const RECORD_SIZE: usize = 96;
/// Bytes of one transport's element of the map `occupancy`.
pub const OCCUPANCY_SIZE: usize = 45_080;
/// Bytes of one word's element of the map `counts`: how many sockets are bound to each of 64 ports.
pub const COUNTS_SIZE: usize = 256;
/// Bytes of a pool's element of the map `pools`.
pub const POOL_SIZE: usize = 320;

const FLAG_TREE: u16 = 1;
const FLAG_ZERO: u16 = 2;
const FLAG_PERSISTENT: u16 = 4;
const FLAG_GROUP: u16 = 8;

/// Who may consume a block without associating.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Nobody: sockets are associated by the owner process (spec 1.3 rules 8 and 30).
    #[default]
    Associated,
    /// A root process and its descendants.
    Tree {
        /// Process id of the root as the caller numbers it, `None` for the caller's own process.
        /// Another root must be an ancestor of the caller with the same uids and user namespace.
        root: Option<u32>,
        /// Serve a TCP bind to port 0 of the root itself from the block.
        zero_from_block: bool,
    },
}

/// The value of the control code acquire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquire {
    /// The block wanted; the transport is the socket's.
    pub range: PortRange,
    /// The name the reservation is to have.
    pub token: Token,
    /// Who may consume without associating.
    pub scope: Scope,
}

impl Acquire {
    /// The request as the kernel program reads it.
    pub fn to_bytes(&self) -> [u8; ACQUIRE_SIZE] {
        let (flags, root) = match self.scope {
            Scope::Associated => (0, 0),
            Scope::Tree {
                root,
                zero_from_block,
            } => (
                FLAG_TREE | if zero_from_block { FLAG_ZERO } else { 0 },
                root.unwrap_or(0),
            ),
        };
        let mut bytes = [0; ACQUIRE_SIZE];
        put(&mut bytes, 0, &self.token.value().to_ne_bytes());
        put(&mut bytes, 16, &root.to_ne_bytes());
        put(&mut bytes, 20, &self.range.first().number().to_ne_bytes());
        put(&mut bytes, 22, &self.range.count().number().to_ne_bytes());
        put(&mut bytes, 24, &flags.to_ne_bytes());
        bytes
    }
}

/// The value of the control codes release and associate.
pub fn token_bytes(token: Token) -> [u8; 8] {
    token.value().to_ne_bytes()
}

/// The value of the probing control code.
pub fn probe_bytes() -> [u8; 8] {
    let mut bytes = [0; 8];
    put(&mut bytes, 0, &super::VERSION.to_ne_bytes());
    bytes
}

/// How long a reservation lasts, and who may consume it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tenure {
    /// It ends with its owner socket; its owner process consumes it.
    Runtime,
    /// It ends when it is deleted; the administrator consumes it, and the members of a group.
    Persistent {
        /// The group, as the initial user namespace numbers it.
        group: Option<u32>,
    },
}

impl Tenure {
    pub(super) fn from_flags(flags: u16, group: u32) -> Tenure {
        let group = (flags & FLAG_GROUP != 0).then_some(group);
        match flags & FLAG_PERSISTENT {
            0 => Tenure::Runtime,
            _ => Tenure::Persistent { group },
        }
    }
}

/// A live reservation as the kernel keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub token: Token,
    /// TCP or UDP.
    pub transport: Transport,
    /// Its ports.
    pub range: PortRange,
    /// Runtime or persistent.
    pub tenure: Tenure,
    /// Effective uid of the owner, as the initial user namespace numbers it. Of a persistent block:
    /// of who made it.
    pub uid: u32,
    /// Process id of the owner, as the initial pid namespace numbers it. Of a persistent block: 0,
    /// as are the others.
    pub owner_pid: u32,
    /// Process id of the owner as it sees itself, in the pid namespace `pid_namespace`.
    pub owner_pid_seen: u32,
    /// Inode of the owner's pid namespace.
    pub pid_namespace: u32,
    /// Start of the owner process in nanoseconds since boot.
    pub owner_start: u64,
    /// Root of the tree that may consume without associating: process id in the initial pid
    /// namespace and start in nanoseconds since boot.
    pub tree_root: Option<(u32, u64)>,
    /// When it was acquired, in nanoseconds since boot.
    pub born: u64,
    /// Whether it counts against its uid and against the share of callers without `CAP_NET_ADMIN`.
    pub shared: bool,
    /// Command name of the owner when it acquired, or of who made the persistent block, at most 15
    /// bytes.
    pub command: String,
}

impl Record {
    /// Reads a value of the map `reservations`; `None` if the reservation is ending or the bytes
    /// are no record.
    pub fn from_bytes(bytes: &[u8; RECORD_SIZE]) -> Option<Record> {
        if read_u64(bytes, 0) == 0 {
            return None;
        }
        let flags = read_u16(bytes, 72);
        let tree = flags & FLAG_TREE != 0;
        let command = &bytes[80..96];
        let length = command
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(command.len());
        Some(Record {
            token: Token::new(read_u64(bytes, 8))?,
            transport: if bytes[74] == 0 {
                Transport::Tcp
            } else {
                Transport::Udp
            },
            range: PortRange::from_numbers(read_u16(bytes, 68), read_u16(bytes, 70)).ok()?,
            tenure: Tenure::from_flags(flags, read_u32(bytes, 76)),
            uid: read_u32(bytes, 64),
            owner_pid: read_u32(bytes, 48),
            owner_pid_seen: read_u32(bytes, 56),
            pid_namespace: read_u32(bytes, 60),
            owner_start: read_u64(bytes, 24),
            tree_root: tree.then(|| (read_u32(bytes, 52), read_u64(bytes, 32))),
            born: read_u64(bytes, 40),
            shared: bytes[75] != 0,
            command: String::from_utf8_lossy(&command[..length]).into_owned(),
        })
    }
}

/// Whether a pool grants yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolState {
    /// Sockets bound before attach are still being counted: acquire is refused as busy.
    Sweeping,
    /// Open.
    Ready,
}

/// A pool's element of the map `pools`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Unique for ever on this machine's boot.
    pub id: u64,
    /// When it was attached, in nanoseconds since boot.
    pub attached: u64,
    /// Id of the cgroup the programs are attached to.
    pub cgroup: u64,
    /// Its slot in the arrays of maps.
    pub index: u32,
    /// Whether it grants yet.
    pub state: PoolState,
    /// Its limits.
    pub limits: Limits,
    /// Where wildcard blocks are drawn from; at most [`RANGE_COUNT_MAX`] ranges.
    pub ranges: RangeSet,
}

impl PoolConfig {
    /// The element as the kernel programs read it. Ranges past [`RANGE_COUNT_MAX`] are left out.
    pub fn to_bytes(&self) -> [u8; POOL_SIZE] {
        let mut bytes = [0; POOL_SIZE];
        let share = |whole: u32| {
            u32::try_from(u64::from(whole) * u64::from(self.limits.shared_percent) / 100)
                .unwrap_or(whole)
        };
        for (offset, number) in [(0, self.id), (8, self.attached), (16, self.cgroup)] {
            put(&mut bytes, offset, &number.to_ne_bytes());
        }
        let ranges: Vec<PortRange> = self.ranges.iter().take(RANGE_COUNT_MAX).collect();
        for (offset, number) in [
            (24, self.index),
            (28, u32::from(self.state == PoolState::Ready)),
            (32, self.limits.shared_percent),
            (36, self.limits.ports_per_uid_max),
            (40, self.limits.reservations_per_uid_max),
            (44, self.limits.reservations_per_socket_max),
            (48, self.limits.reservations_max),
            (52, share(POOL_PORTS)),
            (56, share(self.limits.reservations_max)),
            (60, u32::try_from(ranges.len()).unwrap_or(0)),
        ] {
            put(&mut bytes, offset, &number.to_ne_bytes());
        }
        for (index, range) in ranges.iter().enumerate() {
            put(
                &mut bytes,
                64 + index * 4,
                &range.first().number().to_ne_bytes(),
            );
            put(
                &mut bytes,
                66 + index * 4,
                &range.count().number().to_ne_bytes(),
            );
        }
        bytes
    }

    /// Reads an element of the map `pools`.
    pub fn from_bytes(bytes: &[u8; POOL_SIZE]) -> PoolConfig {
        let ranges = (0..RANGE_COUNT_MAX.min(read_u32(bytes, 60) as usize)).filter_map(|index| {
            let at = 64 + index * 4;
            PortRange::from_numbers(read_u16(bytes, at), read_u16(bytes, at + 2)).ok()
        });
        PoolConfig {
            id: read_u64(bytes, 0),
            attached: read_u64(bytes, 8),
            cgroup: read_u64(bytes, 16),
            index: read_u32(bytes, 24),
            state: if read_u32(bytes, 28) == 0 {
                PoolState::Sweeping
            } else {
                PoolState::Ready
            },
            limits: Limits {
                ports_per_uid_max: read_u32(bytes, 36),
                reservations_per_uid_max: read_u32(bytes, 40),
                reservations_per_socket_max: read_u32(bytes, 44),
                reservations_max: read_u32(bytes, 48),
                shared_percent: read_u32(bytes, 32),
            },
            ranges: ranges.collect(),
        }
    }
}

/// Counters of a whole pool, kept in TCP's element of the map `occupancy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Live reservations.
    pub reservations: u32,
    /// Those of callers without `CAP_NET_ADMIN`.
    pub shared_reservations: u32,
    /// Ports held by callers without `CAP_NET_ADMIN`, TCP and UDP together.
    pub shared_ports: u32,
}

impl Counters {
    /// Reads TCP's element of the map `occupancy`.
    pub fn from_bytes(bytes: &[u8]) -> Counters {
        Counters {
            reservations: read_u32(bytes, 36_872),
            shared_reservations: read_u32(bytes, 36_876),
            shared_ports: read_u32(bytes, 36_880),
        }
    }
}

/// Reading one transport's element of the map `occupancy` (of [`OCCUPANCY_SIZE`] bytes).
pub mod occupancy {
    use super::{PortBitmap, read_u32, read_u64};

    const HELD: usize = 8_192;
    const RECENT: usize = 16_384;
    const IN_USE: usize = 32_768;
    const RECENT_EPOCH: usize = 36_864;
    const EXCLUDED: usize = 36_888;

    /// A generation of recently used ports lasts 2 to this power nanoseconds (34 s).
    pub const RECENT_SHIFT: u32 = 35;

    /// Reserved ports.
    pub fn claimed(bytes: &[u8]) -> PortBitmap {
        bitmap(bytes, 0)
    }

    /// Ports of kernel sockets and of sockets that no hook can count.
    pub fn held(bytes: &[u8]) -> PortBitmap {
        bitmap(bytes, HELD)
    }

    /// Ports that the administrator keeps from reservations.
    pub fn excluded(bytes: &[u8]) -> PortBitmap {
        bitmap(bytes, EXCLUDED)
    }

    /// Ports a socket was closed on in the last 34 to 69 s; `now` is in nanoseconds since boot.
    pub fn recent(bytes: &[u8], now: u64) -> PortBitmap {
        let epoch = (now >> RECENT_SHIFT) as u32;
        let mut recent = PortBitmap::empty();
        for generation in 0..2 {
            let seen = read_u32(bytes, RECENT_EPOCH + generation * 4);
            if seen == epoch || seen == epoch.wrapping_sub(1) {
                recent.union_with(&bitmap(bytes, RECENT + generation * 8_192));
            }
        }
        recent
    }

    /// Words (ports 64 * word to 64 * word + 63) in which at least one port is bound.
    pub fn words_in_use(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
        let (counts, _) = bytes[IN_USE..RECENT_EPOCH].as_chunks::<4>();
        (0u32..)
            .zip(counts)
            .filter(|(_, count)| **count != [0; 4])
            .map(|(word, _)| word)
    }

    /// Ports of a word that are reserved, held or excluded, as a mask.
    pub fn barred_in_word(bytes: &[u8], word: u32) -> u64 {
        [0, HELD, EXCLUDED]
            .into_iter()
            .map(|offset| read_u64(bytes, offset + word as usize * 8))
            .fold(0, |mask, bits| mask | bits)
    }

    /// Whether at least one port of a word is bound.
    pub fn is_word_in_use(bytes: &[u8], word: u32) -> bool {
        read_u32(bytes, IN_USE + word as usize * 4) != 0
    }

    fn bitmap(bytes: &[u8], offset: usize) -> PortBitmap {
        let (chunks, _) = bytes[offset..offset + 8_192].as_chunks::<8>();
        let mut words = [0; 1024];
        for (word, chunk) in words.iter_mut().zip(chunks) {
            *word = u64::from_ne_bytes(*chunk);
        }
        PortBitmap::from_words(&words)
    }
}

/// Key of a word's element of the map `counts`.
pub fn counts_key(transport: Transport, word: u32) -> u32 {
    u32::try_from(transport.index()).unwrap_or(0) * 1024 + word
}

/// The ports of a word that sockets are bound to, as a mask, from its element of the map `counts`.
pub fn ports_in_use(bytes: &[u8; COUNTS_SIZE]) -> u64 {
    (0..64)
        .filter(|bit| read_u32(bytes, bit * 4) != 0)
        .fold(0, |mask, bit| mask | 1 << bit)
}

// 65,535 of TCP and as many of UDP.
const POOL_PORTS: u32 = 131_070;

const _: () = assert!(64 + RANGE_COUNT_MAX * 4 == POOL_SIZE);

fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}

fn read_u16(bytes: &[u8], offset: usize) -> u16 {
    u16::from_ne_bytes([bytes[offset], bytes[offset + 1]])
}

fn read_u32(bytes: &[u8], offset: usize) -> u32 {
    u32::from_ne_bytes(std::array::from_fn(|index| bytes[offset + index]))
}

fn read_u64(bytes: &[u8], offset: usize) -> u64 {
    u64::from_ne_bytes(std::array::from_fn(|index| bytes[offset + index]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_reads_back_as_written() {
        let config = PoolConfig {
            id: 7,
            attached: 8,
            cgroup: 9,
            index: 3,
            state: PoolState::Ready,
            limits: Limits {
                shared_percent: 37,
                ..Limits::DEFAULT
            },
            ranges: "20000-32767,61000-65535".parse().expect("ranges"),
        };
        assert_eq!(PoolConfig::from_bytes(&config.to_bytes()), config);
    }

    #[test]
    fn an_acquire_has_its_fields_where_the_program_reads_them() {
        let request = Acquire {
            range: PortRange::from_numbers(20_000, 4).expect("range"),
            token: Token::new(0x0102_0304_0506_0708).expect("token"),
            scope: Scope::Tree {
                root: Some(77),
                zero_from_block: true,
            },
        };
        let bytes = request.to_bytes();
        assert_eq!(read_u64(&bytes, 0), 0x0102_0304_0506_0708);
        assert_eq!(read_u32(&bytes, 16), 77);
        assert_eq!(
            (
                read_u16(&bytes, 20),
                read_u16(&bytes, 22),
                read_u16(&bytes, 24)
            ),
            (20_000, 4, 3)
        );
        assert_eq!(bytes[26..], [0; 6]);
    }

    #[test]
    fn a_record_that_is_ending_is_none() {
        assert_eq!(Record::from_bytes(&[0; RECORD_SIZE]), None);
    }

    #[test]
    fn quarantine_forgets_after_two_generations() {
        let mut bytes = vec![0; OCCUPANCY_SIZE];
        put(&mut bytes, 16_384, &1u64.wrapping_shl(5).to_ne_bytes());
        put(&mut bytes, 36_864, &4u32.to_ne_bytes());
        let at = |epoch: u64| occupancy::recent(&bytes, epoch << occupancy::RECENT_SHIFT).count();
        assert_eq!((at(4), at(5), at(6)), (1, 1, 0));
    }
}
