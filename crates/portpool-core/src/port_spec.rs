//! Ports as they are written on a command line.

use std::{fmt, str::FromStr};

use crate::{ParseError, PortRange, Transports};

/// A range with or without transports: `8080`, `8080-8083`, `8080/udp`, `5000-5019/both`.
///
/// ```
/// use portpool_core::{PortSpec, Transports};
///
/// let spec: PortSpec = "5000-5019/both".parse()?;
/// assert_eq!(spec.range.count().number(), 20);
/// assert_eq!(spec.transports, Some(Transports::Both));
/// # Ok::<(), portpool_core::ParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortSpec {
    /// The transports, if they were written; otherwise the reader of the command decides.
    pub transports: Option<Transports>,
    /// The ports.
    pub range: PortRange,
}

impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.transports {
            Some(transports) => write!(f, "{}/{transports}", self.range),
            None => self.range.fmt(f),
        }
    }
}

impl FromStr for PortSpec {
    type Err = ParseError;

    /// # Errors
    /// Ports that are no [`PortRange`] or, after a slash, anything but `tcp`, `udp` and `both`.
    fn from_str(text: &str) -> Result<PortSpec, ParseError> {
        let (range, transports) = match text.split_once('/') {
            Some((range, transports)) => (range, Some(transports)),
            None => (text, None),
        };
        let Ok(range) = range.parse() else {
            return Err(ParseError::new(text, EXPECTED_RANGE));
        };
        match transports.map(str::parse).transpose() {
            Ok(transports) => Ok(PortSpec { transports, range }),
            Err(_) => Err(ParseError::new(text, EXPECTED_TRANSPORTS)),
        }
    }
}

const EXPECTED_RANGE: &str =
    "ports from 1 to 65535, the lower first, such as 8080, 8080-8083 or 5000-5019/both";
const EXPECTED_TRANSPORTS: &str = "tcp, udp or both after the slash, such as 8080/udp";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_reads_back_what_it_prints() {
        for text in [
            "8080",
            "8080-8083",
            "8080/udp",
            "8080/tcp",
            "5000-5019/both",
        ] {
            assert_eq!(text.parse::<PortSpec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn transports_that_were_not_written_are_left_open() {
        assert_eq!("80".parse::<PortSpec>().unwrap().transports, None);
    }

    #[test]
    fn unreadable_specs_are_named_with_an_example() {
        for text in [
            "",
            "/",
            "/tcp",
            "80/",
            "80/sctp",
            "80/tcp/udp",
            "0/tcp",
            "9-1",
            "tcp/80",
        ] {
            let error = text.parse::<PortSpec>().unwrap_err();
            assert_eq!(error.input(), text);
            assert!(error.expected().contains("such as 8080"), "{error}");
        }
    }
}
