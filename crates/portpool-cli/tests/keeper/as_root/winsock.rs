//! C programs of the Winsock library, which ask the keeper itself.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use portpool_testkit::{Arena, Size, in_arena};
use portpool_varlink::calls::Describe;
// Built along with this test, as the library that C programs load.
use portpool_winsock as _;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::kit::{Keeper, LONG, reserved_ports, until};

#[test]
fn the_six_functions_ask_the_keeper_and_refuse_who_is_no_administrator() {
    in_arena!(|arena: &Arena| {
        let program = Program::build();
        let before = reserved_ports();
        let _keeper = Keeper::start_with(arena, &["--group", "7001"], &[]);
        succeed(&mut program.part("administrator"));
        succeed(program.part("stranger").uid(65_534).gid(65_534));
        succeed(program.part("member").uid(65_534).gid(7001));
        assert!(arena.pool().reservations().unwrap().is_empty());
        assert_eq!(reserved_ports(), before);
    });
}

#[test]
fn an_overlapped_acquire_is_pending_until_the_keeper_grants_it() {
    in_arena!(|arena: &Arena| {
        let program = Program::build();
        let before = reserved_ports();
        let keeper = Keeper::start(arena);
        succeed(&mut program.part("pending"));
        succeed(program.part("pending").uid(65_534).gid(65_534));
        nothing_is_left(arena, &keeper, &before);
    });
}

#[test]
fn a_socket_closed_under_a_pending_acquire_leaves_nothing_with_the_keeper() {
    in_arena!(|arena: &Arena| {
        let program = Program::build();
        let before = reserved_ports();
        let keeper = Keeper::start(arena);
        let still = Still::hold(&keeper);
        let mut child = program
            .part("closed")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        drop(still);
        assert_eq!(line, "closed\n");
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        line.clear();
        said.read_line(&mut line).unwrap();
        assert!(child.wait().unwrap().success(), "{line}");
        nothing_is_left(arena, &keeper, &before);
        let rounds = Size::asked().pick(8, 200).to_string();
        succeed(program.part("race").env("ROUND_COUNT", rounds));
        nothing_is_left(arena, &keeper, &before);
    });
}

fn nothing_is_left(arena: &Arena, keeper: &Keeper, before: &portpool::RangeSet) {
    until("everything is given back", || {
        let description = keeper.client().call(&Describe {}, Some(LONG)).unwrap();
        description.windows == 0 && reserved_ports() == *before
    });
    assert!(arena.pool().reservations().unwrap().is_empty());
}

/// A keeper that does nothing for as long as this value lives.
struct Still(Pid);

impl Still {
    fn hold(keeper: &Keeper) -> Still {
        let pid = Pid::from_raw(keeper.pid().cast_signed()).expect("a pid");
        kill_process(pid, Signal::STOP).expect("SIGSTOP");
        Still(pid)
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        kill_process(self.0, Signal::CONT).expect("SIGCONT");
    }
}

/// The built program; its file goes with it.
struct Program(TempDir);

impl Program {
    fn build() -> Program {
        let folder = TempDir::new().expect("temporary directory");
        // Other users start it too.
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), everybody).expect("let others in");
        let crate_of_it = Path::new(env!("CARGO_MANIFEST_DIR")).join("../portpool-winsock");
        let mut compiler = Command::new("cc");
        compiler
            .args(["-Wall", "-Wextra", "-Werror", "-I"])
            .arg(crate_of_it.join("include"))
            .arg(crate_of_it.join("tests/programs/c/beside.c"))
            .arg("-L")
            .arg(library_directory())
            .args(["-lportpool_winsock", "-pthread", "-o"])
            .arg(folder.path().join("program"));
        succeed(&mut compiler);
        Program(folder)
    }

    fn part(&self, name: &str) -> Command {
        let mut command = Command::new(self.0.path().join("program"));
        command
            .arg(name)
            .env("LD_LIBRARY_PATH", library_directory());
        command
    }
}

/// Where cargo puts the library when it builds this test.
fn library_directory() -> PathBuf {
    let program = env::current_exe().expect("own path");
    let directory = program.parent().expect("a directory").to_owned();
    let library = directory.join("libportpool_winsock.so");
    assert!(library.exists(), "no {}", library.display());
    directory
}

fn succeed(command: &mut Command) {
    let output = command.output().expect("run");
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{command:?}: {said}");
}
