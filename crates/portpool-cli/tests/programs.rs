//! Real servers under `portpool run`: each serves on its port, nobody else gets the port before it
//! starts, while it starts, serves, stops and starts again, and afterwards the port is free.

/// Arenas need root; the servers run as root and as uid 65534.
mod as_root {
    use std::{
        fs,
        io::{BufRead, BufReader, Read, Write},
        net::{Ipv4Addr, SocketAddr, TcpListener},
        os::unix::process::CommandExt,
        path::Path,
        process::{Child, ChildStdin, ChildStdout, Command, Stdio},
        thread,
        time::{Duration, Instant},
    };

    use portpool_testkit::{
        Errno, in_arena, in_bare_arena,
        programs::{PROGRAMS, PYTHON_ON_PORT_ZERO, Program},
        stranger::{Spinner, bind_as},
    };
    use serde_json::Value;
    use tempfile::TempDir;

    #[test]
    fn the_kernel_pool_keeps_the_port_of_every_program_of_root() {
        in_arena!(|_| each(Column::Kernel, 0));
    }

    #[test]
    fn the_kernel_pool_keeps_the_port_of_every_program_of_a_user() {
        in_arena!(|_| each(Column::Kernel, NOBODY));
    }

    #[test]
    fn a_program_on_port_zero_gets_no_reserved_port_of_the_kernel_pool() {
        in_arena!(|_| {
            if !PYTHON_ON_PORT_ZERO.is_installed() {
                return;
            }
            let place = Place::new(&PYTHON_ON_PORT_ZERO, ANY);
            let mut run = Run::start(&place, Column::Kernel, NOBODY);
            run.order("start");
            let mut log = String::new();
            until("a port in the log", || {
                log = fs::read_to_string(place.path().join("log")).unwrap_or_default();
                log.contains(" port ")
            });
            let words = log.split(" port ").nth(1).expect("a port");
            let port: u16 = words
                .split(' ')
                .next()
                .expect("a word")
                .parse()
                .expect("a port");
            assert_ne!(port, run.port);
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            until("an answer", || PYTHON_ON_PORT_ZERO.answers(address));
            run.order("stop");
            run.end();
        });
    }

    #[test]
    fn the_embedded_pool_keeps_the_port_of_every_program_of_root() {
        in_bare_arena!(|_| each(Column::Embedded, 0));
    }

    #[test]
    fn the_embedded_pool_keeps_the_port_of_every_program_of_a_user() {
        in_bare_arena!(|_| each(Column::Embedded, NOBODY));
    }

    #[test]
    fn a_program_on_port_zero_gets_the_port_that_the_embedded_pool_holds() {
        in_bare_arena!(|_| {
            if PYTHON_ON_PORT_ZERO.is_installed() {
                // Once: the connections of a first life would send a second one to another port.
                let fight = serve(&PYTHON_ON_PORT_ZERO, Column::Embedded, NOBODY, LOOPBACK, 1);
                println!("{fight}");
            }
        });
    }

    fn each(column: Column, uid: u32) {
        for program in PROGRAMS.iter().filter(|it| it.is_installed()) {
            let ip = column.address(uid, program);
            let fight = serve(program, column, uid, ip, START_COUNT);
            println!(
                "{} on {ip} as {uid}, {} pool: {fight}",
                program.name,
                column.word()
            );
        }
    }

    /// Runs it through some lives and their reloads while somebody spins on its port. What they got.
    fn serve(
        program: &Program,
        column: Column,
        uid: u32,
        ip: &'static str,
        start_count: u32,
    ) -> String {
        let place = Place::new(program, ip);
        let mut run = Run::start(&place, column, uid);
        let port = run.port;
        let what = format!("{} on {ip}:{port} as {uid}", program.name);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        assert_kept(column, port, &what);
        // Of the same uid, unless that is let in as without any pool.
        let adversary = if program.shares_port { STRANGER } else { uid };
        let adversary = Spinner::start(adversary, SocketAddr::new(ip.parse().expect("ip"), port));
        for _ in 0..start_count {
            run.order("start");
            until(&what, || program.answers(address));
            assert_kept(column, port, &what);
            if let Some(reload) = program.reload {
                run.order(reload.order());
                for _ in 0..5 {
                    until(&what, || program.answers(address));
                }
                assert_kept(column, port, &what);
            }
            run.order("stop");
            assert_kept(column, port, &what);
        }
        let wins = adversary.end();
        let techniques = run.end();
        let fight = format!("{wins:?}, the server by {techniques:?}");
        assert_eq!((wins.binds, wins.listens), (0, 0), "{what}: {fight}");
        for (technique, is_gap_free) in &techniques {
            assert!(is_gap_free, "{what}: {technique}");
        }
        until("the port is free", || {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
        });
        fight
    }

