//! An attach that fails leaves nothing, and a running pool as it was.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use portpool_kernel::{AttachOptions, Error, attach};
use portpool_testkit::{Actor, Arena, in_arena, in_bare_arena};

use crate::{
    detach::with_descriptors,
    scene::{ACTOR, RESERVED, STRANGER, Traces, assert_refused, owner, run, words},
};

#[test]
fn attach_fails_whole_in_a_read_only_run_directory() {
    in_bare_arena!(|arena| {
        let parent = arena.run().path().parent().expect("parent").to_owned();
        let parent = parent.display().to_string();
        run(&["mount", "-t", "tmpfs", "-o", "ro", "none", &parent]);
        let refused = attach(&arena.options()).expect_err("attach");
        assert!(refused.to_string().contains("make "), "{refused}");
        assert!(refused.to_string().contains("read-only"), "{refused}");
        run(&["umount", &parent]);
        assert_nothing_left(arena);
    });
}

#[test]
fn attach_fails_whole_where_the_sysctl_is_read_only() {
    in_bare_arena!(|arena| {
        for path in ["/proc/sys", RESERVED] {
            run(&["mount", "--bind", path, path]);
            run(&["mount", "-o", "remount,bind,ro", path]);
            let refused = attach(&arena.options()).expect_err("attach");
            assert!(
                refused.to_string().contains("ip_local_reserved_ports"),
                "{refused}"
            );
            assert!(refused.to_string().contains("read-only"), "{refused}");
            assert_eq!(Traces::of(arena), Traces::nothing());
            run(&["umount", path]);
        }
        assert_nothing_left(arena);
    });
}

#[test]
fn a_read_only_sysctl_leaves_a_running_pool_as_it_was() {
    in_arena!(|arena| {
        let mut owner = owner();
        let before = Traces::of(arena);
        let config = arena.pool().overview().expect("overview").config;
        run(&["mount", "--bind", RESERVED, RESERVED]);
        run(&["mount", "-o", "remount,bind,ro", RESERVED]);
        attach(&AttachOptions {
            ranges: Some("40000-40099".parse().expect("ranges")),
            ..arena.options()
        })
        .expect_err("attach");
        run(&["umount", RESERVED]);
        assert_eq!(Traces::of(arena), before);
        assert_eq!(arena.pool().overview().expect("overview").config, config);
        assert_refused(20_000);
        owner.ask("acquire o 20010 4 8").expect("acquire");
    });
}

#[test]
fn attach_fails_whole_where_a_file_is_in_the_way() {
    in_bare_arena!(|arena| {
        let path = arena.run().path().to_owned();
        fs::write(&path, "").expect("write");
        attach(&arena.options()).expect_err("attach over a file");
        assert!(path.is_file());
        fs::remove_file(&path).expect("remove");

        let cookie = portpool_kernel::NetNamespace::current()
            .expect("cookie")
            .cookie;
        fs::create_dir(&path).expect("mkdir");
        for name in [
            format!("reserved-{cookie}"),
            format!("reserved-{cookie}.new"),
        ] {
            let path = path.join(&name);
            fs::create_dir(&path).expect("mkdir");
            attach(&arena.options()).expect_err(&name);
            assert_nothing_but(arena, &[arena.run().path(), &path]);
            fs::remove_dir(&path).expect("rmdir");
        }
        let bpf = path.join("bpf");
        fs::write(&bpf, "").expect("write");
        attach(&arena.options()).expect_err("attach over a file");
        assert_nothing_but(arena, &[arena.run().path(), &bpf]);
        fs::remove_file(&bpf).expect("remove");
        drop(fs::remove_file(path.join("lock")));
        fs::remove_dir(&path).expect("only the file was in the run directory");
        assert_nothing_left(arena);
    });
}

#[test]
fn attach_fails_whole_where_a_pin_is_in_the_way() {
    in_bare_arena!(|arena| {
        let cookie = portpool_kernel::NetNamespace::current()
            .expect("cookie")
            .cookie;
        let bpf = arena.run().path().join("bpf");
        let mut names = vec![
            format!("abi-{}", portpool::abi::VERSION),
            "maps".to_owned(),
            "links".to_owned(),
        ];
        names.extend([format!("pool-{cookie}")]);
        names.extend(
            ["pools", "occupancies", "kept", "owners", "last_id"].map(|map| format!("maps/{map}")),
        );
        names.extend(
            ["pp_sock_release", "pp_bind6", "pp_setsockopt"].map(|link| format!("links/{link}")),
        );
        for name in names {
            let path = bpf.join(&name);
            fs::create_dir_all(&bpf).expect("mkdir");
            run(&["mount", "-t", "bpf", "none", &bpf.display().to_string()]);
            fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            // A bpf file system has no files of ours: a link that leads nowhere is in the way of all.
            symlink("/nowhere", &path).expect("symlink");
            attach(&arena.options()).expect_err(&name);
            assert_eq!(Traces::of(arena), Traces::nothing(), "{name} in the way");
        }
        assert_nothing_left(arena);
    });
}

#[test]
fn attach_refuses_what_is_no_cgroup() {
    in_bare_arena!(|arena| {
        let places = [
            PathBuf::from("/proc"),
            "/nowhere".into(),
            "/sys/fs/cgroup/cpu".into(),
        ];
        for place in places {
            let refused = attach(&AttachOptions {
                cgroup: Some(place.clone()),
                ..arena.options()
            })
            .expect_err("attach");
            assert!(
                matches!(&refused, Error::NotACgroup(path) if *path == place),
                "{refused}"
            );
        }
        assert_eq!(Traces::of(arena), Traces::nothing());
        assert!(!arena.run().path().exists());
    });
}

