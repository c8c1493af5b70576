//! `cargo xtask bpf`: the kernel programs, compiled into the object that is committed.
//!
//! The object is committed so that a build needs neither clang nor kernel headers. Its bytes are
//! a function of the sources and of Debian 12's clang 14, libbpf and kernel headers, never of the
//! place they were compiled in; that is what lets `--check` compare.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::cargo::{self, Workspace};

/// Command line of `bpf`.
#[derive(Args)]
pub(crate) struct Options {
    /// Write nothing; fail if the committed object is not what the sources compile to
    #[arg(long)]
    check: bool,
}

/// Compiles the kernel programs.
///
/// # Errors
///
/// Fails if the programs do not compile, or, when only checking, if the committed object differs.
pub(crate) fn run(options: &Options) -> Result<()> {
    let root = Workspace::load()?.root;
    let committed = root.join(OBJECT);
    // Aside in the same folder, so that the rename below stays within one file system.
    let folder = committed.parent().context("the object has a folder")?;
    let aside = tempfile::Builder::new()
        .prefix(".portpool.bpf.")
        .tempdir_in(if options.check {
            std::env::temp_dir()
        } else {
            folder.to_owned()
        })
        .context("make a folder to compile in")?;
    let fresh = aside.path().join("portpool.bpf.o");
    compile(&root, &fresh)?;
    if options.check {
        return compare(&fresh, &committed);
    }
    std::fs::rename(&fresh, &committed)
        .with_context(|| format!("put the object at {}", committed.display()))?;
    println!("bpf: wrote {OBJECT}");
    Ok(())
}

/// Line information names the sources, so clang gets them relative to the checkout and takes the
/// checkout for `.`: no two checkouts give two objects.
fn compile(root: &Path, object: &Path) -> Result<()> {
    let mut clang = Command::new(CLANG);
    clang.current_dir(root).args([
        "-O2",
        "-g",
        "-target",
        "bpf",
        "-mcpu=v3",
        "-Wall",
        "-Werror",
        "-ffile-compilation-dir=.",
    ]);
    clang.arg("-isystem").arg(asm_headers()?);
    clang.args(["-c", SOURCE, "-o"]).arg(object);
    cargo::run(&mut clang).context(NEXT_STEP)?;

    // DWARF goes; BTF, which the kernel wants, is not debugging information to strip -g.
    let mut strip = Command::new(STRIP);
    cargo::run(strip.arg("-g").arg(object)).context(NEXT_STEP)
}

/// The host's `asm/`: the bpf target has none of its own, and Debian keeps it per architecture.
fn asm_headers() -> Result<PathBuf> {
    let candidates = [
        PathBuf::from(format!("/usr/include/{}-linux-gnu", std::env::consts::ARCH)),
        PathBuf::from("/usr/include"),
    ];
    let found = candidates
        .iter()
        .find(|folder| folder.join("asm/types.h").is_file());
    let Some(folder) = found else {
        bail!("no asm/types.h in {candidates:?}; {NEXT_STEP}");
    };
    Ok(folder.clone())
}

fn compare(fresh: &Path, committed: &Path) -> Result<()> {
    let read =
        |path: &Path| std::fs::read(path).with_context(|| format!("read {}", path.display()));
    ensure!(
        read(fresh)? == read(committed)?,
        "{OBJECT} is not what its sources compile to; run `cargo xtask bpf` on Debian 12 \
         ({CLANG} here: {}) and commit the object",
        clang_version()?
    );
    println!("bpf: {OBJECT} is what its sources compile to");
    Ok(())
}

fn clang_version() -> Result<String> {
    let text = cargo::stdout_of(Command::new(CLANG).arg("--version"))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

const SOURCE: &str = "crates/portpool-kernel/bpf/portpool.bpf.c";
const OBJECT: &str = "crates/portpool-kernel/bpf/portpool.bpf.o";

const CLANG: &str = "clang-14";
const STRIP: &str = "llvm-strip-14";
const NEXT_STEP: &str = "if a tool or a header is missing, `scripts/setup` installs it";