    /// Another user is refused the port, whatever the address and the options.
    fn assert_kept(column: Column, port: u16, what: &str) {
        let ips = ["127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"];
        let addresses = ips.map(|ip| SocketAddr::new(ip.parse().expect("an address"), port));
        for (address, answer) in bind_as(STRANGER, &addresses) {
            assert_eq!(
                answer,
                Err(column.errno()),
                "{what}: a stranger on {address}"
            );
        }
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Column {
        Kernel,
        Embedded,
    }

    impl Column {
        fn word(self) -> &'static str {
            match self {
                Column::Kernel => "kernel",
                Column::Embedded => "embedded",
            }
        }

        /// One that the pool promises to keep at every moment.
        fn address(self, uid: u32, program: &Program) -> &'static str {
            match self {
                Column::Embedded if uid != 0 || program.shares_port => LOOPBACK,
                Column::Kernel | Column::Embedded => ANY,
            }
        }

        fn errno(self) -> Errno {
            match self {
                Column::Kernel => Errno::ACCES,
                Column::Embedded => Errno::ADDRINUSE,
            }
        }
    }

    /// A directory that everybody can use, with a program in it and the commands that run it.
    struct Place {
        dir: TempDir,
        program: Program,
        ip: &'static str,
    }

    impl Place {
        fn new(program: &Program, ip: &'static str) -> Place {
            let dir = TempDir::new().expect("a directory");
            let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
            program.prepare(dir.path(), ip, &cache);
            let mut copy = Command::new("cp");
            copy.arg(env!("CARGO_BIN_EXE_portpool")).arg(dir.path());
            assert!(copy.status().expect("run cp").success());
            let program = *program;
            Place { dir, program, ip }
        }

        fn path(&self) -> &Path {
            self.dir.path()
        }
    }

    /// A running portpool with a shell that starts and stops the server.
    struct Run {
        child: Child,
        orders: Option<ChildStdin>,
        answers: BufReader<ChildStdout>,
        port: u16,
    }

    impl Run {
        fn start(place: &Place, column: Column, uid: u32) -> Run {
            let mut command = match uid {
                0 => Command::new(place.path().join("portpool")),
                _ => {
                    let mut command = Command::new("setpriv");
                    command.args([&format!("--reuid={uid}"), &format!("--regid={uid}")]);
                    command.args(["--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]);
                    command.arg(place.path().join("portpool"));
                    command
                }
            };
            command.args(["run", "--pool", column.word(), "--explain=json"]);
            command.args(["-t", "1", "--"]);
            command.args(place.program.command(place.path(), place.ip, "{port}"));
            command.env("XDG_RUNTIME_DIR", place.path());
            command.current_dir(place.path()).process_group(0);
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.stderr(Stdio::piped()).spawn().expect("spawn");
            let orders = child.stdin.take();
            let answers = BufReader::new(child.stdout.take().expect("a pipe"));
            let mut run = Run {
                child,
                orders,
                answers,
                port: 0,
            };
            run.port = run.answer().parse().expect("a port");
            run
        }

        fn order(&mut self, order: &str) {
            let orders = self.orders.as_mut().expect("a pipe");
            writeln!(orders, "{order}").expect("order");
            let answer = self.answer();
            assert!(!answer.is_empty(), "{order}: no answer");
        }

        fn answer(&mut self) -> String {
            let mut line = String::new();
            self.answers.read_line(&mut line).expect("read");
            if line.is_empty() {
                let mut said = String::new();
                let stderr = self.child.stderr.as_mut().expect("a pipe");
                stderr.read_to_string(&mut said).expect("read");
                panic!("portpool ended: {said}");
            }
            line.trim_end().to_owned()
        }

        /// Ends it: how the port was handed over, and whether nobody fitted in at any moment.
        fn end(mut self) -> Vec<(String, bool)> {
            drop(self.orders.take());
            let mut said = String::new();
            let stderr = self.child.stderr.as_mut().expect("a pipe");
            stderr.read_to_string(&mut said).expect("read");
            let status = self.child.wait().expect("wait");
            assert!(status.success(), "{status}: {said}");
            let report = said.lines().last().expect("a report");
            let report: Value = serde_json::from_str(report).expect("JSON");
            let uses = report["ports"][0]["uses"].as_array().expect("uses");
            assert!(!uses.is_empty(), "{said}");
            let uses = uses.iter().map(|it| {
                let technique = it["technique"].as_str().expect("a word").to_owned();
                (technique, it["gap_free"] == true)
            });
            uses.collect()
        }
    }

    impl Drop for Run {
        fn drop(&mut self) {
            // It has ended, unless a test failed. What it started goes with the arena.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }

    fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "waited in vain: {what}");
            #[expect(
                clippy::disallowed_methods,
                reason = "polls a condition, with a deadline"
            )]
            thread::sleep(Duration::from_millis(5));
        }
    }

    const ANY: &str = "0.0.0.0";
    const LOOPBACK: &str = "127.0.0.1";
    const NOBODY: u32 = 65_534;
    const STRANGER: u32 = 65_533;
    const START_COUNT: u32 = 2;
    const PATIENCE: Duration = Duration::from_secs(60);
}
