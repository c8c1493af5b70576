//! Races between threads, which the thread sanitizer looks for on both sides: the C programs, the library and
//! Rust's own library are built with it.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    memory::{FUZZ, STORM, program},
    toolchain::{Bench, root, run},
};

mod as_root {
    use portpool_testkit::{Census, Chance, Size, in_arena, in_bare_arena};

    use super::{FUZZ, RACE, STORM, Sanitized, THREADS};
    use crate::{conformance, keeper::Keeper, toolchain::Language};

    #[test]
    fn the_thread_sanitizer_finds_nothing_in_the_suite() {
        let sanitized = Sanitized::new();
        in_arena!(|arena| {
            let suite = conformance::build(&sanitized.bench, Language::C, &[]);
            conformance::run_suite(arena, &sanitized.bench, sanitized.command(&suite));
            sanitized.expect_nothing("the suite");
            Census::await_nothing(arena);
        });
    }

    #[test]
    fn the_thread_sanitizer_finds_nothing_in_the_kernel_pool() {
        let sanitized = Sanitized::new();
        in_arena!(|arena| {
            let seed = Chance::seed().to_string();
            println!("PORTPOOL_SEED={seed}");
            sanitized.run(FUZZ, &[&seed, Size::asked().pick("3000", "100000")]);
            Keeper::new(arena).serve(|| {
                let report = sanitized.run(STORM, &[&seed, Size::asked().pick("50", "2000")]);
                assert!(!report.contains(" 0 of them pending"), "{report}");
            });
            sanitized.run(THREADS, &["kernel", Size::asked().pick("20", "500")]);
            Census::await_nothing(arena);
        });
    }

    #[test]
    fn the_thread_sanitizer_finds_nothing_in_the_embedded_pool() {
        let sanitized = Sanitized::new();
        in_bare_arena!(|_| {
            let seed = Chance::seed().to_string();
            println!("PORTPOOL_SEED={seed}");
            sanitized.run(FUZZ, &[&seed, Size::asked().pick("3000", "100000")]);
            sanitized.run(STORM, &[&seed, Size::asked().pick("30", "2000")]);
            sanitized.run(THREADS, &["embedded", Size::asked().pick("5", "50")]);
        });
    }

    #[test]
    fn the_thread_sanitizer_sees_into_the_library() {
        let sanitized = Sanitized::new();
        in_bare_arena!(|_| {
            let race = sanitized.program(RACE);
            let ended = sanitized.command(&race).output().expect("run it");
            let seen = sanitized.take_reports();
            let is_seen = seen.contains("data race") && seen.contains("portpool_acquire");
            assert!(is_seen, "{ended:?}\n{seen}");
        });
    }
}

/// Programs and the library, built with the thread sanitizer.
struct Sanitized {
    bench: Bench,
    reports: PathBuf,
}

impl Sanitized {
    /// Builds the library first. That may need crates from elsewhere, so it is for outside of an arena.
    fn new() -> Sanitized {
        let mut script = Command::new(root().join("../../scripts/sanitize-c"));
        let folder = run(script.args(["thread", "--build"]));
        let library = Path::new(folder.trim_end()).join("libportpool_winsock.so");
        let bench = Bench::of(&library, FLAGS);
        let reports = bench.path().join("reports");
        fs::create_dir(&reports).expect("a folder for reports");
        // Some of the programs go on as another user.
        let open = fs::Permissions::from_mode(0o777);
        fs::set_permissions(&reports, open).expect("open the folder");
        Sanitized { bench, reports }
    }

    fn program(&self, sources: &[&str]) -> PathBuf {
        program(&self.bench, sources, &[])
    }

    /// A command that runs such a program, and it and its children report into files.
    fn command(&self, program: &Path) -> Command {
        let mut command = match random_bits_of_addresses() {
            0..=RANDOM_BITS_MAX => self.bench.command(program),
            _ => {
                let mut command = self.bench.command(Path::new("setarch"));
                command.arg("--addr-no-randomize").arg(program);
                command
            }
        };
        let suppressions = root().join("tests/c_side/tsan.supp");
        let reports = self.reports.join("report");
        let options = [
            format!("suppressions={}", suppressions.display()),
            format!("log_path={}", reports.display()),
            // The longest, or of what one side did long ago no stack is left.
            "history_size=7".to_owned(),
            // It ends as it would, and the reports are for `expect_nothing`.
            "exitcode=0".to_owned(),
        ];
        command.env("TSAN_OPTIONS", options.join(":"));
        command
    }

    /// Runs a program that is to end well; answers what it printed.
    fn run(&self, sources: &[&str], arguments: &[&str]) -> String {
        let program = self.program(sources);
        let mut command = self.command(&program);
        command.args(arguments);
        let output = command.output().expect("run it");
        self.expect_nothing(sources[0]);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{command:?}: {output:?}");
        printed
    }

    fn expect_nothing(&self, what: &str) {
        let reports = self.take_reports();
        assert!(reports.is_empty(), "{what}:\n{reports}");
    }

    fn take_reports(&self) -> String {
        let mut text = String::new();
        for file in fs::read_dir(&self.reports).expect("the reports") {
            let path = file.expect("a file").path();
            text += &fs::read_to_string(&path).expect("read a report");
            fs::remove_file(path).expect("remove a report");
        }
        text
    }
}

fn random_bits_of_addresses() -> u32 {
    let bits = fs::read_to_string("/proc/sys/vm/mmap_rnd_bits").expect("a setting of the kernel");
    bits.trim_end().parse().expect("a number")
}

/// With more the runtime of gcc 12 finds memory where it expects none.
const RANDOM_BITS_MAX: u32 = 28;

const FLAGS: &[&str] = &["-fsanitize=thread", "-fno-omit-frame-pointer"];
const THREADS: &[&str] = &["tests/c_side/threads.c"];
const RACE: &[&str] = &["tests/c_side/race.c"];
