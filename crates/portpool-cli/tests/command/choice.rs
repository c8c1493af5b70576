//! Which pool the commands choose, and what is said to who looks from outside of the guarded cgroup.

mod as_root {
    use std::{fs, net::TcpListener, process::Output};

    use portpool_testkit::{Arena, in_arena, in_bare_arena};
    use serde_json::Value;

    use crate::{
        handing::passes_sockets,
        kit::{Running, Stage, Who, command, json, portpool, stderr, stdout},
    };

    #[test]
    fn the_kernel_pool_is_chosen_where_it_is_attached_and_else_the_embedded_one() {
        in_bare_arena!(|arena: &Arena| {
            let stage = Stage::new(Who::Me);
            for is_attached in [false, true] {
                if is_attached {
                    arena.attach();
                }
                for (option, variable, kind, reason) in [
                    ("", "", "auto", ""),
                    ("", "auto", "auto", ""),
                    ("--pool auto", "embedded", "auto", ""),
                    (
                        "--pool embedded",
                        "kernel",
                        "embedded",
                        "the program asked for it",
                    ),
                    ("", "embedded", "embedded", "PORTPOOL_POOL asks for it"),
                    (
                        "--pool kernel",
                        "embedded",
                        "kernel",
                        "the program asked for it",
                    ),
                    ("", "kernel", "kernel", "PORTPOOL_POOL asks for it"),
                ] {
                    let ask = |line: &str| -> Output {
                        let mut command = stage.command(&format!("{line} {option}"));
                        command
                            .env("PORTPOOL_POOL", variable)
                            .output()
                            .expect("run portpool")
                    };
                    let said = format!("{option} {variable} {is_attached}");
                    let status = ask("status --json");
                    let acquired = ask("acquire -t 1 --until-eof");
                    if kind == "kernel" && !is_attached {
                        assert_eq!(status.status.code(), Some(3), "{said}");
                        assert_eq!(acquired.status.code(), Some(3), "{said}");
                        assert_eq!(ask("doctor").status.code(), Some(1), "{said}");
                        continue;
                    }
                    let (kind, reason) = match (kind, is_attached) {
                        ("auto", true) => {
                            ("kernel", "a pool is attached to this network namespace")
                        }
                        ("auto", false) => (
                            "embedded",
                            "no pool is attached to this network namespace, or none that guards this \
                             cgroup",
                        ),
                        _ => (kind, reason),
                    };
                    assert_eq!(ask("doctor").status.code(), Some(0), "{said}");
                    let status = json(&status);
                    assert_eq!(
                        (&status["pool"], &status["pool_reason"]),
                        (&kind.into(), &reason.into())
                    );
                    assert_eq!(json(&acquired)["pool"], kind, "{said}");
                }
            }
            let mut wrong = stage.command("status");
            let wrong = wrong
                .env("PORTPOOL_POOL", "best")
                .output()
                .expect("run portpool");
            assert_eq!(wrong.status.code(), Some(1));
            assert!(stderr(&wrong).contains("\"best\""), "{}", stderr(&wrong));
        });
    }

    #[test]
    fn who_looks_from_outside_the_guarded_cgroup_is_answered_and_warned() {
        in_bare_arena!(|arena: &Arena| {
            let inner = arena.cgroup().join("inner");
            fs::create_dir(&inner).expect("make a cgroup");
            let attach = format!("attach --private-mounts --cgroup {}", inner.display());
            let limits = ["--ports-per-uid 77", "--reservations 99"];
            for limit in limits {
                assert!(portpool(&format!("{attach} {limit}")).status.success());
            }
            let status = json(&portpool("status --json"));
            let limits = ["ports_per_uid", "reservations"].map(|it| status["limits"][it].clone());
            assert_eq!(limits, [77, 99], "what is not told stays");
            let script = "echo $$ > \"$0/cgroup.procs\" && exec \"$1\" run -p 8080 -- sh -c 'echo ok; read x; exit 0'";
            let mut run = std::process::Command::new("sh");
            run.args(["-c", script])
                .arg(&inner)
                .arg(env!("CARGO_BIN_EXE_portpool"));
            let mut run = Running::spawn(run.stdin(std::process::Stdio::piped()));
            assert_eq!(run.line(), "ok");

            let (guarded, own) = (inner.display().to_string(), arena.cgroup());
            let own = own.file_name().expect("a name").to_string_lossy();
            for line in ["status --json", "reservations --json", "port 8080 --json"] {
                let output = portpool(line);
                assert_eq!(output.status.code(), Some(0), "{line}: {}", stderr(&output));
                let warning = stderr(&output);
                assert!(warning.starts_with("warning: "), "{line}: {warning}");
                for part in [&guarded, &*own, "neither refused nor counted"] {
                    assert!(warning.contains(part), "{line}: {warning}");
                }
                let answer = json(&output);
                let shown = match &answer {
                    Value::Array(rows) => &rows[0],
                    other => other,
                };
                assert_eq!(shown["guards_this_process"], false, "{line}");
                assert_eq!(shown["pool"], "kernel", "{line}");
            }
            assert_eq!(json(&portpool("status --json"))["reservations"], 1);
            let row = &json(&portpool("port 8080/tcp --json"))[0];
            assert_eq!(row["reservation"]["owner"]["pid"], run.pid());
            assert!(stdout(&portpool("doctor")).contains("guards another cgroup"));

            // Nothing is reserved from here, in neither pool, unless told.
            for line in [
                "acquire -t 1",
                "run -t 1 -- true",
                "run -t 1 --fd -- true",
                "acquire -t 1 --while 1",
            ] {
                let refused = portpool(line);
                assert_eq!(refused.status.code(), Some(3), "{line}");
                let message = stderr(&refused);
                assert!(
                    message.contains(&guarded) && message.contains("--pool embedded"),
                    "{message}"
                );
                assert_eq!(stdout(&refused), "", "{line}");
            }
            let told = portpool("run -t 1 --pool embedded -- sh -c exit");
            assert_eq!(told.status.code(), Some(0), "{}", stderr(&told));
            // As the warning says: a socket of this cgroup takes what is reserved in the other.
            drop(TcpListener::bind(("127.0.0.1", 8080)).expect("not guarded"));
            assert_eq!(run.end(), Some(0));
        });
    }

    #[test]
    fn a_program_takes_sockets_from_the_kernel_pool() {
        in_arena!(|_| {
            passes_sockets(&Stage::new(Who::Me), "kernel");
            passes_sockets(&Stage::new(Who::Nobody), "kernel");
        });
    }

    #[test]
    fn the_options_of_run_say_what_the_kernel_pool_does_with_them() {
        in_arena!(|_| {
            for zero in ["block", "error"] {
                let refused = portpool(&format!("run -t 1 --zero {zero} -- true"));
                assert_eq!(refused.status.code(), Some(1));
                let message = stderr(&refused);
                assert!(message.contains("--pool embedded"), "{message}");
            }
            let script = "import socket\n\
                          s = socket.create_server(('127.0.0.1', 0))\n\
                          print(s.getsockname()[1] == {port})";
            let line = "run -t 1 --zero kernel --strict --explain=json -- python3 -c";
            let output = command(line).arg(script).output().expect("run");
            assert_eq!(stdout(&output).trim_end(), "False", "{}", stderr(&output));
            let report: Value = serde_json::from_slice(&output.stderr).expect("JSON");
            assert_eq!(report["pool"], "kernel");
            assert_eq!(report["ports"][0]["uses"][0]["technique"], "kernel");
        });
    }
}
