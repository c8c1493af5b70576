//! Children: tied to their parent, given a socket, watched.

use std::{
    io::{self, Read},
    net::TcpListener,
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
    thread,
};

use portpool::process;

#[test]
fn a_tethered_child_dies_with_the_thread_that_spawned_it() {
    let spawner = thread::spawn(|| process::spawn_tethered(Command::new("sleep").arg("60")));
    let mut child = spawner.join().expect("join").expect("spawn");
    assert_eq!(child.wait().expect("wait").signal(), Some(9));
}

#[test]
fn a_passed_socket_is_open_in_its_own_child_only() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let mut command = Command::new("sh");
    let number = process::pass_socket(&mut command, listener);
    let seen = |command: &mut Command| {
        let script = format!("test -S /proc/self/fd/{number} && echo yes || echo no");
        command.args(["-c", &script]).stdout(Stdio::piped());
        let mut child = command.spawn().expect("spawn");
        let mut text = String::new();
        let output = child.stdout.as_mut().expect("stdout");
        output.read_to_string(&mut text).expect("read");
        child.wait().expect("wait");
        text
    };
    assert_eq!(seen(&mut command), "yes\n");
    assert_eq!(seen(&mut Command::new("sh")), "no\n");
}

#[test]
fn a_process_that_is_not_there_cannot_be_watched() {
    let mut child = Command::new("true").spawn().expect("spawn");
    let id = child.id();
    child.wait().expect("wait");
    let error = process::watch(id).expect_err("it is gone");
    assert_eq!(error.raw_os_error(), Some(3), "{error}");
    assert_eq!(
        process::watch(0)
            .map(drop)
            .map_err(|error: io::Error| error.raw_os_error()),
        Err(Some(3))
    );
}
