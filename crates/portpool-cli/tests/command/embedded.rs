//! The real command on the embedded pool: no pool attached, as whoever runs the tests and as a user
//! without any privilege.

use std::{
    io::Write,
    net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket},
};

use crate::kit::{Running, Stage, Who, stderr, until};

#[test]
fn a_program_run_without_a_kernel_pool_finds_its_ports_and_nobody_else_gets_them() {
    for who in Who::all() {
        let stage = Stage::new(who);
        let script = "echo $PORT,$PORTPOOL_TCP,$PORTPOOL_UDP,$1,$2; read -r line; exit 42";
        let mut command = stage.command("run -t 2 -u 1 -- sh -c");
        let command = command.args([script, "sh", "{port}:{tcp.1}", "{{udp}}"]);
        let mut run = Running::spawn(command.env("PORTPOOL_UDP", "of somebody else"));
        let line = run.line();
        let [port, tcp, udp, first, second]: [&str; 5] = line
            .split(',')
            .collect::<Vec<_>>()
            .try_into()
            .expect("five fields");
        let number: u16 = port.parse().expect("a port");
        assert_eq!(tcp, format!("{number}-{}", number + 1));
        assert_eq!(
            (first, second),
            (&*format!("{port}:{}", number + 1), "{udp}")
        );
        let udp: u16 = udp.parse().expect("a port");
        for number in [number, number + 1] {
            assert_taken(TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)));
            assert_taken(TcpListener::bind((Ipv6Addr::LOCALHOST, number)));
        }
        assert_taken(UdpSocket::bind((Ipv4Addr::LOCALHOST, udp)));

        writeln!(run.stdin(), "go on").expect("write");
        assert_eq!(run.end(), Some(42));
        for number in [number, number + 1] {
            drop(TcpListener::bind((Ipv6Addr::UNSPECIFIED, number)).expect("free again"));
        }
        drop(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, udp)).expect("free again"));
    }
}

#[test]
fn a_server_run_without_a_kernel_pool_serves_and_is_alone() {
    for who in Who::all() {
        for host in ["127.0.0.1", "0.0.0.0", "::"] {
            let stage = Stage::new(who);
            let server = format!("run -t 1 -- python3 -u -m http.server --bind {host} {{port}}");
            let mut run = stage.start(&server);
            let line = run.line();
            let mut words = line.split(' ').skip_while(|word| *word != "port");
            let port: u16 = words.nth(1).expect(&line).parse().expect("a port");
            std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
            assert_taken(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)));
            assert_taken(TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
            assert_taken(TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)));
            run.signal(rustix::process::Signal::TERM);
            assert_eq!(run.wait(), Some(143), "{host}");
            // What is left of the connection is in nobody's way.
            until(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).is_ok());
        }
    }
}

#[test]
fn the_status_of_a_program_run_without_a_kernel_pool_passes_through() {
    for who in Who::all() {
        let stage = Stage::new(who);
        for (script, status) in [
            ("exit 0", 0),
            ("exit 255", 255),
            ("kill -9 $$", 137),
            ("kill -TERM $$", 143),
        ] {
            let mut command = stage.command("run -t 1 -- sh -c");
            let output = command.arg(script).output().expect("run");
            assert_eq!(output.status.code(), Some(status), "{script}");
        }
        for (program, status) in [("/nonexistent", 127), ("/etc/passwd", 126)] {
            for option in ["", "--fd"] {
                let output = stage.portpool(&format!("run -t 1 {option} -- {program}"));
                assert_eq!(output.status.code(), Some(status));
                assert!(stderr(&output).contains(program));
            }
        }
    }
}

#[test]
fn how_each_port_was_handed_over_is_explained() {
    for who in Who::all() {
        let stage = Stage::new(who);
        let script = "import socket\n\
                      socket.create_server(('127.0.0.1', {port}))";
        let mut command = stage.command("run -t 2 --explain=json -- python3 -c");
        let output = command.arg(script).output().expect("run");
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let report: serde_json::Value = serde_json::from_slice(&output.stderr).expect("JSON");
        assert_eq!(report["pool"], "embedded");
        assert_eq!(report["reason"], "PORTPOOL_POOL asks for it");
        let used = &report["ports"][0]["uses"][0];
        let way = match who {
            Who::Me if rustix::process::geteuid().is_root() => "detour",
            _ => "pin",
        };
        assert_eq!(used["technique"], way);
        assert_eq!(used["gap_free"], true);
        assert_eq!(report["ports"][1]["uses"], serde_json::json!([]));
    }
}

#[test]
fn acquire_holds_without_a_kernel_pool_until_end_of_file() {
    for who in Who::all() {
        let stage = Stage::new(who);
        let mut held = stage.start("acquire -b 4 --align 4 -u 1");
        let lines = [held.line(), held.line(), held.line()];
        let [tcp, udp, other] =
            lines.map(|line| serde_json::from_str::<serde_json::Value>(&line).expect("JSON"));
        let first = tcp["first"].as_u64().expect("a port");
        assert_eq!((first % 4, &tcp["pool"]), (0, &"embedded".into()));
        assert_eq!(
            (&udp["first"], &other["transport"]),
            (&first.into(), &"udp".into())
        );
        let first = u16::try_from(first).expect("a port");
        assert_taken(TcpListener::bind((Ipv4Addr::LOCALHOST, first)));
        assert_taken(UdpSocket::bind((Ipv4Addr::LOCALHOST, first + 3)));
        assert_eq!(held.end(), Some(0));
        drop(TcpListener::bind((Ipv4Addr::LOCALHOST, first)).expect("free again"));
    }
}

fn assert_taken<T: std::fmt::Debug>(bound: std::io::Result<T>) {
    let error = bound.expect_err("taken");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{error}");
}
