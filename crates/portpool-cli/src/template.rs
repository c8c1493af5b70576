//! Placeholders for ports in the arguments of a command.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    os::unix::ffi::{OsStrExt, OsStringExt},
};

use portpool::Transport;

use crate::grant::Grant;

/// An argument, read once: what is copied and where ports go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Bytes(Vec<u8>),
    Port(Place),
}

/// Which port goes there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// As the variable PORT.
    First,
    /// One of a transport's, counted from 0.
    Of(Transport, usize),
}

impl Template {
    /// Reads an argument, for a command that is to have so many TCP and so many UDP ports.
    ///
    /// # Errors
    /// A placeholder that no port will ever fill.
    pub(crate) fn parse(text: &OsStr, port_counts: PortCounts) -> Result<Template, NoSuchPort> {
        let mut rest = text.as_bytes();
        let mut pieces = Vec::new();
        let mut copied = Vec::new();
        while let Some((byte, after)) = rest.split_first() {
            if let Some((name, after)) = escaped(rest) {
                copied.extend_from_slice(b"{");
                copied.extend_from_slice(name);
                copied.extend_from_slice(b"}");
                rest = after;
            } else if let Some((name, after)) = placeholder(rest) {
                let place = Place::parse(name, port_counts)?;
                pieces.push(Piece::Bytes(std::mem::take(&mut copied)));
                pieces.push(Piece::Port(place));
                rest = after;
            } else {
                copied.push(*byte);
                rest = after;
            }
        }
        pieces.push(Piece::Bytes(copied));
        Ok(Template(pieces))
    }

    /// The argument with the ports in it.
    pub(crate) fn fill(&self, grant: &Grant) -> OsString {
        let mut text = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Bytes(bytes) => text.extend_from_slice(bytes),
                Piece::Port(place) => {
                    let port = place.port(grant);
                    text.extend(
                        port.map(|port| port.to_string())
                            .unwrap_or_default()
                            .bytes(),
                    );
                }
            }
        }
        OsString::from_vec(text)
    }
}

impl Place {
    fn parse(name: &[u8], port_counts: PortCounts) -> Result<Place, NoSuchPort> {
        let text = String::from_utf8_lossy(name);
        let wrong = || NoSuchPort {
            name: text.clone().into_owned(),
            port_counts,
        };
        let (family, index) = match text.split_once('.') {
            Some((family, index)) => (family, Some(index)),
            None => (text.as_ref(), None),
        };
        let Ok(transport) = family.parse::<Transport>() else {
            return if index.is_none() {
                Ok(Place::First)
            } else {
                Err(wrong())
            };
        };
        let index = match index {
            None => 0,
            // The parser of integers takes a sign.
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| wrong())?
            }
            Some(_) => return Err(wrong()),
        };
        if index < port_counts.of(transport) {
            Ok(Place::Of(transport, index))
        } else {
            Err(wrong())
        }
    }

    fn port(self, grant: &Grant) -> Option<portpool::Port> {
        match self {
            Place::First => grant.first(),
            Place::Of(transport, index) => grant.ports(transport).nth(index),
        }
    }
}

/// How many ports of each transport there will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortCounts {
    pub(crate) tcp: usize,
    pub(crate) udp: usize,
}

impl PortCounts {
    fn of(self, transport: Transport) -> usize {
        match transport {
            Transport::Tcp => self.tcp,
            Transport::Udp => self.udp,
        }
    }
}

/// A placeholder that names no port of the command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoSuchPort {
    name: String,
    port_counts: PortCounts,
}

