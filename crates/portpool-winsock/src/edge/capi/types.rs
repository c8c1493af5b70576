//! The structs of `portpool.h`, with their sizes and offsets. A test compiles the header and compares.

use std::{
    ffi::{c_char, c_int},
    mem::{align_of, offset_of, size_of},
};

use portpool::{Block, Entry, PortState, Tenure, Transport, Transports};

/// Mirrors `struct portpool_options`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Options {
    pub(super) size: u32,
    pub(super) kind: u32,
    pub(super) flags: u32,
    pub(super) reserved: u32,
    pub(super) run_dir: *const c_char,
}

/// Mirrors `struct portpool_request`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Request {
    pub(super) size: u32,
    pub(super) transports: u32,
    pub(super) first: u16,
    pub(super) count: u16,
    pub(super) align: u16,
    pub(super) within_first: u16,
    pub(super) within_count: u16,
    pub(super) reserved: u16,
    pub(super) flags: u32,
    pub(super) tree_root: u32,
    pub(super) timeout_ms: u32,
}

/// Mirrors `struct portpool_block`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct CBlock {
    token: u64,
    transport: u32,
    first: u16,
    count: u16,
}

/// Mirrors `struct portpool_entry`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct CEntry {
    token: u64,
    transport: u32,
    first: u16,
    count: u16,
    uid: u32,
    owner_pid: u32,
    owner_pid_seen: u32,
    pid_namespace: u32,
    owner_start_ns: u64,
    born_ns: u64,
    tree_start_ns: u64,
    tree_root: u32,
    flags: u32,
    command: [u8; 16],
}

/// Mirrors `struct portpool_port`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct CPort {
    pub(super) size: u32,
    flags: u32,
    socket_count: u32,
    reserved: u32,
    entry: CEntry,
}

pub(super) const STRICT: u32 = 1;
pub(super) const TREE: u32 = 1;
pub(super) const ZERO_FROM_BLOCK: u32 = 2;
const SHARED: u32 = 1;
const PERSISTENT: u32 = 2;
const PORT_RESERVED: u32 = 1;
const PORT_HELD: u32 = 2;
const PORT_RECENT: u32 = 4;

pub(super) const KIND_KERNEL: c_int = 1;
pub(super) const KIND_EMBEDDED: c_int = 2;

/// What `enum portpool_transport` says of several transports.
pub(super) fn transports(number: u32) -> Option<Transports> {
    match number {
        1 => Some(Transports::Tcp),
        2 => Some(Transports::Udp),
        3 => Some(Transports::Both),
        _ => None,
    }
}

/// What `enum portpool_transport` says of one transport.
pub(super) fn transport(number: u32) -> Option<Transport> {
    match number {
        1 => Some(Transport::Tcp),
        2 => Some(Transport::Udp),
        _ => None,
    }
}

const fn number_of(transport: Transport) -> u32 {
    match transport {
        Transport::Tcp => 1,
        Transport::Udp => 2,
    }
}

impl From<Block> for CBlock {
    fn from(block: Block) -> CBlock {
        CBlock {
            token: block.token.value(),
            transport: number_of(block.transport),
            first: block.range.first().number(),
            count: block.range.count().number(),
        }
    }
}

impl From<&Entry> for CEntry {
    fn from(entry: &Entry) -> CEntry {
        let (tree_root, tree_start_ns) = entry.tree_root.unwrap_or_default();
        let mut command = [0; 16];
        for (to, from) in command.iter_mut().take(15).zip(entry.command.bytes()) {
            *to = from;
        }
        CEntry {
            token: entry.token.value(),
            transport: number_of(entry.transport),
            first: entry.range.first().number(),
            count: entry.range.count().number(),
            uid: entry.uid,
            owner_pid: entry.owner_pid,
            owner_pid_seen: entry.owner_pid_seen,
            pid_namespace: entry.pid_namespace,
            owner_start_ns: entry.owner_start,
            born_ns: entry.born,
            tree_start_ns,
            tree_root,
            flags: flag(entry.shared, SHARED) | flag(entry.tenure != Tenure::Runtime, PERSISTENT),
            command,
        }
    }
}

impl From<&PortState> for CPort {
    fn from(state: &PortState) -> CPort {
        CPort {
            size: size_of::<CPort>() as u32,
            flags: flag(state.reservation.is_some(), PORT_RESERVED)
                | flag(state.held, PORT_HELD)
                | flag(state.recent, PORT_RECENT),
            socket_count: state.socket_count,
            reserved: 0,
            entry: state
                .reservation
                .as_ref()
                .map_or(CEntry::NONE, CEntry::from),
        }
    }
}

const fn flag(is_set: bool, flag: u32) -> u32 {
    if is_set { flag } else { 0 }
}

impl CEntry {
    const NONE: CEntry = CEntry {
        token: 0,
        transport: 0,
        first: 0,
        count: 0,
        uid: 0,
        owner_pid: 0,
        owner_pid_seen: 0,
        pid_namespace: 0,
        owner_start_ns: 0,
        born_ns: 0,
        tree_start_ns: 0,
        tree_root: 0,
        flags: 0,
        command: [0; 16],
    };
}

// The header's static assertions in `tests/c_side/layout.c` say the same numbers.
const _: () = {
    assert!(size_of::<Options>() == 24 && align_of::<Options>() == 8);
    assert!(offset_of!(Options, run_dir) == 16);
    assert!(size_of::<Request>() == 32 && align_of::<Request>() == 4);
    assert!(offset_of!(Request, first) == 8 && offset_of!(Request, flags) == 20);
    assert!(offset_of!(Request, timeout_ms) == 28);
    assert!(size_of::<CBlock>() == 16 && offset_of!(CBlock, transport) == 8);
    assert!(size_of::<CEntry>() == 80 && offset_of!(CEntry, uid) == 16);
    assert!(offset_of!(CEntry, owner_start_ns) == 32 && offset_of!(CEntry, command) == 64);
    assert!(size_of::<CPort>() == 96 && offset_of!(CPort, entry) == 16);
};
