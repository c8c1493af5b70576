//! The real command on the embedded pool: no pool attached, as whoever runs the tests and as a user
//! without any privilege.

use std::{
    io::Write,
    net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket},
    os::fd::AsRawFd,
};

use rustix::process::Signal;

use crate::kit::{Running, Stage, Who, is_gone, stderr, stdout, until};

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
            run.signal(Signal::TERM);
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
        assert_eq!(report["pool_reason"], "PORTPOOL_POOL asks for it");
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

#[test]
fn strict_refuses_a_window_and_without_it_a_window_is_told() {
    // With CAP_NET_RAW there never is one.
    for who in Who::all().into_iter().filter(|who| who.is_unprivileged()) {
        let stage = Stage::new(who);
        // A socket that cannot be swapped, on no loopback address.
        let script = "import socket, sys\n\
                      s = socket.socket()\n\
                      s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)\n\
                      try: s.bind(('0.0.0.0', {port}))\n\
                      except PermissionError: sys.exit(13)\n";
        let run = |options: &str| {
            let mut command = stage.command(&format!("run -t 1 {options} -- python3 -c"));
            command.arg(script).output().expect("run")
        };
        let refused = run("--strict --explain");
        assert_eq!(refused.status.code(), Some(13), "{}", stderr(&refused));
        assert!(stderr(&refused).contains("refused"), "{}", stderr(&refused));
        let told = run("");
        assert_eq!(told.status.code(), Some(0), "{}", stderr(&told));
        let told = stderr(&told);
        assert!(
            told.starts_with("warning: ") && told.contains("--strict"),
            "{told}"
        );
    }
}

#[test]
fn a_bind_to_port_0_gets_what_zero_says() {
    for who in Who::all() {
        let stage = Stage::new(who);
        for (kind, options, wanted) in [
            ("STREAM", "", "own"),
            ("DGRAM", "", "other"),
            ("STREAM", "--zero block", "own"),
            ("DGRAM", "--zero block", "own"),
            ("STREAM", "--zero kernel", "other"),
            ("DGRAM", "--zero error", "refused"),
            ("STREAM", "--zero error", "refused"),
        ] {
            let script = "import socket, sys\n\
                          s = socket.socket(type=getattr(socket, 'SOCK_' + sys.argv[1]))\n\
                          try: s.bind(('127.0.0.1', 0))\n\
                          except PermissionError: print('refused')\n\
                          else: print('own' if s.getsockname()[1] == {port} else 'other')";
            let mut command = stage.command(&format!("run -b 1 {options} -- python3 -c"));
            let output = command.args([script, kind]).output().expect("run");
            assert_eq!(
                stdout(&output).trim_end(),
                wanted,
                "{kind} {options}: {output:?}"
            );
        }
    }
}

#[test]
fn what_a_program_leaves_behind_goes_on_without_the_ports() {
    for who in Who::all() {
        let stage = Stage::new(who);
        let script = "import os, socket, sys\n\
                      if os.fork(): sys.stdin.readline(); sys.exit(0)\n\
                      os.setsid()\n\
                      s = socket.create_server(('127.0.0.1', {port}))\n\
                      s.close()\n\
                      print('{port}', flush=True)\n\
                      os.read(int(sys.argv[1]), 1)\n\
                      u = socket.socket(socket.AF_UNIX)\n\
                      u.bind('\\0portpool-test-%d' % os.getpid())\n\
                      s = socket.create_server(('127.0.0.1', 0))\n\
                      print('bound', s.getsockname()[1] != {port})\n";
        // Another pipe, for the end of whoever waits closes the standard input.
        let (word, mut told) = std::io::pipe().expect("pipe");
        rustix::io::fcntl_setfd(&word, rustix::io::FdFlags::empty()).expect("fcntl");
        let mut command = stage.command("run -t 1 -- python3 -u -c");
        let command = command.arg(script).arg(word.as_raw_fd().to_string());
        let mut run = Running::spawn(command);
        drop(word);
        let port: u16 = run.line().parse().expect("a port");
        writeln!(run.stdin(), "end").expect("write");
        assert_eq!(run.wait(), Some(0));
        drop(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("free again"));
        assert_eq!(stage.json("reservations --json"), serde_json::json!([]));
        told.write_all(b"x").expect("write");
        assert_eq!(run.line(), "bound True");
    }
}

