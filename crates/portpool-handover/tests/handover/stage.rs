//! A supervisor with a program under it, and everything they leave behind.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, getuid, kill_process, kill_process_group};
use tempfile::TempDir;

/// Who runs the supervisor and its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Whoever runs the tests.
    Me,
    /// Somebody without capabilities: uid 65534 if the tests are run by root.
    Nobody,
    /// Uid 65534 with `CAP_NET_RAW` and nothing else; root only.
    NetRaw,
}

impl Who {
    /// A command of this program, run by them.
    pub(crate) fn command(self, program: &Path) -> Command {
        let is_root = getuid().is_root();
        let extra: &[&str] = match self {
            Who::Nobody if is_root => &["--inh-caps=-all", "--bounding-set=-all"],
            Who::NetRaw => &["--inh-caps=-all,+net_raw", "--ambient-caps=+net_raw"],
            Who::Me | Who::Nobody => return Command::new(program),
        };
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.args(extra).arg(program);
        command
    }
}

/// A directory that everybody can reach, with the programs of these tests in it.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) who: Who,
    dir: TempDir,
}

impl Stage {
    pub(crate) fn new(who: Who) -> Stage {
        let dir = TempDir::new().expect("a directory");
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(dir.path(), open).expect("open the directory");
        // Not by ourselves: a child of another test would keep the copy open for writing, and then it
        // cannot be run.
        let mut copy = Command::new("cp");
        copy.arg(env!("CARGO_BIN_EXE_supervise"));
        copy.args(["actor", "actor-static"].map(|name| compiled().join(name)));
        assert!(copy.arg(dir.path()).status().expect("run cp").success());
        Stage { who, dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn actor(&self) -> String {
        self.dir.path().join("actor").display().to_string()
    }

    /// Runs a program with ports: `tcp`, `udp` and options in `held`.
    pub(crate) fn run(&self, held: &[&str], program: &[&str]) -> Run {
        let mut command = self.who.command(&self.dir.path().join("supervise"));
        command.args(held).arg("--").args(program);
        Run::start(command.current_dir(self.dir.path()))
    }

    /// Runs an act of the actor with ports to its end.
    pub(crate) fn act(&self, held: &[&str], act: &[&str]) -> Report {
        let actor = self.actor();
        let program: Vec<&str> = [actor.as_str()].iter().chain(act).copied().collect();
        self.run(held, &program).end()
    }
}

/// A running supervisor.
#[derive(Debug)]
pub(crate) struct Run {
    child: Child,
    pub(crate) ports: Vec<u16>,
    pub(crate) program: Pid,
    pub(crate) stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
}

impl Run {
    fn start(command: &mut Command) -> Run {
        command.process_group(0).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("spawn");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let ports = after(&mut stderr, "ports ");
        let ports = ports.split(' ').map(|it| it.parse().expect("a port"));
        let ports = ports.collect();
        let program: i32 = after(&mut stderr, "pid ").parse().expect("a process id");
        Run {
            child,
            ports,
            program: Pid::from_raw(program).expect("a process id"),
            stdin,
            stdout,
            stderr,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.ports[0]
    }

    /// The next line of the program.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("read");
        line.trim_end().to_owned()
    }

    pub(crate) fn tell(&mut self) {
        self.write("\n");
    }

    /// Has the shell of a program of the table obey.
    pub(crate) fn order(&mut self, order: &str) {
        self.write(&format!("{order}\n"));
        assert_ne!(self.line(), "", "{order}: no answer");
    }

    fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("standard input");
        stdin.write_all(text.as_bytes()).expect("write");
    }

    pub(crate) fn stop_program(&mut self, signal: Signal) {
        kill_process(self.program, signal).expect("kill");
    }

    pub(crate) fn kill_supervisor(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// What the first process says from here on, for a supervisor that is gone.
    pub(crate) fn rest(&mut self) -> String {
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).expect("read");
        text
    }

    /// Waits for the end of everything.
    pub(crate) fn end(mut self) -> Report {
        drop(self.stdin.take());
        let mut stdout = String::new();
        let mut stderr = String::new();
        self.stdout.read_to_string(&mut stdout).expect("read");
        self.stderr.read_to_string(&mut stderr).expect("read");
        let code = self.child.wait().expect("wait").code();
        Report::new(self.ports.clone(), stdout, stderr, code)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        // Everything has ended, unless a test failed.
        let _ = kill_process_group(Pid::from_raw(id).expect("a process id"), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// What was seen of a run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) ports: Vec<u16>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: Option<i32>,
}

impl Report {
    fn new(ports: Vec<u16>, stdout: String, stderr: String, code: Option<i32>) -> Report {
        Report {
            ports,
            stdout,
            stderr,
            code,
        }
    }

    /// The ways of the first port, in order.
    pub(crate) fn ways(&self) -> Vec<&str> {
        let port = self.ports[0].to_string();
        let lines = self
            .stderr
            .lines()
            .filter_map(|it| it.strip_prefix("used "));
        let words = lines.map(|line| line.split(' ').collect::<Vec<_>>());
        let ours = words.filter(|words| words[1] == port);
        ours.map(|words| words[2]).collect()
    }

    /// The number after a word that the supervisor or the program said.
    pub(crate) fn number(&self, word: &str) -> u64 {
        let text = format!("{}\n{}", self.stdout, self.stderr);
        let mut words = text.split_whitespace().skip_while(|it| *it != word);
        let number = words.nth(1).and_then(|it| it.parse().ok());
        number.unwrap_or_else(|| panic!("no {word} in {text}"))
    }
}

/// A process that spins on a port until it is told to end.
#[derive(Debug)]
pub(crate) struct Adversary(Child);

impl Adversary {
    pub(crate) fn start(
        stage: &Stage,
        who: Who,
        port: u16,
        transport: &str,
        flags: u32,
    ) -> Adversary {
        let mut command = who.command(&stage.path().join("actor"));
        command.args(["spin", &port.to_string(), transport, &flags.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("spawn");
        let mut line = [0; 9];
        let stdout = child.stdout.as_mut().expect("a pipe");
        stdout.read_exact(&mut line).expect("it spins");
        Adversary(child)
    }

    /// How often it tried, bound and listened.
    pub(crate) fn end(mut self) -> (u64, u64, u64) {
        drop(self.0.stdin.take());
        let mut text = String::new();
        let stdout = self.0.stdout.as_mut().expect("a pipe");
        stdout.read_to_string(&mut text).expect("read");
        let words: Vec<&str> = text.split_whitespace().collect();
        let number = |at: usize| words[at].parse().expect("a number");
        (number(1), number(3), number(5))
    }
}

impl Drop for Adversary {
    fn drop(&mut self) {
        // It has ended, unless a test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until a condition holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::yield_now();
    }
}

/// What a web server on the port answers, once it does.
pub(crate) fn page(address: SocketAddr) -> String {
    let mut answer = String::new();
    until("a page", || {
        answer.clear();
        let Ok(mut stream) = TcpStream::connect(address) else {
            return false;
        };
        let asked = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
        asked
            .and_then(|()| stream.read_to_string(&mut answer))
            .is_ok()
            && !answer.is_empty()
    });
    answer
}

/// Whether a program is installed; tests of those that are not say so.
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|it| it.join(program).exists());
    assert!(
        found || std::env::var_os("CI").is_none_or(|it| it != "true"),
        "{program} is not installed; scripts/setup does it"
    );
    if !found {
        println!("left out: {program} is not installed");
    }
    found
}

fn compiled() -> &'static Path {
    static COMPILED: OnceLock<PathBuf> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("handover");
        fs::create_dir_all(&dir).expect("a directory");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/handover/actor.c");
        for (name, extra) in [("actor", "-Wall"), ("actor-static", "-static")] {
            let mut compiler = Command::new("cc");
            compiler.args(["-O1", "-pthread", extra, source, "-o"]);
            let done = compiler.arg(dir.join(name)).status().expect("run cc");
            assert!(done.success(), "cc failed");
        }
        dir
    })
}

fn after(reader: &mut impl BufRead, start: &str) -> String {
    let mut seen = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("read");
        if let Some(rest) = line.strip_prefix(start) {
            return rest.trim_end().to_owned();
        }
        seen.push_str(&line);
        assert!(!line.is_empty(), "no {start:?} in {seen}");
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
