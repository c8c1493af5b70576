//! `cargo xtask fuzz`: gives the fuzz targets to libFuzzer, each for some seconds.
//!
//! libFuzzer comes with its crate and the instrumentation with rustc, the stable one: all that is needed
//! beside them is a C++ compiler. What is found stays below the target directory.

use std::{
    borrow::Cow,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::cargo::{self, Workspace, cargo, stdout_of};

/// Command line of `fuzz`.
#[derive(Args)]
pub(crate) struct Options {
    /// Only this target; a file in fuzz/fuzz_targets, without .rs
    target: Option<String>,
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

/// Builds the targets and runs one after the other.
///
/// # Errors
///
/// Fails if there is no such target, if they do not build, and, after all have run, if one of them failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::load()?;
    let all = targets(&workspace.root)?;
    let chosen: Vec<&String> = match &options.target {
        None => all.iter().collect(),
        Some(name) => all.iter().filter(|it| *it == name).collect(),
    };
    ensure!(
        !chosen.is_empty(),
        "no fuzz target {}; there are {}",
        options.target.as_deref().unwrap_or_default(),
        all.join(", ")
    );
    let place = Place {
        seeds: workspace.root.join(FOLDER).join("seeds"),
        found: workspace.target_directory.join("fuzz"),
    };
    let programs = build(&workspace.root, &place.found, options.target.as_deref())?;
    let mut failed = Vec::new();
    for name in chosen {
        match place.fuzz(name, &programs.join(name), options.seconds) {
            Ok(report) => println!("{name:12} {report}"),
            Err(error) => {
                println!("{name:12} failed: {error:#}");
                failed.push(name.as_str());
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("what must hold of these did not: {}", failed.join(", "))
}

/// The targets there are.
///
/// # Errors
///
/// Fails if their folder cannot be read.
pub(crate) fn targets(root: &Path) -> Result<Vec<String>> {
    let folder = root.join(FOLDER).join("fuzz_targets");
    let entries = fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let stem = path.file_stem().map(|stem| stem.to_string_lossy());
        names.extend(stem.map(Cow::into_owned));
    }
    names.sort();
    Ok(names)
}

/// The folder with the programs.
fn build(root: &Path, found: &Path, target: Option<&str>) -> Result<PathBuf> {
    let mut rustc = Command::new("rustc");
    let about = stdout_of(rustc.arg("-vV"))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc does not say what it builds for")?;
    let mut build = cargo();
    build
        .args([
            "build",
            "--release",
            "--locked",
            "--target",
            host,
            "--target-dir",
        ])
        .arg(found)
        .arg("--manifest-path")
        .arg(root.join(FOLDER).join("Cargo.toml"))
        // With --target these are for the targets alone, not for build scripts.
        .env("RUSTFLAGS", FLAGS.join(" "))
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    match target {
        Some(name) => build.args(["--bin", name]),
        None => build.arg("--bins"),
    };
    cargo::run(&mut build)?;
    Ok(found.join(host).join("release"))
}

struct Place {
    seeds: PathBuf,
    /// What goes on from one run to the next: inputs that led somewhere new, inputs that failed, logs.
    found: PathBuf,
}

impl Place {
    fn fuzz(&self, name: &str, program: &Path, seconds: u32) -> Result<String> {
        let [inputs, failures, logs] =
            ["inputs", "failures", "logs"].map(|kind| self.found.join(kind).join(name));
        for folder in [&inputs, &failures, &logs] {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        let log = logs.join("last");
        let output = File::create(&log).with_context(|| format!("write {}", log.display()))?;
        let mut fuzzer = Command::new(program);
        fuzzer
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/", failures.display()))
            .args(["-print_final_stats=1", "-timeout=10", "-rss_limit_mb=2048"])
            .arg(&inputs)
            .arg(self.seeds.join(name))
            .stdout(output.try_clone()?)
            .stderr(output);
        let status = fuzzer.status().with_context(|| format!("start {name}"))?;
        let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        if status.success() {
            return report(&text).context("libFuzzer did not say what it did");
        }
        let tail: Vec<&str> = text.lines().rev().take(TAIL_LINE_COUNT).collect();
        for line in tail.into_iter().rev() {
            println!("  {line}");
        }
        bail!(
            "{status}; the input is in {}, the log in {}",
            failures.display(),
            log.display()
        )
    }
}

/// What libFuzzer says at its end, in one line.
fn report(log: &str) -> Option<String> {
    let progress = log.lines().rev().find(|line| line.contains(" cov: "))?;
    let after = |text: &str, word: &str| {
        let (_, rest) = text.split_once(word)?;
        rest.split_whitespace().next().map(str::to_owned)
    };
    let (cov, inputs) = (after(progress, "cov: ")?, after(progress, "corp: ")?);
    let inputs = inputs.split('/').next()?.to_owned();
    let count = after(log, "stat::number_of_executed_units:")?;
    Some(format!("{count} runs, {cov} edges, {inputs} inputs"))
}

const FOLDER: &str = "fuzz";
const TAIL_LINE_COUNT: usize = 20;

/// Edges are counted and compared values told, as libFuzzer wants it; sums that overflow are found.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
    "-Coverflow-checks",
    "--cfg=fuzzing",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_did_is_one_line() {
        let log = "#4\tINITED cov: 12 ft: 13 corp: 3/18b exec/s: 0 rss: 40Mb\n\
                   #900\tDONE   cov: 57 ft: 90 corp: 41/2Kb lim: 4 exec/s: 90 rss: 41Mb\n\
                   Done 900 runs in 10 second(s)\nstat::number_of_executed_units: 900\n";
        assert_eq!(
            report(log).as_deref(),
            Some("900 runs, 57 edges, 41 inputs")
        );
        assert_eq!(report("Killed\n"), None);
    }

    #[test]
    fn every_target_is_a_file_of_its_own() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let names = targets(&root).unwrap();
        assert!(names.iter().any(|name| name == "spec"), "{names:?}");
    }
}
