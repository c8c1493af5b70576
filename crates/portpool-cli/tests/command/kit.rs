//! What the tests share: the real command, in the foreground and in the background.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::PathBuf,
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// As whom the command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// As the tests do.
    Me,
    /// A user without any privilege.
    Nobody,
}

impl Who {
    /// Both, if the tests run as root; if not, both are the same.
    pub(crate) fn all() -> Vec<Who> {
        match rustix::process::geteuid().is_root() {
            true => vec![Who::Me, Who::Nobody],
            false => vec![Who::Me],
        }
    }
}

impl Who {
    /// Whether it lacks CAP_NET_RAW and all the others.
    pub(crate) fn is_unprivileged(self) -> bool {
        self == Who::Nobody || !rustix::process::geteuid().is_root()
    }
}

/// A command for somebody, with a runtime directory that goes with this value.
pub(crate) struct Stage {
    who: Who,
    dir: TempDir,
}

impl Stage {
    pub(crate) fn new(who: Who) -> Stage {
        let dir = tempfile::tempdir().expect("temporary directory");
        let stage = Stage { who, dir };
        fs::set_permissions(stage.dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        // Where it was built may be closed to others. Not copied by ourselves: a child of another
        // test would keep the copy open for writing, and then it cannot be run.
        let copy = Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_portpool"))
            .arg(stage.program())
            .status();
        assert!(copy.expect("run cp").success());
        fs::create_dir(stage.runtime()).expect("mkdir");
        if who == Who::Nobody {
            let (uid, gid) = (Some(NOBODY), Some(NOBODY));
            std::os::unix::fs::chown(stage.runtime(), uid, gid).expect("chown");
        }
        stage
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.dir.path().join("portpool")
    }

    pub(crate) fn runtime(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// The command on the embedded pool, with the words of a line as its arguments.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = self.as_who(&self.program());
        command.args(line.split_whitespace()).stdin(Stdio::piped());
        command.env("PORTPOOL_POOL", "embedded");
        command
    }

    pub(crate) fn portpool(&self, line: &str) -> Output {
        let mut command = self.command(line);
        command.stdin(Stdio::null()).output().expect("run portpool")
    }

    pub(crate) fn json(&self, line: &str) -> Value {
        json(&self.portpool(line))
    }

    pub(crate) fn start(&self, line: &str) -> Running {
        Running::spawn(&mut self.command(line))
    }

    /// Any program as this user.
    pub(crate) fn as_who(&self, program: &std::path::Path) -> Command {
        let mut command = Command::new(program);
        if self.who == Who::Nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.env("XDG_RUNTIME_DIR", self.runtime());
        command
    }
}

const NOBODY: u32 = 65534;

/// A portpool in the background, with pipes to it. Its stdin is open until [`Running::end`].
pub(crate) struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn start(line: &str) -> Running {
        Running::spawn(&mut command(line))
    }

    pub(crate) fn spawn(command: &mut Command) -> Running {
        // A group of its own: a signal for it is for nobody else.
        command.process_group(0).stdout(Stdio::piped());
        let mut child = command.spawn().expect("start portpool");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        Running { child, stdout }
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("read");
        line.trim_end().to_owned()
    }

    pub(crate) fn stdin(&mut self) -> &mut impl Write {
        self.child.stdin.as_mut().expect("a pipe")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("kill");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait")
    }

    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.child.wait().expect("wait").code()
    }

    /// Closes its stdin, and gives what it wrote to a stderr that is a pipe.
    pub(crate) fn end_with_stderr(mut self) -> String {
        drop(self.child.stdin.take());
        let mut text = String::new();
        let mut stderr = self.child.stderr.take().expect("a pipe");
        stderr.read_to_string(&mut text).expect("read");
        text
    }

    /// Closes its stdin and waits for it.
    pub(crate) fn end(&mut self) -> Option<i32> {
        drop(self.child.stdin.take());
        self.wait()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The command with the words of a line as its arguments.
pub(crate) fn command(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portpool"));
    command.args(line.split_whitespace()).stdin(Stdio::piped());
    command
}

pub(crate) fn portpool(line: &str) -> Output {
    command(line)
        .stdin(Stdio::null())
        .output()
        .expect("run portpool")
}

pub(crate) fn reservations() -> Vec<Value> {
    let listed = json(&portpool("reservations --json"));
    listed.as_array().expect("an array").clone()
}

pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Gone, or dead and not reaped yet.
pub(crate) fn is_gone(pid: &str) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    }
}

pub(crate) fn until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long");
        #[expect(
            clippy::disallowed_methods,
            reason = "polls a condition, with a deadline"
        )]
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
