//! Which way a socket takes past its guard, and that it serves afterwards.

use std::net::{Ipv4Addr, TcpListener};

use crate::stage::{Report, Stage, Who, until};

#[test]
fn a_loopback_address_is_pinned() {
    let stage = Stage::new(Who::Nobody);
    for ip in ["127.0.0.1", "127.1.2.3"] {
        let report = stage.act(&["tcp"], &["cycles", ip, "{1}", "tcp", "3"]);
        assert_eq!(report.ways(), ["pin"], "{report:?}");
        assert_eq!((failures(&report), report.number("held")), (0, 1));
    }
    for ip in ["127.0.0.1", "::ffff:127.0.0.1"] {
        let report = stage.act(&["tcp"], &["serve", ip, "{1}", "plain"]);
        assert_eq!(report.ways(), ["pin"], "{report:?}");
        assert_eq!(report.number("reached"), 1);
    }
}

#[test]
fn udp_takes_a_detour_whatever_the_address() {
    let stage = Stage::new(Who::Nobody);
    for ip in ["0.0.0.0", "127.0.0.1", "::", "::1", "::ffff:127.0.0.1"] {
        let report = stage.act(&["udp"], &["cycles", ip, "{1}", "udp", "3"]);
        assert_eq!(report.ways(), ["detour"], "{report:?}");
        assert_eq!((failures(&report), report.number("held")), (0, 1));
    }
}

#[test]
fn a_wildcard_address_goes_through_a_window_that_is_reported() {
    let stage = Stage::new(Who::Nobody);
    for ip in ["0.0.0.0", "::ffff:0.0.0.0"] {
        let report = stage.act(&["tcp"], &["serve", ip, "{1}", "plain"]);
        assert_eq!(report.ways(), ["window"], "{report:?}");
        assert_eq!((report.number("reached"), report.number("held")), (1, 1));
    }
}

#[test]
fn strict_refuses_a_window() {
    let stage = Stage::new(Who::Nobody);
    let report = stage.act(&["--strict", "tcp"], &["serve", "0.0.0.0", "{1}", "plain"]);
    assert_eq!(report.ways(), ["refused"], "{report:?}");
    assert!(report.stdout.contains("bind EACCES"), "{report:?}");
    let report = stage.act(
        &["--strict", "tcp"],
        &["serve", "127.0.0.1", "{1}", "plain"],
    );
    assert_eq!(report.ways(), ["pin"]);
}

#[test]
fn a_fresh_wildcard_socket_is_swapped_with_its_options() {
    let stage = Stage::new(Who::Nobody);
    for (ip, how) in [("0.0.0.0", "plain"), ("::", "plain"), ("::", "v6only")] {
        let report = stage.act(&["--strict", "--twins", "tcp"], &["serve", ip, "{1}", how]);
        assert_eq!(report.ways(), ["swap"], "{report:?}");
        assert_eq!(report.number("reached"), 1, "{report:?}");
    }
    // The guard itself is what a socket of both families gets.
    let report = stage.act(&["--strict", "tcp"], &["serve", "::", "{1}", "options"]);
    assert_eq!(report.ways(), ["swap"], "{report:?}");
    assert!(report.stdout.contains("options 80000 1 1 1"), "{report:?}");
    assert_eq!(report.number("held"), 1, "held again: {report:?}");
}

#[test]
fn a_socket_that_was_used_before_is_not_swapped() {
    let stage = Stage::new(Who::Nobody);
    for how in ["epoll", "dup", "fork", "mptcp"] {
        let report = stage.act(&["--twins", "tcp"], &["serve", "0.0.0.0", "{1}", how]);
        assert_eq!(report.ways(), ["window"], "{how}: {report:?}");
        assert_eq!(report.number("reached"), 1, "{how}: {report:?}");
        let strict = ["--strict", "--twins", "tcp"];
        let report = stage.act(&strict, &["serve", "0.0.0.0", "{1}", how]);
        assert_eq!(report.ways(), ["refused"], "{how}: {report:?}");
    }
}

#[test]
fn sockets_used_before_are_handed_loopback_ports_like_any_other() {
    let stage = Stage::new(Who::Nobody);
    for how in [
        "epoll",
        "dup",
        "fork",
        "thread",
        "thread-own",
        "mptcp",
        "options",
    ] {
        let report = stage.act(&["tcp"], &["serve", "127.0.0.1", "{1}", how]);
        assert_eq!(report.ways(), ["pin"], "{how}: {report:?}");
        assert_eq!(report.number("reached"), 1, "{how}: {report:?}");
        if how == "epoll" {
            assert_eq!(report.number("events"), 1, "{report:?}");
        }
    }
}

#[test]
fn a_socket_on_a_device_of_its_own_stays_there() {
    let stage = Stage::new(Who::Nobody);
    let report = stage.act(&["tcp"], &["serve", "0.0.0.0", "{1}", "device"]);
    assert_eq!(report.ways(), ["own-device"], "{report:?}");
    assert_eq!((report.number("reached"), report.number("device")), (1, 1));
}

