//! Does to sockets what it is told, one order a line, one answer a line: `ok VALUE` or `err ERRNO`.
//!
//! ```text
//! socket NAME KIND            tcp4 tcp6 udp4 udp6 mptcp4 mptcp6 udplite4 raw4 unix
//! option NAME OPTION          reuseaddr reuseport v6only dual freebind
//! bind NAME ADDRESS           listen NAME          connect NAME ADDRESS
//! sendto NAME ADDRESS         accept NAME AS       close NAME
//! address NAME                the local address
//! fd NAME                     its descriptor, for pidfd_getfd
//! acquire NAME FIRST COUNT TOKEN [tree [PID] or zero]
//! associate NAME TOKEN        release NAME TOKEN
//! hammer KIND ADDRESS TIMES   socket, bind, close: how many binds were let through
//! attach RUN CGROUP           detach RUN [force]           in the actor's network namespace:
//!                             an answer of `failed: WHY` says that it was refused
//! findings RUN                what doctor finds: NAME=VERDICT, one after the other
//! raw NAME CODE LENGTH         a control code with zeros for its value
//! bytes NAME CODE HEX          a control code with these bytes for its value
//! inherit NAME NUMBER          the socket a parent left open under a number
//! pid                          its process id
//! euid UID                     another effective uid from here on
//! exec                         runs itself anew; its sockets and children are gone
//! child NAME [UID]             starts an actor as a child of this one
//! child-by NAME PROGRAM ...    likewise, by a command that ends in running it
//! in NAME ORDER ...            has the child obey an order
//! end NAME                     kill -9 of the child
//! ```
//!
//! With `PORTPOOL_POOL=embedded` the orders about reservations go to the library, which has no control
//! codes to send: TOKEN is then only this actor's name for the reservation. An acquire answers its
//! token, and closing a socket releases what was acquired on it, as the kernel would.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    env,
    io::{self, BufRead, Write},
    net::SocketAddr,
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::{self, Command},
};

use portpool::{Pool, PortRange, Refusal, Token, Want};
use portpool_core::abi::{self, Acquire, ControlCode, Scope};
use portpool_kernel::{AttachOptions, RunDir};
use portpool_testkit::{
    Actor,
    sys::{inherited, set_effective_uid, set_raw},
};
use socket2::{Domain, Protocol, Socket, Type};

fn main() -> io::Result<()> {
    let mut sockets = Sockets {
        embedded: Embedded::from_env()?,
        ..Sockets::default()
    };
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = sockets.obey(&words);
        let mut out = io::stdout().lock();
        match answer {
            Ok(value) => writeln!(out, "ok {value}")?,
            Err(error) => match error.raw_os_error() {
                Some(number) => writeln!(out, "err {number}")?,
                None => writeln!(out, "bad order {line:?}: {error}")?,
            },
        }
        out.flush()?;
        if words == ["exec"] {
            return Err(Command::new(env::current_exe()?).exec());
        }
    }
    Ok(())
}

#[derive(Default)]
struct Sockets {
    sockets: BTreeMap<String, Socket>,
    children: BTreeMap<String, Actor>,
    embedded: Option<Embedded>,
}

