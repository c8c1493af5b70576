//! `scripts/install-c`: what is installed is what programs need, and no more.
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::toolchain::{Language, built, compiler, root, run};
use tempfile::TempDir;

#[test]
fn the_installed_library_has_a_soname_and_every_symbol_a_version() {
    let place = install();
    let library = place.path().join("lib/libportpool_winsock.so");
    let dynamic = run(Command::new("readelf").args(["-d", "-W"]).arg(&library));
    let soname = "Library soname: [libportpool_winsock.so.0.1]";
    assert!(dynamic.contains(soname), "{dynamic}");
    let exported = symbols(&library);
    let stray = exported.iter().find(|it| !it.ends_with("@@PORTPOOL_0.1"));
    assert_eq!(stray, None);
    let bare: BTreeSet<String> = exported
        .iter()
        .filter_map(|it| Some(it.split_once('@')?.0.to_owned()))
        .collect();
    // What cargo exports is what the sources say; a new function needs its line in portpool.map.
    assert_eq!(bare, symbols(&built("libportpool_winsock.so")));
}

#[test]
fn a_package_has_its_files_below_destdir_and_says_where_they_will_be() {
    let place = tempfile::tempdir().expect("a folder");
    let below = |path: &str| place.path().join(path.trim_start_matches('/'));
    for by_variable in [false, true] {
        let mut script = Command::new(repository().join("scripts/install-c"));
        script.args(["--prefix=/usr", "--libdir", "/usr/lib64"]);
        script.arg("--library").arg(built("libportpool_winsock.a"));
        match by_variable {
            true => script.env("DESTDIR", below("/variable")),
            false => script.arg("--destdir").arg(below("/option")),
        };
        run(&mut script);
    }
    for folder in ["/option", "/variable"] {
        for name in ["portpool", "portpool-winsock"] {
            let path = below(folder).join(format!("usr/lib64/pkgconfig/{name}.pc"));
            let text = fs::read_to_string(path).expect("a file of pkg-config");
            assert!(text.contains("\nlibdir=/usr/lib64\n"), "{text}");
            assert!(!text.contains(folder) && !text.contains('@'), "{text}");
        }
        let library = below(folder).join("usr/lib64/libportpool_winsock.so");
        assert!(!symbols(&library).is_empty());
        assert!(below(folder).join("usr/include/portpool.h").exists());
        let headers = below(folder).join("usr/include/portpool-winsock");
        assert!(headers.join("Windows.h.").exists());
    }
}

#[test]
fn a_program_for_windows_builds_against_what_is_installed() {
    let place = install();
    for is_static in [false, true] {
        let program = place.path().join("acquire");
        let mut command = Command::new("c++");
        command.arg("-DPORTPOOL_MSVC_COMPAT");
        command.arg(repository().join("examples/winsock/acquire.cpp"));
        command.args(flags(&place, "portpool-winsock", is_static).split_whitespace());
        run(command.arg("-o").arg(&program));
        let mut command = command_of(&place, &program);
        command.args(["2", "1", "6", "0", "3"]);
        let printed = run(command.env("PORTPOOL_POOL", "embedded"));
        assert!(printed.contains("acquired: 3 ports"), "{printed}");
    }
}

#[test]
fn the_examples_build_as_they_say_and_serve_from_a_block() {
    let place = install();
    for is_static in [false, true] {
        let program = example(&place, "serve_block", is_static);
        let printed = run(command_of(&place, &program).env("PORTPOOL_POOL", "embedded"));
        assert_served(&printed, "Address already in use");
        let program = example(&place, "own_sockets", is_static);
        let printed = run(command_of(&place, &program).env("PORTPOOL_POOL", "embedded"));
        assert!(printed.contains("(own_sockets"), "{printed}");
    }
}

mod as_root {
    use portpool_testkit::{Census, in_arena};

    use super::*;

    #[test]
    fn the_examples_serve_from_a_block_of_the_kernel_pool() {
        in_arena!(|arena| {
            let place = install();
            let program = example(&place, "serve_block", false);
            assert_served(&run(&mut command_of(&place, &program)), "Permission denied");
            run(&mut command_of(
                &place,
                &example(&place, "own_sockets", false),
            ));
            Census::await_nothing(arena);
        });
    }
}

fn assert_served(printed: &str, refused: &str) {
    assert_eq!(printed.matches("\nserved: ").count(), 3, "{printed}");
    let lines: Vec<&str> = printed.lines().collect();
    let [.., stranger, released] = lines[..] else {
        panic!("{printed}");
    };
    assert!(stranger.starts_with("a plain bind of "), "{printed}");
    assert!(stranger.ends_with(refused), "{printed}");
    assert!(released.starts_with("released; "), "{printed}");
    assert!(released.ends_with("Success"), "{printed}");
}

/// What the library that cargo built for this test installs.
fn install() -> TempDir {
    let place = tempfile::tempdir().expect("a prefix");
    let mut script = Command::new(repository().join("scripts/install-c"));
    script.arg("--prefix").arg(place.path());
    run(script.arg("--library").arg(built("libportpool_winsock.a")));
    place
}

/// An example, built as its first comment says.
fn example(place: &TempDir, name: &str, is_static: bool) -> PathBuf {
    let source = repository().join(format!("examples/c/{name}.c"));
    let flags = flags(place, "portpool", is_static);
    let program = place.path().join(format!("{name}-{is_static}"));
    let mut command = Command::new("cc");
    command.args(["-Wall", "-Wextra", "-Werror"]);
    command
        .arg(&source)
        .args(flags.split_whitespace())
        .arg("-o");
    run(command.arg(&program));
    // And without the warnings that are not in -Wextra.
    run(compiler(Language::C)
        .arg("-fsyntax-only")
        .arg("-Wpedantic")
        .arg(&source));
    program
}

/// What pkg-config says of a package.
fn flags(place: &TempDir, package: &str, is_static: bool) -> String {
    let mut flags = Command::new("pkg-config");
    flags.env("PKG_CONFIG_PATH", place.path().join("lib/pkgconfig"));
    flags.args(["--cflags", "--libs", package]);
    match is_static {
        true => {
            run(flags.arg("--static")).replace("-lportpool_winsock", "-l:libportpool_winsock.a")
        }
        false => run(&mut flags),
    }
}

fn command_of(place: &TempDir, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", place.path().join("lib"));
    command.env_remove("PORTPOOL_POOL");
    command
}

/// The functions and constants a library exports.
fn symbols(library: &Path) -> BTreeSet<String> {
    let listed = run(Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(library));
    // The name of a version is a symbol, too: an absolute one.
    let names = listed.lines().filter(|line| !line.contains(" A "));
    names
        .filter_map(|line| Some(line.split(' ').next_back()?.to_owned()))
        .collect()
}

fn repository() -> PathBuf {
    fs::canonicalize(root().join("../..")).expect("the repository")
}
