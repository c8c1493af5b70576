//! The calls around reservations, where no kernel pool is needed.

use crate::toolchain::{GCC, GXX, c_source, compilers};

#[test]
fn sockets_work_as_on_windows() {
    for compiler in compilers() {
        let program = compiler.build(&c_source("sockets.c"), &["-Wall", "-Wextra"]);
        program.run_embedded::<&str>(&[]);
    }
}

#[test]
fn overlapped_calls_that_complete_at_once_are_told_like_others() {
    for compiler in [GCC, GXX] {
        let program = compiler.build(&c_source("overlapped.c"), &["-Wall", "-Wextra"]);
        program.run_embedded::<&str>(&[]);
    }
}

#[test]
fn programs_for_another_c_library_build_unchanged() {
    for (compiler, level) in compilers().into_iter().zip(["-O0", "-O2", "-O2", "-O0"]) {
        let options = ["-DPORTPOOL_MSVC_COMPAT", "-U_FORTIFY_SOURCE", level];
        let program = compiler.build(&c_source("compat.c"), &options);
        let output = program.run_embedded(&["42x", "grün"]);
        let expected = "42x|grün|narrow|4294967301|-7|42\n42x|text|4294967301|-7|   42|%\n\
                        mixed again x\nliteral 4294967301\ngrün 4294967301\ngrün\nmade-4294967301 100000005\n\
                        made-4294967301\n\
                        10048: The port is in use or reserved: choose another one.\r\n\
                        127.0.0.1 0\n";
        assert_eq!(output, expected, "{compiler:?}");
    }
}
