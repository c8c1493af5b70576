//! `persist`, `exclude` and their ends, as people run them beside a keeper.

use std::{
    fs,
    net::UdpSocket,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use portpool::{Tenure, Transport};
use portpool_testkit::{Arena, in_arena};

use crate::kit::{Keeper, state_dir};

#[test]
fn the_commands_say_the_same_with_and_without_a_keeper() {
    in_arena!(|arena: &Arena| {
        // Where whoever asks the keeper puts nothing.
        let elsewhere = arena.run().path().with_file_name("elsewhere");
        let mut keeper = Keeper::start_with(arena, &["--group", "7001"], &[]);
        let by_member = said(arena, &elsewhere, Some(MEMBER));
        let by_root = said(arena, &elsewhere, None);
        assert!(!elsewhere.exists(), "somebody did without the keeper");
        assert!(keeper.stop().success());
        let alone = said(arena, &state_dir(arena), None);
        assert_eq!(by_member, alone);
        assert_eq!(by_root, alone);
        let statuses: Vec<_> = alone.iter().map(|line| line.0).collect();
        assert_eq!(statuses, [0, 1, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1].map(Some));
    });
}

/// What a life of both kinds says, step by step.
fn said(arena: &Arena, state: &Path, who: Option<(u32, u32)>) -> Vec<(Option<i32>, String)> {
    let _busy = UdpSocket::bind("127.0.0.1:45100").unwrap();
    let lines = [
        "persist 45000-45003/both --note web --group 7002 --json",
        "persist 45003-45004",
        "persist 45100/udp",
        "unpersist 45000-45002/both",
        "unpersist 45000-45003/both",
        "unpersist 45000-45003/both --json",
        "exclude 45100/udp",
        "exclude 45000-45003/both --note printer",
        "exclude 45003/udp",
        "persist 45000/udp",
        "unexclude 45000-45003/both --json",
        "unexclude 45000-45003/both",
    ];
    let mut answers = Vec::new();
    for line in lines {
        let output = run(state, who, line);
        if line == lines[0] {
            let records = arena.pool().reservations().unwrap();
            assert_eq!(records.len(), 2, "{output:?}");
            for record in records {
                assert_eq!(record.tenure, Tenure::Persistent { group: Some(7002) });
            }
        }
        if line == lines[7] {
            for transport in Transport::ALL {
                let excluded = arena.pool().excluded(transport).unwrap();
                assert_eq!(excluded.to_string(), "45000-45003");
            }
        }
        answers.push((output.status.code(), without_tokens(&output)));
    }
    assert!(arena.pool().reservations().unwrap().is_empty());
    answers
}

#[test]
fn who_is_not_in_the_group_of_the_keeper_changes_nothing() {
    in_arena!(|arena: &Arena| {
        let _keeper = Keeper::start_with(arena, &["--group", "7001"], &[]);
        let state = state_dir(arena);
        for line in ["persist 45000-45003/both", "exclude 45010/both"] {
            let refused = run(&state, Some(STRANGER), line);
            assert_eq!(refused.status.code(), Some(1), "{refused:?}");
            let text = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(text.contains("uid 65534"), "{text}");
            assert!(text.contains("root and the group 7001 may"), "{text}");
            assert!(refused.stdout.is_empty());
            assert!(arena.pool().reservations().unwrap().is_empty());
            assert!(arena.pool().excluded(Transport::Tcp).unwrap().is_empty());
            // What root made they do not end either.
            done(run(&state, None, line));
            let end = format!("un{line}");
            let refused = run(&state, Some(STRANGER), &end);
            assert_eq!(refused.status.code(), Some(1), "{refused:?}");
            done(run(&state, Some(MEMBER), &end));
        }
    });
}

#[test]
fn both_transports_or_none_are_changed_through_the_keeper() {
    in_arena!(|arena: &Arena| {
        let _keeper = Keeper::start_with(arena, &["--group", "7001"], &[]);
        let state = state_dir(arena);
        let member = |line: &str| run(&state, Some(MEMBER), line);
        let busy = UdpSocket::bind("127.0.0.1:25002").unwrap();
        for line in ["persist 25000-25003/both", "exclude 25000-25003/both"] {
            let refused = member(line);
            assert_eq!(refused.status.code(), Some(1), "{refused:?}");
            assert!(arena.pool().reservations().unwrap().is_empty(), "{line}");
            for transport in Transport::ALL {
                let excluded = arena.pool().excluded(transport).unwrap();
                assert!(excluded.is_empty(), "{line}");
            }
        }
        drop(busy);
        done(member("persist 25000-25003/tcp"));
        assert_eq!(member("unpersist 25000-25003/both").status.code(), Some(1));
        assert_eq!(arena.pool().reservations().unwrap().len(), 1);
        done(member("unpersist 25000-25003/tcp"));
    });
}

#[test]
fn root_does_without_a_keeper_that_left_its_socket() {
    in_arena!(|arena: &Arena| {
        let mut keeper = Keeper::start(arena);
        keeper.kill();
        assert!(fs::exists(keeper.socket()).unwrap());
        let state = state_dir(arena);
        done(run(&state, None, "persist 25000-25003/both"));
        assert_eq!(arena.pool().reservations().unwrap().len(), 2);
        done(run(&state, None, "unpersist 25000-25003/both"));
        // Somebody else does not.
        let refused = run(&state, Some(MEMBER), "persist 25000");
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(arena.pool().reservations().unwrap().is_empty());
    });
}

#[test]
fn a_command_in_another_network_namespace_is_not_about_the_pool_of_this_keeper() {
    in_arena!(|arena: &Arena| {
        let _keeper = Keeper::start(arena);
        let mut command = Command::new("unshare");
        command
            .args(["-n", env!("CARGO_BIN_EXE_portpool"), "persist", "45000"])
            .env(
                "PORTPOOL_STATE_DIR",
                arena.run().path().with_file_name("elsewhere"),
            )
            .stdin(Stdio::null());
        // There is none there.
        let refused = command.output().expect("run unshare");
        assert_eq!(refused.status.code(), Some(3), "{refused:?}");
        assert!(arena.pool().reservations().unwrap().is_empty());
    });
}

fn run(state: &Path, who: Option<(u32, u32)>, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portpool"));
    command
        .args(line.split_whitespace())
        .env("PORTPOOL_STATE_DIR", state)
        .stdin(Stdio::null());
    if let Some((uid, gid)) = who {
        command.uid(uid).gid(gid);
    }
    command.output().expect("run portpool")
}

#[expect(clippy::needless_pass_by_value, reason = "the end of it")]
fn done(output: Output) {
    assert!(output.status.success(), "{output:?}");
}

/// Stdout and stderr; no token is like another.
fn without_tokens(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8(text).expect("text");
    let is_token = |word: &str| word.len() == 16 && word.chars().all(|it| it.is_ascii_hexdigit());
    let words = text.split_inclusive(|letter: char| !letter.is_ascii_alphanumeric());
    words
        .map(|word| {
            let bare = word.trim_end_matches(|letter: char| !letter.is_ascii_alphanumeric());
            match is_token(bare) {
                true => word.replace(bare, "TOKEN"),
                false => word.to_owned(),
            }
        })
        .collect()
}

/// Neither is root.
const MEMBER: (u32, u32) = (65_534, 7001);
const STRANGER: (u32, u32) = (65_534, 65_534);
