//! Cargo, as the chores call it, and what it knows about this workspace.

use std::path::{Path, PathBuf};
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
    /// The members.
    pub(crate) packages: Vec<Package>,
}

/// A member of the workspace.
#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
}

/// A crate that a member names in its manifest.
#[derive(Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `dev`, `build` or nothing.
    pub(crate) kind: Option<String>,
    /// Its folder, if it is a member too.
    pub(crate) path: Option<PathBuf>,
}

/// Something cargo builds from a member.
#[derive(Deserialize)]
pub(crate) struct Target {
    pub(crate) kind: Vec<String>,
    pub(crate) src_path: PathBuf,
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

    /// A path as people name it: from the root of the checkout.
    pub(crate) fn relative<'path>(&self, path: &'path Path) -> &'path Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }
}

impl Target {
    /// Whether users get it: a library or a program, not a test or an example.
    pub(crate) fn ships(&self) -> bool {
        let shipped = ["lib", "rlib", "cdylib", "staticlib", "bin", "proc-macro"];
        self.kind
            .iter()
            .any(|kind| shipped.contains(&kind.as_str()))
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
