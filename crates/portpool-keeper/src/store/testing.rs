//! The fuzz target of the records.

use portpool_core::{PortRange, Transport};
use rusqlite::{Connection, types::Value};

use super::{Note, Records, rows, schema};

/// Rows with anything in their columns are records, of which no two overlap, or are refused. The bytes
/// are lines: the first says whether the rows are sealed as they are, each other is a row, its columns
/// with tabs between.
pub fn store(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines();
    let seal = lines.next();
    let mut connection = database();
    for line in lines.take(ROW_COUNT_MAX) {
        insert(&connection, line);
    }
    if seal == Some("sealed") {
        let transaction = connection.transaction().expect("a transaction");
        let sealed = rows::seal_all(&transaction);
        transaction.commit().expect("commit");
        if sealed.is_err() {
            // What cannot be read cannot be sealed, nor read as sealed.
            assert!(!matches!(rows::read(&connection), Ok(Ok(_))));
            return;
        }
    }
    if let Ok(Ok(records)) = rows::read(&connection) {
        check(&connection, &records);
    }
}

fn check(connection: &Connection, records: &Records) {
    let blocks = records.blocks.iter().map(|it| (it.transport, it.range));
    let exclusions = records.exclusions.iter().map(|it| (it.transport, it.range));
    let (blocks, exclusions): (Vec<_>, Vec<_>) = (blocks.collect(), exclusions.collect());
    for all in [&blocks, &exclusions] {
        for (index, (transport, range)) in all.iter().enumerate() {
            let mut before = all[..index].iter();
            assert!(!before.any(|it| it.0 == *transport && it.1.overlaps(*range)));
        }
    }
    for note in records.blocks.iter().filter_map(|it| it.note.as_ref()) {
        assert_eq!(note.text().parse::<Note>().as_ref(), Ok(note));
    }
    for transport in Transport::ALL {
        let range = PortRange::from_numbers(8_080, 2_000).expect("a range");
        let met = rows::blocks_meeting(connection, transport, range).expect("blocks");
        let naive = blocks
            .iter()
            .filter(|it| it.0 == transport && it.1.overlaps(range));
        assert!(met.iter().map(|it| it.range).eq(naive.map(|it| it.1)));
        let met = rows::exclusions_meeting(connection, transport, range).expect("exclusions");
        let naive = exclusions
            .iter()
            .filter(|it| it.0 == transport && it.1.overlaps(range));
        assert!(met.iter().map(|it| it.range).eq(naive.map(|it| it.1)));
    }
}

/// Of today's format, without the constraints that whoever bends a file gets past.
fn database() -> Connection {
    let mut connection = Connection::open_in_memory().expect("a database");
    let transaction = connection.transaction().expect("a transaction");
    schema::create(&transaction).expect("a schema");
    transaction.commit().expect("commit");
    let loose = "PRAGMA ignore_check_constraints = ON";
    connection.execute_batch(loose).expect("no checks");
    connection
}

/// A row that its table does not take is none.
fn insert(connection: &Connection, line: &str) {
    let mut columns = line.split('\t');
    let (table, width) = match columns.next() {
        Some("block") => (
            "block (transport, first, count, note, created, gid, boot, token)",
            8,
        ),
        Some("exclusion") => ("exclusion (transport, first, count, note, created)", 5),
        Some("seal") => ("seal (only, digest)", 2),
        _ => return,
    };
    let values: Vec<Value> = columns
        .chain(std::iter::repeat(""))
        .take(width)
        .map(value)
        .collect();
    let places = vec!["?"; width].join(", ");
    let insert = format!("INSERT OR REPLACE INTO {table} VALUES ({places})");
    let _ = connection.execute(&insert, rusqlite::params_from_iter(values));
}

fn value(text: &str) -> Value {
    match (text, text.parse()) {
        ("", _) => Value::Null,
        (_, Ok(number)) => Value::Integer(number),
        (text, Err(_)) => Value::Text(text.to_owned()),
    }
}

const ROW_COUNT_MAX: usize = 32;
