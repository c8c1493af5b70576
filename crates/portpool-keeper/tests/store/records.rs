//! What is committed, read back.

use std::fs;

use portpool_core::{PortRange, RangeSet, Token, Transport};
use portpool_keeper::store::{Block, Change, Records, Sqlite, Store, StoreError};
use portpool_testkit::Chance;

use crate::kit::{Place, block, boot, example, exclusion, range};

#[test]
fn what_was_committed_is_read_back() {
    let place = Place::new();
    place.open().commit(&example()).expect("commit");
    let records = place.read();
    assert_eq!(records.blocks[0], block(Transport::Tcp, "5000-5019"));
    assert_eq!(records.blocks[1].token, None);
    assert_eq!(records.exclusions[0], exclusion(Transport::Tcp, "8080"));
    assert_eq!((records.blocks.len(), records.exclusions.len()), (2, 2));
    assert_eq!(place.open().records().expect("read"), records);
}

#[test]
fn a_commit_is_all_or_nothing() {
    let place = Place::new();
    let mut store = place.open();
    store.commit(&example()).expect("commit");
    let before = store.records().expect("read");
    let changes = [
        Change::DeleteBlock(Transport::Tcp, range("5000-5019")),
        Change::AddBlock(block(Transport::Tcp, "6000")),
        Change::DeleteExclusion(Transport::Tcp, range("8081")),
    ];
    store.commit(&changes).expect_err("no such exclusion");
    assert_eq!(store.records().expect("read"), before);
    assert_eq!(place.read(), before);
}

#[test]
fn deleting_and_naming_anew_match_exactly_these_ports() {
    let place = Place::new();
    let mut store = place.open();
    store.commit(&example()).expect("commit");
    let (boot, token) = (boot(), Token::new(7).expect("token"));
    for ports in ["5000-5018", "5001-5019", "5000", "5000-5020"] {
        let rename = Change::RenameBlock(Transport::Tcp, range(ports), boot.clone(), token);
        for change in [Change::DeleteBlock(Transport::Tcp, range(ports)), rename] {
            store.commit(&[change]).expect_err("not exactly these");
        }
    }
    let rename = Change::RenameBlock(Transport::Tcp, range("5000-5019"), boot.clone(), token);
    store.commit(&[rename]).expect("name anew");
    let renamed = Block {
        token: Some((boot, token)),
        ..block(Transport::Tcp, "5000-5019")
    };
    assert_eq!(place.read().blocks[0], renamed);
    let delete = |transport| Change::DeleteBlock(transport, range("5000-5019"));
    store.commit(&[delete(Transport::Tcp)]).expect("delete");
    store.commit(&[delete(Transport::Udp)]).expect("delete");
    assert_eq!(place.read().blocks, []);
}

/// Against a look at each record.
#[test]
fn what_meets_a_range_is_found() {
    let seed = Chance::seed();
    println!("seed {seed}");
    let mut chance = Chance::new(seed);
    let place = Place::new();
    let mut store = place.open();
    let mut changes = Vec::new();
    for transport in Transport::ALL {
        for ports in apart(&mut chance) {
            changes.push(Change::AddBlock(block(transport, &ports.to_string())));
        }
        for ports in apart(&mut chance) {
            changes.push(Change::AddExclusion(exclusion(
                transport,
                &ports.to_string(),
            )));
        }
    }
    store.commit(&changes).expect("commit");
    let records = store.records().expect("read");
    let (mut some, mut none) = (0, 0);
    for _ in 0..2_000 {
        let asked = some_range(&mut chance, 2_100);
        let transport = Transport::ALL[chance.below(2) as usize];
        let is_met = |of: Transport, range: PortRange| of == transport && range.overlaps(asked);
        let mut blocks = records.blocks.clone();
        blocks.retain(|it| is_met(it.transport, it.range));
        let mut exclusions = records.exclusions.clone();
        exclusions.retain(|it| is_met(it.transport, it.range));
        match blocks.is_empty() {
            true => none += 1,
            false => some += 1,
        }
        let met = store.blocks_meeting(transport, asked).expect("blocks");
        assert_eq!(met, blocks, "{asked}");
        let met = store
            .exclusions_meeting(transport, asked)
            .expect("exclusions");
        assert_eq!(met, exclusions, "{asked}");
    }
    assert!(some > 100 && none > 100, "{some} {none}");
}

/// A log that has to grow costs each commit its new length; one that is written over again does not.
#[test]
fn the_log_of_a_store_that_stays_open_stays_small() {
    let place = Place::new();
    let mut store = place.open();
    let log = place.state.path().join("store.sqlite-wal");
    let mut longest = 0;
    for _ in 0..200 {
        for change in [
            Change::AddBlock(block(Transport::Tcp, "5000")),
            Change::DeleteBlock(Transport::Tcp, range("5000")),
        ] {
            store.commit(&[change]).expect("commit");
            longest = longest.max(fs::metadata(&log).expect("a log").len());
        }
    }
    // Each commit writes two pages of 4 KiB at least: that is 3 MiB in all.
    assert!((8_192..512 * 1024).contains(&longest), "{longest}");
    assert_eq!(place.read(), Records::default());
}

#[test]
fn a_reader_sees_what_a_writer_commits() {
    let place = Place::new();
    assert!(Sqlite::open_to_read(&place.state).expect("look").is_none());
    let mut writer = place.open();
    let mut reader = Sqlite::open_to_read(&place.state)
        .expect("open")
        .expect("a store");
    assert_eq!(reader.records().expect("read"), Records::default());
    writer.commit(&example()).expect("commit");
    assert_eq!(reader.records().expect("read").blocks.len(), 2);
    let change = Change::AddBlock(block(Transport::Tcp, "7000"));
    let error = reader.commit(&[change]).expect_err("a reader");
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
}

#[test]
fn two_writers_take_turns() {
    let place = Place::new();
    let (mut one, mut other) = (place.open(), place.open());
    for port in 1..=50 {
        let change = |transport| Change::AddBlock(block(transport, &format!("{port}")));
        one.commit(&[change(Transport::Tcp)]).expect("commit");
        other.commit(&[change(Transport::Udp)]).expect("commit");
    }
    assert_eq!(one.records().expect("read"), other.records().expect("read"));
    assert_eq!(place.read().blocks.len(), 100);
}

/// Ranges of 1 to 20 ports in the first 2,100, some side by side, none over another.
fn apart(chance: &mut Chance) -> Vec<PortRange> {
    let mut free = RangeSet::from(range("1-2100"));
    let mut ranges = Vec::new();
    for _ in 0..100 {
        let range = some_range(chance, 2_080);
        if free.covers(range) {
            free.remove(range);
            ranges.push(range);
        }
    }
    ranges
}

fn some_range(chance: &mut Chance, last_first: u32) -> PortRange {
    let number = |number: u32| u16::try_from(number).expect("a port");
    let (first, count) = (1 + chance.below(last_first), 1 + chance.below(20));
    PortRange::from_numbers(number(first), number(count)).expect("a range")
}
