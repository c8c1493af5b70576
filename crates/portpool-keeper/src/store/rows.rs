//! Records as rows.
//!
//! SQLite notices a torn or bent page, not a port that became another. So the table `seal` has a
//! digest of all rows, changed with each of them and compared with each look.

use std::{
    io,
    time::{Duration, SystemTime},
};

use portpool_core::{PortRange, Token, Transport};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params, types::Type};

use super::{Block, Boot, Change, Exclusion, Note, Records};

/// All records, or what is wrong with them.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<Result<Records, String>> {
    let mut blocks = connection.prepare_cached(&format!("{BLOCKS} ORDER BY 1, 2"))?;
    let mut exclusions = connection.prepare_cached(&format!("{EXCLUSIONS} ORDER BY 1, 2"))?;
    let records = Records {
        blocks: blocks.query_map([], block)?.collect::<Result<_, _>>()?,
        exclusions: exclusions
            .query_map([], exclusion)?
            .collect::<Result<_, _>>()?,
    };
    if sealed(connection)? != Some(digest(&records)) {
        return Ok(Err("its records are not those that were written".into()));
    }
    Ok(match overlap(&records) {
        Some(range) => Err(format!("two of its records overlap at {range}")),
        None => Ok(records),
    })
}

pub(super) fn blocks_meeting(
    connection: &Connection,
    transport: Transport,
    range: PortRange,
) -> rusqlite::Result<Vec<Block>> {
    meeting(connection, BLOCKS, transport, range, block, |block| {
        block.range
    })
}

pub(super) fn exclusions_meeting(
    connection: &Connection,
    transport: Transport,
    range: PortRange,
) -> rusqlite::Result<Vec<Exclusion>> {
    meeting(
        connection,
        EXCLUSIONS,
        transport,
        range,
        exclusion,
        |exclusion| exclusion.range,
    )
}

/// Rows that have a port of the range, found from its end downwards: no two rows overlap, so the first
/// that ends before the range is the last to look at.
fn meeting<T>(
    connection: &Connection,
    select: &str,
    transport: Transport,
    range: PortRange,
    read: fn(&Row<'_>) -> rusqlite::Result<T>,
    range_of: fn(&T) -> PortRange,
) -> rusqlite::Result<Vec<T>> {
    let key = params![transport.to_string(), range.last().number()];
    // One statement: each takes the lock of the log and looks at the file.
    let mut below = connection.prepare_cached(&format!(
        "{select} WHERE transport = ?1 AND first <= ?2 ORDER BY first DESC"
    ))?;
    let mut found = Vec::new();
    for row in below.query_map(key, read)? {
        let row = row?;
        if !range_of(&row).overlaps(range) {
            break;
        }
        found.push(row);
    }
    found.reverse();
    Ok(found)
}

/// Carries out a change; answers by what the digest changes.
pub(super) fn write(transaction: &Transaction<'_>, change: &Change) -> rusqlite::Result<u64> {
    match change {
        Change::AddBlock(block) => add_block(transaction, block),
        Change::DeleteBlock(transport, range) => {
            Ok(delete_block(transaction, *transport, *range)?.1)
        }
        Change::RenameBlock(transport, range, boot, token) => {
            let (mut block, before) = delete_block(transaction, *transport, *range)?;
            block.token = Some((boot.clone(), *token));
            Ok(before ^ add_block(transaction, &block)?)
        }
        Change::AddExclusion(exclusion) => {
            let Exclusion {
                transport,
                range,
                note,
                created,
            } = exclusion;
            transaction.prepare_cached(ADD_EXCLUSION)?.execute(params![
                transport.to_string(),
                range.first().number(),
                range.count().number(),
                note.as_ref().map(Note::text),
                seconds(*created),
            ])?;
            Ok(exclusion_digest(exclusion))
        }
        Change::DeleteExclusion(transport, range) => {
            let key = params![
                transport.to_string(),
                range.first().number(),
                range.count().number()
            ];
            let mut found = transaction.prepare_cached(&format!("{EXCLUSIONS} {WHERE}"))?;
            let before = exclusion_digest(&found.query_row(key, exclusion)?);
            transaction
                .prepare_cached(&format!("DELETE FROM exclusion {WHERE}"))?
                .execute(key)?;
            Ok(before)
        }
    }
}

/// Writes the digest after changes that made this difference to it.
pub(super) fn reseal(transaction: &Transaction<'_>, difference: u64) -> rusqlite::Result<()> {
    let before = sealed(transaction)?.unwrap_or_default();
    seal(transaction, before ^ difference)
}

/// Writes the digest of whatever is there.
pub(super) fn seal_as_found(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut found = transaction.prepare(BLOCKS)?;
    let blocks = found.query_map([], block)?.collect::<Result<_, _>>()?;
    let exclusions = Vec::new();
    seal(transaction, digest(&Records { blocks, exclusions }))
}

/// Writes the digest of all that is there.
#[cfg(any(test, feature = "testing"))]
pub(super) fn seal_all(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut blocks = transaction.prepare(BLOCKS)?;
    let mut exclusions = transaction.prepare(EXCLUSIONS)?;
    let records = Records {
        blocks: blocks.query_map([], block)?.collect::<Result<_, _>>()?,
        exclusions: exclusions
            .query_map([], exclusion)?
            .collect::<Result<_, _>>()?,
    };
    seal(transaction, digest(&records))
}

/// A number nobody can foresee.
pub(super) fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_ne_bytes(bytes))
}

