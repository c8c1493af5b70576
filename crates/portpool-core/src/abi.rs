//! The kernel ABI as plain types: control codes, requests, records and map values, with their
//! conversion to and from bytes, and the one table of control code, refusal and errno.
//!
//! Mirrors `portpool-kernel/bpf/abi.h`, which asserts the same sizes and offsets. Numbers are in
//! host byte order, ports plain numbers. Nothing here calls the kernel.

mod admin;
mod errno;
mod event;
mod layout;

pub use admin::{
    LEND_SIZE, Lend, Origin, PERSIST_SIZE, PORTS_SIZE, Persist, Ports, WINDOW_SIZE, Window,
};
pub use errno::{ControlCode, ERRNO_TABLE, ErrnoRow, Operation, errno_of, refusal_of};
pub use event::{EVENT_SIZE, Event, TALLY_COUNT, WATCH_SIZE, What, tally};
pub use layout::{
    ACQUIRE_SIZE, Acquire, COUNTS_SIZE, Counters, OCCUPANCY_SIZE, POOL_SIZE, PoolConfig, PoolState,
    RECORD_SIZE, Record, Scope, Tenure, counts_key, occupancy, ports_in_use, probe_bytes,
    token_bytes,
};

/// `level` argument of `setsockopt` for every control code.
pub const LEVEL: i32 = 0x5050;

/// Version of control codes and map layouts; a pool of another version refuses the probe.
pub const VERSION: u32 = 3;

/// Most network namespaces that can have a pool at once.
pub const POOL_COUNT_MAX: u32 = 256;

/// Most wildcard ranges of one pool.
pub const RANGE_COUNT_MAX: usize = 64;
