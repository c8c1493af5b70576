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
            let usage = "portpool-bench [--check] [--only PART]... [--report PATH]";
            eprintln!("error: {message}; usage: {usage}");
            return ExitCode::from(2);
        }
    };
    program(|arena| run(arena, &options))
}

fn run(arena: &Arena, options: &Options) -> ExitCode {
    let stage = Stage::set(arena);
    let mut report = Report::default();
    for (_, measure) in PARTS.iter().filter(|(name, _)| options.is_wanted(name)) {
        measure(&stage, &mut report);
    }
    stage.leave();
    print!("{}", report.table());
    // A report with rows left out would pass for one that has them all.
    let path = options.report.as_ref().filter(|_| options.only.is_empty());
    if let Some(path) = path
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

/// What is measured, in this order.
type Part = (&'static str, fn(&Stage, &mut Report));

const PARTS: [Part; 7] = [
    ("kernel", kernel::measure),
    ("embedded", embedded::measure),
    ("handover", handover::measure),
    ("bystander", bystander::measure),
    ("memory", memory::measure),
    ("keeper", keeper::measure),
    ("store", store::measure),
];

struct Options {
    /// End with an error if a limit is missed.
    check: bool,
    /// The parts to measure; all, if none is named.
    only: Vec<String>,
    report: Option<PathBuf>,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            check: false,
            only: Vec::new(),
            report: None,
        };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--check" => options.check = true,
                "--only" => {
                    let names = PARTS.map(|(name, _)| name);
                    let problem = || format!("--only needs one of {}", names.join(", "));
                    let part = words.next().filter(|it| names.contains(&it.as_str()));
                    options.only.push(part.ok_or_else(problem)?);
                }
                "--report" => {
                    let path = words.next().ok_or("--report needs a path")?;
                    options.report = Some(path.into());
                }
                _ => return Err(format!("unknown argument {word:?}")),
            }
        }
        Ok(options)
    }

    fn is_wanted(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|it| it == part)
    }
}
