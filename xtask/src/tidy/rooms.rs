//! The crates: which may use which, and where unsafe code may stand.

use crate::cargo::{Package, Workspace};
use crate::tidy::source::Source;

/// A crate of the workspace and its walls.
struct Room {
    name: &'static str,
    /// Members of the workspace it may be built on. Its tests may use any.
    may_use: &'static [&'static str],
    unsafe_code: Unsafe,
}

enum Unsafe {
    /// Nowhere, and the compiler is told so.
    Forbidden,
    /// In this module, and the compiler is told so.
    Denied { except: &'static str },
    /// In this module or folder.
    Walled { into: &'static str },
}

/// Every member has its line here.
const ROOMS: &[Room] = &[
    Room {
        name: CORE,
        may_use: &[],
        unsafe_code: Unsafe::Forbidden,
    },
    Room {
        name: "portpool-kernel",
        may_use: &[CORE],
        unsafe_code: Unsafe::Walled {
            into: "crates/portpool-kernel/src/sys",
        },
    },
    Room {
        name: VARLINK,
        may_use: &[CORE],
        unsafe_code: Unsafe::Denied {
            except: "crates/portpool-varlink/src/sys",
        },
    },
    Room {
        name: "portpool",
        may_use: &[CORE, VARLINK],
        unsafe_code: Unsafe::Denied {
            except: "crates/portpool/src/sys",
        },
    },
    Room {
        name: "portpool-handover",
        may_use: &[CORE],
        unsafe_code: Unsafe::Denied {
            except: "crates/portpool-handover/src/sys",
        },
    },
    Room {
        name: "portpool-keeper",
        may_use: &[CORE, "portpool-kernel", "portpool", VARLINK],
        unsafe_code: Unsafe::Forbidden,
    },
    Room {
        name: "portpool-winsock",
        may_use: &["portpool", VARLINK],
        // A C ABI is unsafe at every entry.
        unsafe_code: Unsafe::Walled {
            into: "crates/portpool-winsock/src",
        },
    },
    Room {
        name: "portpool-cli",
        may_use: &[
            CORE,
            "portpool-kernel",
            "portpool",
            "portpool-handover",
            "portpool-keeper",
            "portpool-winsock",
            VARLINK,
        ],
        unsafe_code: Unsafe::Forbidden,
    },
    Room {
        name: "portpool-testkit",
        may_use: &[
            CORE,
            "portpool-kernel",
            "portpool",
            "portpool-handover",
            "portpool-keeper",
            VARLINK,
        ],
        // Calls that no library makes: wrong lengths, wrong addresses.
        unsafe_code: Unsafe::Walled {
            into: "crates/portpool-testkit/src/sys",
        },
    },
    Room {
        name: "portpool-fuzz",
        may_use: &[CORE, VARLINK],
        unsafe_code: Unsafe::Forbidden,
    },
    Room {
        name: "xtask",
        may_use: &[],
        unsafe_code: Unsafe::Forbidden,
    },
];

// Not even crates from outside: the rules are std and nothing else.
const CORE: &str = "portpool-core";
const VARLINK: &str = "portpool-varlink";

/// Members that use what they must not.
pub(crate) fn arrow_complaints(packages: &[Package]) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in packages {
        let Some(room) = room(&package.name) else {
            complaints.push(format!(
                "{}: not in the list of crates of xtask's tidy; say there what it may use",
                package.name
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let is_for_tests = dependency.kind.as_deref() == Some("dev");
            let is_guarded = dependency.path.is_some() || room.name == CORE;
            let is_allowed = room.may_use.contains(&dependency.name.as_str());
            if is_guarded && !is_allowed && !is_for_tests {
                complaints.push(format!(
                    "{}: must not use {}; it may use {:?}",
                    room.name, dependency.name, room.may_use
                ));
            }
        }
    }
    complaints
}

/// Libraries and programs that do not tell the compiler where unsafe code may stand.
pub(crate) fn attribute_complaints(workspace: &Workspace, sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in &workspace.packages {
        let level = match room(&package.name).map(|room| &room.unsafe_code) {
            Some(Unsafe::Forbidden) => "forbid",
            Some(Unsafe::Denied { .. }) => "deny",
            Some(Unsafe::Walled { .. }) | None => continue,
        };
        for target in package.targets.iter().filter(|target| target.ships()) {
            let path = workspace.relative(&target.src_path).to_string_lossy();
            let attribute = ["#", "!", "[", level, "(", "unsafe_code"];
            let has_it = sources
                .iter()
                .any(|it| it.path == path && !it.lines_of(&attribute).is_empty());
            if !has_it {
                complaints.push(format!("{path}: lacks #![{level}(unsafe_code)]"));
            }
        }
    }
    complaints
}

/// Unsafe code outside its walls.
pub(crate) fn unsafe_complaints(source: &Source) -> Vec<String> {
    let is_walled = ROOMS.iter().any(|room| match room.unsafe_code {
        Unsafe::Forbidden => false,
        Unsafe::Denied { except: module } | Unsafe::Walled { into: module } => {
            is_in_module(&source.path, module)
        }
    });
    if is_walled {
        return Vec::new();
    }
    source
        .lines_of(&["unsafe"])
        .into_iter()
        .map(|line| format!("{}:{line}: unsafe outside the sys modules", source.path))
        .collect()
}

fn room(name: &str) -> Option<&'static Room> {
    ROOMS.iter().find(|room| room.name == name)
}

/// `src/sys` is `src/sys.rs` and everything below `src/sys/`.
fn is_in_module(path: &str, module: &str) -> bool {
    path.strip_prefix(module)
        .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cargo::Dependency;

    #[test]
    fn the_core_uses_nothing_but_in_its_tests() {
        assert_eq!(arrow_complaints(&[package(CORE, "serde", None)]).len(), 1);
        let for_tests = package(CORE, "proptest", Some("dev"));
        assert_eq!(arrow_complaints(&[for_tests]), [""; 0]);
    }

    #[test]
    fn an_arrow_that_is_not_listed_is_refused() {
        let kernel = |dependency| {
            let mut package = package("portpool-kernel", dependency, None);
            package.dependencies[0].path = Some("crates".into());
            arrow_complaints(&[package])
        };
        assert_eq!(kernel(CORE), [""; 0]);
        assert_eq!(kernel("portpool").len(), 1);
    }

    #[test]
    fn a_crate_without_a_line_is_refused() {
        let stranger = package("portpool-stranger", "libc", None);
        assert_eq!(arrow_complaints(&[stranger]).len(), 1);
    }

    #[test]
    fn unsafe_code_stands_in_sys_modules_only() {
        let count = |path| {
            let source = Source::parse(path, "fn a() { unsafe { b() } }").unwrap();
            unsafe_complaints(&source).len()
        };
        assert_eq!(count("crates/portpool/src/sys.rs"), 0);
        assert_eq!(count("crates/portpool/src/sys/options.rs"), 0);
        assert_eq!(count("crates/portpool/src/system.rs"), 1);
        assert_eq!(count("crates/portpool-kernel/src/attach.rs"), 1);
        assert_eq!(count("crates/portpool-cli/src/sys.rs"), 1);
    }

    fn package(name: &str, dependency: &str, kind: Option<&str>) -> Package {
        Package {
            name: name.to_owned(),
            dependencies: vec![Dependency {
                name: dependency.to_owned(),
                kind: kind.map(str::to_owned),
                path: None,
            }],
            targets: Vec::new(),
        }
    }
}
