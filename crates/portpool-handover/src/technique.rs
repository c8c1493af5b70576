//! How a port got past its guard.

use std::fmt;

use portpool_core::{Port, Transport};

/// How a socket got, or did not get, past the guard of its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Technique {
    /// Guard and socket were on different network devices while it was bound; its own was cleared
    /// afterwards.
    Detour,
    /// A loopback address: the socket stays tied to the loopback device, the guard to none that
    /// exists.
    Pin,
    /// The program had tied the socket to a device, by an option or by a link-local address, and the
    /// guard was out of its way.
    OwnDevice,
    /// The socket was replaced by one that was bound already. The guard of that address family is
    /// gone until the program closes the socket.
    Swap,
    /// Nothing was held on that address family any more: bound as without portpool.
    Unguarded,
    /// For some microseconds guard and socket had `SO_REUSEADDR`, and anybody with `SO_REUSEADDR`
    /// could have bound the port as well.
    Window,
    /// Only a window would have done, and it was forbidden: the program got `EACCES`.
    Refused,
}

impl Technique {
    /// All of them, in their order.
    pub const ALL: [Technique; 7] = [
        Technique::Detour,
        Technique::Pin,
        Technique::OwnDevice,
        Technique::Swap,
        Technique::Unguarded,
        Technique::Window,
        Technique::Refused,
    ];

    /// Whether the port was kept from every other process, as long as that does not tie its sockets
    /// to devices. After a swap it is not: the program may close the socket.
    pub const fn is_gap_free(self) -> bool {
        match self {
            Technique::Detour | Technique::Pin | Technique::OwnDevice | Technique::Refused => true,
            Technique::Swap | Technique::Unguarded | Technique::Window => false,
        }
    }

    /// The word for it in reports.
    pub const fn word(self) -> &'static str {
        match self {
            Technique::Detour => "detour",
            Technique::Pin => "pin",
            Technique::OwnDevice => "own-device",
            Technique::Swap => "swap",
            Technique::Unguarded => "unguarded",
            Technique::Window => "window",
            Technique::Refused => "refused",
        }
    }
}

impl fmt::Display for Technique {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// How often a port was handed over in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// Of the port.
    pub transport: Transport,
    /// Which was bound or listened on.
    pub port: Port,
    /// How.
    pub technique: Technique,
    /// How many calls of bind and listen.
    pub call_count: u64,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Use {
            transport,
            port,
            technique,
            call_count,
        } = self;
        write!(f, "{transport} {port} {technique} {call_count}")
    }
}
