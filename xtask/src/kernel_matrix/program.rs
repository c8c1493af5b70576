//! Programs for the guest: static, because the guest has no libraries.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cargo::{cargo, stdout_of};

/// Integration tests of one package.
pub(crate) struct Suite {
    /// The package, as cargo knows it.
    pub(crate) package: &'static str,
    /// File names in its `tests/`, without `.rs`.
    pub(crate) tests: &'static [&'static str],
}

/// A static program and how the guest calls it.
pub(crate) struct Program {
    /// Unique in a run; the verdict bears it.
    pub(crate) name: String,
    /// The program on this machine.
    pub(crate) file: PathBuf,
    /// What follows the program's name on its command line.
    pub(crate) arguments: Vec<String>,
    /// Other programs it starts, to be found in the guest under the same path as here: a test
    /// has the path of its package's binaries compiled in.
    pub(crate) companions: Vec<PathBuf>,
}

impl Program {
    /// A program as given on the command line: its path, then its arguments, separated by spaces.
    ///
    /// # Errors
    ///
    /// Fails if there is no such file.
    pub(crate) fn parse(line: &str) -> Result<Self> {
        let mut words = line.split_whitespace();
        let file = PathBuf::from(words.next().context("--program is empty")?);
        ensure!(file.is_file(), "--program {}: no such file", file.display());
        let arguments: Vec<String> = words.map(str::to_owned).collect();
        let mut name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        for argument in &arguments {
            name.push('_');
            name.push_str(argument);
        }
        Ok(Self {
            name,
            file,
            arguments,
            companions: Vec::new(),
        })
    }
}

/// Builds integration tests of a package as static programs.
///
/// They run with `--test-threads=1`, for the guest is one machine with one set of ports, and with
/// `--include-ignored`, for what a developer's machine must be spared belongs here.
///
/// # Errors
///
/// Fails if cargo does, or if one of the tests does not come out of it.
pub(crate) fn static_test_binaries(
    package: &str,
    test_names: &[&str],
    folder: &Path,
) -> Result<Vec<Program>> {
    println!(
        "kernel-matrix: building {package}: {}",
        test_names.join(", ")
    );
    let mut cargo = cargo();
    cargo.args([
        "test",
        "--no-run",
        "--quiet",
        "--message-format=json",
        "--package",
        package,
    ]);
    cargo
        .args(["--target", TARGET, "--target-dir"])
        .arg(folder.join("cargo"));
    for name in test_names {
        cargo.args(["--test", name]);
    }
    // Symbols stay, for backtraces; the rest would only fill the guest's memory.
    cargo.env(
        "RUSTFLAGS",
        "-C target-feature=+crt-static -C strip=debuginfo",
    );
    cargo.env_remove("CARGO_ENCODED_RUSTFLAGS");
    let messages = stdout_of(&mut cargo)?;

    let artifacts: Vec<Value> = messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let companions: Vec<PathBuf> = artifacts
        .iter()
        .filter_map(|it| executable(it, "bin"))
        .collect();
    test_names
        .iter()
        .map(|name| {
            let file = artifacts
                .iter()
                .filter(|artifact| artifact["target"]["name"] == *name)
                .find_map(|artifact| executable(artifact, "test"))
                .with_context(|| format!("cargo built no test {name} of {package}"))?;
            Ok(Program {
                name: format!("{package}:{name}"),
                file,
                arguments: TEST_ARGUMENTS.iter().map(|&it| it.to_owned()).collect(),
                companions: companions.clone(),
            })
        })
        .collect()
}

fn executable(artifact: &Value, kind: &str) -> Option<PathBuf> {
    let kinds = artifact["target"]["kind"].as_array()?;
    kinds.iter().any(|it| it == kind).then_some(())?;
    artifact["executable"].as_str().map(PathBuf::from)
}

const TEST_ARGUMENTS: &[&str] = &["--test-threads=1", "--include-ignored"];

// The musl target would be static by itself, but has to be installed; this one is always there.
const TARGET: &str = "x86_64-unknown-linux-gnu";
