//! What a supervisor inside another one says to that, and what it is answered.
//!
//! Each is one packet; a guard goes with its sockets.

use portpool_core::{Port, Transport};

use crate::{Options, Technique, Use, Zero};

/// What the inner one wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Take this guard; the sockets follow: its own, and those of its twins.
    Guard {
        transport: Transport,
        port: Port,
        has_v4: bool,
        has_v6: bool,
    },
    /// From now on let my descendants past them.
    Serve(Options),
    /// Say how they were handed over, from this place in the list on.
    Report { from: u32 },
    /// Let go of them.
    End,
}

/// What the outer one answers to each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Done,
    /// With an error number.
    Refused(i32),
    /// As many as fit in; none once there are no more.
    Uses(Vec<Use>),
}

impl Request {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        match self {
            Request::Guard {
                transport,
                port,
                has_v4,
                has_v6,
            } => {
                let [low, high] = port.number().to_le_bytes();
                let twins = u8::from(has_v4) | u8::from(has_v6) << 1;
                vec![VERSION, 1, transport.index() as u8, low, high, twins]
            }
            Request::Serve(options) => {
                let zeros = [options.tcp_zero, options.udp_zero].map(|zero| zero as u8);
                vec![VERSION, 2, options.strict.into(), zeros[0], zeros[1]]
            }
            Request::Report { from } => {
                let mut bytes = vec![VERSION, 3];
                bytes.extend(from.to_le_bytes());
                bytes
            }
            Request::End => vec![VERSION, 4],
        }
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Request> {
        match *bytes {
            [VERSION, 1, transport, low, high, twins @ 0..4] => Some(Request::Guard {
                transport: transport_of(transport)?,
                port: Port::new(u16::from_le_bytes([low, high]))?,
                has_v4: twins & 1 != 0,
                has_v6: twins & 2 != 0,
            }),
            [VERSION, 2, strict @ 0..2, tcp_zero, udp_zero] => Some(Request::Serve(Options {
                strict: strict == 1,
                tcp_zero: zero_of(tcp_zero)?,
                udp_zero: zero_of(udp_zero)?,
            })),
            [VERSION, 3, a, b, c, d] => Some(Request::Report {
                from: u32::from_le_bytes([a, b, c, d]),
            }),
            [VERSION, 4] => Some(Request::End),
            _ => None,
        }
    }
}

impl Reply {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Reply::Done => vec![VERSION, 1],
            Reply::Refused(errno) => {
                let mut bytes = vec![VERSION, 2];
                bytes.extend(errno.to_le_bytes());
                bytes
            }
            Reply::Uses(uses) => {
                let mut bytes = vec![VERSION, 3];
                for used in uses.iter().take(USE_COUNT_MAX) {
                    bytes.push(used.transport.index() as u8);
                    bytes.push(used.technique as u8);
                    bytes.extend(used.port.number().to_le_bytes());
                    bytes.extend(used.call_count.to_le_bytes());
                }
                bytes
            }
        }
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Reply> {
        match *bytes {
            [VERSION, 1] => Some(Reply::Done),
            [VERSION, 2, a, b, c, d] => Some(Reply::Refused(i32::from_le_bytes([a, b, c, d]))),
            [VERSION, 3, ref uses @ ..] => {
                let uses: Option<Vec<Use>> = uses.chunks(USE_SIZE).map(use_of).collect();
                Some(Reply::Uses(uses?))
            }
            _ => None,
        }
    }
}

fn use_of(bytes: &[u8]) -> Option<Use> {
    let (&[transport, technique, low, high], count) = bytes.split_first_chunk()?;
    Some(Use {
        transport: transport_of(transport)?,
        port: Port::new(u16::from_le_bytes([low, high]))?,
        technique: *Technique::ALL.get(usize::from(technique))?,
        call_count: u64::from_le_bytes(count.try_into().ok()?),
    })
}

fn transport_of(number: u8) -> Option<Transport> {
    let mut all = Transport::ALL.into_iter();
    all.find(|transport| transport.index() == usize::from(number))
}

fn zero_of(number: u8) -> Option<Zero> {
    let mut all = [Zero::Block, Zero::Kernel, Zero::Error].into_iter();
    all.find(|zero| *zero as u8 == number)
}

/// Of this protocol.
const VERSION: u8 = 1;
/// Of a use, in bytes.
const USE_SIZE: usize = 12;
/// In one packet.
pub(crate) const USE_COUNT_MAX: usize = 1024;
/// The longest packet.
pub(crate) const PACKET_SIZE_MAX: usize = 2 + USE_SIZE * USE_COUNT_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_what_is_read() {
        let port = Port::new(8080).expect("a port");
        let options = Options {
            strict: true,
            tcp_zero: Zero::Error,
            udp_zero: Zero::Kernel,
        };
        for request in [
            Request::Guard {
                transport: Transport::Udp,
                port,
                has_v4: true,
                has_v6: false,
            },
            Request::Serve(options),
            Request::Report { from: 70_000 },
            Request::End,
        ] {
            assert_eq!(Request::from_bytes(&request.to_bytes()), Some(request));
        }
        let uses = Technique::ALL.map(|technique| Use {
            transport: Transport::Tcp,
            port,
            technique,
            call_count: u64::MAX,
        });
        for reply in [Reply::Done, Reply::Refused(98), Reply::Uses(uses.into())] {
            assert_eq!(Reply::from_bytes(&reply.to_bytes()), Some(reply));
        }
    }

    #[test]
    fn what_is_no_message_is_not_read() {
        for bytes in [
            &[][..],
            &[VERSION],
            &[VERSION + 1, 4],
            &[VERSION, 4, 0],
            &[VERSION, 1, 0, 0, 0, 0],
            &[VERSION, 1, 9, 1, 0, 0],
            &[VERSION, 1, 0, 1, 0, 4],
            &[VERSION, 2, 2, 0, 0],
            &[VERSION, 2, 0, 3, 0],
        ] {
            assert_eq!(Request::from_bytes(bytes), None, "{bytes:?}");
        }
        for bytes in [
            &[][..],
            &[VERSION, 3, 0],
            &[VERSION, 3, 0, 99, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(Reply::from_bytes(bytes), None, "{bytes:?}");
        }
    }
}