impl fmt::Display for NoSuchPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NoSuchPort { name, port_counts } = self;
        write!(f, "no port for {{{name}}}: there are ")?;
        for (index, (transport, count)) in [("tcp", port_counts.tcp), ("udp", port_counts.udp)]
            .into_iter()
            .enumerate()
        {
            let separator = if index == 0 { "" } else { " and " };
            match count {
                0 => write!(f, "{separator}no {transport} ports")?,
                1 => write!(f, "{separator}{{{transport}.0}}")?,
                count => write!(
                    f,
                    "{separator}{{{transport}.0}} to {{{transport}.{}}}",
                    count - 1
                )?,
            }
        }
        write!(
            f,
            "; ask for more ports, or write {{{{{name}}}}} for the text itself"
        )
    }
}

/// The name and the rest, if the text starts with a placeholder of ours.
fn placeholder(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = text.strip_prefix(b"{")?;
    let end = inner.iter().position(|byte| *byte == b'}')?;
    let (name, after) = (&inner[..end], &inner[end + 1..]);
    let family = name.split(|byte| *byte == b'.').next()?;
    // A name of ours with anything else in it, as in a script, is not a slip of the pen.
    let is_ours = matches!(family, b"port" | b"tcp" | b"udp")
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-+_".contains(byte));
    is_ours.then_some((name, after))
}

/// The name and the rest, if the text starts with a placeholder in doubled braces.
fn escaped(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, after) = placeholder(text.strip_prefix(b"{")?)?;
    Some((name, after.strip_prefix(b"}")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::tests::grant;

    #[test]
    fn ports_take_the_place_of_their_names() {
        for (text, filled) in [
            ("{port}", "20000"),
            ("{tcp}:{udp}", "20000:53"),
            ("a{tcp.0}{tcp.1}{tcp.2}z", "a20000200018080z"),
            (
                "--url=http://localhost:{port}/",
                "--url=http://localhost:20000/",
            ),
            ("{tcp.00}", "20000"),
        ] {
            assert_eq!(fill(text), Ok(filled.into()), "{text}");
        }
    }

    #[test]
    fn other_braces_are_left_alone() {
        for text in [
            "",
            "{",
            "}",
            "{}",
            "{{}}",
            "{print $1}",
            "{ports}",
            "{tcp",
            "{Port}",
            "{tcp: 1}",
            "{port, 1}",
            "${x}",
            "{a{b}",
        ] {
            assert_eq!(fill(text), Ok(text.into()), "{text}");
        }
    }

    #[test]
    fn doubled_braces_stand_for_single_ones() {
        assert_eq!(
            fill("{{port}} {port} {{tcp.9}}"),
            Ok("{port} 20000 {tcp.9}".into())
        );
        assert_eq!(fill("{{port}"), Ok("{20000".into()));
    }

    #[test]
    fn bytes_that_are_no_text_pass() {
        let text = OsString::from_vec(b"\xff{port}\xfe".to_vec());
        let template = Template::parse(&text, COUNTS).expect("template");
        assert_eq!(template.fill(&example()).into_vec(), b"\xff20000\xfe");
    }

    #[test]
    fn ports_that_nobody_asked_for_are_named() {
        for text in [
            "{tcp.3}", "{udp.1}", "{tcp.}", "{tcp.-1}", "{tcp.+1}", "{tcp.x}", "{port.1}",
        ] {
            let error = fill(text).unwrap_err();
            assert!(error.contains(text), "{text}: {error}");
            assert!(error.contains("{tcp.0} to {tcp.2} and {udp.0}"), "{error}");
        }
        let none = PortCounts { tcp: 1, udp: 0 };
        let error = Template::parse(OsStr::new("{udp}"), none)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("there are {tcp.0} and no udp ports"),
            "{error}"
        );
    }

    const COUNTS: PortCounts = PortCounts { tcp: 3, udp: 1 };

    fn example() -> Grant {
        grant(&[("tcp", "20000-20001"), ("udp", "53"), ("tcp", "8080")])
    }

    fn fill(text: &str) -> Result<OsString, String> {
        let template = Template::parse(OsStr::new(text), COUNTS);
        template
            .map(|template| template.fill(&example()))
            .map_err(|error| error.to_string())
    }
}
