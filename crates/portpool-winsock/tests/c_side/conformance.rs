//! The conformance suite in `conformance/`, in C and in C++, in an arena with a kernel pool.

use std::{env, fs, path::PathBuf};

use crate::toolchain::{Bench, Language, root};

mod as_root {
    use portpool::{PortRange, Transports};
    use portpool_testkit::{Arena, Census, in_arena};

    use super::{Bench, Language, PathBuf, REPORT_VARIABLE, build, env, fs};
    use crate::keeper::Keeper;

    /// In the wildcard ranges of the pool.
    const EXCLUDED_PORT: u16 = 30_500;

    #[test]
    fn every_case_of_the_checklist_is_as_the_table_says_in_c() {
        in_arena!(|arena| run_suite(arena, Language::C));
    }

    #[test]
    fn every_case_of_the_checklist_is_as_the_table_says_in_cpp() {
        in_arena!(|arena| run_suite(arena, Language::Cpp));
    }

    fn run_suite(arena: &Arena, language: Language) {
        let bench = Bench::new();
        let suite = build(&bench, language, &[]);
        let mut command = bench.command(&suite);
        // What is not attached is to be an error, not another pool.
        command.env("PORTPOOL_POOL", "kernel");
        for name in ["acquire", "release", "persistent"] {
            bench.windows_program(name);
        }
        command.env("PORTPOOL_CONFORMANCE_SAMPLES", bench.path());
        let keeper = Keeper::new(arena);
        command.env("PORTPOOL_CONFORMANCE_KEEPER", keeper.gate());
        command.env("PORTPOOL_CONFORMANCE_RESTART", keeper.command("restart"));
        command.env("PORTPOOL_CONFORMANCE_REBOOT", keeper.command("reboot"));
        let excluded = PortRange::from_numbers(EXCLUDED_PORT, 4).expect("ports");
        let made = keeper.admin().exclude(Transports::Tcp, excluded, None);
        made.expect("exclude");
        command.env("PORTPOOL_CONFORMANCE_EXCLUDED", EXCLUDED_PORT.to_string());
        let mut output = None;
        keeper.serve(|| output = Some(command.output().expect("run the suite")));
        let output = output.expect("the suite ran");
        let made = keeper.admin().unexclude(Transports::Tcp, excluded);
        made.expect("take the exclusion back");
        let report = String::from_utf8_lossy(&output.stdout);
        let complaints = String::from_utf8_lossy(&output.stderr);
        if let Some(folder) = env::var_os(REPORT_VARIABLE) {
            let path = PathBuf::from(folder).join(format!("conformance-{language:?}.txt"));
            fs::write(path, report.as_bytes()).expect("write the report");
        }
        assert!(output.status.success(), "{report}\n{complaints}");
        assert!(report.contains(": 130 cases: "), "{report}");
        Census::await_nothing(arena);
    }
}

#[test]
fn the_table_has_every_case_once() {
    let numbers: Vec<String> = rows().into_iter().map(|(number, _)| number).collect();
    let wanted: Vec<String> = (1..=130).map(|number| number.to_string()).collect();
    assert_eq!(numbers, wanted);
}

/// The numbers of the cases that hold.
pub(crate) fn holding() -> Vec<String> {
    let rows = rows().into_iter();
    let holding = rows.filter(|(_, state)| state == "TRUE_NOW");
    holding.map(|(number, _)| number).collect()
}

/// Number and state of each row of the table.
fn rows() -> Vec<(String, String)> {
    let table = fs::read_to_string(root().join("conformance/cases.h")).expect("the table");
    let rows = table
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("CASE("));
    rows.filter_map(|row| {
        let mut cells = row.split(", ");
        let number = cells.next()?.to_owned();
        Some((number, cells.nth(1)?.to_owned()))
    })
    .filter(|(number, _)| number.parse::<u32>().is_ok())
    .collect()
}

/// Names the folder that the reports are to be left in.
const REPORT_VARIABLE: &str = "PORTPOOL_CONFORMANCE_REPORT";

/// The suite, built without a warning.
pub(crate) fn build(bench: &Bench, language: Language, flags: &[&str]) -> PathBuf {
    let folder = root().join("conformance");
    let mut sources: Vec<String> = fs::read_dir(&folder)
        .expect("the suite")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".c"))
        .map(|name| format!("conformance/{name}"))
        .collect();
    sources.sort();
    let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
    bench.program("conformance", language, &sources, flags)
}