/// A new token; that something has it already is as good as impossible.
pub(crate) fn random_token() -> io::Result<Token> {
    Token::new(random()?).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn seal(transaction: &Transaction<'_>, digest: u64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO seal (only, digest) VALUES (1, ?1)")?
        .execute([format!("{digest:016x}")])?;
    Ok(())
}

fn sealed(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    let mut seal = connection.prepare_cached("SELECT digest FROM seal")?;
    let text: Option<String> = seal.query_row([], |row| row.get(0)).optional()?;
    Ok(text.and_then(|text| u64::from_str_radix(&text, 16).ok()))
}

fn add_block(transaction: &Transaction<'_>, block: &Block) -> rusqlite::Result<u64> {
    let Block {
        transport,
        range,
        group,
        note,
        created,
        token,
    } = block;
    transaction.prepare_cached(ADD_BLOCK)?.execute(params![
        transport.to_string(),
        range.first().number(),
        range.count().number(),
        note.as_ref().map(Note::text),
        seconds(*created),
        group,
        token.as_ref().map(|(boot, _)| boot.id()),
        token.as_ref().map(|(_, token)| token.to_string()),
    ])?;
    Ok(block_digest(block))
}

/// Takes a block out; answers what it was and by what the digest changes.
fn delete_block(
    transaction: &Transaction<'_>,
    transport: Transport,
    range: PortRange,
) -> rusqlite::Result<(Block, u64)> {
    let key = params![
        transport.to_string(),
        range.first().number(),
        range.count().number()
    ];
    let mut found = transaction.prepare_cached(&format!("{BLOCKS} {WHERE}"))?;
    let before = found.query_row(key, block)?;
    transaction
        .prepare_cached(&format!("DELETE FROM block {WHERE}"))?
        .execute(key)?;
    let difference = block_digest(&before);
    Ok((before, difference))
}

fn block(row: &Row<'_>) -> rusqlite::Result<Block> {
    let boot: Option<String> = row.get(6)?;
    let token: Option<Token> = parsed(row, 7)?;
    Ok(Block {
        transport: required(row, 0)?,
        range: range(row)?,
        note: parsed(row, 3)?,
        created: time(row.get(4)?),
        group: row.get(5)?,
        token: boot.map(Boot::new).zip(token),
    })
}

fn exclusion(row: &Row<'_>) -> rusqlite::Result<Exclusion> {
    Ok(Exclusion {
        transport: required(row, 0)?,
        range: range(row)?,
        note: parsed(row, 3)?,
        created: time(row.get(4)?),
    })
}

fn range(row: &Row<'_>) -> rusqlite::Result<PortRange> {
    PortRange::from_numbers(row.get(1)?, row.get(2)?).map_err(|error| unfit(1, error))
}

fn required<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error| unfit(column, error))
}

fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let text: Option<String> = row.get(column)?;
    text.map(|text| text.parse().map_err(|error| unfit(column, error)))
        .transpose()
}

fn unfit(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

/// A range that more than one record of a kind and transport has.
fn overlap(records: &Records) -> Option<PortRange> {
    let meet = |one: (Transport, PortRange), other: (Transport, PortRange)| {
        (one.0 == other.0 && one.1.overlaps(other.1)).then_some(other.1)
    };
    let blocks = records.blocks.windows(2).find_map(|pair| {
        meet(
            (pair[0].transport, pair[0].range),
            (pair[1].transport, pair[1].range),
        )
    });
    let exclusions = || {
        records.exclusions.windows(2).find_map(|pair| {
            meet(
                (pair[0].transport, pair[0].range),
                (pair[1].transport, pair[1].range),
            )
        })
    };
    blocks.or_else(exclusions)
}

/// Of rows in any order.
fn digest(records: &Records) -> u64 {
    let blocks = records.blocks.iter().map(block_digest);
    let exclusions = records.exclusions.iter().map(exclusion_digest);
    blocks.chain(exclusions).fold(0, |all, one| all ^ one)
}

fn block_digest(block: &Block) -> u64 {
    let group = block.group.map_or(String::new(), |group| group.to_string());
    let (boot, token) = match &block.token {
        Some((boot, token)) => (boot.id(), token.to_string()),
        None => ("", String::new()),
    };
    row_digest(&[
        "block",
        &block.transport.to_string(),
        &block.range.to_string(),
        &seconds(block.created).to_string(),
        block.note.as_ref().map_or("", Note::text),
        &group,
        boot,
        &token,
    ])
}

fn exclusion_digest(exclusion: &Exclusion) -> u64 {
    row_digest(&[
        "exclusion",
        &exclusion.transport.to_string(),
        &exclusion.range.to_string(),
        &seconds(exclusion.created).to_string(),
        exclusion.note.as_ref().map_or("", Note::text),
    ])
}

/// FNV-1a: against accidents, not against people, who would just change the digest as well.
fn row_digest(fields: &[&str]) -> u64 {
    let bytes = fields.iter().flat_map(|field| field.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

fn time(seconds: i64) -> SystemTime {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    SystemTime::UNIX_EPOCH
        .checked_add(since)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

const BLOCKS: &str = "SELECT transport, first, count, note, created, gid, boot, token FROM block";
const EXCLUSIONS: &str = "SELECT transport, first, count, note, created FROM exclusion";
const WHERE: &str = "WHERE transport = ?1 AND first = ?2 AND count = ?3";
const ADD_BLOCK: &str =
    "INSERT INTO block (transport, first, count, note, created, gid, boot, token)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const ADD_EXCLUSION: &str = "INSERT INTO exclusion (transport, first, count, note, created)
     VALUES (?1, ?2, ?3, ?4, ?5)";
