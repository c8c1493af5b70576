//! What the commands do and say.

use std::{
    fs,
    net::UdpSocket,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Command, Stdio},
};

use portpool_testkit::{in_arena, in_bare_arena};

use super::kit::{EACCES, Place, errno_of_bind, stderr};

/// The specification's case 126, in our words.
#[test]
fn a_block_is_persisted_shown_and_unpersisted() {
    in_arena!(|arena| {
        let place = Place::new(arena);
        let made = place.json("persist 5000-5019 --json --note web");
        assert_eq!((&made["first"], &made["count"]), (&5000.into(), &20.into()));
        assert_eq!(errno_of_bind(5007), EACCES);
        let listed = place.json("reservations --json");
        let row = &listed[0];
        assert_eq!(
            (&row["kind"], &row["note"]),
            (&"persistent".into(), &"web".into())
        );
        assert_eq!(row["token"], made["token"]);
        let text = place.done("reservations");
        assert!(
            text.contains("5000-5019/tcp") && text.contains("(persistent) web"),
            "{text}"
        );
        let text = place.done("port 5007/tcp");
        assert!(
            text.contains("persistent block 5000-5019") && text.contains("note: web"),
            "{text}"
        );
        assert!(place.done("status").contains("1 blocks"));
        let refused = place.refused("persist 5019-5020");
        assert!(
            refused.contains("5000-5019 is a persistent block already"),
            "{refused}"
        );
        let refused = place.refused("unpersist 5000-5018");
        assert!(
            refused.contains("no persistent block has exactly these ports"),
            "{refused}"
        );
        place.refused("unpersist 5000-5019/udp");
        place.done("unpersist 5000-5019");
        place.refused("unpersist 5000-5019");
        assert_eq!(errno_of_bind(5007), 0);
        // Of both transports an object a line, as with `acquire`.
        for line in ["persist 5000/both --json", "unpersist 5000/both --json"] {
            let text = place.done(line);
            let objects = text.lines().map(serde_json::from_str::<serde_json::Value>);
            let transports: Vec<_> = objects
                .map(|it| it.expect("JSON")["transport"].clone())
                .collect();
            assert_eq!(transports, ["tcp", "udp"], "{text}");
        }
    });
}

#[test]
fn an_exclusion_is_made_shown_and_ended() {
    in_arena!(|arena| {
        let place = Place::new(arena);
        place.done("exclude 40000-40009/both --note printer");
        let text = place.done("port 40001/udp");
        assert!(
            text.contains("excluded") && text.contains("printer"),
            "{text}"
        );
        let status = place.json("status --json");
        assert_eq!(status["excluded"][1]["ports"], "40000-40009");
        let text = place.done("reservations");
        for ports in ["40000-40009/tcp", "40000-40009/udp"] {
            let line = text.lines().find(|line| line.starts_with(ports));
            assert!(
                line.is_some_and(|it| it.ends_with("(excluded) printer")),
                "{text}"
            );
        }
        let listed = place.json("reservations --json");
        let row = &listed[1];
        assert_eq!(
            (&row["kind"], &row["transport"], &row["note"]),
            (&"exclusion".into(), &"udp".into(), &"printer".into())
        );
        assert_eq!((&row["first"], &row["count"]), (&40_000.into(), &10.into()));
        assert!(row["token"].is_null() && row["owner"].is_null(), "{row}");
        // Who may not read the records sees which ports they are.
        let mut looks = place.command("reservations --json");
        let output = looks.uid(65_534).gid(65_534).output().expect("run");
        let listed: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(listed[0]["ports"], "40000-40009");
        assert!(listed[0]["note"].is_null(), "{}", listed[0]);
        assert_eq!(errno_of_bind(40_001), 0);
        let output = place.run("run -p 40001 -- true");
        assert_eq!(output.status.code(), Some(1));
        let refused = place.refused("persist 40009");
        assert!(refused.contains("40000-40009 is excluded"), "{refused}");
        place.refused("unexclude 40000-40008/both");
        place.done("unexclude 40000-40009/both");
        place.assert_in_step("after its end");
    });
}

