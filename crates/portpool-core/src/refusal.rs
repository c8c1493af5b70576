//! Why the kernel pool says no.
//!
//! The error numbers that system calls return for these are not here: several refusals share one.

use std::{error, fmt};

/// A reason to refuse a control code or a bind. The numbers are part of the kernel ABI: a new reason
/// takes a new number, that of a withdrawn one stays unused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum Refusal {
    /// A port of the block is bound by a socket or reserved.
    InUse = 1,
    /// No free run is long enough, or the block has no free port left.
    NoRoom = 2,
    /// Automatic choice could still pick a port of the block.
    Ephemeral = 3,
    /// A port of the block is privileged and the caller may not bind such ports.
    PrivilegedPort = 4,
    /// The process that associates is not the owner process.
    ForeignToken = 5,
    /// No reservation has this token.
    UnknownToken = 6,
    /// Another reservation has this token.
    DuplicateToken = 7,
    /// The reservation is for the other transport.
    WrongTransport = 8,
    /// The socket to associate is bound.
    AlreadyBound = 9,
    /// An associated socket binds a port outside its block.
    OutsideBlock = 10,
    /// A process without a right binds a reserved port.
    Stranger = 11,
    /// The uid holds as much as one uid may.
    UidLimit = 12,
    /// All callers without CAP_NET_ADMIN together hold as much as they may.
    SharedLimit = 13,
    /// The owner socket holds as many reservations as one socket may.
    SocketLimit = 14,
    /// The pool holds as many reservations as it may, or one of its maps is full.
    PoolFull = 15,
    /// The option memory of the socket is exhausted.
    NoMemory = 16,
    /// The root named for the scope is no ancestor with the same uids and user namespace.
    NotAncestor = 17,
    /// The socket is neither plain TCP nor plain UDP.
    UnsupportedSocket = 18,
    /// The control code is malformed.
    BadRequest = 19,
    /// The call met another operation in progress.
    Busy = 20,
    /// The caller speaks another version of the control codes than the pool.
    VersionMismatch = 21,
    /// No pool is attached to the network namespace of the socket.
    NotAttached = 22,
    /// The caller lacks CAP_NET_ADMIN over the network namespace.
    NotPermitted = 23,
    /// No persistent block or exclusion has exactly these ports.
    NoSuchBlock = 24,
    /// The reservation to release is persistent.
    Persistent = 25,
}

impl Refusal {
    /// All of them, by number.
    pub const ALL: [Refusal; 25] = [
        Refusal::InUse,
        Refusal::NoRoom,
        Refusal::Ephemeral,
        Refusal::PrivilegedPort,
        Refusal::ForeignToken,
        Refusal::UnknownToken,
        Refusal::DuplicateToken,
        Refusal::WrongTransport,
        Refusal::AlreadyBound,
        Refusal::OutsideBlock,
        Refusal::Stranger,
        Refusal::UidLimit,
        Refusal::SharedLimit,
        Refusal::SocketLimit,
        Refusal::PoolFull,
        Refusal::NoMemory,
        Refusal::NotAncestor,
        Refusal::UnsupportedSocket,
        Refusal::BadRequest,
        Refusal::Busy,
        Refusal::VersionMismatch,
        Refusal::NotAttached,
        Refusal::NotPermitted,
        Refusal::NoSuchBlock,
        Refusal::Persistent,
    ];

    /// The refusal with this number.
    pub fn from_number(number: u16) -> Option<Refusal> {
        Refusal::ALL
            .into_iter()
            .find(|refusal| refusal.number() == number)
    }

