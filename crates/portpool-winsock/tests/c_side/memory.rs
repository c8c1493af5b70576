//! What must hold of memory: no argument crashes a call, no thread harms another, and the tools that look
//! for errors find none. Races are in `races`; `scripts/sanitize-c address` looks into the Rust side as well.

use std::path::PathBuf;

use crate::{
    conformance,
    toolchain::{Bench, Language},
};

mod as_root {
    use std::{path::Path, process::Command};

    use portpool_testkit::{Census, Chance, Size, in_arena, in_bare_arena};

    use super::{Bench, CLEAN_CASES, FUZZ, Language, SANITIZED, STORM, conformance, program};
    use crate::{
        keeper::Keeper,
        toolchain::{root, run},
    };

    #[test]
    fn wsaioctl_answers_by_the_table_whatever_its_arguments_in_the_kernel_pool() {
        in_arena!(|arena| {
            fuzz("kernel", Size::asked().pick(20_000, 2_000_000));
            Census::await_nothing(arena);
        });
    }

    #[test]
    fn wsaioctl_answers_by_the_table_whatever_its_arguments_in_the_embedded_pool() {
        in_bare_arena!(|_| fuzz("embedded", Size::asked().pick(10_000, 1_000_000)));
    }

    #[test]
    fn threads_that_close_sockets_under_overlapped_work_leave_nothing_behind() {
        in_arena!(|arena| {
            let keeper = Keeper::new(arena);
            keeper.serve(|| {
                let report = storm(&[], Size::asked().pick(100, 5_000));
                assert!(!report.contains(" 0 of them pending"), "{report}");
            });
            Census::await_nothing(arena);
        });
    }

    #[test]
    fn the_address_and_undefined_behaviour_sanitizers_find_nothing() {
        in_arena!(|arena| {
            let bench = Bench::new();
            let suite = conformance::build(&bench, Language::C, SANITIZED);
            conformance::run_suite(arena, &bench, bench.command(&suite));
            let fuzz = program(&bench, FUZZ, SANITIZED);
            run(bench.command(&fuzz).args(["1", "3000"]));
            storm(SANITIZED, Size::asked().pick(50, 5_000));
            Census::await_nothing(arena);
        });
    }

    #[test]
    fn valgrind_finds_nothing() {
        in_arena!(|arena| {
            let bench = Bench::new();
            let suite = conformance::build(&bench, Language::C, &[]);
            let fuzz = program(&bench, FUZZ, &[]);
            let mut command = valgrind(&bench);
            command.arg(&suite);
            if Size::asked() == Size::Ci {
                command.args(CLEAN_CASES);
            }
            conformance::run_suite(arena, &bench, command);
            let calls = Size::asked().pick("300", "20000");
            let file = root().join("tests/c_side/valgrind.supp");
            let mut command = valgrind(&bench);
            command.arg(format!("--suppressions={}", file.display()));
            run(command.arg(fuzz).args(["1", calls]));
            Census::await_nothing(arena);
        });
    }

    fn fuzz(pool: &str, calls: u32) {
        let bench = Bench::new();
        let fuzz = program(&bench, FUZZ, &[]);
        let seed = Chance::seed();
        println!("PORTPOOL_SEED={seed}");
        let arguments = [seed.to_string(), calls.to_string()];
        run(bench
            .command(&fuzz)
            .env("PORTPOOL_POOL", pool)
            .args(arguments));
    }

    fn storm(flags: &[&str], rounds: u32) -> String {
        let bench = Bench::new();
        let storm = program(&bench, STORM, flags);
        let seed = Chance::seed();
        println!("PORTPOOL_SEED={seed}");
        run(bench
            .command(&storm)
            .args([seed.to_string(), rounds.to_string()]))
    }

    fn valgrind(bench: &Bench) -> Command {
        let mut command = bench.command(Path::new("valgrind"));
        command.args(["--quiet", "--trace-children=yes", "--error-exitcode=99"]);
        command.args(["--leak-check=full", "--errors-for-leak-kinds=definite"]);
        command
    }
}

/// A program beside this file, with what it stands on.
pub(crate) fn program(bench: &Bench, sources: &[&str], flags: &[&str]) -> PathBuf {
    let name = sources[0].rsplit('/').next().unwrap_or_default();
    bench.program(name.trim_end_matches(".c"), Language::C, sources, flags)
}

pub(crate) const FUZZ: &[&str] = &[
    "tests/c_side/fuzz.c",
    "conformance/suite.c",
    "conformance/process.c",
];

pub(crate) const STORM: &[&str] = &[
    "tests/c_side/storm.c",
    "conformance/overlapped.c",
    "conformance/suite.c",
    "conformance/process.c",
];

const SANITIZED: &[&str] = &[
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=undefined",
    "-fno-omit-frame-pointer",
];

/// One of each kind, since a process under valgrind takes a second to start: connecting, releasing,
/// overlapped with a routine, pending and cancelled, the provider, persistent.
const CLEAN_CASES: [&str; 6] = ["52", "62", "91", "94", "102", "119"];