impl Sockets {
    fn obey(&mut self, words: &[&str]) -> io::Result<String> {
        match words {
            ["socket", name, kind] => {
                self.sockets.insert((*name).to_owned(), open(kind)?);
            }
            ["option", name, option] => set_option(self.of(name)?, option)?,
            ["bind", name, address] => {
                let (socket, address) = (self.of(name)?, parse::<SocketAddr>(address)?);
                match &self.embedded {
                    Some(embedded) => embedded.pool.bind(socket, address)?,
                    None => socket.bind(&address.into())?,
                }
            }
            ["listen", name] => match &self.embedded {
                Some(embedded) => embedded.pool.listen(self.of(name)?, 16)?,
                None => self.of(name)?.listen(16)?,
            },
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
                self.sockets.insert((*accepted).to_owned(), socket);
            }
            ["close", name] => {
                if let (Some(embedded), Some(socket)) =
                    (&mut self.embedded, self.sockets.get(*name))
                {
                    embedded.release_all(name, socket);
                }
                drop(self.sockets.remove(*name));
            }
            ["address", name] => {
                let address = self.of(name)?.local_addr()?;
                return Ok(address
                    .as_socket()
                    .map_or_else(String::new, |a| a.to_string()));
            }
            ["fd", name] => return Ok(self.of(name)?.as_raw_fd().to_string()),
            ["acquire", name, first, count, token, scope @ ..] => {
                return self.acquire(name, first, count, token, scope);
            }
            ["raw", name, code, length] => {
                let value = vec![0; parse(length)?];
                let claimed = value.len() as i64;
                set_raw(self.of(name)?, abi::LEVEL, parse(code)?, &value, claimed)?;
            }
            ["bytes", name, code, hex] => {
                let value = bytes_of(hex)?;
                let claimed = value.len() as i64;
                set_raw(self.of(name)?, abi::LEVEL, parse(code)?, &value, claimed)?;
            }
            ["inherit", name, number] => {
                let socket = Socket::from(inherited(parse(number)?)?);
                self.sockets.insert((*name).to_owned(), socket);
            }
            ["pid"] => return Ok(process::id().to_string()),
            ["euid", uid] => set_effective_uid(parse(uid)?)?,
            // Done by the caller, once this is answered.
            ["exec"] => {}
            ["child", name] => self.start(name, &mut Command::new(env::current_exe()?)),
            ["child", name, uid] => {
                let mut command = Command::new(env::current_exe()?);
                self.start(name, command.uid(parse(uid)?).gid(parse(uid)?));
            }
            ["child-by", name, program, arguments @ ..] => {
                let mut command = Command::new(program);
                self.start(name, command.args(arguments).arg(env::current_exe()?));
            }
            ["in", name, order @ ..] => {
                let child = self.children.get_mut(*name);
                let child = child.ok_or_else(|| io::Error::other("no such child"))?;
                let answer = child.ask(&order.join(" "));
                return answer.map_err(|error| io::Error::from_raw_os_error(error.0));
            }
            ["end", name] => drop(self.children.remove(*name)),
            ["associate", name, token] => match &self.embedded {
                Some(embedded) => embedded.associate(self.of(name)?, token)?,
                None => self.control(name, ControlCode::Associate, token)?,
            },
            ["release", name, token] => match &self.embedded {
                Some(embedded) => embedded.release(self.of(name)?, token)?,
                None => self.control(name, ControlCode::Release, token)?,
            },
            ["hammer", kind, address, times] => return hammer(kind, address, parse(times)?),
            ["attach", run, cgroup] => return Ok(attach(run, cgroup)),
            ["detach", run, force @ ..] => return Ok(detach(run, force == ["force"])),
            ["findings", run] => return Ok(findings(run)),
            _ => return Err(io::Error::other("unknown")),
        }
        Ok(String::new())
    }

    fn start(&mut self, name: &str, command: &mut Command) {
        self.children.insert(name.to_owned(), Actor::spawn(command));
    }

    fn of(&self, name: &str) -> io::Result<&Socket> {
        self.sockets
            .get(name)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }

    fn acquire(
        &mut self,
        name: &str,
        first: &str,
        count: &str,
        token: &str,
        scope: &[&str],
    ) -> io::Result<String> {
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
        if let Some(embedded) = &mut self.embedded {
            let socket = self.sockets.get(name).ok_or(io::ErrorKind::NotFound)?;
            return embedded.acquire(name, socket, range, token, scope);
        }
        let request = Acquire {
            range,
            token: token_of(token)?,
            scope,
        }
        .to_bytes();
        self.set(name, ControlCode::Acquire, &request)?;
        Ok(token.to_owned())
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

/// What the library holds for this actor.
struct Embedded {
    pool: Pool,
    /// By the actor's own name for it: the name of the socket it was acquired on, and its token.
    tokens: BTreeMap<String, (String, Token)>,
}

impl Embedded {
    fn from_env() -> io::Result<Option<Embedded>> {
        if env::var("PORTPOOL_POOL").as_deref() != Ok("embedded") {
            return Ok(None);
        }
        Ok(Some(Embedded {
            pool: Pool::open().map_err(io::Error::other)?,
            tokens: BTreeMap::new(),
        }))
    }

    fn acquire(
        &mut self,
        name: &str,
        socket: &Socket,
        range: PortRange,
        token: &str,
        scope: Scope,
    ) -> io::Result<String> {
        let granted = self.pool.acquire_on(socket, &Want::Specific(range), scope);
        let block =
            granted.map_err(|error| refused(ControlCode::Acquire, error.refusal(), error))?;
        let entry = (name.to_owned(), block.token);
        self.tokens.insert(token.to_owned(), entry);
        Ok(block.token.value().to_string())
    }

    fn associate(&self, socket: &Socket, token: &str) -> io::Result<()> {
        let associated = self.pool.associate(socket, self.token(token)?);
        associated.map_err(|error| refused(ControlCode::Associate, error.refusal(), error))
    }

    fn release(&self, socket: &Socket, token: &str) -> io::Result<()> {
        let released = self.pool.release_on(socket, self.token(token)?);
        released.map_err(|error| refused(ControlCode::Release, error.refusal(), error))
    }

    fn release_all(&mut self, name: &str, socket: &Socket) {
        self.tokens.retain(|_, (owner, token)| {
            let is_owner = owner == name;
            if is_owner {
                // It may have been released already.
                drop(self.pool.release_on(socket, *token));
            }
            !is_owner
        });
    }

    /// A token by this actor's name for it, or one of another process as it is.
    fn token(&self, text: &str) -> io::Result<Token> {
        match self.tokens.get(text) {
            Some((_, token)) => Ok(*token),
            None => token_of(text),
        }
    }
}

/// A refusal as the number of the control code, which the embedded pool does not have.
fn refused(
    code: ControlCode,
    refusal: Option<Refusal>,
    error: impl std::error::Error + Send + Sync + 'static,
) -> io::Error {
    let number = refusal.and_then(|it| abi::errno_of(abi::Operation::Control(code), it));
    number.map_or_else(|| io::Error::other(error), io::Error::from_raw_os_error)
}

fn hammer(kind: &str, address: &str, times: u32) -> io::Result<String> {
    let address = parse::<SocketAddr>(address)?.into();
    let mut let_through = 0;
    for _ in 0..times {
        let_through += u32::from(open(kind)?.bind(&address).is_ok());
    }
    Ok(let_through.to_string())
}

fn attach(run: &str, cgroup: &str) -> String {
    let options = AttachOptions {
        run: RunDir::new(run),
        cgroup: Some(cgroup.into()),
        ranges: None,
        limits: None,
        private_mounts: true,
    };
    match portpool_kernel::attach(&options) {
        Ok(attached) => format!("attached, reaped {}", attached.reaped),
        Err(error) => format!("failed: {error}"),
    }
}

fn detach(run: &str, force: bool) -> String {
    match portpool_kernel::detach(&RunDir::new(run), force) {
        Ok(detached) if detached.others_remain => "detached, others remain".to_owned(),
        Ok(_) => "detached".to_owned(),
        Err(error) => format!("failed: {error}"),
    }
}

fn findings(run: &str) -> String {
    let findings = portpool_kernel::doctor(&RunDir::new(run));
    let words = findings.iter().map(|finding| {
        let next = finding.next_step.as_deref().unwrap_or("").replace(' ', "_");
        format!("{}={:?}:{next}", finding.name, finding.verdict)
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Tokens are plain decimal numbers here.
fn token_of(text: &str) -> io::Result<Token> {
    Token::new(parse(text)?).ok_or_else(|| io::Error::other("token 0"))
}

fn bytes_of(hex: &str) -> io::Result<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    let text = pairs.map(|pair| std::str::from_utf8(pair).map_err(io::Error::other));
    text.map(|pair| u8::from_str_radix(pair?, 16).map_err(io::Error::other))
        .collect()
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
