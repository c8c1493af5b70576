//! What a caller asks for: these ports, or any ports of a kind.
//!
//! Who asks and how long the reservation lasts are not part of it. A wildcard is runtime only: its
//! block ends with its owner socket.

use std::{fmt, num::NonZeroU16, str::FromStr};

use crate::{ParseError, PortCount, PortRange, Transports, parse_error::decimal};

/// What the first port of a block must be a multiple of, 1 to 65535. 1, the default, is any port;
/// 2 starts at an even one, as pairs for RTP and RTCP do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alignment(NonZeroU16);

impl Alignment {
    /// Any first port.
    pub const ANY: Alignment = Alignment(NonZeroU16::MIN);

    /// Multiples of `number`, or nothing for 0.
    pub const fn new(number: u16) -> Option<Alignment> {
        match NonZeroU16::new(number) {
            Some(number) => Some(Alignment(number)),
            None => None,
        }
    }

    /// The number the first port must be a multiple of.
    pub const fn number(self) -> u16 {
        self.0.get()
    }
}

impl Default for Alignment {
    fn default() -> Alignment {
        Alignment::ANY
    }
}

impl fmt::Display for Alignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Alignment {
    type Err = ParseError;

    /// # Errors
    /// Anything but decimal digits for a number from 1 to 65535.
    fn from_str(text: &str) -> Result<Alignment, ParseError> {
        let alignment = decimal(text).and_then(Alignment::new);
        alignment.ok_or_else(|| ParseError::new(text, "an alignment from 1 to 65535, such as 2"))
    }
}

/// Any free block of a kind. Runtime only: no persistent block is ever chosen for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wildcard {
    /// How many consecutive ports.
    pub count: PortCount,
    /// What the first of them must be a multiple of.
    pub alignment: Alignment,
    /// Where the whole block must lie, besides the ranges of the pool.
    pub within: Option<PortRange>,
}

impl Wildcard {
    /// Any `count` consecutive ports.
    pub const fn new(count: PortCount) -> Wildcard {
        Wildcard {
            count,
            alignment: Alignment::ANY,
            within: None,
        }
    }
}

impl fmt::Display for Wildcard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            PortCount::ONE => f.write_str("any port")?,
            count => write!(f, "any {count} ports")?,
        }
        if self.alignment != Alignment::ANY {
            write!(f, " aligned to {}", self.alignment)?;
        }
        match self.within {
            Some(range) => write!(f, " within {range}"),
            None => Ok(()),
        }
    }
}

/// The ports a caller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Want {
    /// Exactly these.
    Specific(PortRange),
    /// Any of a kind. Runtime only.
    Wildcard(Wildcard),
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Want::Specific(range) => range.fmt(f),
            Want::Wildcard(wildcard) => wildcard.fmt(f),
        }
    }
}

/// The wish for a reservation.
///
/// ```
/// use portpool_core::{Alignment, PortCount, Request, Transports, Want, Wildcard};
///
/// let pair = Wildcard {
///     alignment: Alignment::new(2).unwrap(),
///     ..Wildcard::new(PortCount::new(2).unwrap())
/// };
/// let request = Request { transports: Transports::Udp, want: Want::Wildcard(pair) };
/// assert_eq!(request.to_string(), "any 2 ports aligned to 2 (udp)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request {
    /// Of which transports; with both, the block has the same numbers in each.
    pub transports: Transports,
    /// Which ports.
    pub want: Want,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.transports {
            Transports::Both => write!(f, "{} (tcp and udp)", self.want),
            one => write!(f, "{} ({one})", self.want),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(transports: Transports, want: Want) -> String {
        Request { transports, want }.to_string()
    }

    #[test]
    fn requests_read_well_in_a_message() {
        let range: PortRange = "20000-20003".parse().unwrap();
        let any = Wildcard::new(PortCount::ONE);
        let fussy = Wildcard {
            count: PortCount::new(4).unwrap(),
            alignment: Alignment::new(10).unwrap(),
            within: Some(range),
        };
        assert_eq!(
            text(Transports::Tcp, Want::Specific(range)),
            "20000-20003 (tcp)"
        );
        assert_eq!(
            text(Transports::Both, Want::Wildcard(any)),
            "any port (tcp and udp)"
        );
        assert_eq!(
            text(Transports::Udp, Want::Wildcard(fussy)),
            "any 4 ports aligned to 10 within 20000-20003 (udp)"
        );
    }

    #[test]
    fn an_alignment_of_zero_is_refused() {
        assert_eq!(Alignment::new(0), None);
        assert_eq!("0".parse::<Alignment>().unwrap_err().input(), "0");
        assert_eq!("1".parse(), Ok(Alignment::default()));
    }
}
