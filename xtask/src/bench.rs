//! `cargo xtask bench`: what the kernel pool costs, as ratios taken in one run; see `docs/benchmarks.md`.
//!
//! The measuring is a program of its own in the testkit, built for release and run in an arena; this
//! chore only builds and starts it.

use anyhow::Result;
use clap::Args;

use std::process::Command;

use crate::cargo::{self, Workspace};

/// Command line of `bench`.
#[derive(Args)]
pub(crate) struct Options {
    /// Fail if a limit is missed
    #[arg(long)]
    check: bool,
    /// Measure only this part, and leave the file as it is; may be repeated: kernel, embedded, handover, bystander, memory,
    /// keeper, store
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
}

/// Measures; needs root.
///
/// # Errors
///
/// Fails if the program does not build or run, or, when checking, if a limit is missed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let target = Workspace::load()?.target_directory;
    let mut build = cargo::cargo();
    build.args(["build", "--release", "--quiet"]);
    build.args(["--package", "portpool-testkit", "--bin", PROGRAM]);
    // The keeper is measured as it is run: a process of its own.
    cargo::run(build.args(["--package", "portpool-cli", "--bin", "portpool"]))?;

    let mut bench = Command::new(target.join("release").join(PROGRAM));
    if options.only.is_empty() {
        bench.arg("--report").arg(target.join("bench/report.json"));
    }
    if options.check {
        bench.arg("--check");
    }
    for part in &options.only {
        bench.args(["--only", part]);
    }
    cargo::run(&mut bench)
}

const PROGRAM: &str = "portpool-bench";
