//! Files that somebody or something damaged, or that cannot be written.

use std::{fs, os::unix::fs::MetadataExt};

use portpool_core::Transport;
use portpool_keeper::store::{Change, Sqlite, Store, StoreError};
use portpool_testkit::Size;

use crate::{
    formats::refused_and_untouched,
    kit::{Place, block, example},
};

/// Any bit of the file turned over: either it makes no difference, or it is noticed.
#[test]
fn no_bent_bit_changes_a_record_unnoticed() {
    let place = Place::new();
    place.open().commit(&example()).expect("commit");
    let records = place.read();
    let whole = fs::read(place.state.store()).expect("read");
    let step = Size::bit_stride();
    let (mut harmless, mut noticed) = (0, 0);
    for bit in (0..whole.len() * 8).step_by(step) {
        let mut bent = whole.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        fs::write(place.state.store(), &bent).expect("write");
        match Sqlite::open_to_read(&place.state) {
            Ok(store) => {
                let read = store.expect("a store").records().expect("read");
                assert_eq!(read, records, "bit {bit}");
                harmless += 1;
            }
            Err(_) => noticed += 1,
        }
    }
    assert!(
        noticed > 0 && harmless > 0,
        "{noticed} of {}",
        noticed + harmless
    );
}

#[test]
fn a_file_cut_short_is_reported_and_left_alone() {
    for keep in [0, 1, 99, 100, 512, 4096, 5000, 8192] {
        let place = Place::new();
        place.open().commit(&example()).expect("commit");
        let whole = fs::read(place.state.store()).expect("read");
        assert!(whole.len() > keep);
        fs::write(place.state.store(), &whole[..keep]).expect("cut");
        refused_and_untouched(&place, |error| matches!(error, StoreError::Damaged { .. }));
    }
}

#[test]
fn what_is_no_database_is_reported_and_left_alone() {
    let place = Place::new();
    fs::create_dir(place.state.path()).expect("make");
    fs::write(place.state.store(), "tcp 5000-5019\n".repeat(1000)).expect("write");
    refused_and_untouched(&place, |error| matches!(error, StoreError::Damaged { .. }));
}

#[test]
fn rows_changed_by_hand_are_reported() {
    for change in [
        "UPDATE block SET first = 5001, count = 19 WHERE transport = 'tcp'",
        "DELETE FROM exclusion WHERE transport = 'tcp'",
        "UPDATE block SET gid = 0",
        "DELETE FROM seal",
        "UPDATE block SET note = char(10)",
    ] {
        let place = Place::new();
        place.open().commit(&example()).expect("commit");
        let file = rusqlite::Connection::open(place.state.store()).expect("open");
        assert!(file.execute(change, []).expect("change") > 0);
        file.close().expect("close");
        refused_and_untouched(&place, |error| matches!(error, StoreError::Damaged { .. }));
    }
}

#[test]
fn records_are_for_their_owner_alone() {
    let place = Place::new();
    let mut store = place.open();
    store.commit(&example()).expect("commit");
    let mode = |path: &std::path::Path| fs::metadata(path).expect("look").mode() & 0o7777;
    assert_eq!(mode(place.state.path()), 0o700);
    for file in fs::read_dir(place.state.path()).expect("list").flatten() {
        assert_eq!(mode(&file.path()), 0o600, "{}", file.path().display());
    }
}

mod as_root {
    use std::process::Command;

    use portpool_testkit::in_bare_arena;

    use super::*;

    #[test]
    fn records_on_a_read_only_file_system_are_read_and_not_changed() {
        in_bare_arena!(|arena| {
            let place = Place::within(arena);
            let mut store = place.open();
            store.commit(&example()).expect("commit");
            // Its log is still there: what is in it must be seen too.
            let mount = place.directory.path().to_owned();
            let mount = mount.as_path();
            run("mount", &["--bind", "STATE", "STATE"], mount);
            run("mount", &["-o", "remount,ro,bind", "STATE"], mount);
            assert_eq!(place.read().blocks.len(), 2);
            let change = Change::AddBlock(block(Transport::Tcp, "80"));
            let error = Sqlite::open(&place.state)
                .and_then(|mut store| store.commit(std::slice::from_ref(&change)))
                .expect_err("read-only");
            assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
            drop(store);
            assert_eq!(place.read().blocks.len(), 2);
            run("umount", &["STATE"], mount);
        });
    }

    #[test]
    fn a_full_disk_changes_nothing_and_room_mends_it() {
        in_bare_arena!(|arena| {
            let place = Place::within(arena);
            let mount = place.directory.path().to_owned();
            let mount = mount.as_path();
            fs::create_dir(place.state.path()).expect("make");
            run(
                "mount",
                &["-t", "tmpfs", "-o", "size=256k", "none", "STATE"],
                mount,
            );
            let mut store = place.open();
            let mut count = 0;
            let error = loop {
                let change = Change::AddBlock(block(Transport::Tcp, &format!("{}", count + 1)));
                match store.commit(&[change]) {
                    Ok(()) => count += 1,
                    Err(error) => break error,
                }
                assert!(count < 65_535, "the disk is never full");
            };
            assert!(matches!(error, StoreError::Full { .. }), "{error}");
            assert_eq!(store.records().expect("read").blocks.len(), count);
            drop(store);
            assert_eq!(place.read().blocks.len(), count);
            run("mount", &["-o", "remount,size=1m", "STATE"], mount);
            let change = Change::AddBlock(block(Transport::Udp, "80"));
            place.open().commit(&[change]).expect("commit");
            assert_eq!(place.read().blocks.len(), count + 1);
            run("umount", &["STATE"], mount);
        });
    }

    /// Runs a command; `STATE` is the state directory below `directory`.
    fn run(command: &str, arguments: &[&str], directory: &std::path::Path) {
        let state = directory.join("state");
        let arguments = arguments.iter().map(|argument| match *argument {
            "STATE" => state.as_os_str().to_owned(),
            argument => argument.into(),
        });
        let status = Command::new(command).args(arguments).status();
        assert!(status.expect("run").success(), "{command}");
    }
}
