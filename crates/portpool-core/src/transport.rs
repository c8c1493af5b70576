//! The two transports that have ports of their own.

use std::{fmt, str::FromStr};

use crate::ParseError;

/// TCP or UDP. Each has its own 65,535 ports.
///
/// ```
/// use portpool_core::Transport;
///
/// assert_eq!("udp".parse(), Ok(Transport::Udp));
/// assert_eq!(Transport::from_protocol(6), Some(Transport::Tcp));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Also what MPTCP takes its ports from.
    Tcp,
    /// Not UDP-Lite, which has ports of its own and is no business of the pool.
    Udp,
}

impl Transport {
    /// Both, in the order of their [`index`](Transport::index).
    pub const ALL: [Transport; 2] = [Transport::Tcp, Transport::Udp];

    /// The transport with this IP protocol number.
    pub fn from_protocol(protocol: u8) -> Option<Transport> {
        Transport::ALL
            .into_iter()
            .find(|transport| transport.protocol() == protocol)
    }

    /// 0 for TCP, 1 for UDP: the place in tables that hold both.
    pub fn index(self) -> usize {
        match self {
            Transport::Tcp => 0,
            Transport::Udp => 1,
        }
    }

    /// The IP protocol number: 6 for TCP, 17 for UDP.
    pub fn protocol(self) -> u8 {
        match self {
            Transport::Tcp => 6,
            Transport::Udp => 17,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        })
    }
}

impl FromStr for Transport {
    type Err = ParseError;

    /// # Errors
    /// Anything but `tcp` and `udp`.
    fn from_str(text: &str) -> Result<Transport, ParseError> {
        match text {
            "tcp" => Ok(Transport::Tcp),
            "udp" => Ok(Transport::Udp),
            _ => Err(ParseError::new(text, "a transport: tcp or udp")),
        }
    }
}

/// The transports of one reservation: one of them, or the same port numbers of both.
///
/// ```
/// use portpool_core::{Transport, Transports};
///
/// let both: Transports = "both".parse()?;
/// assert!(both.iter().eq(Transport::ALL));
/// # Ok::<(), portpool_core::ParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transports {
    /// TCP alone.
    Tcp,
    /// UDP alone.
    Udp,
    /// TCP and UDP on the same numbers.
    Both,
}

impl Transports {
    /// Each transport once, in the order of [`Transport::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Transport> + Clone {
        Transport::ALL
            .into_iter()
            .filter(move |transport| self.contains(*transport))
    }

    /// Whether `transport` is one of them.
    pub fn contains(self, transport: Transport) -> bool {
        self == Transports::Both || self == Transports::from(transport)
    }
}

impl From<Transport> for Transports {
    fn from(transport: Transport) -> Transports {
        match transport {
            Transport::Tcp => Transports::Tcp,
            Transport::Udp => Transports::Udp,
        }
    }
}

impl fmt::Display for Transports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Transports::Tcp => "tcp",
            Transports::Udp => "udp",
            Transports::Both => "both",
        })
    }
}

impl FromStr for Transports {
    type Err = ParseError;

    /// # Errors
    /// Anything but `tcp`, `udp` and `both`.
    fn from_str(text: &str) -> Result<Transports, ParseError> {
        match text {
            "tcp" => Ok(Transports::Tcp),
            "udp" => Ok(Transports::Udp),
            "both" => Ok(Transports::Both),
            _ => Err(ParseError::new(text, "transports: tcp, udp or both")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transport_is_found_again_by_index_protocol_and_text() {
        for (index, transport) in Transport::ALL.into_iter().enumerate() {
            assert_eq!(transport.index(), index);
            assert_eq!(
                Transport::from_protocol(transport.protocol()),
                Some(transport)
            );
            assert_eq!(transport.to_string().parse(), Ok(transport));
        }
    }

    #[test]
    fn other_protocols_are_no_transport() {
        for protocol in [0, 1, 136, 255] {
            assert_eq!(Transport::from_protocol(protocol), None, "{protocol}");
        }
    }

    #[test]
    fn transports_read_back_what_they_print() {
        for transports in [Transports::Tcp, Transports::Udp, Transports::Both] {
            assert_eq!(transports.to_string().parse(), Ok(transports));
        }
        assert_eq!(format!("{:<5}|", Transports::Both), "both |");
    }

    #[test]
    fn transports_list_their_members() {
        assert!(Transports::Tcp.iter().eq([Transport::Tcp]));
        assert!(Transports::Udp.iter().eq([Transport::Udp]));
        assert!(Transports::Both.iter().eq(Transport::ALL));
    }

    #[test]
    fn an_unknown_transport_is_named_in_the_error() {
        let error = "TCP".parse::<Transport>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot read \"TCP\": expected a transport: tcp or udp"
        );
        assert_eq!("sctp".parse::<Transports>().unwrap_err().input(), "sctp");
    }
}
