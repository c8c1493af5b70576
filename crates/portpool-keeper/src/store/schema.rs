//! The formats of the file, and how one becomes the next.
//!
//! | format | what it has |
//! | --- | --- |
//! | 1 | `block` without groups |
//! | 2 | `block` with groups, `exclusion`, `seal` |

use rusqlite::{Connection, Transaction, backup::Backup};

use super::rows;

/// The newest format, which is the one written.
pub(super) const VERSION: u32 = 2;

/// "port": says whose file it is.
pub(super) const APPLICATION: u32 = 0x706f_7274;

/// Application and format of a file.
pub(super) fn identity(connection: &Connection) -> rusqlite::Result<(u32, u32)> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let application = pragma("application_id")?.cast_unsigned();
    Ok((application, pragma("user_version")?.cast_unsigned()))
}

/// What SQLite finds wrong with the file, if anything.
pub(super) fn complaint(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let answer: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    Ok((answer != "ok").then_some(answer))
}

/// Makes an empty file one of the newest format.
pub(super) fn create(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(FORMAT_1)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    migrate(transaction, 1)
}

/// Brings a file of format `found` to the newest.
pub(super) fn migrate(transaction: &Transaction<'_>, found: u32) -> rusqlite::Result<()> {
    if found < 2 {
        transaction.execute_batch(FORMAT_2)?;
    }
    rows::seal_as_found(transaction)?;
    transaction.pragma_update(None, "user_version", VERSION)
}

/// Copies a whole file into an empty connection.
pub(super) fn copy(from: &Connection, into: &mut Connection) -> rusqlite::Result<()> {
    let pages = -1;
    let backup = Backup::new(from, into)?;
    backup.step(pages)?;
    Ok(())
}

const FORMAT_1: &str = "
CREATE TABLE block (
    transport TEXT NOT NULL CHECK (transport IN ('tcp', 'udp')),
    first INTEGER NOT NULL CHECK (first BETWEEN 1 AND 65535),
    count INTEGER NOT NULL CHECK (count BETWEEN 1 AND 65536 - first),
    note TEXT,
    created INTEGER NOT NULL,
    boot TEXT,
    token TEXT CHECK (length(token) = 16),
    PRIMARY KEY (transport, first)
) STRICT, WITHOUT ROWID;
";

const FORMAT_2: &str = "
ALTER TABLE block ADD COLUMN gid INTEGER CHECK (gid BETWEEN 0 AND 4294967294);
CREATE TABLE exclusion (
    transport TEXT NOT NULL CHECK (transport IN ('tcp', 'udp')),
    first INTEGER NOT NULL CHECK (first BETWEEN 1 AND 65535),
    count INTEGER NOT NULL CHECK (count BETWEEN 1 AND 65536 - first),
    note TEXT,
    created INTEGER NOT NULL,
    PRIMARY KEY (transport, first)
) STRICT, WITHOUT ROWID;
CREATE TABLE seal (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    digest TEXT NOT NULL
) STRICT;
";
