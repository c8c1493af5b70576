//! Persistent blocks, and the programs of `examples/winsock`, built as their page says.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::toolchain::{Compiler, GCC, GXX, Program, c_source, compilers};

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../examples/winsock")
        .join(name)
}

/// A program as for Windows: no option but the one its page names.
fn vendor(name: &str) -> Program {
    GXX.build(&sample(name), &["-DPORTPOOL_MSVC_COMPAT"])
}

/// The program in the words of the documentation, with no option but the one that is named there.
fn documented(compiler: Compiler) -> Program {
    compiler.build(&c_source("documented.c"), &["-DPORTPOOL_MSVC_COMPAT"])
}

fn assert_documented(text: &str, first: u16) {
    assert!(
        text.contains("acquire succeeded, bytesReturned = 16\n"),
        "{text}"
    );
    assert_eq!(number_after(text, "  Starting port="), first, "{text}");
    assert_eq!(number_after(text, "Number of Ports="), 20, "{text}");
    let bound = number_after(text, "Port number allocated = ");
    assert!((first..first + 20).contains(&bound), "{text}");
    assert!(text.contains("release: 0, bytesReturned = 0\n"), "{text}");
}

/// The number after some words.
fn number_after(text: &str, words: &str) -> u16 {
    let (_, after) = text
        .split_once(words)
        .unwrap_or_else(|| panic!("no {words} in {text}"));
    let digits = after
        .trim_start()
        .split(|letter: char| !letter.is_ascii_digit())
        .next();
    digits.and_then(|it| it.parse().ok()).expect("a number")
}

#[test]
fn the_samples_run_on_the_embedded_pool() {
    let flow = GCC.build(&sample("flow.c"), &["-Wall", "-Wextra", "-Werror"]);
    let text = flow.run_embedded::<&str>(&[]);
    let first = number_after(&text, "ports from");
    assert_eq!(number_after(&text, "listening on port"), first, "{text}");
    let text = vendor("release.cpp").run_embedded(&["2", "1", "6", "0", "3"]);
    assert_ne!(number_after(&text, "first port"), 0, "{text}");
}

#[test]
fn a_program_in_the_words_of_the_documentation_runs_on_the_embedded_pool() {
    for compiler in compilers() {
        let text = documented(compiler).run_embedded(&["2", "1", "6", "0", "20"]);
        let first = number_after(&text, "  Starting port=");
        assert_ne!(first, 0, "{text}");
        assert_documented(&text, first);
        assert!(text.ends_with("lookup: 87\n"), "{text}");
    }
}

mod as_root {
    use portpool::Transport;
    use portpool_testkit::in_arena;

    use super::*;
    use crate::keeper::with_keeper;

    #[test]
    fn programs_as_for_windows_reserve_bind_and_release() {
        in_arena!(|_| {
            let text = vendor("acquire.cpp").run(&["2", "2", "17", "5000", "20"]);
            assert!(
                (5000..5020).contains(&number_after(&text, "bound to port")),
                "{text}"
            );
            assert!(text.contains("released"), "{text}");
            let release = vendor("release.cpp");
            let text = release.run(&["2", "2", "17", "5000", "20"]);
            assert_eq!(number_after(&text, "bytes of ACQUIRE"), 16, "{text}");
            assert_eq!(number_after(&text, "bytes of RELEASE"), 0, "{text}");
            let text = release.run(&["2", "1", "6", "0", "20"]);
            assert_ne!(number_after(&text, "first port"), 0, "{text}");
        });
    }

    #[test]
    fn a_program_in_the_words_of_the_documentation_runs_on_the_kernel_pool() {
        in_arena!(|_| {
            for compiler in compilers() {
                let program = documented(compiler);
                assert_documented(&program.run(&["2", "2", "17", "5000", "20"]), 5000);
                let usage = program.command().output().expect("run it");
                assert_eq!(usage.status.code(), Some(1));
                let usage = String::from_utf8_lossy(&usage.stdout);
                assert!(usage.ends_with("program 2 2 17 5000 20"), "{usage}");
            }
        });
    }

    #[test]
    fn the_six_functions_create_look_up_and_delete_persistent_blocks() {
        in_arena!(|arena| with_keeper(arena, || {
            GCC.build(&c_source("persistent.c"), &["-Wall", "-Wextra", "-Werror"])
                .run::<&str>(&[]);
        }));
    }

    #[test]
    fn without_a_keeper_persistent_blocks_are_only_looked_up() {
        in_arena!(|_| {
            GCC.build(&c_source("persistent.c"), &["-Wall", "-Wextra"])
                .run(&["nobody"]);
        });
    }

    #[test]
    fn a_program_as_for_windows_creates_uses_and_deletes_a_persistent_block() {
        in_arena!(|arena| with_keeper(arena, || {
            let text = vendor("persistent.cpp").run(&["5000", "20"]);
            assert!(
                (5000..5020).contains(&number_after(&text, "bound to port")),
                "{text}"
            );
            assert!(text.contains("deleted"), "{text}");
            let range = "5000-5019".parse().expect("range");
            let left = arena.pool().lookup_persistent(Transport::Tcp, range);
            assert_eq!(left.expect("look"), None);
        }));
    }

    #[test]
    fn overlapped_operations_are_told_by_event_by_routine_and_through_a_provider() {
        in_arena!(|arena| with_keeper(arena, || {
            let program = overlapped();
            // Of the second ones automatic choice could pick: the keeper is asked.
            fs::write(arena.run().path().join("grant-40000"), "").expect("have them granted");
            for first in ["25000", "40000"] {
                let text = program.run(&[first, "4"]);
                for how in ["by event", "by routine", "by provider"] {
                    let line = format!("{how}: 4 ports from {first}");
                    assert!(text.contains(&line), "{text}");
                }
            }
            assert!(arena.run().path().join("asked-40000").exists());
        }));
    }

    #[test]
    fn overlapped_operations_that_are_refused_at_once_are_not_waited_for() {
        in_arena!(|_| {
            let program = overlapped();
            let output = program
                .command()
                .args(["40000", "4"])
                .output()
                .expect("run it");
            let text = String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(1), "{text}");
            assert_eq!(text.matches("acquire: error 10050").count(), 3, "{text}");
        });
    }

    fn overlapped() -> Program {
        GCC.build(&sample("overlapped.c"), &["-Wall", "-Wextra", "-Werror"])
    }
}