#[test]
fn a_server_that_ended_connections_can_start_again() {
    let stage = Stage::new(Who::Nobody);
    for (held, ip) in [
        (&["tcp"][..], "127.0.0.1"),
        (&["tcp"], "0.0.0.0"),
        (&["--twins", "tcp"], "0.0.0.0"),
    ] {
        let actor = stage.actor();
        let mut run = stage.run(held, &[&actor, "again", ip, "{1}"]);
        for _ in 0..2 {
            assert_eq!(run.line(), "serve ok", "{held:?} {ip}");
            assert_eq!(run.line(), "closed");
            // Only a swap lets go of the port between the two.
            let port = run.port();
            let stranger = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
            assert!(held.contains(&"--twins") || stranger().is_err(), "{ip}");
            run.tell();
        }
        run.end();
    }
}

#[test]
fn a_swapped_port_is_held_again_however_busy_its_program_is() {
    let stage = Stage::new(Who::Nobody);
    let script = "import select, socket\n\
                  server = socket.socket()\n\
                  server.bind(('0.0.0.0', {1}))\n\
                  server.listen()\n\
                  server.close()\n\
                  print('closed', flush=True)\n\
                  while not select.select([0], [], [], 0)[0]:\n    \
                      with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:\n        \
                          other.bind(('127.0.0.1', 0))\n";
    let mut run = stage.run(&["--twins", "tcp"], &["python3", "-c", script]);
    assert_eq!(run.line(), "closed");
    let address = (Ipv4Addr::UNSPECIFIED, run.port());
    until("the port is held", || TcpListener::bind(address).is_err());
    run.tell();
    assert_eq!(run.end().ways(), ["swap"]);
}

#[test]
fn port_zero_gets_the_last_port_that_nobody_uses() {
    let stage = Stage::new(Who::Nobody);
    for (held, ip, transport) in [
        (&["tcp", "tcp", "tcp"][..], "127.0.0.1", "tcp"),
        (&["tcp", "tcp", "tcp"], "0.0.0.0", "tcp"),
        (
            &["--udp-zero", "block", "udp", "udp", "udp"],
            "0.0.0.0",
            "udp",
        ),
    ] {
        let report = stage.act(held, &["zero", ip, "4", transport]);
        let mut block = report.ports.clone();
        block.sort_unstable();
        let given = given(&report);
        let last_to_first: Vec<u16> = block.iter().rev().copied().collect();
        assert_eq!(given[..3], last_to_first[..], "{report:?}");
        assert!(
            !block.contains(&given[3]),
            "the kernel's choice: {report:?}"
        );
        assert_eq!(given[4], given[0], "closed, so free again: {report:?}");
    }
}

#[test]
fn port_zero_gets_what_the_options_say() {
    let stage = Stage::new(Who::Nobody);
    let zero = |held: &[&str], transport| {
        let report = stage.act(held, &["zero", "127.0.0.1", "2", transport]);
        let given = given(&report);
        assert_eq!(given.len(), 3, "{report:?}");
        given
            .iter()
            .all(|it| *it != 0 && !report.ports.contains(it))
    };
    assert!(zero(&["--zero", "kernel", "tcp"], "tcp"));
    assert!(zero(&["udp"], "udp"), "off by default for udp");
    let report = stage.act(&["--zero", "error", "tcp"], &["zero", "::1", "1", "tcp"]);
    assert!(report.stdout.starts_with("zero EACCES"), "{report:?}");
}

mod as_root {
    use super::*;

    #[test]
    fn net_raw_takes_a_detour_to_every_address() {
        for who in [Who::Me, Who::NetRaw] {
            let stage = Stage::new(who);
            for ip in ["0.0.0.0", "127.0.0.1", "::", "::1", "::ffff:127.0.0.1"] {
                let report = stage.act(&["--strict", "tcp"], &["cycles", ip, "{1}", "tcp", "3"]);
                assert_eq!(report.ways(), ["detour"], "{who:?} {report:?}");
                assert_eq!((failures(&report), report.number("held")), (0, 1));
            }
            for how in ["epoll", "dup", "fork", "mptcp", "thread-own", "options"] {
                let report = stage.act(&["--strict", "tcp"], &["serve", "::", "{1}", how]);
                assert_eq!(report.ways(), ["detour"], "{how}: {report:?}");
                assert_eq!(report.number("reached"), 1, "{how}: {report:?}");
            }
        }
    }
}

fn failures(report: &Report) -> u64 {
    report.number("bind-failures") + report.number("listen-failures")
}

fn given(report: &Report) -> Vec<u16> {
    let lines = report.stdout.lines();
    let ports = lines.map(|line| line.split(' ').nth(1).and_then(|it| it.parse().ok()));
    ports.map(|port| port.unwrap_or(0)).collect()
}