#[test]
fn signals_reach_a_program_run_without_a_kernel_pool() {
    for who in Who::all() {
        let stage = Stage::new(who);
        let script =
            "trap 'echo got it; exit 5' TERM; echo ready; while :; do read -r -t 0.1 x; done";
        let mut run = Running::spawn(stage.command("run -t 1 -- bash -c").arg(script));
        assert_eq!(run.line(), "ready");
        run.signal(Signal::TERM);
        assert_eq!(run.line(), "got it");
        assert_eq!(run.wait(), Some(5));
    }
}

#[test]
fn a_signal_that_only_portpool_can_be_meant_by_comes_back_to_the_program() {
    let stage = Stage::new(Who::Me);
    for (group, status) in [("os.setpgid(0, 0)", 9), ("pass", 0)] {
        let script = format!(
            "import os, signal, sys, time\n\
             signal.signal(signal.SIGUSR1, lambda *_: sys.exit(9))\n\
             {group}\n\
             os.kill(os.getppid(), signal.SIGUSR1)\n\
             # Answered after the signal: its turn comes first.\n\
             for _ in range(100 if {status} else 5): time.sleep(0.05)\n"
        );
        let mut command = stage.command("run -t 1 -- python3 -c");
        let output = command.arg(script).output().expect("run");
        assert_eq!(output.status.code(), Some(status), "{group}: {output:?}");
    }
}

