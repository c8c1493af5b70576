//! The requests that need CAP_NET_ADMIN, or the group of a persistent block, as bytes.

use crate::{PortRange, Token};

/// Bytes of a request to make a block persistent.
pub const PERSIST_SIZE: usize = 24;
/// Bytes of a request to delete a persistent block, to exclude ports, or to end that.
pub const PORTS_SIZE: usize = 8;
/// Bytes of a request to open a window.
pub const WINDOW_SIZE: usize = 32;
/// Bytes of a request to lend a persistent block.
pub const LEND_SIZE: usize = 24;

const FLAG_GROUP: u16 = 1;
const FLAG_RESTORE: u16 = 2;

/// Whether a block or an exclusion is made anew or is put back as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A new one: refused where a socket has a port of it, and while attach still counts sockets.
    #[default]
    New,
    /// One that is on record: sockets that have ports of it keep them, and nobody else gets in.
    /// Possible as soon as the programs are there, so that nothing can be bound before.
    Restored,
}

/// The value of the control code persist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persist {
    /// The block; the transport is the socket's.
    pub range: PortRange,
    /// The name it is to have until it is deleted or the machine restarts.
    pub token: Token,
    /// The group whose members may consume it besides the administrator, as the initial user
    /// namespace numbers it.
    pub group: Option<u32>,
    /// New or put back.
    pub origin: Origin,
}

impl Persist {
    /// The request as the kernel program reads it.
    pub fn to_bytes(&self) -> [u8; PERSIST_SIZE] {
        let group = if self.group.is_some() { FLAG_GROUP } else { 0 };
        let mut bytes = [0; PERSIST_SIZE];
        put(&mut bytes, 0, &self.token.value().to_ne_bytes());
        put(&mut bytes, 8, &self.group.unwrap_or(0).to_ne_bytes());
        put_range(&mut bytes, 12, self.range);
        put(
            &mut bytes,
            16,
            &(group | restore(self.origin)).to_ne_bytes(),
        );
        bytes
    }
}

/// The value of the control codes unpersist, exclude and unexclude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The ports; the transport is the socket's.
    pub range: PortRange,
    /// For exclude: new or put back.
    pub origin: Origin,
}

impl Ports {
    /// The request as the kernel program reads it.
    pub fn to_bytes(&self) -> [u8; PORTS_SIZE] {
        let mut bytes = [0; PORTS_SIZE];
        put_range(&mut bytes, 0, self.range);
        put(&mut bytes, 4, &restore(self.origin).to_ne_bytes());
        bytes
    }
}

/// The value of the control code window: who may claim which ports, and until when.
///
/// The process is named as the one that opens the window sees it, and may be in another pid
/// namespace below that one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Exactly what is to be claimed; the transport is the socket's.
    pub range: PortRange,
    /// Effective uid of the process, as the initial user namespace numbers it.
    pub uid: u32,
    /// Process id, as the one that opens the window numbers it.
    pub pid: u32,
    /// Start of the process in clock ticks since boot, as in `/proc/PID/stat`.
    pub start_ticks: u64,
    /// When it closes, in nanoseconds since boot.
    pub deadline: u64,
}

impl Window {
    /// The request as the kernel program reads it.
    pub fn to_bytes(&self) -> [u8; WINDOW_SIZE] {
        let mut bytes = [0; WINDOW_SIZE];
        put(&mut bytes, 0, &self.start_ticks.to_ne_bytes());
        put(&mut bytes, 8, &self.deadline.to_ne_bytes());
        put(&mut bytes, 16, &self.uid.to_ne_bytes());
        put(&mut bytes, 20, &self.pid.to_ne_bytes());
        put_range(&mut bytes, 24, self.range);
        bytes
    }
}

/// The value of the control code lend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lend {
    /// The persistent block.
    pub token: Token,
    /// Process id of the root of the tree as the caller numbers it, `None` for the caller's own
    /// process. Another one must be an ancestor with the same uids and user namespace.
    pub root: Option<u32>,
}

impl Lend {
    /// The request as the kernel program reads it.
    pub fn to_bytes(&self) -> [u8; LEND_SIZE] {
        let mut bytes = [0; LEND_SIZE];
        put(&mut bytes, 0, &self.token.value().to_ne_bytes());
        put(&mut bytes, 16, &self.root.unwrap_or(0).to_ne_bytes());
        bytes
    }
}

fn restore(origin: Origin) -> u16 {
    match origin {
        Origin::New => 0,
        Origin::Restored => FLAG_RESTORE,
    }
}

fn put_range(bytes: &mut [u8], offset: usize, range: PortRange) {
    put(bytes, offset, &range.first().number().to_ne_bytes());
    put(bytes, offset + 2, &range.count().number().to_ne_bytes());
}

fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8]) -> u64 {
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(wide)
    }

    fn range() -> PortRange {
        PortRange::from_numbers(20_000, 4).expect("range")
    }

    fn token() -> Token {
        Token::new(7).expect("token")
    }

    #[test]
    fn a_persist_has_its_fields_where_the_program_reads_them() {
        let persist = Persist {
            range: range(),
            token: token(),
            group: Some(77),
            origin: Origin::Restored,
        };
        let bytes = persist.to_bytes();
        let fields = [0..8, 8..12, 12..14, 14..16, 16..18, 18..24].map(|at| number(&bytes[at]));
        assert_eq!(fields, [7, 77, 20_000, 4, 3, 0]);
        let plain = Persist {
            group: None,
            origin: Origin::New,
            ..persist
        };
        assert_eq!(number(&plain.to_bytes()[16..18]), 0);
    }

    #[test]
    fn ports_have_their_fields_where_the_program_reads_them() {
        let ports = Ports {
            range: range(),
            origin: Origin::Restored,
        };
        let bytes = ports.to_bytes();
        let fields = [0..2, 2..4, 4..6, 6..8].map(|at| number(&bytes[at]));
        assert_eq!(fields, [20_000, 4, 2, 0]);
    }

    #[test]
    fn a_window_has_its_fields_where_the_program_reads_them() {
        let window = Window {
            range: range(),
            uid: 1,
            pid: 2,
            start_ticks: 3,
            deadline: 4,
        };
        let bytes = window.to_bytes();
        let fields = [0..8, 8..16, 16..20, 20..24, 24..26, 26..28, 28..32];
        assert_eq!(
            fields.map(|at| number(&bytes[at])),
            [3, 4, 1, 2, 20_000, 4, 0]
        );
    }

    #[test]
    fn a_lend_has_its_fields_where_the_program_reads_them() {
        let lend = Lend {
            token: token(),
            root: Some(77),
        };
        let bytes = lend.to_bytes();
        let fields = [0..8, 8..16, 16..20, 20..24].map(|at| number(&bytes[at]));
        assert_eq!(fields, [7, 0, 77, 0]);
    }
}
