//! Where the measuring is done: an attached pool, a cgroup inside its guard and one outside.

use std::{
    cell::Cell,
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use portpool::{Pool, PortRange, Token, Transport};
use portpool_core::abi::{Acquire, ControlCode, LEVEL, Scope, token_bytes};
use portpool_kernel::AttachOptions;
use portpool_testkit::{Arena, sys::set_raw};
use rustix::{
    io::Errno,
    mount::{MountFlags, mount},
    net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with},
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// Where a socket is created, hence whether the pool's programs see what is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Guarded,
    Unguarded,
}

/// The pool and the cgroups.
pub(crate) struct Stage {
    pool: Pool,
    run: PathBuf,
    guarded: PathBuf,
    unguarded: PathBuf,
    side: Cell<Option<Side>>,
}

impl Stage {
    /// Attaches a pool to a cgroup below the arena's.
    pub(crate) fn set(arena: &Arena) -> Stage {
        pin_to_one_processor();
        let hard = getrlimit(Resource::Nofile).maximum;
        let room = Rlimit {
            current: hard.or(Some(OPEN_FILES_MIN)),
            maximum: hard,
        };
        assert!(
            hard.is_none_or(|hard| hard >= OPEN_FILES_MIN),
            "the hard limit of open files is {hard:?}: raise it to {OPEN_FILES_MIN}"
        );
        setrlimit(Resource::Nofile, room).expect("raise the limit of open files");
        // Kept apart from the pool's ranges, so that bind(0) has as free a choice as on any machine.
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", EPHEMERAL).expect("port range");
        put_in_memory(arena.run().path());
        let guarded = arena.cgroup().join("guarded");
        fs::create_dir(&guarded).expect("make a cgroup");
        let options = AttachOptions {
            cgroup: Some(guarded.clone()),
            ranges: Some(range(POOL_FIRST, POOL_COUNT).into()),
            ..arena.options()
        };
        portpool_kernel::attach(&options).expect("attach");
        fs::write(guarded.join("cgroup.procs"), "0").expect("enter the cgroup");
        Stage {
            pool: arena.pool(),
            run: arena.run().path().to_owned(),
            guarded,
            unguarded: arena.cgroup().to_owned(),
            side: Cell::new(None),
        }
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The run directory of the pool.
    pub(crate) fn run(&self) -> &Path {
        &self.run
    }

    /// Moves this process.
    pub(crate) fn enter(&self, side: Side) {
        if self.side.replace(Some(side)) == Some(side) {
            return;
        }
        let cgroup = match side {
            Side::Guarded => &self.guarded,
            Side::Unguarded => &self.unguarded,
        };
        fs::write(cgroup.join("cgroup.procs"), "0").expect("enter the cgroup");
    }

    /// Leaves the cgroup that the pool is attached to.
    pub(crate) fn leave(&self) {
        self.enter(Side::Unguarded);
    }

    /// A socket with nothing done to it.
    pub(crate) fn socket_on(&self, side: Side, transport: Transport) -> OwnedFd {
        self.enter(side);
        socket(transport)
    }
}

/// A socket of whichever side this process is on.
pub(crate) fn socket(transport: Transport) -> OwnedFd {
    let kind = match transport {
        Transport::Tcp => SocketType::STREAM,
        Transport::Udp => SocketType::DGRAM,
    };
    socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, None).expect("socket")
}

/// Binds on loopback; port 0 leaves the choice to the kernel.
pub(crate) fn bind_to(socket: &OwnedFd, port: u16) {
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    for _ in 0..TRY_COUNT {
        match bind(socket, &address) {
            Ok(()) => return,
            // Whoever walks over the open files of all processes, as an attach elsewhere does, may
            // hold the socket that was closed last for a moment longer, also one of a block that an
            // associated socket has port 0 of.
            Err(Errno::ADDRINUSE) => {}
            Err(error) => panic!("bind to port {port}: {error}"),
        }
    }
    panic!("bind to port {port}: in use");
}

/// The floor of all prices: what it takes to get one free port from the kernel and give it back.
pub(crate) fn floor() {
    let socket = socket(Transport::Tcp);
    bind_to(&socket, 0);
    getsockname(&socket).expect("getsockname");
}

/// Claims a block by the control code.
pub(crate) fn acquire(owner: &OwnedFd, range: PortRange, token: Token) {
    let request = Acquire {
        range,
        token,
        scope: Scope::Associated,
    };
    control(owner, ControlCode::Acquire, &request.to_bytes());
}

pub(crate) fn release(socket: &OwnedFd, token: Token) {
    control(socket, ControlCode::Release, &token_bytes(token));
}

pub(crate) fn associate(socket: &OwnedFd, token: Token) {
    control(socket, ControlCode::Associate, &token_bytes(token));
}

fn control(socket: &OwnedFd, code: ControlCode, value: &[u8]) {
    let done = set_raw(socket, LEVEL, code as i32, value, value.len() as i64);
    done.unwrap_or_else(|error| panic!("{code:?}: {error}"));
}

/// Tokens that no other reservation here has.
#[derive(Debug, Default)]
pub(crate) struct Tokens(u64);

impl Tokens {
    pub(crate) fn draw(&mut self) -> Token {
        self.0 += 1;
        Token::new(self.0).expect("not 0")
    }
}

/// Reservations that lie side by side or with gaps; they end with this value.
#[derive(Debug, Default)]
pub(crate) struct Fill {
    owners: Vec<OwnedFd>,
    count: usize,
}

impl Fill {
    /// Claims one more block; the pool's limit of reservations a socket decides who owns it.
    pub(crate) fn add(&mut self, transport: Transport, range: PortRange, token: Token) {
        if self.count.is_multiple_of(RESERVATIONS_PER_SOCKET) {
            self.owners.push(socket(transport));
        }
        self.count += 1;
        acquire(self.owners.last().expect("an owner"), range, token);
    }
}

pub(crate) fn range(first: u16, count: u16) -> PortRange {
    PortRange::from_numbers(first, count).expect("a range of ports")
}

/// The run directory is in memory, as /run is; this mount goes with the arena.
fn put_in_memory(run: &Path) {
    fs::create_dir_all(run).expect("make the run directory");
    mount("bench", run, "tmpfs", MountFlags::empty(), c"mode=0755").expect("mount a tmpfs");
}

/// One of the processors this process may use, the last: the first has the interrupts.
fn pin_to_one_processor() {
    let allowed = sched_getaffinity(None).expect("own processors");
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| allowed.is_set(*cpu));
    let mut one = CpuSet::new();
    one.set(last.expect("a processor"));
    sched_setaffinity(None, &one).expect("stay on one processor");
}

const EPHEMERAL: &str = "40000 65535";
/// The pool's range: all unprivileged ports below the ephemeral ones.
pub(crate) const POOL_FIRST: u16 = 1024;
pub(crate) const POOL_COUNT: u16 = 40_000 - POOL_FIRST;
/// The largest block of held ports that is measured, and some.
const OPEN_FILES_MIN: u64 = 16_500;
const TRY_COUNT: u32 = 1_000_000;
const RESERVATIONS_PER_SOCKET: usize = 32;
