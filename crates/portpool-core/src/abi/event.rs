//! What the kernel programs tell and count, as bytes.

use crate::{PortRange, Token, Transport};

use super::{ControlCode, Operation, Tenure};

/// Bytes of an event in the ring buffer.
pub const EVENT_SIZE: usize = 56;
/// Bytes of the one element of the map `watch_state`.
pub const WATCH_SIZE: usize = 16;
/// How many elements a pool's map `tallies` has.
pub const TALLY_COUNT: u32 = 192;

const ANSWER_COUNT: u32 = 16;

/// The birth or death of a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in nanoseconds since boot.
    pub time: u64,
    /// What happened.
    pub what: What,
    /// The slot of its pool, as of [`PoolConfig`](super::PoolConfig).
    pub pool_index: u32,
    /// Its name.
    pub token: Token,
    /// TCP or UDP.
    pub transport: Transport,
    /// Its ports.
    pub range: PortRange,
    /// Runtime or persistent.
    pub tenure: Tenure,
    /// As of [`Record`](super::Record).
    pub uid: u32,
    /// As of [`Record`](super::Record).
    pub owner_pid: u32,
    /// As of [`Record`](super::Record).
    pub command: String,
}

/// What happened to a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum What {
    /// It was acquired or made persistent.
    Born = 1,
    /// It was released by its token.
    Released = 2,
    /// Its owner socket was closed, or its process ended.
    Closed = 3,
    /// It was persistent and was deleted.
    Deleted = 4,
}

impl What {
    /// The name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            What::Born => "born",
            What::Released => "released",
            What::Closed => "closed",
            What::Deleted => "deleted",
        }
    }
}

impl Event {
    /// Reads an event; `None` if the bytes are none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Event> {
        let bytes: &[u8; EVENT_SIZE] = bytes.try_into().ok()?;
        let (wide, number, short) = (
            |at: usize| u64::from_ne_bytes(std::array::from_fn(|index| bytes[at + index])),
            |at: usize| u32::from_ne_bytes(std::array::from_fn(|index| bytes[at + index])),
            |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]),
        );
        let what = [What::Born, What::Released, What::Closed, What::Deleted];
        let command = &bytes[40..];
        let length = command.iter().position(|byte| *byte == 0);
        Some(Event {
            time: wide(0),
            what: what.into_iter().find(|what| *what as u8 == bytes[39])?,
            pool_index: number(16),
            token: Token::new(wide(8))?,
            transport: match bytes[38] {
                0 => Transport::Tcp,
                _ => Transport::Udp,
            },
            range: PortRange::from_numbers(short(32), short(34)).ok()?,
            tenure: Tenure::from_flags(short(36), number(28)),
            uid: number(20),
            owner_pid: number(24),
            command: String::from_utf8_lossy(&command[..length.unwrap_or(command.len())])
                .into_owned(),
        })
    }
}

/// What an element of the map `tallies` counts: an operation and the errno it answered with, 0 for
/// none. `None` in place of the errno stands for all others.
///
/// Of everything but acquire only refusals are counted.
pub fn tally(key: u32) -> Option<(Operation, Option<i32>)> {
    let operation = match key / ANSWER_COUNT {
        0 => Operation::Control(ControlCode::Probe),
        1 => Operation::Control(ControlCode::Acquire),
        2 => Operation::Control(ControlCode::Release),
        3 => Operation::Control(ControlCode::Associate),
        4 => Operation::Control(ControlCode::Persist),
        5 => Operation::Control(ControlCode::Unpersist),
        6 => Operation::Control(ControlCode::Exclude),
        7 => Operation::Control(ControlCode::Unexclude),
        8 => Operation::Control(ControlCode::Window),
        9 => Operation::Control(ControlCode::Lend),
        10 => Operation::Bind,
        11 => Operation::Connect,
        _ => return None,
    };
    let answer = ANSWERS.get((key % ANSWER_COUNT) as usize).copied();
    Some((operation, answer))
}

/// The errnos that are counted apart, as `bpf/tell.h` orders them.
const ANSWERS: [i32; 15] = [0, 2, 3, 13, 16, 17, 22, 24, 28, 71, 95, 98, 99, 105, 122];

#[cfg(test)]
mod tests {
    use super::super::ERRNO_TABLE;
    use super::*;

    #[test]
    fn every_errno_of_the_table_is_counted_apart() {
        for row in ERRNO_TABLE.iter().filter(|row| row.errno != 92) {
            let counted = (0..TALLY_COUNT)
                .filter(|key| tally(*key) == Some((row.operation, Some(row.errno))))
                .count();
            assert_eq!(counted, 1, "{row:?}");
        }
        assert_eq!(tally(TALLY_COUNT), None);
        assert_eq!(
            tally(15),
            Some((Operation::Control(ControlCode::Probe), None))
        );
    }

    #[test]
    fn an_event_has_its_fields_where_the_program_writes_them() {
        let mut bytes = [0; EVENT_SIZE];
        bytes[..8].copy_from_slice(&5u64.to_ne_bytes());
        bytes[8..16].copy_from_slice(&7u64.to_ne_bytes());
        for (at, number) in [(16, 3u32), (20, 1000), (24, 4321), (28, 54_321)] {
            bytes[at..at + 4].copy_from_slice(&number.to_ne_bytes());
        }
        for (at, number) in [(32, 20_000u16), (34, 4), (36, 12)] {
            bytes[at..at + 2].copy_from_slice(&number.to_ne_bytes());
        }
        bytes[38] = 1;
        bytes[39] = 4;
        bytes[40..44].copy_from_slice(b"name");
        let event = Event {
            time: 5,
            what: What::Deleted,
            pool_index: 3,
            token: Token::new(7).expect("a token"),
            transport: Transport::Udp,
            range: PortRange::from_numbers(20_000, 4).expect("a range"),
            tenure: Tenure::Persistent {
                group: Some(54_321),
            },
            uid: 1000,
            owner_pid: 4321,
            command: "name".to_owned(),
        };
        assert_eq!(Event::from_bytes(&bytes), Some(event));
        assert_eq!(Event::from_bytes(&bytes[1..]), None);
        bytes[39] = 9;
        assert_eq!(Event::from_bytes(&bytes), None);
    }
}