    /// The number, never 0 and never reused.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The name in logs and metrics, such as `in-use`.
    pub const fn name(self) -> &'static str {
        match self {
            Refusal::InUse => "in-use",
            Refusal::NoRoom => "no-room",
            Refusal::Ephemeral => "ephemeral",
            Refusal::PrivilegedPort => "privileged-port",
            Refusal::ForeignToken => "foreign-token",
            Refusal::UnknownToken => "unknown-token",
            Refusal::DuplicateToken => "duplicate-token",
            Refusal::WrongTransport => "wrong-transport",
            Refusal::AlreadyBound => "already-bound",
            Refusal::OutsideBlock => "outside-block",
            Refusal::Stranger => "stranger",
            Refusal::UidLimit => "uid-limit",
            Refusal::SharedLimit => "shared-limit",
            Refusal::SocketLimit => "socket-limit",
            Refusal::PoolFull => "pool-full",
            Refusal::NoMemory => "no-memory",
            Refusal::NotAncestor => "not-ancestor",
            Refusal::UnsupportedSocket => "unsupported-socket",
            Refusal::BadRequest => "bad-request",
            Refusal::Busy => "busy",
            Refusal::VersionMismatch => "version-mismatch",
            Refusal::NotAttached => "not-attached",
            Refusal::NotPermitted => "not-permitted",
            Refusal::NoSuchBlock => "no-such-block",
            Refusal::Persistent => "persistent",
        }
    }

    /// What is wrong and what to do next, as a fragment to put after the name of the ports.
    pub const fn message(self) -> &'static str {
        match self {
            Refusal::InUse => {
                "a port of the block is bound or reserved: choose other ports or release it first"
            }
            Refusal::NoRoom => {
                "no free run of ports is long enough: ask for fewer ports or release some"
            }
            Refusal::Ephemeral => {
                "the kernel could still give a port of the block to any socket: choose ports outside \
                 ip_local_port_range or run the keeper, which makes them grantable"
            }
            Refusal::PrivilegedPort => {
                "a port of the block is privileged: choose ports from ip_unprivileged_port_start on \
                 or get CAP_NET_BIND_SERVICE"
            }
            Refusal::ForeignToken => {
                "the reservation belongs to another process: associate from its owner process"
            }
            Refusal::UnknownToken => {
                "no reservation has this token: it was released or never made, acquire a new one"
            }
            Refusal::DuplicateToken => {
                "another reservation has this token: acquire with another token"
            }
            Refusal::WrongTransport => {
                "the reservation is for the other transport: use a socket of its own transport"
            }
            Refusal::AlreadyBound => {
                "the socket is already bound: associate a new socket before it binds"
            }
            Refusal::OutsideBlock => {
                "the port is outside the block of the socket: bind a port of the block or port 0"
            }
            Refusal::Stranger => {
                "the port is reserved for another process: choose another port or associate first"
            }
            Refusal::UidLimit => {
                "this user holds as much as one user may: release some or raise the limit at attach"
            }
            Refusal::SharedLimit => {
                "unprivileged users together hold their whole share of the pool: wait for some to be \
                 released or raise the share at attach"
            }
            Refusal::SocketLimit => {
                "the socket holds as many reservations as one may: acquire on another socket"
            }
            Refusal::PoolFull => {
                "the pool holds as many reservations as it may: wait for some to be released or \
                 raise the limit at attach"
            }
            Refusal::NoMemory => {
                "the socket has no option memory left: use another socket or raise optmem_max"
            }
            Refusal::NotAncestor => {
                "the named process is no ancestor with the same user and user namespace: name one \
                 that is or leave it out"
            }
            Refusal::UnsupportedSocket => {
                "the socket is neither plain tcp nor plain udp: use one that is"
            }
            Refusal::BadRequest => "the request is malformed: check its version, size and fields",
            Refusal::Busy => "another operation on the same ports is in progress: try again",
            Refusal::VersionMismatch => {
                "the attached pool is of another version: attach again with this one"
            }
            Refusal::NotAttached => {
                "no pool is attached to this network namespace: attach one or use the embedded pool"
            }
            Refusal::NotPermitted => {
                "only CAP_NET_ADMIN over the network namespace may: run it as root or ask the keeper"
            }
            Refusal::NoSuchBlock => {
                "there is none with exactly these ports: `portpool reservations` lists what there is"
            }
            Refusal::Persistent => {
                "the reservation is persistent: delete it by its ports, with `portpool unpersist`"
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.message())
    }
}

impl error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Written out a second time on purpose: a renumbering must fail here.
    const NUMBERS: [(u16, &str); 25] = [
        (1, "in-use"),
        (2, "no-room"),
        (3, "ephemeral"),
        (4, "privileged-port"),
        (5, "foreign-token"),
        (6, "unknown-token"),
        (7, "duplicate-token"),
        (8, "wrong-transport"),
        (9, "already-bound"),
        (10, "outside-block"),
        (11, "stranger"),
        (12, "uid-limit"),
        (13, "shared-limit"),
        (14, "socket-limit"),
        (15, "pool-full"),
        (16, "no-memory"),
        (17, "not-ancestor"),
        (18, "unsupported-socket"),
        (19, "bad-request"),
        (20, "busy"),
        (21, "version-mismatch"),
        (22, "not-attached"),
        (23, "not-permitted"),
        (24, "no-such-block"),
        (25, "persistent"),
    ];

    #[test]
    fn the_numbers_of_refusals_never_change() {
        assert_eq!(
            Refusal::ALL.map(|refusal| (refusal.number(), refusal.name())),
            NUMBERS
        );
    }

    #[test]
    fn a_refusal_is_found_again_by_its_number() {
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::from_number(refusal.number()), Some(refusal));
        }
        assert_eq!(Refusal::from_number(0), None);
        assert_eq!(Refusal::from_number(26), None);
    }

    #[test]
    fn every_message_is_a_fragment_with_a_next_step() {
        let messages: BTreeSet<_> = Refusal::ALL.into_iter().map(Refusal::message).collect();
        assert_eq!(messages.len(), Refusal::ALL.len());
        for message in messages {
            assert!(
                message.starts_with(|c: char| c.is_ascii_lowercase()),
                "{message}"
            );
            assert!(
                !message.ends_with('.') && !message.contains("  "),
                "{message}"
            );
            assert!(message.contains(": "), "{message}");
        }
    }
}
