//! How ports get to the program: passed as sockets, within a run inside a run, and with few descriptors.

use std::{
    io::Write,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::Stdio,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    embedded::assert_taken,
    kit::{Running, Stage, Who, stderr, stdout, until},
};

#[test]
fn a_program_takes_the_sockets_that_it_is_passed_in_its_own_process() {
    for who in Who::all() {
        passes_sockets(&Stage::new(who), "embedded");
    }
}

#[test]
fn a_run_inside_a_run_has_ports_of_its_own() {
    // The outer program: it starts an inner run, and then tries to bind what it says.
    let outer = r#"
import os, socket, subprocess, sys
inner = "import os, socket, sys; s = socket.create_server(('127.0.0.1', int(os.environ['PORT'])));" \
        "print(os.environ['PORT'], os.getpid(), os.getppid(), flush=True); sys.stdin.readline()"
line = [os.environ['PORTPOOL'], 'run', '-t', '1', '--explain=json', '--', sys.executable, '-c', inner]
run = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
port, program, supervisor = run.stdout.readline().split()
def bind(port):
    try:
        s = socket.create_server(('127.0.0.1', int(port)))
    except OSError as error:
        return os.strerror(error.errno)
    return 'bound'
print(port, supervisor, bind(port), bind(os.environ['PORT']), sep=',', flush=True)
if sys.stdin.readline() == 'end\n':
    run.stdin.close()
print(run.wait(), flush=True)
sys.stdin.readline()
"#;
    for who in Who::all() {
        for order in ["end", "kill"] {
            let stage = Stage::new(who);
            let mut command = stage.command("run -t 1 --explain=json -- python3 -c");
            command.arg(outer).env("PORTPOOL", stage.program());
            let mut run = Running::spawn(command.stderr(Stdio::piped()));
            let line = run.line();
            let words: [&str; 4] = line.split(',').collect::<Vec<_>>().try_into().expect(&line);
            let [port, supervisor, stranger, own] = words;
            // Of the same tree, but not of the inner one.
            assert_eq!((stranger, own), ("Address already in use", "bound"));
            let port: u16 = port.parse().expect("a port");
            assert_taken(TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
            let listed = stage.json("reservations --json");
            assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
            let status = match order {
                "end" => "0",
                _ => {
                    let supervisor = supervisor.parse().ok().and_then(Pid::from_raw);
                    kill_process(supervisor.expect("a process id"), Signal::KILL).expect("kill");
                    "-9"
                }
            };
            writeln!(run.stdin(), "{order}").expect("write");
            assert_eq!(run.line(), status);
            match order {
                "end" => drop(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("free")),
                // The outer one lets go of it once it sees that the inner one is gone.
                _ => until(|| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()),
            }
            let report = run.end_with_stderr();
            let lines: Vec<&str> = report.lines().collect();
            let reports = if order == "end" { 2 } else { 1 };
            assert_eq!(lines.len(), reports, "{report}");
            let inner: serde_json::Value = serde_json::from_str(lines[0]).expect("JSON");
            assert_eq!(inner["ports"][0]["uses"][0]["gap_free"], true, "{report}");
        }
    }
}

#[test]
fn a_run_inside_a_run_may_bind_the_outer_ports_but_not_reserve_them() {
    let stage = Stage::new(Who::Me);
    let script = "\"$PORTPOOL\" run -p {port} -- true; echo $?; \
                  env PORTPOOL_SUPERVISED=lost \"$PORTPOOL\" run -t 1 -- true; echo $?";
    let mut command = stage.command("run -t 1 -- sh -c");
    let output = command
        .arg(script)
        .env("PORTPOOL", stage.program())
        .output();
    let output = output.expect("run");
    assert_eq!(stdout(&output), "1\n1\n");
    let message = stderr(&output);
    assert!(
        message.contains("one of the portpool around this program"),
        "{message}"
    );
    assert!(
        message.contains("cannot be reached") && message.contains("--fd"),
        "{message}"
    );
}

#[test]
fn too_few_descriptors_are_told_before_anything_runs() {
    for who in Who::all() {
        let stage = Stage::new(who);
        let mut command = stage.as_who(Path::new("bash"));
        let output = command
            .args(["-c", "ulimit -n 100; exec \"$0\" run -t 200 -- true"])
            .arg(stage.program())
            .env("PORTPOOL_POOL", "embedded")
            .output()
            .expect("run");
        assert_eq!(output.status.code(), Some(1));
        assert!(
            stderr(&output).contains("ulimit -Hn"),
            "{}",
            stderr(&output)
        );
        // Too many for every one of them to have twins, and still all can be bound.
        let script = "import socket\n\
                      s = [socket.create_server(('127.0.0.1', {port} + i)) for i in range(30)]\n\
                      print(len(s))";
        let mut command = stage.as_who(Path::new("bash"));
        let output = command
            .args([
                "-c",
                "ulimit -n 100; exec \"$0\" run -t 30 -- python3 -c \"$1\"",
            ])
            .arg(stage.program())
            .arg(script)
            .env("PORTPOOL_POOL", "embedded")
            .output()
            .expect("run");
        assert_eq!(stdout(&output).trim_end(), "30", "{}", stderr(&output));
    }
}

/// Both transports, listening and bound, from a pool of this kind.
pub(crate) fn passes_sockets(stage: &Stage, pool: &str) {
    let script = "import os, socket\n\
                  t, u = socket.socket(fileno=3), socket.socket(fileno=4)\n\
                  print(os.environ['LISTEN_PID'] == str(os.getpid()), os.getpid(),\n\
                        os.environ['LISTEN_FDS'], os.environ['LISTEN_FDNAMES'],\n\
                        t.getsockname()[1], u.getsockname()[1], os.environ['PORTPOOL_UDP'],\n\
                        t.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN), flush=True)\n\
                  os.read(0, 1)";
    for (state, listens) in [
        ("", "1"),
        ("--fd-state bound", "0"),
        ("--fd-state listening", "1"),
    ] {
        let line = format!("run -t 1 -u 1 --fd {state} -- python3 -c");
        let mut command = stage.command(&line);
        let mut run = Running::spawn(command.arg(script).env("PORTPOOL_POOL", pool));
        let line = run.line();
        let words: [&str; 8] = line.split(' ').collect::<Vec<_>>().try_into().expect(&line);
        let [is_own, pid, count, names, tcp, udp, variable, state] = words;
        assert_eq!((is_own, count, state), ("True", "2", listens));
        assert_eq!(pid, run.pid().to_string(), "in place");
        assert_eq!(names, format!("tcp-{tcp}:udp-{udp}"));
        assert_eq!(variable, udp);
        let port: u16 = tcp.parse().expect("a port");
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err());
        assert_eq!(run.end(), Some(0));
        drop(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("free again"));
    }
}
