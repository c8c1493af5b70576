//! The C compilers, and programs built with them against the library that cargo built for this test.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

/// A language and its compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    C,
    Cpp,
}

/// A folder with programs and a copy of the library, open to every user.
pub(crate) struct Bench {
    folder: TempDir,
    /// What programs must be built with to go with the library.
    flags: &'static [&'static str],
}

impl Bench {
    pub(crate) fn new() -> Bench {
        Bench::of(&built("libportpool_winsock.so"), &[])
    }

    /// Of another build of the library.
    pub(crate) fn of(library: &Path, flags: &'static [&'static str]) -> Bench {
        let folder = tempfile::Builder::new().prefix("portpool-c-").tempdir();
        let folder = folder.expect("a folder for programs");
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open).expect("open the folder");
        let copy = folder.path().join("libportpool_winsock.so");
        fs::copy(library, copy).expect("copy the library");
        Bench { folder, flags }
    }

    /// Where programs and library are.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Builds a program from sources named from the root of this crate, without a single warning.
    pub(crate) fn program(
        &self,
        name: &str,
        language: Language,
        sources: &[&str],
        flags: &[&str],
    ) -> PathBuf {
        let program = self.path().join(name);
        let mut command = compiler(language);
        command.args(self.flags).args(flags);
        command.arg("-o").arg(&program);
        command.args(sources.iter().map(|source| root().join(source)));
        command.arg("-L").arg(self.path()).arg("-lportpool_winsock");
        run(command.arg("-pthread"));
        program
    }

    /// Builds a program written for Windows, with the very command that users are told.
    pub(crate) fn windows_program(&self, name: &str) {
        let mut command = Command::new("c++");
        command.args(self.flags).arg("-DPORTPOOL_MSVC_COMPAT");
        command.arg("-I").arg(root().join("include"));
        command.arg(root().join(format!("../../examples/winsock/{name}.cpp")));
        command.arg("-o").arg(self.path().join(name));
        run(command.arg("-L").arg(self.path()).arg("-lportpool_winsock"));
    }

    /// A command that runs such a program.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("LD_LIBRARY_PATH", self.path());
        command.env_remove("PORTPOOL_POOL");
        command
    }
}

/// The compiler with the warnings that programs here must not cause.
pub(crate) fn compiler(language: Language) -> Command {
    let mut command = match language {
        Language::C => Command::new("gcc"),
        Language::Cpp => Command::new("g++"),
    };
    command.args(["-Wall", "-Wextra", "-Werror", "-g", "-O1"]);
    command.arg("-I").arg(root().join("include"));
    if language == Language::Cpp {
        command.args(["-x", "c++", "-std=c++11"]);
    } else {
        command.arg("-std=gnu11");
    }
    command
}

/// Runs a command that must succeed, and answers what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let output: Output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}: run scripts/setup"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (printed, complaints) = (text(&output.stdout), text(&output.stderr));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{printed}{complaints}",
        output.status
    );
    printed
}

/// A file that cargo built beside this test.
pub(crate) fn built(name: &str) -> PathBuf {
    let test = env::current_exe().expect("own path");
    test.parent().expect("a folder").join(name)
}

/// The folder of this crate.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
