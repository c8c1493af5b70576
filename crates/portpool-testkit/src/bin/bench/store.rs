//! What it costs to make a block persistent, and to put thousands of them back.

use std::{
    fs::File,
    io::Write,
    time::{Duration, Instant, SystemTime},
};

use portpool::{Transport, Transports};
use portpool_keeper::{
    Admin, StateDir, Store,
    admin::Persist,
    store::{Block, Change, Sqlite},
};
use portpool_kernel::RunDir;

use crate::{
    meter::{Subject, compare_in, nanoseconds},
    report::Report,
    stage::{Side, Stage, range},
};

/// Judged by item 7 of what the store has to keep to.
pub(crate) fn measure(stage: &Stage, report: &mut Report) {
    stage.enter(Side::Guarded);
    // On a disk, where records are: /tmp may be memory.
    let place = tempfile::tempdir_in("/var/tmp").expect("a directory");
    let state = StateDir::new(place.path().join("state"));
    let run = RunDir::new(stage.run());
    create(stage, report, &run, &state, place.path());
    let restored = StateDir::new(place.path().join("restored"));
    report.add_seconds("store/restore_10k_s", 1.0, restore(&run, &restored));
    // Nothing of it stays in force.
    let mut admin = Admin::open(&run, &state).expect("open");
    admin.reconcile().expect("reconcile");
}

fn create(
    stage: &Stage,
    report: &mut Report,
    run: &RunDir,
    state: &StateDir,
    place: &std::path::Path,
) {
    let admin = std::cell::RefCell::new(Admin::open(run, state).expect("open"));
    let persist = Persist {
        transports: Transports::Tcp,
        range: range(2_000, 4),
        group: None,
        note: None,
    };
    let end = || {
        let ended = admin
            .borrow_mut()
            .unpersist(persist.transports, persist.range);
        ended.expect("unpersist");
    };
    let created = Subject::timed(Side::Guarded, || {
        let start = Instant::now();
        admin.borrow_mut().persist(&persist).expect("persist");
        let time = start.elapsed();
        end();
        nanoseconds(time, 1)
    });
    let mut file = File::create(place.join("appended")).expect("a file");
    let appended = Subject::new(Side::Guarded, 1, move || {
        file.write_all(&[b'x'; 160]).expect("append");
        file.sync_data().expect("sync");
    });
    let found = compare_in(ROUND_COUNT, stage, created, appended);
    report.add("store/create", 2.0, found);
    let mut store = Sqlite::open(state).expect("open");
    let mut number = 0;
    let committed = Subject::new(Side::Guarded, 1, move || {
        number += 1;
        store.commit(&[add(number)]).expect("commit");
    });
    let mut file = File::create(place.join("appended again")).expect("a file");
    let appended = Subject::new(Side::Guarded, 1, move || {
        file.write_all(&[b'x'; 160]).expect("append");
        file.sync_data().expect("sync");
    });
    let found = compare_in(ROUND_COUNT, stage, committed, appended);
    report.note("store/commit alone", found);
}

/// Seconds from opening the records to all of them in force, the quickest of a few.
fn restore(run: &RunDir, state: &StateDir) -> f64 {
    let mut store = Sqlite::open(state).expect("open");
    let changes: Vec<Change> = (1..=RECORD_COUNT).map(add).collect();
    store.commit(&changes).expect("commit");
    drop(store);
    let empty = tempfile::tempdir_in("/var/tmp").expect("a directory");
    let times = (0..3).map(|_| {
        // Nothing of it in force.
        let nothing = StateDir::new(empty.path().join("state"));
        let mut admin = Admin::open(run, &nothing).expect("open");
        admin.reconcile().expect("take away");
        let start = Instant::now();
        let mut admin = Admin::open(run, state).expect("open");
        let reconciled = admin.reconcile().expect("reconcile");
        let time = start.elapsed();
        assert_eq!(reconciled.restored, usize::from(RECORD_COUNT));
        time
    });
    times.min().unwrap_or(Duration::ZERO).as_secs_f64()
}

/// A record of one port in the pool's ranges.
fn add(number: u16) -> Change {
    Change::AddBlock(Block {
        transport: Transport::Tcp,
        range: range(10_000 + 2 * number, 1),
        group: None,
        note: None,
        created: SystemTime::UNIX_EPOCH,
        token: None,
    })
}

const ROUND_COUNT: usize = 51;
const RECORD_COUNT: u16 = 10_000;
