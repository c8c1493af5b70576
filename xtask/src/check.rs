//! `cargo xtask check`: everything about the sources that needs no test to run.

use anyhow::{Context, Result};

use crate::cargo::{Workspace, cargo, run as obey};
use crate::tidy;

/// Format, lints, the fuzz targets, documentation, then the walls of this repository.
///
/// # Errors
///
/// Fails at the first step that does.
pub(crate) fn run() -> Result<()> {
    step("format");
    obey(cargo().args(["fmt", "--all", "--check"])).context("run `cargo fmt`")?;
    step("lints");
    let clippy = ["clippy", "--quiet", "--workspace", "--all-targets"];
    obey(cargo().args(clippy).args(["--", "-D", "warnings"]))?;
    step("fuzz targets");
    check_fuzz_targets()?;
    step("documentation");
    // Apart, because cargo refuses to document a library and a program of one name together.
    // Private items too: their links are what a developer reads.
    for kind in ["--lib", "--bins"] {
        let doc = ["doc", "--quiet", "--workspace", "--no-deps", kind];
        obey(
            cargo()
                .args(doc)
                .arg("--document-private-items")
                .env("RUSTDOCFLAGS", "-D warnings"),
        )?;
    }
    step("tidy");
    tidy::run()
}

/// They are a workspace of their own. Without libFuzzer, which takes a minute to compile; and in the same
/// target directory, where most of what they stand on is checked already.
fn check_fuzz_targets() -> Result<()> {
    let workspace = Workspace::load()?;
    let manifest = workspace.root.join("fuzz/Cargo.toml");
    let format = ["fmt", "--all", "--check", "--manifest-path"];
    obey(cargo().args(format).arg(&manifest)).context("run `cargo fmt` in fuzz")?;
    let clippy = [
        "clippy",
        "--quiet",
        "--locked",
        "--bins",
        "--no-default-features",
    ];
    obey(
        cargo()
            .args(clippy)
            .arg("--manifest-path")
            .arg(&manifest)
            .arg("--target-dir")
            .arg(&workspace.target_directory)
            .args(["--", "-D", "warnings"]),
    )
}

fn step(name: &str) {
    println!("check: {name}");
}
