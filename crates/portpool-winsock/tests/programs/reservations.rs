//! Reservations through the control codes.

use crate::toolchain::{GCC, GXX, c_source, compilers};

#[test]
fn reservations_of_the_embedded_pool_work_through_winsock() {
    let program = GCC.build(&c_source("reserve.c"), &["-Wall", "-Wextra", "-Werror"]);
    let text = program.run_embedded::<&str>(&[]);
    assert!(text.contains("embedded"), "{text}");
}

#[test]
fn bad_pointers_are_answers_and_no_crashes() {
    for compiler in [GCC, GXX] {
        let program = compiler.build(&c_source("pointers.c"), &["-Wall", "-Wextra"]);
        program.run_embedded::<&str>(&[]);
    }
}

mod as_root {
    use portpool_testkit::in_arena;

    use super::*;

    #[test]
    fn reservations_of_the_kernel_pool_work_through_winsock() {
        in_arena!(|_| {
            for compiler in compilers() {
                let program = compiler.build(&c_source("reserve.c"), &["-Wall", "-Wextra"]);
                program.run::<&str>(&[]);
            }
        });
    }

    #[test]
    fn errors_come_in_the_documented_order() {
        in_arena!(|_| {
            let program = GCC.build(&c_source("errors.c"), &["-Wall", "-Wextra", "-Werror"]);
            program.run::<&str>(&[]);
        });
    }
}
