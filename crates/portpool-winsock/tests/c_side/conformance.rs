//! The conformance suite in `conformance/`, in C and in C++, in an arena with a kernel pool.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use portpool::{PortRange, Transports};
use portpool_testkit::Arena;

use crate::{
    keeper::Keeper,
    toolchain::{Bench, Language, root, run},
};

mod as_root {
    use portpool_testkit::{Arena, Census, in_arena};

    use super::{Bench, Language, PathBuf, REPORT_VARIABLE, build, env, fs, run_suite};

    #[test]
    fn every_case_of_the_checklist_is_as_the_table_says_in_c() {
        in_arena!(|arena| run_whole(arena, Language::C));
    }

    #[test]
    fn every_case_of_the_checklist_is_as_the_table_says_in_cpp() {
        in_arena!(|arena| run_whole(arena, Language::Cpp));
    }

    fn run_whole(arena: &Arena, language: Language) {
        let bench = Bench::new();
        let suite = build(&bench, language, &[]);
        let report = run_suite(arena, &bench, bench.command(&suite));
        if let Some(folder) = env::var_os(REPORT_VARIABLE) {
            let path = PathBuf::from(folder).join(format!("conformance-{language:?}.txt"));
            fs::write(path, report.as_bytes()).expect("write the report");
        }
        assert!(report.contains(": 130 cases: "), "{report}");
        Census::await_nothing(arena);
    }
}

/// Runs the suite with all that its cases need around them; answers its report.
pub(crate) fn run_suite(arena: &Arena, bench: &Bench, mut command: Command) -> String {
    for name in ["acquire", "release", "persistent"] {
        bench.windows_program(name);
    }
    let keeper = Keeper::new(arena);
    let excluded = PortRange::from_numbers(EXCLUDED_PORT, 4).expect("ports");
    let made = keeper.admin().exclude(Transports::Tcp, excluded, None);
    made.expect("exclude");
    command
        // What is not attached is to be an error, not another pool.
        .env("PORTPOOL_POOL", "kernel")
        .env("PORTPOOL_CONFORMANCE_SAMPLES", bench.path())
        .env("PORTPOOL_CONFORMANCE_KEEPER", keeper.gate())
        .env("PORTPOOL_CONFORMANCE_RESTART", keeper.command("restart"))
        .env("PORTPOOL_CONFORMANCE_REBOOT", keeper.command("reboot"))
        .env("PORTPOOL_CONFORMANCE_EXCLUDED", EXCLUDED_PORT.to_string());
    let mut report = String::new();
    keeper.serve(|| report = run(&mut command));
    let made = keeper.admin().unexclude(Transports::Tcp, excluded);
    made.expect("take the exclusion back");
    report
}

#[test]
fn a_case_that_starts_to_hold_or_does_not_hold_fails_the_run() {
    let bench = Bench::new();
    let folder = bench.path().join("conformance");
    fs::create_dir(&folder).expect("a folder");
    for file in fs::read_dir(root().join("conformance")).expect("the suite") {
        let file = file.expect("a file");
        fs::copy(file.path(), folder.join(file.file_name())).expect("copy the suite");
    }
    let table = fs::read_to_string(folder.join("cases.h")).expect("the table");
    let changed = table.replace("CASE(1, D, TRUE_NOW,", "CASE(1, D, NOT_YET(\"tested\"),");
    assert_ne!(table, changed);
    fs::write(folder.join("cases.h"), changed).expect("change the table");
    let suite = build_from(&bench, &folder, Language::C, &[]);
    let judge = |case: &str| {
        let output = bench.command(&suite).arg(case).output().expect("run it");
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), report)
    };
    let (code, report) = judge("1");
    assert!(
        code == Some(1) && report.contains("1 came true"),
        "{report}"
    );
    // Nobody has set up an exclusion here.
    let (code, report) = judge("16");
    assert!(code == Some(1) && report.contains("1 fail"), "{report}");
    let (code, report) = judge("2");
    assert!(code == Some(0) && report.contains("1 pass"), "{report}");
}

#[test]
fn the_table_has_every_case_once() {
    let table = fs::read_to_string(root().join("conformance/cases.h")).expect("the table");
    let rows = table
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("CASE("));
    let numbers: Vec<u32> = rows
        .filter_map(|row| row.split_once(',')?.0.parse().ok())
        .collect();
    assert_eq!(numbers, (1..=130).collect::<Vec<_>>());
}

/// Names the folder that the reports are to be left in.
const REPORT_VARIABLE: &str = "PORTPOOL_CONFORMANCE_REPORT";

/// The suite, built without a warning.
pub(crate) fn build(bench: &Bench, language: Language, flags: &[&str]) -> PathBuf {
    build_from(bench, &root().join("conformance"), language, flags)
}

fn build_from(bench: &Bench, folder: &Path, language: Language, flags: &[&str]) -> PathBuf {
    let mut sources: Vec<String> = fs::read_dir(folder)
        .expect("the suite")
        .filter_map(|entry| entry.ok()?.path().into_os_string().into_string().ok())
        .filter(|path| path.ends_with(".c"))
        .collect();
    sources.sort();
    let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
    bench.program("suite", language, &sources, flags)
}

/// In the wildcard ranges of the pool.
const EXCLUDED_PORT: u16 = 30_500;
