//! `cargo xtask check`: everything about the sources that needs no test to run.

use anyhow::{Context, Result};

use crate::cargo::{cargo, run as obey};
use crate::tidy;

/// Format, lints, documentation, then the walls of this repository.
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

fn step(name: &str) {
    println!("check: {name}");
}
