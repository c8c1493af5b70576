//! kill -9, full disks and disks that fail, at every step of every command.
//!
//! What a command answered is on record and in force, what it did not answer is there as a whole or
//! not at all, and the next command or attach brings kernel and sysctl into step with the records.

use std::{
    collections::BTreeSet,
    os::unix::process::ExitStatusExt,
    process::{Command, Output},
};

use portpool::{PortRange, Transport};
use portpool_testkit::{Arena, Size, in_arena, in_bare_arena};

use super::kit::{Place, stderr};

/// Each command, what has to be there for it, and the places in it.
const PLACES: [(&str, &str, &[&str]); 4] = [
    (
        "persist 40000-40003/both",
        "",
        &[
            "begun",
            "kept-clear",
            "installed-tcp",
            "installed-udp",
            "committed",
        ],
    ),
    (
        "unpersist 40000-40003/both",
        "persist 40000-40003/both",
        &["begun", "committed", "removed-tcp", "removed-udp", "let-go"],
    ),
    (
        "exclude 40000-40003/both",
        "",
        &[
            "begun",
            "kept-clear",
            "excluded-tcp",
            "excluded-udp",
            "committed",
        ],
    ),
    (
        "unexclude 40000-40003/both",
        "exclude 40000-40003/both",
        &[
            "begun",
            "committed",
            "unexcluded-tcp",
            "unexcluded-udp",
            "let-go",
        ],
    ),
];

#[test]
fn a_command_killed_at_any_step_is_mended_by_the_next() {
    in_arena!(|arena| {
        each_place(arena, 1, |place, why| {
            // One that has nothing to do with it.
            place.done("persist 7000");
            place.assert_in_step(why);
            place.done("unpersist 7000");
        });
    });
}

#[test]
fn a_command_killed_at_any_step_is_mended_by_attaching_again() {
    in_bare_arena!(|arena| {
        Place::new(arena).attach();
        each_place(arena, Size::fault_stride(), |place, why| {
            place.attach();
            place.assert_in_step(why);
        });
    });
}