#[test]
fn records_are_not_kept_where_somebody_else_could_write_them() {
    in_arena!(|arena| {
        let place = Place::new(arena);
        place.done("persist 5000-5003");
        let state = &place.state;
        for (owner, mode) in [(65_534, 0o700), (0, 0o777)] {
            std::os::unix::fs::chown(state, Some(owner), None).expect("chown");
            fs::set_permissions(state, fs::Permissions::from_mode(mode)).expect("chmod");
            for line in ["persist 6000", "unpersist 5000-5003", "exclude 6000"] {
                let refused = place.refused(line);
                assert!(refused.contains("writable by nobody else"), "{refused}");
            }
        }
        std::os::unix::fs::chown(state, Some(0), None).expect("chown");
        fs::set_permissions(state, fs::Permissions::from_mode(0o700)).expect("chmod");
        let lock = state.join("lock");
        fs::remove_file(&lock).expect("remove");
        let elsewhere = state.join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, &lock).expect("link");
        place.refused("persist 6000");
        assert!(!elsewhere.exists(), "the link was followed");
        fs::remove_file(&lock).expect("remove");
        place.done("unpersist 5000-5003");
        place.assert_in_step("once it is in order");
    });
}

/// As `netsh` refuses it: also where automatic choice picks, and nobody counted the bind when it was made.
#[test]
fn ports_in_use_are_not_excluded() {
    in_arena!(|arena| {
        let place = Place::new(arena);
        let user = UdpSocket::bind("127.0.0.1:40007").expect("bind");
        place.refused("exclude 40000-40009/both");
        place.assert_in_step("after a refusal");
        place.done("exclude 40000-40009/tcp");
        drop(user);
        place.done("exclude 40000-40009/udp");
        place.done("unexclude 40000-40009/both");
        place.assert_in_step("after its end");
    });
}

#[test]
fn run_consumes_a_persistent_block_where_it_may() {
    in_arena!(|arena| {
        let place = Place::new(arena);
        place.done("persist 5000-5003/both --group 54321");
        let bind = "import socket,sys; s=socket.socket(); s.bind(('127.0.0.1',int(sys.argv[1]))); \
                    u=socket.socket(type=socket.SOCK_DGRAM); u.bind(('127.0.0.1',int(sys.argv[1])))";
        let run = |spec: &str, port: &str, uid: u32, groups: &str| {
            let mut command = Command::new("setpriv");
            command.args([&format!("--reuid={uid}"), &format!("--regid={uid}"), groups]);
            command
                .arg(env!("CARGO_BIN_EXE_portpool"))
                .args(["run", "-p", spec, "--", "python3", "-c", bind, port])
                .stdin(Stdio::null());
            command.output().expect("run")
        };
        for (uid, groups) in [(0, "--clear-groups"), (65_534, "--groups=54321")] {
            let output = run("5000-5003/both", "5002", uid, groups);
            assert!(output.status.success(), "{uid}: {}", stderr(&output));
            // A part of it is lent as well; the rest of the tree's rights is the block's.
            let output = run("5001/both", "5001", uid, groups);
            assert!(output.status.success(), "{uid}: {}", stderr(&output));
        }
        let output = run("5002/both", "5002", 65_534, "--clear-groups");
        assert_eq!(output.status.code(), Some(1));
        let text = stderr(&output);
        let named = "5002/tcp is in the persistent block 5000-5003";
        assert!(
            text.contains(named) && text.contains("group 54321"),
            "{text}"
        );
        // Of one transport it is persistent, of the other it is acquired.
        place.done("unpersist 5000-5003/udp");
        let output = run("5000-5003/both", "5003", 0, "--clear-groups");
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(errno_of_bind(5003), EACCES);
    });
}

#[test]
fn attach_puts_back_and_detach_leaves_on_record() {
    in_bare_arena!(|arena| {
        let place = Place::new(arena);
        place.attach();
        place.done("persist 5000-5003");
        place.done("exclude 6000");
        let text = place.done("detach");
        assert!(text.contains("1 persistent blocks come back"), "{text}");
        assert_eq!(errno_of_bind(5000), 0);
        let text = place.attach();
        assert!(text.contains("put back 2"), "{text}");
        assert_eq!(errno_of_bind(5000), EACCES);
        place.assert_in_step("after attach");
    });
}

/// A new network namespace, as a container has after each start, with the same records.
#[test]
fn records_follow_into_a_new_network_namespace() {
    in_arena!(|arena| {
        let place = Place::new(arena);
        place.done("persist 5000-5003");
        let program = env!("CARGO_BIN_EXE_portpool");
        let cgroup = arena.cgroup().display();
        let script = format!(
            "ip link set lo up && {program} attach --private-mounts --cgroup {cgroup} && \
             {program} port 5000/tcp && ! {program} persist 5003 && {program} persist 6000 && \
             {program} unpersist 6000 && {program} detach"
        );
        let output = Command::new("unshare")
            .args(["-n", "sh", "-c", &script])
            .env("PORTPOOL_STATE_DIR", &place.state)
            .output();
        let output = output.expect("run");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}{}", stderr(&output));
        assert!(text.contains("persistent block 5000-5003"), "{text}");
        place.assert_in_step("in the first namespace");
    });
}