#[test]
fn attach_refuses_bad_options_and_changes_nothing() {
    in_bare_arena!(|arena| {
        let odd_ports = (0..65u16).map(|n| format!("{}", 20_001 + 2 * n));
        let too_many = odd_ports.collect::<Vec<_>>().join(",");
        let good = arena.options();
        let no_limit = portpool::Limits {
            reservations_max: 0,
            ..portpool::Limits::DEFAULT
        };
        let bad = [
            AttachOptions {
                ranges: Some(portpool::RangeSet::new()),
                ..good.clone()
            },
            AttachOptions {
                ranges: Some(too_many.parse().expect("ranges")),
                ..good.clone()
            },
            AttachOptions {
                limits: Some(no_limit),
                ..good.clone()
            },
            AttachOptions {
                private_mounts: false,
                ..good
            },
        ];
        for options in bad {
            attach(&options).expect_err("attach");
            assert_eq!(Traces::of(arena), Traces::nothing());
        }
        assert_nothing_left(arena);
    });
}

#[test]
fn attach_fails_whole_at_any_shortage_of_descriptors() {
    in_bare_arena!(|arena| {
        let (run, cgroup) = words(arena);
        let mut last = String::new();
        for limit in 4..80 {
            last = with_descriptors(limit)
                .ask(&format!("attach {run} {cgroup}"))
                .expect("an answer");
            if last.starts_with("attached") {
                break;
            }
            assert_eq!(
                Traces::of(arena),
                Traces::nothing(),
                "{limit} descriptors: {last}"
            );
        }
        assert!(last.starts_with("attached"), "{last}");
        portpool_kernel::detach(arena.run(), false).expect("detach");
        assert_nothing_left(arena);
    });
}

#[test]
fn no_shortage_of_descriptors_harms_a_running_pool() {
    in_arena!(|arena| {
        let mut owner = owner();
        let (run, cgroup) = words(arena);
        let mut done = false;
        for limit in 4..80 {
            let before = Traces::of(arena);
            let answer = with_descriptors(limit)
                .ask(&format!("attach {run} {cgroup}"))
                .expect("an answer");
            assert_refused(20_000);
            done = answer.starts_with("attached");
            if done {
                break;
            }
            assert_same_places(&before, &Traces::of(arena), &answer);
        }
        assert!(done);
        owner.ask("bind a 127.0.0.1:0").expect("the owner's bind");
    });
}

#[test]
fn attach_without_a_capability_changes_nothing() {
    in_bare_arena!(|arena| {
        for lacking in [
            "-bpf,-sys_admin",
            "-net_admin,-sys_admin",
            "-perfmon,-sys_admin",
            "-all",
        ] {
            let answer = ask_without(lacking, arena);
            assert!(answer.starts_with("failed: "), "{lacking}: {answer}");
            assert_eq!(Traces::of(arena), Traces::nothing(), "{lacking}: {answer}");
        }
        assert_nothing_left(arena);
    });
}

#[test]
fn attach_without_a_capability_harms_no_running_pool() {
    in_arena!(|arena| {
        let _owner = owner();
        for lacking in [
            "-bpf,-sys_admin",
            "-net_admin,-sys_admin",
            "-perfmon,-sys_admin",
            "-all",
        ] {
            let before = Traces::of(arena);
            let answer = ask_without(lacking, arena);
            assert!(answer.starts_with("failed: "), "{lacking}: {answer}");
            assert_eq!(Traces::of(arena), before, "{lacking}: {answer}");
            let (run, _) = words(arena);
            let answer = without(lacking)
                .ask(&format!("detach {run}"))
                .expect("an answer");
            assert!(answer.starts_with("failed: "), "{lacking}: {answer}");
            assert_refused(20_000);
        }
        let (run, cgroup) = words(arena);
        let mut stranger = Actor::start_as(ACTOR, STRANGER);
        for order in [
            format!("attach {run} {cgroup}"),
            format!("detach {run} force"),
        ] {
            let answer = stranger.ask(&order).expect("an answer");
            assert!(answer.starts_with("failed: "), "{answer}");
        }
        assert_refused(20_000);
    });
}

/// Root without some capabilities: it still owns the files.
fn without(lacking: &str) -> Actor {
    let bounding = format!("--bounding-set={lacking}");
    Actor::spawn(Command::new("setpriv").args([&bounding, ACTOR]))
}

fn ask_without(lacking: &str, arena: &Arena) -> String {
    let (run, cgroup) = words(arena);
    without(lacking)
        .ask(&format!("attach {run} {cgroup}"))
        .expect("an answer")
}

/// Programs may have been replaced; everything else is as it was.
fn assert_same_places(before: &Traces, after: &Traces, why: &str) {
    let places = |traces: &Traces| {
        format!("{traces:?}")
            .split("programs")
            .next()
            .map(ToOwned::to_owned)
    };
    assert_eq!(places(before), places(after), "{why}");
}

/// Nothing is left, and attach works where it failed before.
fn assert_nothing_left(arena: &Arena) {
    assert_eq!(Traces::of(arena), Traces::nothing());
    arena.attach();
    drop(owner());
    portpool_kernel::detach(arena.run(), true).expect("detach");
    assert_eq!(Traces::of(arena), Traces::nothing());
}

fn assert_nothing_but(arena: &Arena, allowed: &[&Path]) {
    let left = format!("{:?}", Traces::of(arena));
    let mut expected = format!("{:?}", Traces::nothing());
    let allowed: Vec<String> = allowed
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    expected = expected.replacen("[]", &format!("{allowed:?}"), 1);
    assert_eq!(left, expected);
}
