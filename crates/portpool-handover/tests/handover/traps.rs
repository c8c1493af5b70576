//! What went wrong, or would have, with a supervisor that is less careful.

use std::process::Command;

use portpool_core::{Port, Transport};
use portpool_handover::{Error, Guard, Options, Technique, spawn};
use rustix::process::test_kill_process;

use crate::stage::{Stage, Who, until};

#[test]
fn signals_do_not_repeat_a_bind() {
    // Without WAIT_KILLABLE_RECV 463 of 3,000 binds were made twice, and failed the second time.
    let stage = Stage::new(Who::Nobody);
    let report = stage.act(
        &["tcp"],
        &["signals", "127.0.0.1", "{1}", "3000", "restart"],
    );
    assert_eq!(report.number("bind-failures"), 0, "{report:?}");
    assert_eq!(report.number("listen-failures"), 0, "{report:?}");
}

#[test]
fn a_bind_that_a_signal_interrupted_was_not_made() {
    // Handlers without SA_RESTART may see EINTR, which no bind and listen alone answers. A program that
    // tries again gets its port, and one that does not has nothing.
    let stage = Stage::new(Who::Nobody);
    for ip in ["127.0.0.1", "0.0.0.0"] {
        let report = stage.act(&["tcp"], &["signals", ip, "{1}", "3000", "interrupt"]);
        println!("{ip}: interrupted {}", report.number("interrupted"));
        assert_eq!(report.number("bind-failures"), 0, "{report:?}");
        assert_eq!(report.number("listen-failures"), 0, "{report:?}");
        assert_eq!(report.number("made"), 0, "{report:?}");
    }
}

#[test]
fn a_program_killed_in_the_middle_of_its_calls_harms_no_other() {
    let stage = Stage::new(Who::Nobody);
    for ip in ["127.0.0.1", "0.0.0.0"] {
        let report = stage.act(&["tcp"], &["killed", ip, "{1}", "200"]);
        assert_eq!(report.code, Some(0), "{report:?}");
        assert_eq!(report.number("bind-failures"), 0, "{report:?}");
        assert_eq!(report.number("held"), 1, "{report:?}");
    }
}

#[test]
fn strange_calls_get_the_answers_of_the_kernel() {
    // 192.0.2.1 is nobody's address.
    let stage = Stage::new(Who::Nobody);
    let report = stage.act(&["tcp", "udp"], &["strange", "{1}", "192.0.2.1"]);
    assert_eq!(report.code, Some(0), "{report:?}");
    let mut alone = Who::Nobody.command(&stage.path().join("actor"));
    alone.args(["strange", &report.ports[0].to_string(), "192.0.2.1"]);
    let alone = alone.output().expect("run");
    assert_eq!(report.stdout, String::from_utf8_lossy(&alone.stdout));
}

#[test]
fn an_address_that_changes_under_the_call_opens_no_other_port() {
    let held = Guard::hold_any(Transport::Tcp).expect("hold");
    let foreign = held.port().to_string();
    let stage = Stage::new(Who::Nobody);
    let report = stage.act(&["tcp"], &["race", "{1}", &foreign, "3000"]);
    assert_eq!(report.stdout, "right 1 wrong 0\n", "{report:?}");
}

#[test]
fn without_its_supervisor_a_program_gets_enosys() {
    let stage = Stage::new(Who::Nobody);
    let mut run = stage.run(&["tcp"], &[&stage.actor(), "late", "127.0.0.1", "{1}"]);
    assert_eq!(run.line(), "ready");
    run.kill_supervisor();
    run.tell();
    assert_eq!(run.line(), "bind ENOSYS");
    assert_eq!(run.rest(), "listen ENOSYS\n");
}

#[test]
fn a_daemon_is_served_until_it_ends() {
    let stage = Stage::new(Who::Nobody);
    let mut run = stage.run(&["tcp"], &[&stage.actor(), "daemon", "127.0.0.1", "{1}"]);
    assert_eq!(run.line(), "ready");
    // Whoever waits for the program has seen its end.
    until("the program has ended", || {
        test_kill_process(run.program).is_err()
    });
    run.tell();
    assert_eq!([run.line(), run.line()], ["bind ok", "listen ok"]);
    let report = run.end();
    assert_eq!(report.ways(), ["pin"]);
    assert!(report.stderr.starts_with("ended"), "{report:?}");
}

#[test]
fn static_programs_and_scripts_are_served() {
    let stage = Stage::new(Who::Nobody);
    let actor = stage.path().join("actor-static");
    let script = format!("({} serve 127.0.0.1 {{1}} plain)", actor.display());
    let report = stage.run(&["tcp"], &["sh", "-c", &script]).end();
    assert_eq!(report.number("reached"), 1, "{report:?}");
    assert_eq!(report.ways(), ["pin"]);
}

#[test]
fn another_network_namespace_is_none_of_our_business() {
    let stage = Stage::new(Who::Nobody);
    let report = stage.act(&["tcp"], &["elsewhere", "{1}"]);
    if report.stdout.starts_with("unshare") {
        println!("left out: no user namespaces here");
        return;
    }
    assert_eq!(report.stdout, "bind ok\nlisten ok\n", "{report:?}");
    assert_eq!(report.ways(), [""; 0]);
}

