//! The headers by themselves: they compile alone, in any spelling, and mix with nothing.

use std::{fs, path::Path, process::Command};

use crate::toolchain::{Compiler, GCC, Language, compilers, include, library_directory};

#[test]
fn every_header_compiles_by_itself_without_a_warning() {
    let with = |compiler: Compiler, header: &str, options: &[&str]| {
        let text = format!("#include <{header}>\nint main(void) {{ return 0; }}\n");
        if let Err(said) = compiler.check(&text, options) {
            panic!("<{header}> {options:?} with {compiler:?}:\n{said}");
        }
    };
    for compiler in compilers() {
        for header in HEADERS {
            with(compiler, header, &["-DPORTPOOL_MSVC_COMPAT", "-DUNICODE"]);
            with(compiler, header, &[]);
        }
    }
    for spelling in headers() {
        with(GCC, &spelling, &[]);
    }
}

/// All that say something; the others say where to find it.
const HEADERS: [&str; 8] = [
    "winsock2.h",
    "ws2tcpip.h",
    "mstcpip.h",
    "ws2ipdef.h",
    "iphlpapi.h",
    "ws2spi.h",
    "windows.h",
    "tchar.h",
];

#[test]
fn the_headers_are_plain_enough_for_older_standards() {
    let text = "#include <Windows.h.>\n#include <winsock2.h>\n#include <ws2tcpip.h>\n\
                #include <mstcpip.h>\n#include <iphlpapi.h>\n#include <ws2spi.h>\n\
                #include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\n#include <time.h>\n\
                int main(void) { return 0; }\n";
    for compiler in compilers() {
        let standard = match compiler.language {
            Language::C => "-std=c99",
            Language::Cpp => "-std=c++11",
        };
        if let Err(said) = compiler.check(text, &[standard]) {
            panic!("{standard} with {compiler:?}:\n{said}");
        }
    }
}

#[test]
fn a_token_may_be_a_uint64_t_in_cpp_as_on_windows() {
    let text = "#include <winsock2.h>\n#include <iphlpapi.h>\n\
                int main() {\n\
                    uint64_t a = 0; ULONG64 b = 0; unsigned long long c = 0;\n\
                    return LookupPersistentTcpPortReservation(1, 1, &a) +\n\
                        LookupPersistentTcpPortReservation(1, 1, &b) +\n\
                        LookupPersistentTcpPortReservation(1, 1, &c) +\n\
                        LookupPersistentTcpPortReservation(1, 1, NULL);\n\
                }\n";
    for compiler in compilers() {
        if compiler.language == Language::Cpp {
            compiler.check(text, &["-std=c++11"]).expect("compile");
        }
    }
}

#[test]
fn winsock_and_the_sockets_of_linux_do_not_mix_in_either_order() {
    for theirs in ["sys/socket.h", "netinet/in.h", "arpa/inet.h", "netdb.h"] {
        for ours in HEADERS.into_iter().filter(|it| *it != "iphlpapi.h") {
            for (first, second) in [(theirs, ours), (ours, theirs)] {
                let text = format!("#include <{first}>\n#include <{second}>\n");
                for compiler in compilers() {
                    let said = compiler.check(&text, &[]).expect_err(&text);
                    assert!(said.contains("not both"), "{text}{said}");
                }
            }
        }
    }
}

#[test]
fn the_systems_own_headers_are_let_through() {
    let text = "#include <sys/socket.h>\n#include <netinet/in.h>\n#include <arpa/inet.h>\n\
                #include <netdb.h>\nint main(void) { return AF_INET6 == 10 ? 0 : 1; }\n";
    for compiler in compilers() {
        compiler.check(text, &[]).expect("the headers of Linux");
    }
}

#[test]
fn the_library_takes_no_name_of_the_c_library() {
    let library = library_directory().join("libportpool_winsock.so");
    let listed = Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(&library)
        .output();
    let listed = String::from_utf8(listed.expect("run nm").stdout).expect("names");
    let exported: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split(' ').nth(2))
        .collect();
    assert!(exported.contains(&"WSAIoctl") && exported.contains(&"portpool_ws_bind"));
    let libc = Path::new("/usr/lib/x86_64-linux-gnu/libc.so.6");
    let libc = if libc.exists() {
        libc
    } else {
        Path::new("/lib64/libc.so.6")
    };
    let names = Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(libc)
        .output();
    let names = String::from_utf8(names.expect("run nm").stdout).expect("names");
    let names: Vec<&str> = names
        .lines()
        .filter_map(|line| line.split(' ').nth(2))
        .map(|name| name.split('@').next().unwrap_or(name))
        .collect();
    assert!(names.contains(&"bind"), "no symbols in {}", libc.display());
    let taken: Vec<_> = exported
        .iter()
        .filter(|name| names.contains(name))
        .collect();
    assert!(taken.is_empty(), "{taken:?}");
}

fn headers() -> Vec<String> {
    let files = fs::read_dir(include()).expect("headers");
    let names = files.map(|file| file.expect("file").file_name().into_string().expect("name"));
    // portpool.h is for programs of Linux, netdb.h is the system's.
    let headers = names.filter(|name| name.contains('.'));
    headers
        .filter(|name| name != "portpool.h" && name != "netdb.h")
        .collect()
}
