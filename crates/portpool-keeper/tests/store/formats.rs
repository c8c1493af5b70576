//! Files of every format there ever was, and of those there are not yet.

use std::fs;

use portpool_core::Transport;
use portpool_keeper::store::{Sqlite, Store, StoreError};
use rusqlite::Connection;

use crate::kit::{Place, boot, example, range};

#[test]
fn a_file_of_format_1_is_read_and_becomes_one_of_today() {
    let place = Place::with_file("format-1.sqlite");
    let bytes = fs::read(place.state.store()).expect("read");
    let seen = place.read();
    assert_eq!(fs::read(place.state.store()).expect("read"), bytes);
    assert_eq!(seen.exclusions, []);
    let notes: Vec<_> = seen
        .blocks
        .iter()
        .map(|block| (block.transport, block.range, block.note.as_ref()))
        .map(|(transport, range, note)| (transport, range, note.map(ToString::to_string)))
        .collect();
    let expected = [
        (Transport::Tcp, range("5000-5019"), Some("media".to_owned())),
        (Transport::Tcp, range("65535"), None),
        (Transport::Udp, range("5000-5019"), Some("media".to_owned())),
    ];
    assert_eq!(notes, expected);
    assert_eq!(seen.blocks[0].group, None);
    let (named, token) = seen.blocks[0].token.clone().expect("a token");
    assert_eq!((named, token.value()), (boot(), 0xc0ffee));
    let mut store = place.open();
    assert_eq!(store.records().expect("read"), seen);
    store.commit(&example()[2..]).expect("commit");
    drop(store);
    assert_eq!(format_of(&place), 2);
    assert_eq!(place.read().exclusions.len(), 2);
}

#[test]
fn a_file_of_format_2_is_read() {
    let place = Place::with_file("format-2.sqlite");
    let expected = Place::new();
    expected.open().commit(&example()).expect("commit");
    assert_eq!(place.read(), expected.read());
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let place = Place::new();
    place.open().commit(&example()).expect("commit");
    let file = Connection::open(place.state.store()).expect("open");
    file.pragma_update(None, "user_version", 3).expect("write");
    file.close().expect("close");
    refused_and_untouched(&place, |error| {
        matches!(
            error,
            StoreError::Newer {
                found: 3,
                own: 2,
                ..
            }
        )
    });
}

#[test]
fn a_file_of_another_program_is_refused_and_left_alone() {
    for content in ["CREATE TABLE block (a)", "PRAGMA application_id = 7"] {
        let place = Place::new();
        fs::create_dir(place.state.path()).expect("make");
        let file = Connection::open(place.state.store()).expect("open");
        file.execute_batch(content).expect("write");
        file.close().expect("close");
        refused_and_untouched(&place, |error| matches!(error, StoreError::Foreign { .. }));
    }
}

fn format_of(place: &Place) -> i32 {
    let file = Connection::open(place.state.store()).expect("open");
    file.pragma_query_value(None, "user_version", |row| row.get(0))
        .expect("read")
}

/// Both ways of opening answer `expected` and change nothing.
pub(crate) fn refused_and_untouched(place: &Place, expected: impl Fn(&StoreError) -> bool) {
    let bytes = fs::read(place.state.store()).expect("read");
    let error = Sqlite::open(&place.state).expect_err("refused");
    assert!(expected(&error), "{error}");
    let error = Sqlite::open_to_read(&place.state).expect_err("refused");
    assert!(expected(&error), "{error}");
    assert_eq!(fs::read(place.state.store()).expect("read"), bytes);
}