#[test]
fn a_program_that_is_closed_to_others_is_refused_and_counted() {
    let stage = Stage::new(Who::Nobody);
    let report = stage.act(&["tcp"], &["closed", "{1}"]);
    assert_eq!(report.stdout, "bind EADDRINUSE\n", "{report:?}");
    assert_eq!(report.number("closed"), 1);
}

#[test]
fn a_supervisor_under_another_has_its_ports_served_by_that() {
    for who in [Who::Nobody, Who::Me] {
        let stage = Stage::new(who);
        let inner = stage.path().join("supervise").display().to_string();
        let server = format!("{} serve 127.0.0.1 $PORTPOOL_PORTS plain", stage.actor());
        let script = format!("{inner} tcp -- sh -c '{server}'");
        // By default the inner one would be given the port of the outer one when it asks for any.
        let held = ["--zero", "kernel", "tcp"];
        let report = stage.run(&held, &["sh", "-c", &script]).end();
        assert_eq!(report.number("reached"), 1, "{report:?}");
        let own_port = report.ports[0].to_string();
        let uses = report
            .stderr
            .lines()
            .filter(|line| line.starts_with("used tcp "));
        let uses: Vec<&str> = uses.collect();
        assert_eq!(uses.len(), 1, "{report:?}");
        assert!(!uses[0].contains(&own_port), "{report:?}");
        // The outer one still has its own.
        assert!(report.stderr.ends_with("held 1\n"), "{report:?}");
    }
}

#[test]
fn a_supervisor_that_cannot_ask_the_one_around_it_says_so() {
    let stage = Stage::new(Who::Nobody);
    let inner = stage.path().join("supervise").display().to_string();
    let lost = [
        "env",
        "PORTPOOL_SUPERVISED=nobody",
        &inner,
        "tcp",
        "--",
        "true",
    ];
    let report = stage.run(&["tcp"], &lost).end();
    assert_eq!(report.code, Some(125));
    assert!(
        report.stderr.contains("runs under portpool already"),
        "{report:?}"
    );
    // With the variable taken away it is found out by the kernel.
    let clean = [
        "env",
        "-u",
        "PORTPOOL_SUPERVISED",
        &inner,
        "tcp",
        "--",
        "true",
    ];
    let report = stage.run(&["tcp"], &clean).end();
    assert_eq!(report.code, Some(125));
    assert!(
        report.stderr.contains("the kernel allows one listener"),
        "{report:?}"
    );
}

#[test]
fn new_privileges_are_renounced() {
    let stage = Stage::new(Who::Nobody);
    let report = stage
        .run(&["tcp"], &["grep", "NoNewPrivs", "/proc/self/status"])
        .end();
    assert_eq!(report.stdout, "NoNewPrivs:\t1\n");
}

#[test]
fn a_program_that_is_not_there_is_an_error_and_gives_the_port_back() {
    let guard = Guard::hold_any(Transport::Tcp).expect("hold");
    let port = guard.port();
    let nothing = Command::new("/nonexistent/program");
    let error = spawn(nothing, vec![guard], &Options::default()).expect_err("no program");
    assert!(matches!(error, Error::Spawn { .. }), "{error}");
    given_back(Transport::Tcp, port);
}

#[test]
fn the_guards_are_held_until_the_end_and_given_back() {
    let guard = Guard::hold_any(Transport::Udp).expect("hold");
    let port = guard.port();
    let mut command = Command::new("python3");
    let script = "import socket, sys; s = socket.socket(2, 2); s.bind(('', int(sys.argv[1])))";
    command.args(["-c", script, &port.to_string()]);
    let mut served = spawn(command, vec![guard], &Options::default()).expect("spawn");
    assert!(served.wait().expect("wait").success());
    let finished = served.finish();
    assert_eq!(finished.guards.len(), 1);
    let ways = finished
        .uses
        .iter()
        .map(|it| (it.port, it.technique, it.call_count));
    assert!(ways.eq([(port, Technique::Detour, 1)]));
    Guard::hold(Transport::Udp, port).expect_err("still held");
    drop(finished.guards);
    given_back(Transport::Udp, port);
}

mod as_root {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_setuid_program_stays_who_it_was() {
        let stage = Stage::new(Who::Nobody);
        let path = stage.path().join("id");
        fs::copy("/usr/bin/id", &path).expect("copy");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).expect("set");
        let path = path.display().to_string();
        let alone = Who::Nobody
            .command(path.as_ref())
            .arg("-u")
            .output()
            .expect("run");
        assert_eq!(alone.stdout, b"0\n", "the file system allows it");
        let report = stage.run(&["tcp"], &[&path, "-u"]).end();
        assert_eq!(report.stdout, "65534\n", "{report:?}");
    }

    #[test]
    fn a_capability_over_another_network_namespace_does_not_count() {
        // In a user namespace of its own everybody has every capability, over nothing.
        let stage = Stage::new(Who::Nobody);
        let mut command = Who::Nobody.command("unshare".as_ref());
        command.arg("-Ur").arg(stage.path().join("supervise"));
        command.args(["tcp", "--"]).arg(stage.actor());
        command.args(["serve", "0.0.0.0", "{1}", "plain"]);
        let output = command.output().expect("run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(" window 2"), "{output:?}");
    }
}

/// Children that other tests start just now have copies of the guard until they become a program.
fn given_back(transport: Transport, port: Port) {
    until("the port is free", || Guard::hold(transport, port).is_ok());
}
