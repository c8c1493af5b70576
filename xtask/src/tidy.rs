//! `cargo xtask tidy`: the walls of this repository that neither rustc nor clippy knows.
//!
//! Which crate may use which and where unsafe code may stand is in [`rooms`], what no file may
//! contain in [`text`], rules and their tests in [`rules`], fuzz targets in [`fuzz`]. Format and lints are not here.

mod fuzz;
mod rooms;
mod rules;
mod source;
mod text;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo::{self, Workspace};
use source::Source;

/// Looks at every file that is or could be committed.
///
/// # Errors
///
/// Fails with all complaints at once.
pub(crate) fn run() -> Result<()> {
    let workspace = Workspace::load()?;
    let mut complaints = rooms::arrow_complaints(&workspace.packages);
    let mut sources = Vec::new();
    let mut texts = Vec::new();
    for path in committable_files(&workspace.root)? {
        let Ok(bytes) = std::fs::read(workspace.root.join(&path)) else {
            continue; // Deleted, but not yet in the index.
        };
        let text = String::from_utf8_lossy(&bytes);
        complaints.extend(text::complaints(&path, &text));
        if path.ends_with(".rs") {
            sources.push(Source::parse(&path, &text)?);
        }
        texts.push((path, text.into_owned()));
    }
    complaints.extend(text::stale_exceptions(&workspace.root));
    complaints.extend(fuzz::complaints(&workspace.root, &texts)?);
    complaints.extend(rooms::attribute_complaints(&workspace, &sources));
    for source in &sources {
        complaints.extend(rooms::unsafe_complaints(source));
        complaints.extend(source.unfinished());
    }
    complaints.extend(rule_complaints(&workspace.root, &sources)?);

    if complaints.is_empty() {
        println!("tidy: {} Rust files are in order", sources.len());
        return Ok(());
    }
    bail!("the tree is not tidy\n  {}", complaints.join("\n  "))
}

fn rule_complaints(root: &Path, sources: &[Source]) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(root.join(rules::FILE))
        .with_context(|| format!("read {}", rules::FILE))?;
    let functions = sources.iter().flat_map(Source::functions).collect();
    Ok(rules::complaints(&text, &functions))
}

fn committable_files(root: &Path) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.current_dir(root)
        // CI may own another checkout than the one who runs it; nothing here writes or runs hooks.
        .args(["-c", "safe.directory=*"])
        .args(["ls-files", "-z", "--cached", "--others"])
        .arg("--exclude-standard");
    let mut files: Vec<String> = cargo::stdout_of(&mut git)?
        .split_terminator('\0')
        .map(str::to_owned)
        .collect();
    files.sort();
    files.dedup(); // A file in conflict is listed once for each side.
    Ok(files)
}
