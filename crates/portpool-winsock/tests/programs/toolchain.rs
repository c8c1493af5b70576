//! The compilers that are here, and programs built with them.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

/// A compiler, as a language's command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compiler {
    pub(crate) command: &'static str,
    pub(crate) language: Language,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    C,
    Cpp,
}

pub(crate) const GCC: Compiler = Compiler {
    command: "cc",
    language: Language::C,
};
pub(crate) const GXX: Compiler = Compiler {
    command: "c++",
    language: Language::Cpp,
};
const CLANG: Compiler = Compiler {
    command: "clang-14",
    language: Language::C,
};
const CLANGXX: Compiler = Compiler {
    command: "clang++-14",
    language: Language::Cpp,
};

/// All that are here; those of GCC have to be.
pub(crate) fn compilers() -> Vec<Compiler> {
    let is_here = |compiler: &Compiler| {
        let version = Command::new(compiler.command).arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    };
    let clangs = [CLANG, CLANGXX].into_iter().filter(is_here);
    [GCC, GXX].into_iter().chain(clangs).collect()
}

impl Compiler {
    /// The compiler with the headers of this crate, told what the file is.
    pub(crate) fn command(self) -> Command {
        let mut command = Command::new(self.command);
        command.arg("-I").arg(include());
        command
    }

    /// Whether `text` compiles without a warning; the answer is what the compiler says.
    pub(crate) fn check(self, text: &str, options: &[&str]) -> Result<(), String> {
        let directory = TempDir::new().expect("temporary directory");
        let name = match self.language {
            Language::C => "program.c",
            Language::Cpp => "program.cpp",
        };
        let source = directory.path().join(name);
        std::fs::write(&source, text).expect("write a program");
        let mut command = self.command();
        command.args(["-Wall", "-Wextra", "-Werror", "-fsyntax-only"]);
        let output = command.args(options).arg(&source).output();
        said(&output.expect("run a compiler"))
    }

    /// The program of a file below `c` or `examples/winsock`.
    pub(crate) fn build(self, source: &Path, options: &[&str]) -> Program {
        let directory = TempDir::new().expect("temporary directory");
        let program = directory.path().join("program");
        let mut command = self.command();
        if self.language == Language::Cpp {
            command.args(["-x", "c++"]);
        }
        command.args(options).arg(source).args(["-x", "none"]);
        command.arg("-L").arg(library_directory());
        command
            .args(["-lportpool_winsock", "-pthread", "-o"])
            .arg(&program);
        said(&command.output().expect("run a compiler"))
            .unwrap_or_else(|text| panic!("{} with {}:\n{text}", source.display(), self.command));
        Program { directory }
    }
}

/// A built program; its file goes with it.
pub(crate) struct Program {
    directory: TempDir,
}

impl Program {
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.directory.path().join("program"));
        command.env("LD_LIBRARY_PATH", library_directory());
        command
    }

    /// Runs it; it has to end with 0. The answer is what it printed.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> String {
        succeed(self.command().args(arguments))
    }

    /// As [`run`](Program::run), on the embedded pool.
    pub(crate) fn run_embedded<A: AsRef<OsStr>>(&self, arguments: &[A]) -> String {
        succeed(
            self.command()
                .env("PORTPOOL_POOL", "embedded")
                .args(arguments),
        )
    }
}

/// Runs a command; it has to end with 0. The answer is what it printed.
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("run");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{}:\n{text}", output.status);
    text
}

fn said(output: &Output) -> Result<(), String> {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        Ok(())
    } else {
        Err(text)
    }
}

pub(crate) fn include() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("include")
}

pub(crate) fn c_source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/programs/c")
        .join(name)
}

/// Where cargo puts the library when it builds this test.
pub(crate) fn library_directory() -> PathBuf {
    let program = std::env::current_exe().expect("own path");
    let directory = program.parent().expect("a directory").to_owned();
    let library = directory.join("libportpool_winsock.so");
    assert!(library.exists(), "no {}", library.display());
    directory
}
