//! `cargo xtask test`: all tests of the workspace, and one line that says how they went.
//!
//! Tests that attach to the kernel are those of `portpool-testkit` and, in other crates, those in
//! modules named `as_root`. Where the kernel cannot be attached to they are left out and named; in
//! CI that is a failure instead.

mod privilege;
mod reach;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::cargo::{Workspace, cargo, run as obey, stdout_of};

/// Command line of `test`.
#[derive(Args)]
pub(crate) struct Options {
    /// Run the tests that take random steps for long, not for a moment
    #[arg(long)]
    long: bool,
}

/// Builds the workspace and runs its tests; the last line printed is `N passed, N failed`.
///
/// # Errors
///
/// Fails if the workspace does not build, cargo cannot be run, or CI lacks what tests need. Tests
/// that fail are no error here: they are in the exit code, which is cargo's.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let obstacle = privilege::obstacle()?;
    if let Some(obstacle) = &obstacle
        && std::env::var_os("CI").as_deref() == Some(OsStr::new("true"))
    {
        bail!("{obstacle}, and with CI=true no test may be left out");
    }
    let mut elsewhere = None;
    if obstacle.is_none() {
        install_what_tests_need()?;
        elsewhere = reach::elsewhere(&Workspace::load()?.target_directory)?;
    }
    let cargo = || {
        let mut cargo = cargo();
        cargo.envs(elsewhere.iter().map(|folder| ("CARGO_TARGET_DIR", folder)));
        cargo
    };
    obey(cargo().args(["build", "--workspace"]))?;

    // A failed program must not keep the others from being counted.
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--no-fail-fast"]);
    // Tests read what programs print, which this would put colours into.
    tests.env_remove("CLICOLOR_FORCE");
    if options.long {
        tests.env(SIZE_VARIABLE, "long");
    }
    if obstacle.is_some() {
        tests.args(["--exclude", ROOT_PACKAGE, "--", "--skip", ROOT_MODULE]);
    }
    let (tally, code) = count(&mut tests)?;
    if let Some(obstacle) = &obstacle {
        report_left_out(obstacle)?;
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(ExitCode::from(code))
}

/// Runs `scripts/setup` where it can install anything; elsewhere a test that lacks a program says so.
fn install_what_tests_need() -> Result<()> {
    let has_apt = Path::new("/usr/bin/apt-get").exists();
    if !has_apt {
        return Ok(());
    }
    obey(&mut Command::new(
        Workspace::load()?.root.join("scripts/setup"),
    ))
}

#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
}

/// Lets the output through while adding up the summaries in it.
fn count(tests: &mut Command) -> Result<(Tally, u8)> {
    // The same for everybody: a test that reads what it inherited fails here, too.
    tests.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = tests.spawn().context("run cargo")?;
    let pipe = child.stdout.take().context("cargo has an output")?;
    let mut output = BufReader::new(pipe);
    let mut tally = Tally::default();
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line).context("read cargo")? > 0 {
        let mut stdout = std::io::stdout().lock();
        stdout
            .write_all(&line)
            .and_then(|()| stdout.flush())
            .context("pass on what cargo prints")?;
        if let Some((passed, failed)) = summary(&String::from_utf8_lossy(&line)) {
            tally.passed += passed;
            tally.failed += failed;
        }
        line.clear();
    }
    let status = child.wait().context("wait for cargo")?;
    if !status.success() && tally.failed == 0 {
        // A test program did not compile, or died before its summary.
        tally.failed = 1;
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok((tally, code.unwrap_or(1)))
}

/// The counts in the line that ends the output of a test program.
fn summary(line: &str) -> Option<(u64, u64)> {
    let counts = line.strip_prefix("test result: ")?;
    let count_of = |what: &str| -> Option<u64> {
        let words: Vec<&str> = counts
            .split([' ', ';'])
            .filter(|it| !it.is_empty())
            .collect();
        let at = words.iter().position(|&word| word == what)?;
        words[at.checked_sub(1)?].parse().ok()
    };
    Some((count_of("passed")?, count_of("failed")?))
}

fn report_left_out(obstacle: &str) -> Result<()> {
    let mut left_out = list(&["--package", ROOT_PACKAGE])?;
    let others = list(&["--workspace", "--exclude", ROOT_PACKAGE])?;
    left_out.extend(others.into_iter().filter(|name| name.contains(ROOT_MODULE)));
    if left_out.is_empty() {
        return Ok(());
    }
    println!("left out, because {obstacle}:");
    for name in &left_out {
        println!("  {name}");
    }
    println!("`sudo --preserve-env env \"PATH=$PATH\" cargo xtask test` runs them\n");
    Ok(())
}

/// The names of the tests of some packages.
fn list(packages: &[&str]) -> Result<Vec<String>> {
    let mut list = cargo();
    list.args(["test", "--quiet", "--lib", "--bins", "--tests"]);
    list.args(packages).args(["--", "--list", "--format=terse"]);
    let tests = stdout_of(&mut list)?;
    let names = tests.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok(names.map(str::to_owned).collect())
}

/// The package whose tests all attach to the kernel.
const ROOT_PACKAGE: &str = "portpool-testkit";

/// Part of the path of such a test in another package.
const ROOT_MODULE: &str = "as_root::";

/// What tests that scale look at.
const SIZE_VARIABLE: &str = "PORTPOOL_TEST_SIZE";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_a_test_program_is_read() {
        let line = "test result: ok. 23 passed; 0 failed; 4 ignored; 0 measured; 0 filtered out";
        assert_eq!(summary(line), Some((23, 0)));
        let line = "test result: FAILED. 2 passed; 11 failed; 0 ignored; finished in 0.00s\n";
        assert_eq!(summary(line), Some((2, 11)));
    }

    #[test]
    fn other_lines_are_no_summary() {
        for line in [
            "test passed ... ok",
            "running 3 tests",
            "  test result: ok. 1 passed;",
        ] {
            assert_eq!(summary(line), None, "{line}");
        }
    }

    #[test]
    fn a_program_that_dies_without_a_summary_counts_as_failed() {
        let mut program = Command::new("sh");
        program.args([
            "-c",
            "echo 'test result: ok. 3 passed; 0 failed;'; exit 101",
        ]);
        let (tally, code) = count(&mut program).unwrap();
        assert_eq!((tally.passed, tally.failed, code), (3, 1, 101));
    }
}
