//! What the tests look at before and after.

use std::{
    fs,
    io::Read,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use portpool_testkit::{Actor, Arena, Errno, sys::bpf::programs_on};

pub(crate) const ACTOR: &str = env!("CARGO_BIN_EXE_portpool-actor");
pub(crate) const STRANGER: u32 = 65_534;
pub(crate) const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// All that attach may leave on the machine.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Traces {
    files: Vec<String>,
    mounts: Vec<String>,
    reserved: String,
    programs: Vec<u32>,
}

impl Traces {
    /// What there is now.
    pub(crate) fn of(arena: &Arena) -> Traces {
        let mut files = Vec::new();
        list(arena.run().path(), &mut files);
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let run = arena.run().path().display().to_string();
        let mut mounts: Vec<String> = mountinfo
            .lines()
            .filter(|line| line.contains(&run))
            .map(ToOwned::to_owned)
            .collect();
        mounts.sort();
        Traces {
            files,
            mounts,
            reserved: reserved(),
            programs: programs(arena),
        }
    }

    /// What there is before anything was attached: only what a test put in the way.
    pub(crate) fn nothing() -> Traces {
        Traces {
            files: Vec::new(),
            mounts: Vec::new(),
            reserved: String::new(),
            programs: Vec::new(),
        }
    }
}

/// Without its pin a link goes a moment later, when the kernel gets to it.
fn programs(arena: &Arena) -> Vec<u32> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let programs = programs_on(arena.cgroup()).expect("programs");
        let pinned = arena.run().path().join("bpf/links").exists();
        if programs.is_empty() || pinned || Instant::now() > deadline {
            return programs;
        }
        std::thread::yield_now();
    }
}

fn list(path: &Path, files: &mut Vec<String>) {
    if fs::symlink_metadata(path).is_err() {
        return;
    }
    // The lock is of no consequence, and the number of a program says nothing.
    if path.file_name().is_none_or(|name| name != "lock") {
        files.push(path.display().to_string());
    }
    let mut entries: Vec<_> = fs::read_dir(path).into_iter().flatten().flatten().collect();
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        list(&entry.path(), files);
    }
}

pub(crate) fn reserved() -> String {
    // The kernel answers only what fits the first read.
    let mut text = vec![0; 256 * 1024];
    let read = fs::File::open(RESERVED).and_then(|mut file| file.read(&mut text));
    text.truncate(read.expect("read the sysctl"));
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// An owner of ports 20000 to 20003 by token 7, with a socket `a` associated and unbound.
pub(crate) fn owner() -> Actor {
    let mut owner = Actor::start(ACTOR);
    owner
        .ask_all(&[
            "socket o tcp4",
            "acquire o 20000 4 7",
            "socket a tcp4",
            "associate a 7",
        ])
        .expect("acquire and associate");
    owner
}

pub(crate) fn assert_refused(port: u16) {
    let mut stranger = Actor::start_as(ACTOR, STRANGER);
    stranger.ask("socket s tcp4").expect("socket");
    assert_eq!(
        stranger.ask(&format!("bind s 127.0.0.1:{port}")),
        Err(Errno::ACCES),
        "a stranger's bind of port {port}"
    );
}

pub(crate) fn assert_let_through(port: u16) {
    let mut stranger = Actor::start_as(ACTOR, STRANGER);
    stranger.ask("socket s tcp4").expect("socket");
    stranger
        .ask(&format!("bind s 127.0.0.1:{port}"))
        .expect("bind of a free port");
}

/// Runs a command of the set-up.
pub(crate) fn run(command: &[&str]) {
    let status = Command::new(command[0]).args(&command[1..]).status();
    let status = status.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

/// The arena's run directory and cgroup, as the actor's orders name them.
pub(crate) fn words(arena: &Arena) -> (String, String) {
    (
        arena.run().path().display().to_string(),
        arena.cgroup().display().to_string(),
    )
}
