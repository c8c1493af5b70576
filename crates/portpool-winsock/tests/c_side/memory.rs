//! What must hold of memory: no argument crashes a call, no thread harms another, and the tools that look
//! for errors find none. `scripts/sanitize-c` looks into the Rust side as well.

use std::path::PathBuf;

use crate::{
    conformance,
    toolchain::{Bench, Language},
};

mod as_root {
    use std::path::Path;

    use portpool_testkit::{Census, Chance, Size, in_arena, in_bare_arena};

    use super::{Bench, CLEAN_CASES, FUZZ, Language, SANITIZED, STORM, conformance, program};
    use crate::toolchain::{root, run};

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
            storm(&[], Size::asked().pick(200, 20_000));
            Census::await_nothing(arena);
        });
    }

    #[test]
    fn the_address_and_undefined_behaviour_sanitizers_find_nothing() {
        in_arena!(|arena| {
            let bench = Bench::new();
            let suite = conformance::build(&bench, Language::C, SANITIZED);
            let holding = conformance::holding();
            run(bench
                .command(&suite)
                .env("PORTPOOL_POOL", "kernel")
                .args(&holding));
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
            let cases = match Size::asked() {
                Size::Ci => CLEAN_CASES.map(str::to_owned).to_vec(),
                Size::Long => conformance::holding(),
            };
            under_valgrind(&bench, &[], &suite, &cases);
            let calls = Size::asked().pick("300", "20000").to_owned();
            let file = root().join("tests/c_side/valgrind.supp");
            let suppressed = format!("--suppressions={}", file.display());
            under_valgrind(&bench, &[&suppressed], &fuzz, &["1".to_owned(), calls]);
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

    fn storm(flags: &[&str], rounds: u32) {
        let bench = Bench::new();
        let storm = program(&bench, STORM, flags);
        let seed = Chance::seed();
        println!("PORTPOOL_SEED={seed}");
        run(bench
            .command(&storm)
            .args([seed.to_string(), rounds.to_string()]));
    }

    fn under_valgrind(bench: &Bench, options: &[&str], program: &Path, arguments: &[String]) {
        let mut command = bench.command(Path::new("valgrind"));
        command.args(["--quiet", "--trace-children=yes", "--error-exitcode=99"]);
        command.args(["--leak-check=full", "--errors-for-leak-kinds=definite"]);
        command.args(options);
        command.arg(program).args(arguments);
        run(command.env("PORTPOOL_POOL", "kernel"));
    }
}

/// A program beside this file, with what it stands on.
fn program(bench: &Bench, sources: &[&str], flags: &[&str]) -> PathBuf {
    let name = sources[0].rsplit('/').next().unwrap_or_default();
    bench.program(name.trim_end_matches(".c"), Language::C, sources, flags)
}

const FUZZ: &[&str] = &[
    "tests/c_side/fuzz.c",
    "conformance/suite.c",
    "conformance/process.c",
];

const STORM: &[&str] = &[
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

/// One of each kind, since a process under valgrind takes a second to start: reserving, connecting,
/// releasing, overlapped with event and routine, pending and cancelled, the provider.
const CLEAN_CASES: [&str; 6] = ["6", "52", "62", "84", "91", "103"];