/// Of a root whose umask closes everything, and of one whose umask opens everything.
#[test]
fn everybody_may_look_and_root_alone_may_write_whatever_the_umask() {
    in_bare_arena!(|arena| {
        let place = Place::new(arena);
        for umask in ["077", "000"] {
            let attach = format!("umask {umask} && exec \"$0\" \"$@\"");
            let mut command = Command::new("/bin/sh");
            command
                .args(["-c", &attach, env!("CARGO_BIN_EXE_portpool")])
                .args(["attach", "--private-mounts", "--cgroup"])
                .arg(arena.cgroup())
                .env("PORTPOOL_STATE_DIR", &place.state);
            let output = command.output().expect("run portpool");
            assert!(output.status.success(), "{}", stderr(&output));
            let mut looks = place.command("reservations --json");
            let output = looks.uid(65_534).gid(65_534).output().expect("run");
            assert!(
                output.status.success(),
                "umask {umask}: {}",
                stderr(&output)
            );
            for entry in fs::read_dir(arena.run().path()).expect("run directory") {
                let entry = entry.expect("entry");
                let mode = entry.metadata().expect("metadata").permissions().mode();
                assert_eq!(mode & 0o022, 0, "umask {umask}: {:?}", entry.path());
            }
            place.done("detach");
        }
    });
}

#[test]
fn damaged_records_are_told_and_left_alone() {
    in_bare_arena!(|arena| {
        let place = Place::new(arena);
        place.attach();
        place.done("persist 5000-5003");
        place.done("detach");
        let file = place.state.join("store.sqlite");
        let whole = fs::read(&file).expect("read");
        let mut bent = whole.clone();
        let at = whole
            .windows(3)
            .rposition(|bytes| bytes == b"tcp")
            .expect("a record");
        bent[at] ^= 1;
        fs::write(&file, &bent).expect("bend it");
        let cgroup = arena.cgroup().display().to_string();
        let attach = format!("attach --private-mounts --cgroup {cgroup}");
        let text = place.refused(&attach);
        assert!(
            text.contains("damaged") && text.contains("--without-records"),
            "{text}"
        );
        place.done(&format!("{attach} --without-records"));
        for line in ["persist 6000", "unpersist 5000-5003", "exclude 6000"] {
            assert!(place.refused(line).contains("is damaged"), "{line}");
        }
        assert!(place.done("status").contains("is damaged"));
        assert_eq!(fs::read(&file).expect("read"), bent);
        fs::write(&file, &whole).expect("a backup");
        place.done(&attach);
        assert_eq!(errno_of_bind(5000), EACCES);
    });
}

#[test]
fn a_user_without_privilege_may_look_and_is_told_what_it_takes() {
    in_arena!(|arena| {
        let place = Place::new(arena);
        place.done("persist 5000-5003 --note secret");
        let as_nobody = |line: &str| {
            let mut command = place.command(line);
            command.uid(65_534).gid(65_534).output().expect("run")
        };
        let output = as_nobody("reservations --json");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            text.contains("persistent") && !text.contains("secret"),
            "{text}"
        );
        for line in [
            "persist 6000",
            "unpersist 5000-5003",
            "exclude 6000",
            "unexclude 6000",
        ] {
            let output = as_nobody(line);
            assert_eq!(output.status.code(), Some(1), "{line}");
            assert!(
                stderr(&output).contains("CAP_NET_ADMIN"),
                "{line}: {}",
                stderr(&output)
            );
        }
        place.assert_in_step("after the stranger");
    });
}

#[test]
fn elsewhere_than_with_process_1_the_records_have_to_be_named() {
    in_arena!(|arena| {
        let place = Place::new(arena);
        let mut command = place.command("persist 6000");
        let output = command
            .env_remove("PORTPOOL_STATE_DIR")
            .output()
            .expect("run");
        assert_eq!(output.status.code(), Some(1));
        assert!(
            stderr(&output).contains("PORTPOOL_STATE_DIR"),
            "{}",
            stderr(&output)
        );
    });
}
