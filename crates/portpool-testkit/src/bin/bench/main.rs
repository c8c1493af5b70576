//! What portpool costs, as ratios taken in one run; `cargo xtask bench` builds and starts it.
//!
//! Everything is measured in one process on one processor, which moves itself between a cgroup with
//! the pool attached and one without: a socket is guarded if it was created inside. What is compared
//! alternates in short rounds, so that what else the machine does meets both sides alike.
//!
//! - `meter`: rounds, medians, ratios.
//! - `stage`: the pool, the two cgroups, the sockets.
//! - `kernel`, `embedded`, `handover`, `keeper`, `bystander`, `memory`, `store`: what is measured.
//! - `report`: the table and the file.
#![forbid(unsafe_code)]

mod bystander;
mod embedded;
mod handover;
mod keeper;
mod kernel;
mod memory;
mod meter;
mod report;
mod stage;
mod store;

use std::{env, path::PathBuf, process::ExitCode};

use portpool_testkit::{Arena, program};

use report::Report;
use stage::Stage;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().collect();
    if let [_, word, first] = &words[..]
        && word == handover::CHILD
    {
        handover::obey(first.parse().expect("a port"));
        return ExitCode::SUCCESS;
    }
    let options = match Options::parse(env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!(
                "error: {message}; usage: portpool-bench [--check] [--report PATH] [--only ROWS]..."
            );
            return ExitCode::from(2);
        }
    };
    program(|arena| run(arena, &options))
}

type Measure = fn(&Stage, &mut Report);

/// The first words of rows and what measures these. Memory's are kernel rows as well.
const SUBJECTS: [(&str, Measure); 7] = [
    ("kernel", kernel::measure),
    ("embedded", embedded::measure),
    ("handover", handover::measure),
    ("bystander", bystander::measure),
    ("memory", memory::measure),
    ("keeper", keeper::measure),
    ("store", store::measure),
];

fn run(arena: &Arena, options: &Options) -> ExitCode {
    let stage = Stage::set(arena);
    let mut report = Report::default();
    for (rows, measure) in SUBJECTS {
        if options.only.is_empty() || options.only.iter().any(|only| only == rows) {
            measure(&stage, &mut report);
        }
    }
    stage.leave();
    print!("{}", report.table());
    if let Some(path) = &options.report
        && let Err(error) = report.write(path)
    {
        eprintln!("error: write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    if options.check && report.is_missed() {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

struct Options {
    /// End with an error if a limit is missed.
    check: bool,
    report: Option<PathBuf>,
    /// The subjects to measure; all if there are none.
    only: Vec<String>,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            check: false,
            report: None,
            only: Vec::new(),
        };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--check" => options.check = true,
                "--report" => {
                    let path = words.next().ok_or("--report needs a path")?;
                    options.report = Some(path.into());
                }
                "--only" => {
                    let rows = words.next().ok_or("--only needs the first word of rows")?;
                    if !SUBJECTS.iter().any(|(known, _)| *known == rows) {
                        let known = SUBJECTS.map(|(known, _)| known).join(", ");
                        return Err(format!("--only {rows}: there are {known}"));
                    }
                    options.only.push(rows);
                }
                _ => return Err(format!("unknown argument {word:?}")),
            }
        }
        Ok(options)
    }
}
