//! What the tests share: pools, requests, and this very program as another process.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use portpool::{
    Pool, PoolKind, Port, PortCount, PortRange, Request, Reservation, Transport, Transports, Want,
    Wildcard,
};
use socket2::{Domain, Protocol, Socket, Type};

pub(crate) fn pool() -> Pool {
    let builder = Pool::builder().kind(PoolKind::Embedded);
    builder.open().expect("open the embedded pool")
}

pub(crate) fn any(count: u16) -> Wildcard {
    Wildcard::new(PortCount::new(count).expect("a count"))
}

pub(crate) fn wildcard(transports: Transports, wanted: Wildcard) -> Request {
    Request {
        transports,
        want: Want::Wildcard(wanted),
    }
}

pub(crate) fn specific(transports: Transports, range: PortRange) -> Request {
    Request {
        transports,
        want: Want::Specific(range),
    }
}

pub(crate) fn acquire(transports: Transports, count: u16) -> Reservation {
    let request = wildcard(transports, any(count));
    pool().acquire(&request).expect("acquire")
}

/// A few ports that nobody else in the tests works with, all of them free a moment ago.
pub(crate) fn free_range(count: u16) -> PortRange {
    acquire(Transports::Both, count).range()
}

pub(crate) fn socket(transport: Transport, domain: Domain) -> Socket {
    let (kind, protocol) = match transport {
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
    };
    Socket::new(domain, kind, Some(protocol)).expect("socket")
}

/// One way to bind a port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variant {
    pub(crate) domain: Domain,
    pub(crate) is_only_v6: bool,
    pub(crate) is_loopback: bool,
    pub(crate) reuse_address: bool,
    pub(crate) reuse_port: bool,
}

impl Variant {
    /// IPv4, IPv6 alone and both; any and loopback; the four combinations of reuse flags; and the
    /// IPv4 loopback address in an IPv6 socket.
    pub(crate) fn all() -> Vec<Variant> {
        let mut all = Vec::new();
        let forms = [
            (Domain::IPV4, false, false),
            (Domain::IPV4, false, true),
            (Domain::IPV6, false, false),
            (Domain::IPV6, true, false),
            (Domain::IPV6, false, true),
            (Domain::IPV6, true, true),
        ];
        for (domain, is_only_v6, is_loopback) in forms {
            for flags in 0..4 {
                all.push(Variant {
                    domain,
                    is_only_v6,
                    is_loopback,
                    reuse_address: flags & 1 != 0,
                    reuse_port: flags & 2 != 0,
                });
            }
        }
        all
    }

    /// The addresses that this variant may bind.
    pub(crate) fn addresses(&self, port: Port) -> Vec<SocketAddr> {
        let port = port.number();
        match (self.domain, self.is_loopback) {
            (Domain::IPV4, false) => vec![(Ipv4Addr::UNSPECIFIED, port).into()],
            (Domain::IPV4, _) => vec![(Ipv4Addr::LOCALHOST, port).into()],
            (_, false) => vec![(Ipv6Addr::UNSPECIFIED, port).into()],
            (_, true) if self.is_only_v6 => vec![(Ipv6Addr::LOCALHOST, port).into()],
            (_, true) => {
                let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
                vec![(Ipv6Addr::LOCALHOST, port).into(), (mapped, port).into()]
            }
        }
    }

    pub(crate) fn socket(&self, transport: Transport) -> Socket {
        let socket = socket(transport, self.domain);
        if self.domain == Domain::IPV6 {
            socket.set_only_v6(self.is_only_v6).expect("IPV6_V6ONLY");
        }
        socket
            .set_reuse_address(self.reuse_address)
            .expect("SO_REUSEADDR");
        socket
            .set_reuse_port(self.reuse_port)
            .expect("SO_REUSEPORT");
        socket
    }
}

/// What a bind to any address of the port is answered, by every variant that is not refused with
/// `EADDRINUSE`.
pub(crate) fn intrusions(transport: Transport, port: Port) -> Vec<String> {
    let mut found = Vec::new();
    for variant in Variant::all() {
        for address in variant.addresses(port) {
            let bound = variant.socket(transport).bind(&address.into());
            let refused = bound.as_ref().err().and_then(std::io::Error::raw_os_error);
            if refused != Some(libc::EADDRINUSE) {
                found.push(format!("{transport} {address} {variant:?}: {bound:?}"));
            }
        }
    }
    found
}

/// Another process, which runs `test` of this program with `PORTPOOL_ROLE` set.
pub(crate) struct Other {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Other {
    pub(crate) fn start(test: &str, role: &str) -> Other {
        Other::spawn(command(test, role))
    }

    pub(crate) fn spawn(mut command: Command) -> Other {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("start this program again");
        let lines = BufReader::new(child.stdout.take().expect("its output"));
        Other { child, lines }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The rest of the next line that it wrote with [`tell`].
    pub(crate) fn hear(&mut self) -> String {
        loop {
            let mut line = String::new();
            let length = self.lines.read_line(&mut line).expect("hear");
            assert_ne!(length, 0, "the other process ended without a word");
            if let Some((_, told)) = line.trim_end_matches('\n').split_once(TOLD) {
                return told.to_owned();
            }
        }
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// Lets it go on from [`wait_for_end`] and waits for a good end.
    pub(crate) fn finish(mut self) {
        drop(self.child.stdin.take());
        let status = self.child.wait().expect("wait");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn command(test: &str, role: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("own path"));
    command
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env("PORTPOOL_ROLE", role);
    command
}

/// The part this process plays, if another one started it.
pub(crate) fn role() -> Option<String> {
    env::var("PORTPOOL_ROLE").ok()
}

pub(crate) fn tell(text: impl std::fmt::Display) {
    println!("{TOLD}{text}");
}

/// Waits until the process that started this one ends its input.
pub(crate) fn wait_for_end() {
    let mut nothing = Vec::new();
    std::io::stdin()
        .read_to_end(&mut nothing)
        .expect("wait for the end");
}

/// Tries until it works: a process that another test is just starting has, up to its exec, a copy of
/// every socket, also of one that was closed here a moment ago.
pub(crate) fn eventually<T, E: std::fmt::Debug>(mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) => assert!(start.elapsed() < PATIENCE, "{error:?}"),
        }
        std::thread::yield_now();
    }
}

/// A directory of its own, removed with this value.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        Folder::new_in(&env::temp_dir(), name)
    }

    /// One in memory, as the runtime directory of a user is.
    pub(crate) fn in_memory(name: &str) -> Folder {
        Folder::new_in(Path::new("/dev/shm"), name)
    }

    fn new_in(parent: &Path, name: &str) -> Folder {
        let path = parent.join(format!("portpool-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).expect("make a directory");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
/// Marks the lines of a role among those of the test harness.
const TOLD: &str = "told: ";
