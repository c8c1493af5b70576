//! Cargo, as the chores call it, and what it knows about this workspace.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The workspace, without the crates from outside.
#[derive(Deserialize)]
pub(crate) struct Workspace {
    /// The folder of the checkout.
    #[serde(rename = "workspace_root")]
    pub(crate) root: PathBuf,
    /// Where cargo puts what it builds.
    pub(crate) target_directory: PathBuf,
}

impl Workspace {
    /// The workspace these chores belong to.
    ///
    /// # Errors
    ///
    /// Fails if cargo does.
    pub(crate) fn load() -> Result<Self> {
        let mut metadata = cargo();
        metadata.args(["metadata", "--no-deps", "--format-version=1"]);
        serde_json::from_str(&stdout_of(&mut metadata)?).context("read cargo metadata")
    }
}

/// The cargo that started these chores.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs a program whose output is for the reader.
///
/// # Errors
///
/// Fails if the program cannot be started or does not end with success.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("start {}", name_of(command)))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// What a program prints; its errors go to the reader.
///
/// # Errors
///
/// Fails if the program cannot be started, does not end with success or prints no UTF-8.
pub(crate) fn stdout_of(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("start {}", name_of(command)))?;
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout)
        .with_context(|| format!("read what {} printed", name_of(command)))
}

fn name_of(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}
