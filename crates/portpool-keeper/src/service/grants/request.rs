//! What is asked for, once it makes sense.

use std::{fmt, time::Duration};

use portpool_core::{Alignment, PortCount, PortRange, Transports, Wildcard};
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
    Any(Wildcard),
}

impl Request {
    /// # Errors
    /// [`Fault::InvalidParameter`] unless it asks for either exact ports or a number of them.
    pub(in crate::service) fn parse(call: &Acquire) -> Result<Request, Fault> {
        let invalid = |name: &str| Err(Fault::InvalidParameter(name.to_owned()));
        let want = match (call.range, call.count) {
            (Some(_), Some(_)) => return invalid("count"),
            (None, None) => return invalid("range"),
            (Some(range), None) => match (call.alignment, call.within) {
                (None, None) => Want::Exactly(range),
                (Some(_), _) => return invalid("alignment"),
                (None, Some(_)) => return invalid("within"),
            },
            (None, Some(count)) => {
                let within = call.within;
                let fits = |count: &PortCount| within.is_none_or(|it| it.count() >= *count);
                let Some(count) = PortCount::new(count).filter(fits) else {
                    return invalid("count");
                };
                let alignment = call.alignment.map_or(Some(Alignment::ANY), Alignment::new);
                let Some(alignment) = alignment else {
                    return invalid("alignment");
                };
                Want::Any(Wildcard {
                    count,
                    alignment,
                    within,
                })
            }
        };
        let wait = Duration::from_millis(call.wait_ms.unwrap_or(0));
        Ok(Request {
            transports: call.transports,
            want,
            wait: wait.min(WAIT_MAX),
        })
    }

    /// What the kernel charges for it: each transport has ports of its own.
    pub(in crate::service) fn charge(&self) -> u32 {
        let count = match self.want {
            Want::Exactly(range) => range.count(),
            Want::Any(wanted) => wanted.count,
        };
        charge(count, self.transports)
    }
}

pub(super) fn charge(count: PortCount, transports: Transports) -> u32 {
    transports.iter().map(|_| u32::from(count.number())).sum()
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let want = match self.want {
            Want::Exactly(range) => portpool_core::Want::Specific(range),
            Want::Any(wanted) => portpool_core::Want::Wildcard(wanted),
        };
        let transports = self.transports;
        portpool_core::Request { transports, want }.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_ports_or_a_number_of_them_and_not_both() {
        let call = |range: Option<&str>, count, within: Option<&str>| {
            Request::parse(&Acquire {
                range: range.map(|it| it.parse().unwrap()),
                count,
                within: within.map(|it| it.parse().unwrap()),
                ..Acquire::exactly(Transports::Tcp, PortRange::ALL)
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
