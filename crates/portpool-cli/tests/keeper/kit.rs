//! A keeper that was started, and who talks to it.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use portpool_testkit::Arena;
use portpool_varlink::{Client, calls::Describe};
use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything takes on a busy machine; only what hangs takes that long.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A keeper; killed with this value.
pub(crate) struct Keeper {
    child: Child,
    socket: PathBuf,
    log: Arc<Mutex<String>>,
}

impl Keeper {
    /// Starts one in the arena and waits until it serves.
    pub(crate) fn start(arena: &Arena) -> Keeper {
        Keeper::start_with(arena, &[], &[])
    }

    /// The same, with options and environment.
    pub(crate) fn start_with(
        arena: &Arena,
        options: &[&str],
        environment: &[(&str, &str)],
    ) -> Keeper {
        let mut keeper = Keeper::spawn(arena, options, environment);
        until("the keeper serves", || {
            if let Ok(Some(status)) = keeper.child.try_wait() {
                panic!("the keeper ended: {status}\n{}", keeper.log());
            }
            // It listens before it has put in order what the one before has left.
            Client::connect(&keeper.socket, LONG)
                .is_ok_and(|mut client| client.call(&Describe {}, Some(LONG)).is_ok())
        });
        keeper
    }

    /// Starts one and does not wait.
    pub(crate) fn spawn(arena: &Arena, options: &[&str], environment: &[(&str, &str)]) -> Keeper {
        Keeper::spawn_by(Command::new("env"), arena, options, environment)
    }

    /// The same, by a command that ends in running its arguments.
    pub(crate) fn spawn_by(
        mut command: Command,
        arena: &Arena,
        options: &[&str],
        environment: &[(&str, &str)],
    ) -> Keeper {
        let mut child = command
            .arg(env!("CARGO_BIN_EXE_portpool"))
            .args(["keeper", "--private-mounts", "--cgroup"])
            .arg(arena.cgroup())
            .args(options)
            .envs(environment.iter().copied())
            .env("PORTPOOL_STATE_DIR", state_dir(arena))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the keeper");
        let log = Arc::new(Mutex::new(String::new()));
        let mut stderr = child.stderr.take().expect("piped");
        let lines = Arc::clone(&log);
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(size @ 1..) = stderr.read(&mut chunk) {
                let text = String::from_utf8_lossy(&chunk[..size]);
                lines.lock().expect("log").push_str(&text);
            }
        });
        Keeper {
            child,
            socket: socket_of(arena),
            log,
        }
    }

    /// A client of its own connection.
    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.socket, LONG).expect("connect to the keeper")
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// What it has written to stderr.
    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("log").clone()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("SIGTERM");
        self.wait()
    }

    /// kill -9, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        drop(self.child.kill());
        self.wait();
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("the keeper ends", || {
            status = self.child.try_wait().expect("wait");
            status.is_some()
        });
        status.expect("it has ended")
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            eprintln!("the keeper said:\n{}", self.log());
        }
    }
}

pub(crate) fn socket_of(arena: &Arena) -> PathBuf {
    arena.run().path().join("keeper.sock")
}

/// Beside the run directory, and removed with it.
pub(crate) fn state_dir(arena: &Arena) -> PathBuf {
    arena.run().path().with_file_name("state")
}

/// Waits for a condition.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long: {what}");
        #[expect(
            clippy::disallowed_methods,
            reason = "polls a condition, with a deadline"
        )]
        thread::sleep(Duration::from_millis(5));
    }
}

/// Sets where automatic choice picks from, in this network namespace.
pub(crate) fn set_ephemeral(range: &str) {
    let text = range.replace('-', " ");
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", text).expect("ip_local_port_range");
}

/// What is kept from automatic choice.
pub(crate) fn reserved_ports() -> portpool::RangeSet {
    // In one go: the kernel answers the first read of a list of ports, and nothing to the second.
    let mut text = vec![0; 64 * 1024];
    let file = fs::File::open("/proc/sys/net/ipv4/ip_local_reserved_ports");
    let size = file
        .and_then(|mut file| file.read(&mut text))
        .expect("sysctl");
    let text = String::from_utf8_lossy(&text[..size]);
    text.trim().parse().expect("ranges")
}
