//! The guest's only file system, in the archive format the kernel unpacks (cpio "newc").
//!
//! Written here rather than by cpio: no staging tree, no root, the same bytes for the same input.
//! Not compressed: unpacking on an emulated processor costs more than reading.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::{Component, Path};

use anyhow::{Context, Result};

use super::kernel::Kernel;
use super::program::Program;

/// An archive in the making.
pub(crate) struct Initramfs {
    bytes: Vec<u8>,
    paths: BTreeSet<String>,
}

impl Initramfs {
    /// The file system that loads `kernel`'s modules and runs `programs` in order.
    ///
    /// # Errors
    ///
    /// Fails if one of the files cannot be read.
    pub(crate) fn new(kernel: &Kernel, programs: &[Program]) -> Result<Self> {
        let mut archive = Self {
            bytes: Vec::new(),
            paths: BTreeSet::new(),
        };
        for folder in ["proc", "sys", "dev", "run", "tmp"] {
            archive.folder(Path::new(folder));
        }
        archive.copy("bin/busybox", Path::new(BUSYBOX))?;
        archive.file("init", INIT.as_bytes());

        let mut plan = String::new();
        for (number, module) in kernel.modules.iter().enumerate() {
            // A compressed module keeps its ending, by which insmod knows what to do.
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            let path = format!("matrix/modules/{number}-{name}");
            archive.copy(&path, module)?;
            writeln!(plan, "load {}", quoted(&format!("/{path}")))?;
        }
        for (number, program) in programs.iter().enumerate() {
            let path = format!("matrix/programs/{number}/{}", file_name(&program.file));
            archive.copy(&path, &program.file)?;
            for companion in &program.companions {
                archive.copy(&companion.to_string_lossy(), companion)?;
            }
            write!(
                plan,
                "run {} {}",
                quoted(&program.name),
                quoted(&format!("/{path}"))
            )?;
            for argument in &program.arguments {
                write!(plan, " {}", quoted(argument))?;
            }
            plan.push('\n');
        }
        archive.file("matrix/plan", plan.as_bytes());
        Ok(archive)
    }

    /// Ends the archive and writes it to a file without a name, on `folder`'s disk: however the
    /// run ends, nothing is left behind.
    ///
    /// # Errors
    ///
    /// Fails if `folder` cannot be written to.
    pub(crate) fn write_into(mut self, folder: &Path) -> Result<File> {
        self.entry("TRAILER!!!", 0, b"");
        let mut file = tempfile::tempfile_in(folder)?;
        file.write_all(&self.bytes).context("write the initramfs")?;
        Ok(file)
    }

    fn copy(&mut self, path: &str, from: &Path) -> Result<()> {
        let content = std::fs::read(from).with_context(|| format!("read {}", from.display()))?;
        self.file(path, &content);
        Ok(())
    }

    fn file(&mut self, path: &str, content: &[u8]) {
        let path = path.trim_start_matches('/');
        if let Some(parent) = Path::new(path).parent() {
            self.folder(parent);
        }
        if self.paths.insert(path.to_owned()) {
            self.entry(path, REGULAR | 0o755, content);
        }
    }

    /// The kernel wants each folder before what is in it.
    fn folder(&mut self, path: &Path) {
        let mut whole = String::new();
        for component in path.components() {
            let Component::Normal(name) = component else {
                continue;
            };
            if !whole.is_empty() {
                whole.push('/');
            }
            whole.push_str(&name.to_string_lossy());
            if self.paths.insert(whole.clone()) {
                self.entry(&whole, FOLDER | 0o755, b"");
            }
        }
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        let links = 1;
        let (size, path_size) = (content.len(), path.len() + 1);
        // Inode, mode, uid, gid, links, time, size, four device numbers, size of path, checksum.
        let head = format!(
            "070701{:08x}{mode:08x}{:08x}{:08x}{links:08x}{:08x}{size:08x}\
             {:08x}{:08x}{:08x}{:08x}{path_size:08x}{:08x}",
            0, 0, 0, 0, 0, 0, 0, 0, 0
        );
        self.bytes.extend_from_slice(head.as_bytes());
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

const BUSYBOX: &str = "/bin/busybox";
const INIT: &str = include_str!("init.sh");

const REGULAR: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_holds_each_folder_once_and_before_its_files() {
        let mut archive = Initramfs {
            bytes: Vec::new(),
            paths: BTreeSet::new(),
        };
        archive.file("/a/b/one", b"1");
        archive.file("a/b/two", b"22");
        let text = String::from_utf8_lossy(&archive.bytes).into_owned();
        let at = |path: &str| text.find(&format!("{path}\0")).unwrap();
        assert!(at("a") < at("a/b") && at("a/b") < at("a/b/one") && at("a/b/one") < at("a/b/two"));
        assert_eq!(text.matches("070701").count(), 4);
        assert_eq!(archive.bytes.len() % 4, 0);
    }

    #[test]
    fn a_quoted_word_stays_one_word() {
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
    }
}
