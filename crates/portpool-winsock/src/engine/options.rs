//! Options of sockets: which number of Windows is which of Linux, and what lies behind it.

use std::ffi::c_int;

/// An option of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) level: c_int,
    pub(crate) option: c_int,
    pub(crate) value: Value,
}

/// What the value of an option is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// An int on both sides.
    Number,
    /// 0 or 1; of less than 4 bytes too.
    Truth,
    /// Milliseconds on Windows, a timeval here.
    Time,
    /// Two shorts on Windows, two ints here.
    Linger,
    /// An errno here, a code on Windows; only to be read.
    Error,
    /// 0 for 1 and the other way round: SO_DONTLINGER and SO_EXCLUSIVEADDRUSE.
    Opposite,
    /// The same bytes on both sides, this many.
    Bytes(usize),
}

/// The option for a level and a number of Windows, if there is one.
pub(crate) fn find(level: c_int, option: c_int) -> Option<Name> {
    let row = OPTIONS
        .iter()
        .find(|row| (row.0, row.1) == (level, option))?;
    Some(Name {
        level: row.2,
        option: row.3,
        value: row.4,
    })
}

const SOCKET: c_int = 0xffff;
const IP: c_int = 0;
const TCP: c_int = 6;
const IPV6: c_int = 41;

/// Level and number of Windows, then of Linux.
const OPTIONS: &[(c_int, c_int, c_int, c_int, Value)] = &[
    (
        SOCKET,
        0x0001,
        libc::SOL_SOCKET,
        libc::SO_DEBUG,
        Value::Truth,
    ),
    (
        SOCKET,
        0x0002,
        libc::SOL_SOCKET,
        libc::SO_ACCEPTCONN,
        Value::Truth,
    ),
    (
        SOCKET,
        0x0004,
        libc::SOL_SOCKET,
        libc::SO_REUSEADDR,
        Value::Truth,
    ),
    (
        SOCKET,
        !0x0004,
        libc::SOL_SOCKET,
        libc::SO_REUSEADDR,
        Value::Opposite,
    ),
    (
        SOCKET,
        0x0008,
        libc::SOL_SOCKET,
        libc::SO_KEEPALIVE,
        Value::Truth,
    ),
    (
        SOCKET,
        0x0010,
        libc::SOL_SOCKET,
        libc::SO_DONTROUTE,
        Value::Truth,
    ),
    (
        SOCKET,
        0x0020,
        libc::SOL_SOCKET,
        libc::SO_BROADCAST,
        Value::Truth,
    ),
    (
        SOCKET,
        0x0080,
        libc::SOL_SOCKET,
        libc::SO_LINGER,
        Value::Linger,
    ),
    (
        SOCKET,
        !0x0080,
        libc::SOL_SOCKET,
        libc::SO_LINGER,
        Value::Opposite,
    ),
    (
        SOCKET,
        0x0100,
        libc::SOL_SOCKET,
        libc::SO_OOBINLINE,
        Value::Truth,
    ),
    (
        SOCKET,
        0x1001,
        libc::SOL_SOCKET,
        libc::SO_SNDBUF,
        Value::Number,
    ),
    (
        SOCKET,
        0x1002,
        libc::SOL_SOCKET,
        libc::SO_RCVBUF,
        Value::Number,
    ),
    (
        SOCKET,
        0x1005,
        libc::SOL_SOCKET,
        libc::SO_SNDTIMEO,
        Value::Time,
    ),
    (
        SOCKET,
        0x1006,
        libc::SOL_SOCKET,
        libc::SO_RCVTIMEO,
        Value::Time,
    ),
    (
        SOCKET,
        0x1007,
        libc::SOL_SOCKET,
        libc::SO_ERROR,
        Value::Error,
    ),
    (
        SOCKET,
        0x1008,
        libc::SOL_SOCKET,
        libc::SO_TYPE,
        Value::Number,
    ),
    (
        TCP,
        0x0001,
        libc::IPPROTO_TCP,
        libc::TCP_NODELAY,
        Value::Truth,
    ),
    (IP, 3, libc::IPPROTO_IP, libc::IP_TOS, Value::Number),
    (IP, 4, libc::IPPROTO_IP, libc::IP_TTL, Value::Number),
    (
        IP,
        9,
        libc::IPPROTO_IP,
        libc::IP_MULTICAST_IF,
        Value::Bytes(4),
    ),
    (
        IP,
        10,
        libc::IPPROTO_IP,
        libc::IP_MULTICAST_TTL,
        Value::Number,
    ),
    (
        IP,
        11,
        libc::IPPROTO_IP,
        libc::IP_MULTICAST_LOOP,
        Value::Truth,
    ),
    (
        IP,
        12,
        libc::IPPROTO_IP,
        libc::IP_ADD_MEMBERSHIP,
        Value::Bytes(8),
    ),
    (
        IP,
        13,
        libc::IPPROTO_IP,
        libc::IP_DROP_MEMBERSHIP,
        Value::Bytes(8),
    ),
    (
        IPV6,
        4,
        libc::IPPROTO_IPV6,
        libc::IPV6_UNICAST_HOPS,
        Value::Number,
    ),
    (
        IPV6,
        9,
        libc::IPPROTO_IPV6,
        libc::IPV6_MULTICAST_IF,
        Value::Number,
    ),
    (
        IPV6,
        10,
        libc::IPPROTO_IPV6,
        libc::IPV6_MULTICAST_HOPS,
        Value::Number,
    ),
    (
        IPV6,
        11,
        libc::IPPROTO_IPV6,
        libc::IPV6_MULTICAST_LOOP,
        Value::Truth,
    ),
    (
        IPV6,
        12,
        libc::IPPROTO_IPV6,
        libc::IPV6_ADD_MEMBERSHIP,
        Value::Bytes(20),
    ),
    (
        IPV6,
        13,
        libc::IPPROTO_IPV6,
        libc::IPV6_DROP_MEMBERSHIP,
        Value::Bytes(20),
    ),
    (
        IPV6,
        27,
        libc::IPPROTO_IPV6,
        libc::IPV6_V6ONLY,
        Value::Truth,
    ),
];
