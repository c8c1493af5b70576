//! Does to sockets what it is told, one order a line, one answer a line: `ok VALUE` or `err ERRNO`.
//!
//! ```text
//! socket NAME KIND            tcp4 tcp6 udp4 udp6 mptcp4 mptcp6 udplite4 raw4 unix
//! option NAME OPTION          reuseaddr reuseport v6only dual freebind
//! bind NAME ADDRESS           listen NAME          connect NAME ADDRESS
//! sendto NAME ADDRESS         accept NAME AS       close NAME
//! address NAME                the local address
//! fd NAME                     its descriptor, for pidfd_getfd
//! acquire NAME FIRST COUNT TOKEN [tree [PID]]
//! associate NAME TOKEN        release NAME TOKEN
//! ```
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Write},
    net::SocketAddr,
    os::fd::AsRawFd,
};

use portpool::{PortRange, Token};
use portpool_core::abi::{self, Acquire, ControlCode, Scope};
use portpool_testkit::sys::set_raw;
use socket2::{Domain, Protocol, Socket, Type};

fn main() -> io::Result<()> {
    let mut sockets = Sockets::default();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut out = io::stdout().lock();
        match sockets.obey(&words) {
            Ok(value) => writeln!(out, "ok {value}")?,
            Err(error) => match error.raw_os_error() {
                Some(number) => writeln!(out, "err {number}")?,
                None => writeln!(out, "bad order {line:?}: {error}")?,
            },
        }
        out.flush()?;
    }
    Ok(())
}

#[derive(Default)]
struct Sockets(BTreeMap<String, Socket>);

impl Sockets {
    fn obey(&mut self, words: &[&str]) -> io::Result<String> {
        match words {
            ["socket", name, kind] => {
                self.0.insert((*name).to_owned(), open(kind)?);
            }
            ["option", name, option] => set_option(self.of(name)?, option)?,
            ["bind", name, address] => {
                self.of(name)?.bind(&parse::<SocketAddr>(address)?.into())?;
            }
            ["listen", name] => self.of(name)?.listen(16)?,
            ["connect", name, address] => {
                self.of(name)?
                    .connect(&parse::<SocketAddr>(address)?.into())?;
            }
            ["sendto", name, address] => {
                self.of(name)?
                    .send_to(b"x", &parse::<SocketAddr>(address)?.into())?;
            }
            ["accept", name, accepted] => {
                let (socket, _) = self.of(name)?.accept()?;
                self.0.insert((*accepted).to_owned(), socket);
            }
            ["close", name] => drop(self.0.remove(*name)),
            ["address", name] => {
                let address = self.of(name)?.local_addr()?;
                return Ok(address
                    .as_socket()
                    .map_or_else(String::new, |a| a.to_string()));
            }
            ["fd", name] => return Ok(self.of(name)?.as_raw_fd().to_string()),
            ["acquire", name, first, count, token, scope @ ..] => {
                self.acquire(name, first, count, token, scope)?;
            }
            ["associate", name, token] => self.control(name, ControlCode::Associate, token)?,
            ["release", name, token] => self.control(name, ControlCode::Release, token)?,
            _ => return Err(io::Error::other("unknown")),
        }
        Ok(String::new())
    }

    fn of(&self, name: &str) -> io::Result<&Socket> {
        self.0
            .get(name)
            .ok_or_else(|| io::Error::other("no such socket"))
    }

    fn acquire(
        &self,
        name: &str,
        first: &str,
        count: &str,
        token: &str,
        scope: &[&str],
    ) -> io::Result<()> {
        let scope = match scope {
            [] => Scope::Associated,
            ["tree"] => Scope::Tree {
                root: None,
                zero_from_block: false,
            },
            ["zero"] => Scope::Tree {
                root: None,
                zero_from_block: true,
            },
            ["tree", root] => Scope::Tree {
                root: Some(parse(root)?),
                zero_from_block: false,
            },
            _ => return Err(io::Error::other("unknown scope")),
        };
        let range =
            PortRange::from_numbers(parse(first)?, parse(count)?).map_err(io::Error::other)?;
        let request = Acquire {
            range,
            token: token_of(token)?,
            scope,
        }
        .to_bytes();
        self.set(name, ControlCode::Acquire, &request)
    }

    fn control(&self, name: &str, code: ControlCode, token: &str) -> io::Result<()> {
        self.set(name, code, &abi::token_bytes(token_of(token)?))
    }

    fn set(&self, name: &str, code: ControlCode, value: &[u8]) -> io::Result<()> {
        set_raw(
            self.of(name)?,
            abi::LEVEL,
            code as i32,
            value,
            value.len() as i64,
        )
    }
}

/// Tokens are plain decimal numbers here.
fn token_of(text: &str) -> io::Result<Token> {
    Token::new(parse(text)?).ok_or_else(|| io::Error::other("token 0"))
}

fn parse<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse()
        .map_err(|_| io::Error::other(format!("cannot read {text:?}")))
}

fn open(kind: &str) -> io::Result<Socket> {
    let (domain, kind, protocol) = match kind {
        "tcp4" => (Domain::IPV4, Type::STREAM, None),
        "tcp6" => (Domain::IPV6, Type::STREAM, None),
        "udp4" => (Domain::IPV4, Type::DGRAM, None),
        "udp6" => (Domain::IPV6, Type::DGRAM, None),
        "mptcp4" => (Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)),
        "mptcp6" => (Domain::IPV6, Type::STREAM, Some(Protocol::MPTCP)),
        "udplite4" => (Domain::IPV4, Type::DGRAM, Some(Protocol::UDPLITE)),
        "raw4" => (Domain::IPV4, Type::RAW, Some(Protocol::TCP)),
        "unix" => (Domain::UNIX, Type::STREAM, None),
        _ => return Err(io::Error::other("unknown kind")),
    };
    Socket::new(domain, kind, protocol)
}

fn set_option(socket: &Socket, option: &str) -> io::Result<()> {
    match option {
        "reuseaddr" => socket.set_reuse_address(true),
        "reuseport" => socket.set_reuse_port(true),
        "v6only" => socket.set_only_v6(true),
        "dual" => socket.set_only_v6(false),
        "freebind" => socket.set_freebind_v4(true),
        _ => Err(io::Error::other("unknown option")),
    }
}
