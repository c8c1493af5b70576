//! What is asked for, once it makes sense.

use std::{fmt, time::Duration};

use portpool_core::{PortCount, PortRange, Transports};
use portpool_varlink::{Fault, calls::Acquire};

use super::super::limits::WAIT_MAX;

/// A request for ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) struct Request {
    pub(in crate::service) transports: Transports,
    pub(in crate::service) want: Want,
    pub(in crate::service) wait: Duration,
}

/// Which ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum Want {
    /// These.
    Exactly(PortRange),
    /// Any so many consecutive ones.
    Any {
        count: PortCount,
        within: Option<PortRange>,
    },
}

impl Request {
    /// # Errors
    /// [`Fault::InvalidParameter`] unless it asks for either exact ports or a number of them.
    pub(in crate::service) fn parse(call: &Acquire) -> Result<Request, Fault> {
        let invalid = |name: &str| Err(Fault::InvalidParameter(name.to_owned()));
        let want = match (call.range, call.count) {
            (Some(_), Some(_)) => return invalid("count"),
            (None, None) => return invalid("range"),
            (Some(range), None) => match call.within {
                None => Want::Exactly(range),
                Some(_) => return invalid("within"),
            },
            (None, Some(count)) => {
                let within = call.within;
                match PortCount::new(count) {
                    Some(count) if within.is_none_or(|it| it.count() >= count) => {
                        Want::Any { count, within }
                    }
                    _ => return invalid("count"),
                }
            }
        };
        let wait = Duration::from_millis(call.wait_ms.unwrap_or(0));
        Ok(Request {
            transports: call.transports,
            want,
            wait: wait.min(WAIT_MAX),
        })
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transports = match self.transports {
            Transports::Tcp => "tcp",
            Transports::Udp => "udp",
            Transports::Both => "tcp and udp",
        };
        match self.want {
            Want::Exactly(range) => write!(f, "{range} ({transports})"),
            Want::Any { count, .. } => write!(f, "any {count} ports ({transports})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_ports_or_a_number_of_them_and_not_both() {
        let call = |range: Option<&str>, count, within: Option<&str>| {
            Request::parse(&Acquire {
                transports: Transports::Tcp,
                range: range.map(|it| it.parse().unwrap()),
                count,
                within: within.map(|it| it.parse().unwrap()),
                wait_ms: None,
                socket: None,
            })
        };
        assert!(call(Some("40000"), None, None).is_ok());
        assert!(call(None, Some(3), Some("40000-40002")).is_ok());
        for (call, name) in [
            (call(Some("40000"), Some(1), None), "count"),
            (call(None, None, None), "range"),
            (call(Some("40000"), None, Some("40000")), "within"),
            (call(None, Some(0), None), "count"),
            (call(None, Some(4), Some("40000-40002")), "count"),
        ] {
            assert_eq!(call, Err(Fault::InvalidParameter(name.to_owned())));
        }
    }
}
