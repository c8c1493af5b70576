//! What the embedded pool's own work costs, against the sockets it holds ports with.

use std::{
    env, fs,
    io::ErrorKind,
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::OwnedFd,
    path::PathBuf,
};

use portpool::{Pool, PoolKind, Port, Refusal, Request, Transport, Transports, Want};
use rustix::{
    io::Errno,
    mount::{MountFlags, UnmountFlags, mount, unmount},
    net::{AddressFamily, SocketFlags, SocketType, bind, socket_with},
};
use socket2::{Domain, Socket, Type};

use crate::{
    meter::{Comparison, Subject, compare_in},
    report::Report,
    stage::{POOL_FIRST, Side, Stage, range},
};

pub(crate) fn measure(stage: &Stage, report: &mut Report) {
    let pool = Pool::builder().kind(PoolKind::Embedded).open();
    let pool = pool.expect("the embedded pool");
    on_disk(stage, &pool, report);
    let list = ListInMemory::mount();
    let alone = reserve(stage, &pool, Loop::Inlined, 1, 8, 201);
    report.note("embedded, the only port of a process", alone);
    // A process that lists something already.
    let held = pool.acquire(&other()).expect("a free port");
    for (count, burst, rounds) in [(1, 8, 201), (16, 2, 201), (1_000, 1, 41), (16_000, 1, 7)] {
        let found = reserve(stage, &pool, Loop::Inlined, count, burst, rounds);
        report.add(&format!("embedded/reserve/{count}"), 1.15, found);
    }
    let found = reserve(stage, &pool, Loop::Library, 1, 8, 201);
    report.note("embedded, 1 against calls of the C library", found);
    drop((held, list));
}

/// The same with a list in a directory on disk.
fn on_disk(stage: &Stage, pool: &Pool, report: &mut Report) {
    let _held = pool.acquire(&other()).expect("a free port");
    for (count, burst) in [(1, 8), (16, 2)] {
        let found = reserve(stage, pool, Loop::Inlined, count, burst, 201);
        report.note(&format!("embedded, {count} listed on disk"), found);
    }
}

/// Another port: the first block of a process makes the files of its list, and the last takes them away.
fn other() -> Request {
    Request {
        transports: Transports::from(Transport::Udp),
        want: Want::Specific(range(POOL_FIRST, 1)),
    }
}

/// The directory of lists, in memory as the runtime directory of a user is. Seen in this arena only.
struct ListInMemory(PathBuf);

impl ListInMemory {
    fn mount() -> ListInMemory {
        let runtime = env::var_os("XDG_RUNTIME_DIR").expect("the arena's runtime directory");
        let path = PathBuf::from(runtime).join("portpool");
        fs::create_dir(&path).expect("make the directory of lists");
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("portpool-bench", &path, "tmpfs", flags, Some(c"mode=700")).expect("mount");
        ListInMemory(path)
    }
}

impl Drop for ListInMemory {
    fn drop(&mut self) {
        // Whoever looks at the list keeps none of it open for long.
        let _ = unmount(&self.0, UnmountFlags::DETACH);
        let _ = fs::remove_dir(&self.0);
    }
}

/// How the bare loop makes its system calls.
#[derive(Clone, Copy)]
enum Loop {
    /// By the C library, as programs do.
    Library,
    /// By instructions of its own, as the library makes those of a hold.
    Inlined,
}

impl Loop {
    fn bind_to(self, port: Port) -> OwnedFd {
        let address = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port.number(), 0, 0);
        match self {
            Loop::Library => {
                let socket = Socket::new(Domain::IPV6, Type::STREAM, None).expect("socket");
                while let Err(error) = socket.bind(&address.into()) {
                    assert_eq!(error.kind(), ErrorKind::AddrInUse, "bind to port {port}");
                }
                socket.into()
            }
            Loop::Inlined => {
                let family = AddressFamily::INET6;
                let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None);
                let socket = socket.expect("socket");
                while let Err(error) = bind(&socket, &address) {
                    assert_eq!(error, Errno::ADDRINUSE, "bind to port {port}");
                }
                socket
            }
        }
    }
}

/// A reservation of TCP ports, made and released, against as many sockets bound and closed.
fn reserve(
    stage: &Stage,
    pool: &Pool,
    kind: Loop,
    count: u16,
    burst: u32,
    rounds: usize,
) -> Comparison {
    let block = range(POOL_FIRST + 1, count);
    let request = Request {
        transports: Transports::from(Transport::Tcp),
        want: Want::Specific(block),
    };
    let measured = Subject::new(Side::Unguarded, burst, || {
        // As `bind_to` does, for whoever walks over the open files of all processes.
        loop {
            match pool.acquire(&request) {
                Ok(reservation) => return drop(reservation),
                Err(error) if error.refusal() == Some(Refusal::InUse) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
    let bare = Subject::new(Side::Unguarded, burst, || {
        let sockets: Vec<_> = block.ports().map(|port| kind.bind_to(port)).collect();
        drop(sockets);
    });
    compare_in(rounds, stage, measured, bare)
}
