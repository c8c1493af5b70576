//! `portpool.h`: what it declares is what the library has, and does what it says, from C and C++.
use std::{collections::BTreeSet, fs, process::Command};

use portpool::Refusal;

use crate::toolchain::{Bench, Language, built, compiler, root, run};

#[test]
fn the_header_declares_exactly_what_the_library_exports() {
    let header = fs::read_to_string(root().join("include/portpool.h")).expect("the header");
    let mut nm = Command::new("nm");
    nm.args(["-D", "--defined-only"]);
    let symbols = run(nm.arg(built("libportpool_winsock.so")));
    let exported: BTreeSet<&str> = symbols
        .lines()
        .filter_map(|line| line.split(' ').next_back())
        .filter(|name| name.starts_with("portpool_"))
        // Those belong to the Winsock headers.
        .filter(|name| !name.starts_with("portpool_ws") && !name.starts_with("portpool_msvc"))
        .collect();
    let declared = declared(&header);
    assert!(declared.len() > 20, "{declared:?}");
    assert_eq!(declared, exported);
}

#[test]
fn the_header_has_every_refusal_with_its_number() {
    let header = fs::read_to_string(root().join("include/portpool.h")).expect("the header");
    for refusal in Refusal::ALL {
        let name = refusal.name().to_uppercase().replace('-', "_");
        let line = format!("    PORTPOOL_REFUSAL_{name} = {}", refusal.number());
        let found = header.lines().any(|it| it.trim_end_matches(',') == line);
        assert!(found, "portpool.h lacks {line}");
    }
}

#[test]
fn the_header_compiles_in_c_and_cpp_and_has_the_layouts_of_the_library() {
    for language in [Language::C, Language::Cpp] {
        let mut command = compiler(language);
        command.args(["-Wpedantic", "-fsyntax-only"]);
        run(command.arg(root().join("tests/c_side/layout.c")));
    }
}

#[test]
fn c_programs_reserve_consume_and_look_in_the_embedded_pool() {
    let bench = Bench::new();
    for language in [Language::C, Language::Cpp] {
        let program = bench.program("api", language, &["tests/c_side/api.c"], &[]);
        run(bench.command(&program).arg("embedded"));
    }
}

mod as_root {
    use portpool_testkit::{Census, in_arena, in_bare_arena};

    use super::*;

    #[test]
    fn c_programs_reserve_consume_and_look_in_the_kernel_pool() {
        in_arena!(|arena| {
            let bench = Bench::new();
            for language in [Language::C, Language::Cpp] {
                let program = bench.program("api", language, &["tests/c_side/api.c"], &[]);
                run(bench.command(&program).arg("kernel"));
            }
            Census::await_nothing(arena);
        });
    }

    #[test]
    fn a_c_program_gets_the_kernel_pool_where_it_is_attached() {
        in_bare_arena!(|arena| {
            let bench = Bench::new();
            let program = bench.program("api", Language::C, &["tests/c_side/api.c"], &[]);
            run(bench.command(&program).arg("auto-embedded"));
            arena.attach();
            run(bench.command(&program).arg("auto-kernel"));
        });
    }
}

/// The functions of a header: names before a parenthesis, at the start of a declaration.
fn declared(header: &str) -> BTreeSet<&str> {
    header
        .lines()
        .filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()))
        .filter_map(|line| {
            let (before, _) = line.split_once('(')?;
            let start = before.find("portpool_")?;
            let name = before[start..].split([' ', '*']).next_back()?;
            (!before.starts_with("enum") && !before.starts_with("typedef")).then_some(name)
        })
        .collect()
}
