//! The real command against a real pool, in a cgroup and a network namespace of its own.

mod as_root {
    use std::{
        io::Write,
        net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket},
        process::{Command, Output, Stdio},
    };

    use portpool_testkit::{Arena, in_arena, in_bare_arena};
    use rustix::process::Signal;
    use serde_json::Value;

    use crate::kit::{
        Running, command, is_gone, json, portpool, reservations, stderr, stdout, until,
    };

    #[test]
    fn without_a_pool_the_status_is_3_and_the_next_step_is_named() {
        in_bare_arena!(|_| {
            for line in [
                "run -t 1 -- true",
                "acquire -t 1",
                "acquire -t 1 --while 1",
                "reservations",
                "port 8080",
                "status",
                "detach",
            ] {
                let output = of_kernel(line);
                assert_eq!(output.status.code(), Some(3), "{line}");
                let message = stderr(&output);
                assert!(message.contains("no pool is attached"), "{line}: {message}");
                assert!(message.contains("`portpool attach`"), "{line}: {message}");
                assert_eq!(stdout(&output), "", "{line}");
            }
            let output = of_kernel("status --json");
            assert_eq!(output.status.code(), Some(3));
            assert_eq!(json(&output)["attached"], false);
        });
    }

    #[test]
    fn attach_status_and_detach_tell_the_same_story() {
        in_bare_arena!(|arena: &Arena| {
            let cgroup = arena.cgroup().display();
            let refused = portpool(&format!("attach --cgroup {cgroup}"));
            assert_eq!(refused.status.code(), Some(1));
            assert!(stderr(&refused).contains("--private-mounts"));
            let line = format!("attach --cgroup {cgroup} --private-mounts --range 20000-20009");
            assert!(
                portpool(&format!("{line} --ports-per-uid 7"))
                    .status
                    .success()
            );
            // Over the running pool: what is not told stays.
            let line = format!("attach --cgroup {cgroup} --private-mounts --reservations 99");
            assert!(portpool(&line).status.success());
            let status = json(&portpool("status --json"));
            assert_eq!(status["ranges"], serde_json::json!(["20000-20009"]));
            assert_eq!(status["limits"]["ports_per_uid"], 7);
            assert_eq!(status["limits"]["reservations"], 99);
            assert_eq!(status["cgroup"], cgroup.to_string());
            assert!(stdout(&portpool("status")).contains("ONLY"));
            let doctor = portpool("doctor --json");
            assert_eq!(doctor.status.code(), Some(0), "{}", stdout(&doctor));

            let mut held = Running::start("acquire -t 1");
            held.line();
            let refused = portpool("detach");
            assert_eq!(refused.status.code(), Some(1));
            assert!(stderr(&refused).contains("--force"));
            assert!(portpool("detach --force").status.success());
            assert_eq!(of_kernel("status").status.code(), Some(3));
            drop(held);
        });
    }

    #[test]
    fn a_program_run_finds_its_ports_and_nobody_else_gets_them() {
        in_arena!(|_| {
            let script = "echo $PORT,$PORTPOOL_TCP,$PORTPOOL_UDP,$1,$2; read -r line; exit 42";
            let mut run = Running::spawn(
                command("run -t 2 -p 8080 -u 1 -- sh -c")
                    .args([script, "sh", "{port}:{tcp.2}", "{{udp}}"])
                    .env("PORTPOOL_UDP", "of somebody else"),
            );
            let line = run.line();
            let [port, tcp, udp, first, second]: [&str; 5] = line
                .split(',')
                .collect::<Vec<_>>()
                .try_into()
                .expect("five fields");
            let number: u16 = port.parse().expect("a port");
            assert_eq!(tcp, format!("{number}-{} 8080", number + 1));
            assert_eq!((first, second), (&*format!("{port}:8080"), "{udp}"));
            let udp: u16 = udp.parse().expect("a port");
            let refused = TcpListener::bind((Ipv6Addr::LOCALHOST, number + 1)).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
            assert!(UdpSocket::bind((Ipv4Addr::LOCALHOST, udp)).is_err());

            writeln!(run.stdin(), "go on").expect("write");
            assert_eq!(run.end(), Some(42));
            drop(TcpListener::bind((Ipv6Addr::LOCALHOST, number + 1)).expect("free again"));
            drop(TcpListener::bind((Ipv6Addr::LOCALHOST, 8080)).expect("free again"));
        });
    }

    #[test]
    fn the_status_of_the_program_passes_through() {
        in_arena!(|_| {
            for (script, status) in [
                ("exit 0", 0),
                ("exit 255", 255),
                ("kill -9 $$", 137),
                ("kill -TERM $$", 143),
            ] {
                let output = command("run -t 1 -- sh -c")
                    .arg(script)
                    .output()
                    .expect("run");
                assert_eq!(output.status.code(), Some(status), "{script}");
            }
            for (program, status) in [("/nonexistent", 127), ("/etc/passwd", 126)] {
                let output = portpool(&format!("run -t 1 -- {program}"));
                assert_eq!(output.status.code(), Some(status));
                assert!(stderr(&output).contains(program));
            }
            assert_eq!(reservations(), Vec::<Value>::new());
        });
    }

    #[test]
    fn signals_are_passed_on_to_the_program() {
        in_arena!(|_| {
            let names = [
                "TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH", "CONT",
            ];
            let traps: String = names
                .map(|name| format!("trap 'echo got {name}' {name}; "))
                .concat();
            // bash runs a trap once its builtin is over: here soon, or at the end of its input.
            let rest = "echo ready; while :; do read -r -t 0.1 line; [ $? = 1 ] && exit 7; done";
            let script = format!("{traps} {rest}");
            let mut run = Running::spawn(command("run -t 1 -- bash -c").arg(script));
            assert_eq!(run.line(), "ready");
            for (name, signal) in names.into_iter().zip([
                Signal::TERM,
                Signal::INT,
                Signal::HUP,
                Signal::QUIT,
                Signal::USR1,
                Signal::USR2,
                Signal::WINCH,
                Signal::CONT,
            ]) {
                run.signal(signal);
                assert_eq!(run.line(), format!("got {name}"));
            }
            assert_eq!(run.end(), Some(7));
        });
    }

    #[test]
    fn kill_9_of_portpool_ends_the_program_and_frees_the_ports() {
        in_arena!(|_| {
            for _ in 0..20 {
                let mut run =
                    Running::spawn(command("run -p 8080 -- sh -c").arg("echo $$; exec sleep 1000"));
                let pid = run.line();
                run.signal(Signal::KILL);
                run.wait();
                TcpListener::bind((Ipv4Addr::LOCALHOST, 8080)).expect("free again");
                until(|| is_gone(&pid));
            }
            assert_eq!(reservations(), Vec::<Value>::new());
        });
    }

    #[test]
    fn acquire_prints_every_reservation_and_holds_until_end_of_file() {
        in_arena!(|_| {
            let mut held = Running::start("acquire -b 4 --align 4 -p 8080/udp");
            let lines = [held.line(), held.line(), held.line()];
            let [tcp, udp, exact] =
                lines.map(|line| serde_json::from_str::<Value>(&line).expect("JSON"));
            let first = tcp["first"].as_u64().expect("a port");
            assert_eq!(first % 4, 0);
            assert_eq!((&tcp["count"], &udp["first"]), (&4.into(), &first.into()));
            assert_eq!(
                (&exact["first"], &exact["transport"]),
                (&8080.into(), &"udp".into())
            );
            let listed = reservations();
            assert_eq!(listed.len(), 3);
            assert!(listed.iter().any(|it| it["token"] == tcp["token"]));
            assert_eq!(listed[0]["owner"]["pid"], held.pid());
            // Not even its own user may bind them.
            let first = u16::try_from(first).expect("a port");
            assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, first)).is_err());
            assert_eq!(held.end(), Some(0));
            assert_eq!(reservations(), Vec::<Value>::new());
        });
    }

    #[test]
    fn acquire_holds_until_sigterm_where_stdin_says_nothing() {
        in_arena!(|_| {
            for signal in [Signal::TERM, Signal::INT] {
                let mut held = Running::spawn(
                    command("acquire -p 8080-8082 -p 8081/udp --format plain").stdin(Stdio::null()),
                );
                let ports: Vec<String> = (0..4).map(|_| held.line()).collect();
                assert_eq!(ports, ["8080", "8081", "8082", "8081"]);
                assert_eq!(held.try_wait(), None);
                held.signal(signal);
                assert_eq!(held.wait(), Some(0));
            }
            let output = portpool("acquire -t 1 --until-eof");
            assert_eq!(output.status.code(), Some(0));
        });
    }

    #[test]
    fn a_script_may_use_what_was_acquired_while_it_runs() {
        in_arena!(|_| {
            let script = r#"
                eval "$("$PORTPOOL" acquire -t 2 -u 1 --while $$ --format shell)" || exit 9
                echo "$PORTPOOL_TCP,$PORTPOOL_UDP,$PORTPOOL_HOLDER"
                read -r line
                # Those of an ancestor are free for its descendants to bind, not to reserve.
                "$PORTPOOL" run -p "${PORTPOOL_TCP%-*}" -- true 2>/dev/null
                exit $?"#;
            // Reads until it is told to end: what this test inherited may be at its end already.
            let mut script = Running::spawn(
                Command::new("bash")
                    .args(["-c", script])
                    .env("PORTPOOL", env!("CARGO_BIN_EXE_portpool"))
                    .stdin(Stdio::piped()),
            );
            let line = script.line();
            let [tcp, _, holder]: [&str; 3] = line
                .split(',')
                .collect::<Vec<_>>()
                .try_into()
                .expect("three fields");
            let first: u16 = tcp
                .split_once('-')
                .expect("a range")
                .0
                .parse()
                .expect("a port");
            assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, first)).is_err());
            let listed = reservations();
            let own: Vec<_> = listed
                .iter()
                .filter(|it| it["owner"]["pid"].as_u64() == holder.parse().ok())
                .collect();
            assert_eq!(own.len(), 2, "{listed:?}");
            assert_eq!(own[0]["tree_root"]["pid"], script.pid());
            assert_eq!(own[0]["owner"]["command"], "portpool");
            assert_eq!(script.end(), Some(1));
            until(|| reservations().is_empty());
            until(|| is_gone(holder));
        });
    }

    #[test]
    fn the_holder_keeps_none_of_the_files_of_the_script() {
        in_arena!(|_| {
            let script = r#"
                exec 42</etc/passwd
                eval "$("$PORTPOOL" acquire -t 1 --while $$ --format shell)" || exit 9
                readlink /proc/$$/fd/42 | grep -q passwd || exit 8
                ! readlink /proc/"$PORTPOOL_HOLDER"/fd/* | grep passwd"#;
            let status = Command::new("bash")
                .args(["-c", script])
                .env("PORTPOOL", env!("CARGO_BIN_EXE_portpool"))
                .status();
            assert_eq!(status.expect("run bash").code(), Some(0));
            until(|| reservations().is_empty());
        });
    }

    #[test]
    fn a_program_run_with_signals_blocked_still_ends() {
        in_arena!(|_| {
            let start = "import os, signal, sys\n\
                         signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n\
                         os.execv(sys.argv[1], sys.argv[1:])\n";
            let portpool = env!("CARGO_BIN_EXE_portpool");
            let status = Command::new("timeout")
                .args(["--signal=KILL", "120", "python3", "-c", start, portpool])
                .args(["run", "-t", "1", "--", "sh", "-c", "exit 5"])
                .status();
            assert_eq!(status.expect("run timeout").code(), Some(5));
        });
    }

    #[test]
    fn only_an_ancestor_can_be_held_for() {
        in_arena!(|_| {
            let mut other = Command::new("sleep").arg("1000").spawn().expect("sleep");
            for (pid, part) in [
                (other.id(), "no ancestor"),
                (u32::MAX >> 1, "no such process"),
            ] {
                let output = portpool(&format!("acquire -t 1 --while {pid}"));
                assert_eq!(output.status.code(), Some(1));
                assert!(stderr(&output).contains(part), "{}", stderr(&output));
                assert_eq!(stdout(&output), "");
            }
            assert_eq!(reservations(), Vec::<Value>::new());
            other.kill().and_then(|()| other.wait()).expect("kill");
        });
    }

    #[test]
    fn all_selectors_are_granted_or_none() {
        in_arena!(|_| {
            let mut held = Running::start("acquire -p 8080");
            held.line();
            let refused = portpool("run -t 2 -u 1 -p 8080 -- true");
            assert_eq!(refused.status.code(), Some(1));
            assert!(
                stderr(&refused).contains("8080 (tcp)"),
                "{}",
                stderr(&refused)
            );
            assert_eq!(reservations().len(), 1);
        });
    }

    #[test]
    fn waiting_ends_with_the_ports_or_with_status_124() {
        in_arena!(|_| {
            let mut held = Running::start("acquire -p 8080");
            held.line();
            let output = portpool("run -t 1 -p 8080 --wait 100ms -- true");
            assert_eq!(output.status.code(), Some(124));
            assert!(
                stderr(&output).contains("waited 100ms"),
                "{}",
                stderr(&output)
            );
            let mut waiting = Running::start("run -p 8080 --wait 1m -- echo got {port}");
            assert_eq!(held.end(), Some(0));
            assert_eq!(waiting.line(), "got 8080");
            assert_eq!(waiting.end(), Some(0));
        });
    }

    #[test]
    fn who_has_a_port_is_told() {
        in_arena!(|_| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 8090)).expect("bind");
            let row = &json(&portpool("port 8090/tcp --json"))[0];
            assert_eq!(
                (&row["state"], &row["socket_count"]),
                (&"in-use".into(), &1.into())
            );
            assert_eq!(row["processes"][0]["pid"], std::process::id());
            drop(listener);
            let mut run = Running::spawn(
                command("run -p 8080-8081 -- sh -c").arg("echo ready; read -r line"),
            );
            assert_eq!(run.line(), "ready");
            let rows = json(&portpool("port 8080-8082 --json"));
            let states: Vec<_> = rows
                .as_array()
                .expect("rows")
                .iter()
                .map(|row| &row["state"])
                .collect();
            assert_eq!(
                states,
                ["reserved", "reserved", "free", "free", "free", "free"]
            );
            assert_eq!(rows[0]["reservation"]["owner"]["pid"], run.pid());
            assert_eq!(rows[0]["reservation"]["tree_root"]["is_owner"], true);
            let text = stdout(&portpool("port 8081"));
            assert!(text.contains("8081/tcp: reserved"), "{text}");
            assert!(text.contains("8081/udp: free"), "{text}");
            assert!(stdout(&portpool("reservations")).contains("8080-8081/tcp"));
        });
    }

    /// Without a kernel pool it is not to take the other one.
    fn of_kernel(line: &str) -> Output {
        let mut command = command(line);
        let command = command.env("PORTPOOL_POOL", "kernel").stdin(Stdio::null());
        command.output().expect("run portpool")
    }
}