fn each_place(arena: &Arena, stride: usize, mend: impl Fn(&Place<'_>, &str)) {
    let place = Place::new(arena);
    for (line, before, steps) in PLACES {
        for step in steps.iter().rev().step_by(stride) {
            if !before.is_empty() {
                place.done(before);
            }
            let had = recorded(&place);
            let verb = line.split(' ').next().expect("a verb");
            let fault = format!("{verb}:{step}");
            let output = place.command(line).env("PORTPOOL_FAULT", &fault).output();
            let output = output.expect("run portpool");
            assert_eq!(
                output.status.signal(),
                Some(9),
                "{fault}: {}",
                stderr(&output)
            );
            // As a whole or not at all.
            let has = recorded(&place);
            let is_changed = has != had;
            let is_due = steps.iter().position(|it| it == step)
                >= steps.iter().position(|it| *it == "committed");
            assert_eq!(is_changed, is_due, "{fault}");
            assert!(has.is_empty() || has.len() == 2, "{fault}: {has:?}");
            mend(&place, &fault);
            clear(&place);
        }
    }
}

/// Whatever the disk answers to whichever call, and wherever the process ends in between.
#[test]
fn a_disk_that_fails_at_any_call_loses_nothing_that_was_answered() {
    in_arena!(|arena| {
        let place = Place::new(arena);
        // So that the file is there and has pages to write back.
        place.done("persist 6999");
        for (line, before, _) in PLACES {
            for (calls, mishap) in MISHAPS {
                for at in (1..CALLS_MAX).step_by(Size::call_stride()) {
                    if !before.is_empty() {
                        place.done(before);
                    }
                    let why = format!("{line}: {calls} number {at}: {mishap}");
                    let output = with_mishap(&place, line, calls, mishap, at);
                    let was_met = !output.status.success();
                    // Each of them makes one such call at least.
                    assert!(was_met || at > 1, "{why}");
                    if !was_met {
                        assert_eq!(recorded(&place).is_empty(), line.starts_with("un"), "{why}");
                    }
                    lift_mark(&place);
                    let has = recorded(&place);
                    assert!(has.is_empty() || has.len() == 2, "{why}: {has:?}");
                    place.done("persist 7000");
                    place.assert_in_step(&why);
                    place.done("unpersist 7000");
                    clear(&place);
                    if !was_met {
                        // Past the last such call.
                        break;
                    }
                }
            }
        }
    });
}

#[test]
fn after_a_failed_sync_nothing_is_written_until_somebody_has_looked() {
    in_arena!(|arena| {
        let place = Place::new(arena);
        place.done("persist 5000");
        let output = with_mishap(&place, "persist 5001", "fdatasync,fsync", "error=EIO", 1);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        for line in ["persist 5002", "unpersist 5000", "exclude 5003"] {
            let text = place.refused(line);
            assert!(text.contains("not written any more"), "{line}: {text}");
        }
        // Looking and attaching go on.
        assert!(place.done("reservations").contains("5000/tcp"));
        place.attach();
        lift_mark(&place);
        place.done("persist 5002");
        place.assert_in_step("after the disk was looked at");
    });
}

#[test]
fn a_full_disk_is_told_and_changes_nothing() {
    in_arena!(|arena| {
        let place = Place::new(arena);
        std::fs::create_dir(&place.state).expect("make the directory");
        let state = place.state.display().to_string();
        run(
            "mount",
            &["-t", "tmpfs", "-o", "size=192k,mode=0700", "none", &state],
        );
        place.done("persist 5000-5003");
        std::fs::write(place.state.join("ballast"), vec![0; 1 << 20]).expect_err("fill it");
        for line in ["persist 6000", "exclude 6000"] {
            let text = place.refused(line);
            assert!(
                text.contains("room") || text.contains("disk"),
                "{line}: {text}"
            );
            lift_mark(&place);
        }
        assert_eq!(recorded(&place).len(), 1);
        // At boot as well.
        place.attach();
        std::fs::remove_file(place.state.join("ballast")).expect("make room");
        place.done("persist 6000");
        place.assert_in_step("with room again");
        run("umount", &[&state]);
    });
}

/// What strace makes of calls: errors, and an end in front of one.
const MISHAPS: [(&str, &str); 4] = [
    ("pwrite64", "error=EIO"),
    ("pwrite64", "error=ENOSPC"),
    ("fdatasync,fsync", "error=EIO"),
    (
        "pwrite64,fdatasync,fsync,ftruncate,unlink,rename",
        "signal=KILL",
    ),
];

/// More than any of the commands makes of any of these.
const CALLS_MAX: usize = 60;

fn with_mishap(place: &Place<'_>, line: &str, calls: &str, mishap: &str, at: usize) -> Output {
    let mut command = Command::new("strace");
    command
        .args(["-f", "-o", "/dev/null"])
        .arg(format!("--trace={calls}"))
        .arg(format!("--inject={calls}:{mishap}:when={at}"))
        // Only what is done to the records: the rest of the machine works.
        .args([
            "-P",
            &place.state.join("store.sqlite").display().to_string(),
        ])
        .args([
            "-P",
            &place.state.join("store.sqlite-wal").display().to_string(),
        ])
        .arg(env!("CARGO_BIN_EXE_portpool"))
        .args(line.split_whitespace())
        .env("PORTPOOL_STATE_DIR", &place.state);
    command.output().expect("run strace")
}

/// Somebody has looked at the disk.
fn lift_mark(place: &Place<'_>) {
    drop(std::fs::remove_file(
        place.arena.run().path().join("store-failed"),
    ));
}

/// What is on record of the ports of [`PLACES`].
fn recorded(place: &Place<'_>) -> BTreeSet<(Transport, PortRange)> {
    let records = place.records();
    let blocks = records
        .blocks
        .iter()
        .map(|block| (block.transport, block.range));
    let exclusions = records.exclusions.iter().map(|it| (it.transport, it.range));
    let of_interest = |(_, range): &(Transport, PortRange)| {
        range.first().number() != 6999 && range.first().number() != 7000
    };
    blocks.chain(exclusions).filter(of_interest).collect()
}

fn clear(place: &Place<'_>) {
    let records = place.records();
    for block in records.blocks {
        if block.range.first().number() != 6999 {
            place.done(&format!("unpersist {}/{}", block.range, block.transport));
        }
    }
    for exclusion in records.exclusions {
        place.done(&format!(
            "unexclude {}/{}",
            exclusion.range, exclusion.transport
        ));
    }
}

fn run(command: &str, arguments: &[&str]) {
    let status = Command::new(command).args(arguments).status();
    assert!(status.expect("run").success(), "{command} {arguments:?}");
}