#[test]
fn kill_9_of_portpool_or_of_its_program_frees_the_ports_of_the_embedded_pool() {
    for who in Who::all() {
        let stage = Stage::new(who);
        for _ in 0..10 {
            let mut command = stage.command("run -t 1 -- sh -c");
            let mut run = Running::spawn(command.arg("echo {port} $$; exec sleep 1000"));
            let line = run.line();
            let (port, pid) = line.split_once(' ').expect("two words");
            let port: u16 = port.parse().expect("a port");
            assert_taken(TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
            run.signal(Signal::KILL);
            assert_eq!(run.wait(), None);
            drop(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("free again"));
            until(|| is_gone(pid));
        }
        assert_eq!(stage.json("reservations --json"), serde_json::json!([]));
    }
}

#[test]
fn acquire_while_holds_for_an_ancestor_and_says_whom_from() {
    for who in Who::all() {
        let stage = Stage::new(who);
        let script = r#"
            eval "$("$PORTPOOL" acquire -t 2 --while $$ --format shell 2>&3)" || exit 9
            echo "$PORTPOOL_TCP,$PORTPOOL_HOLDER"
            read -r line
            exit 0"#;
        let mut command = stage.as_who(std::path::Path::new("bash"));
        command.args(["-c", &format!("exec 3>&1; {script}")]);
        command
            .env("PORTPOOL", stage.program())
            .env("PORTPOOL_POOL", "embedded");
        let mut script = Running::spawn(command.stdin(std::process::Stdio::piped()));
        let warning = script.line();
        assert!(
            warning.starts_with("warning: ") && warning.contains("portpool run"),
            "{warning}"
        );
        let line = script.line();
        let (tcp, holder) = line.split_once(',').expect("two fields");
        let first: u16 = tcp
            .split_once('-')
            .expect("a range")
            .0
            .parse()
            .expect("a port");
        assert_taken(TcpListener::bind((Ipv4Addr::LOCALHOST, first)));
        let listed = stage.json("reservations --json");
        assert_eq!(
            listed[0]["owner"]["pid"].as_u64(),
            holder.parse().ok(),
            "{listed}"
        );
        assert_eq!(script.end(), Some(0));
        until(|| TcpListener::bind((Ipv4Addr::LOCALHOST, first)).is_ok());
        until(|| is_gone(holder));
        let mut stranger = std::process::Command::new("sleep")
            .arg("600")
            .spawn()
            .expect("start sleep");
        let refused = stage.portpool(&format!("acquire -t 1 --while {}", stranger.id()));
        stranger.kill().expect("kill");
        stranger.wait().expect("wait");
        assert!(!refused.status.success());
        assert!(
            stderr(&refused).contains("ancestor"),
            "{}",
            stderr(&refused)
        );
    }
}

#[test]
fn whoever_has_a_port_that_was_asked_for_is_named() {
    for who in Who::all() {
        let stage = Stage::new(who);
        let mut held = stage.start("acquire -t 1 --format plain");
        let port = held.line();
        for line in [
            format!("acquire -p {port}"),
            format!("run -p {port} --wait 1ms -- true"),
        ] {
            let refused = stage.portpool(&line);
            let message = stderr(&refused);
            assert!(matches!(refused.status.code(), Some(1 | 124)), "{message}");
            let holder = format!("{port}/tcp is reserved by pid {}, user ", held.pid());
            assert!(message.contains(&holder), "{message}");
            assert!(message.contains("portpool acquire -t 1"), "{message}");
        }
        assert_eq!(held.end(), Some(0));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let port = listener.local_addr().expect("address").port();
        let message = stderr(&stage.portpool(&format!("acquire -p {port}")));
        let holder = match who {
            Who::Me => format!("{port}/tcp is bound by pid {}: ", std::process::id()),
            Who::Nobody => format!("{port}/tcp is bound by a process that only root can see"),
        };
        assert!(message.contains(&holder), "{message}");
    }
}

#[test]
fn the_pool_and_why_it_is_that_one_are_shown_everywhere() {
    for who in Who::all() {
        let stage = Stage::new(who);
        let mut held = stage.start("acquire -b 3 -u 1");
        held.line();
        let status = stage.json("status --json");
        assert_eq!(
            (&status["reservations"], &status["attached"]),
            (&3.into(), &false.into())
        );
        let reserved: Vec<_> = [0, 1]
            .map(|at| status["transports"][at]["reserved"].clone())
            .into();
        assert_eq!(reserved, [3, 4]);
        assert_eq!(status["tcp_without_gap"], !who.is_unprivileged());
        let rows = stage.json("reservations --json");
        let first = rows[0]["first"].as_u64().expect("a port");
        let port = stage.json(&format!("port {first} --json"));
        assert_eq!(port[0]["reservation"]["owner"]["pid"], held.pid());
        for shown in [&status, &rows[0], &port[0]] {
            assert_eq!(shown["pool"], "embedded");
            assert_eq!(shown["pool_reason"], "PORTPOOL_POOL asks for it");
            assert_eq!(shown["guards_this_process"], true);
        }
        let line = "embedded: PORTPOOL_POOL asks for it";
        for command in ["status", "reservations", "doctor", &format!("port {first}")] {
            let text = stdout(&stage.portpool(command));
            assert!(text.contains(line), "{command}: {text}");
        }
        for command in [
            "acquire -t 1 --until-eof -v",
            "run -t 1 -v -- true",
            "status --verbose",
        ] {
            let told = stderr(&stage.portpool(command));
            assert_eq!(told, format!("portpool: pool {line}\n"), "{command}");
        }
        let doctor = stage.portpool("doctor --json");
        assert_eq!(doctor.status.code(), Some(0), "{}", stdout(&doctor));
        for name in [
            "pool-kind",
            "hand-over",
            "wildcard-tcp",
            "descriptors",
            "registry",
        ] {
            let findings: serde_json::Value = serde_json::from_slice(&doctor.stdout).expect("JSON");
            let findings = findings.as_array().expect("an array");
            let finding = findings.iter().find(|it| it["name"] == name).expect(name);
            let is_warned = name == "wildcard-tcp" && who.is_unprivileged();
            assert_eq!(finding["verdict"] == "warning", is_warned, "{finding}");
        }
    }
}

pub(crate) fn assert_taken<T: std::fmt::Debug>(bound: std::io::Result<T>) {
    let error = bound.expect_err("taken");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{error}");
}
