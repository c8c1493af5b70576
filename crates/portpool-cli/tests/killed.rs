//! kill -9 of `portpool run` and of the program it runs, at random moments.

mod as_root {
    use std::{
        process::{Child, Command, Stdio},
        time::{Duration, Instant},
    };

    use portpool_testkit::{Arena, Census, Chance, Size, in_arena, sys::bpf::programs_on};
    use rustix::process::{Pid, Signal, kill_process, test_kill_process};

    #[test]
    fn ports_are_free_at_once_when_portpool_run_is_killed() {
        in_arena!(|arena| {
            rounds(arena, |runner, child| {
                kill(runner.id());
                runner.wait().expect("wait");
                // The program goes with it: it is of no use without its ports.
                child.into_iter().for_each(await_gone);
            });
        });
    }

    #[test]
    fn ports_are_free_at_once_when_the_program_run_is_killed() {
        in_arena!(|arena| {
            rounds(arena, |runner, child| match child {
                Some(child) => {
                    kill(child);
                    let status = runner.wait().expect("wait");
                    assert_eq!(status.code(), Some(137), "{status}");
                }
                None => {
                    kill(runner.id());
                    runner.wait().expect("wait");
                }
            });
        });
    }

    fn rounds(arena: &Arena, end: impl Fn(&mut Child, Option<u32>)) {
        let seed = Chance::seed();
        println!("seed {seed}");
        let mut chance = Chance::new(seed);
        let programs = programs_on(arena.cgroup()).expect("programs");
        for _ in 0..Size::kill_rounds() / 2 {
            let mut runner = Command::new(env!("CARGO_BIN_EXE_portpool"))
                .args(["run", "-b", "3", "-p", "20000-20009", "--", "sleep", "1000"])
                .stdin(Stdio::null())
                .spawn()
                .expect("start portpool");
            #[expect(clippy::disallowed_methods, reason = "any moment will do")]
            std::thread::sleep(Duration::from_micros(u64::from(chance.below(30_000))));
            let child = child_of(runner.id());
            end(&mut runner, child);
            // A child that had not come to exec yet may take a moment to die.
            Census::await_nothing(arena);
        }
        assert_eq!(programs_on(arena.cgroup()).expect("programs"), programs);
    }

    fn child_of(pid: u32) -> Option<u32> {
        let children = format!("/proc/{pid}/task/{pid}/children");
        let children = std::fs::read_to_string(children).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    fn kill(pid: u32) {
        // Gone already is as well.
        let _ = kill_process(process(pid), Signal::KILL);
    }

    fn await_gone(pid: u32) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while test_kill_process(process(pid)).is_ok() {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // Nobody may be there to wait for it.
            if stat.contains(") Z ") {
                return;
            }
            assert!(Instant::now() < deadline, "process {pid} lives on");
            std::thread::yield_now();
        }
    }

    fn process(pid: u32) -> Pid {
        Pid::from_raw(pid.cast_signed()).expect("a process id")
    }
}
