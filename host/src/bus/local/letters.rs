//! The dead letters' table, and every statement on it.
//!
//! In: a connection of the state, within a transaction or a snapshot. Out: plain values.
//!
//! Invariant: ids only grow, also over letters that are gone, so no replay can meet another letter under its number.

use std::collections::HashSet;
use std::time::{Duration, UNIX_EPOCH};

use super::tables::Millis;
use crate::bus::{Begun, DeadLetter, Discard, KeptLetter, LetterState, Replayed, Stage};
use crate::event::{LetterId, Offset, Partition};
use crate::limits::{DEAD_LETTERS_COUNT_MAX, REPLAYS_COUNT_MAX};
use crate::state::sql::{Connection, OptionalExtension, Result, Row, params};

const COLUMNS: &str =
    "id, partition, offset, plugin, generation, digest, stage, fault, record, set_aside_at, replaying";

/// Makes the table, out of the one that the first hosts had if that is there.
pub(super) fn create(connection: &Connection, now: Millis) -> Result<()> {
    let is_first = connection
        .prepare(
            "SELECT 1 FROM sqlite_schema WHERE name = 'dead_letters' AND NOT EXISTS
                 (SELECT 1 FROM pragma_table_info('dead_letters') WHERE name = 'generation')",
        )?
        .exists([])?;
    if is_first {
        connection.execute_batch("ALTER TABLE dead_letters RENAME TO first_dead_letters")?;
    }
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS dead_letters (
             id INTEGER PRIMARY KEY AUTOINCREMENT,
             partition INTEGER NOT NULL,
             offset INTEGER NOT NULL,
             plugin TEXT NOT NULL,
             generation INTEGER NOT NULL,
             digest TEXT NOT NULL,
             stage INTEGER NOT NULL,
             fault TEXT NOT NULL,
             record BLOB NOT NULL,
             set_aside_at INTEGER NOT NULL,
             replaying INTEGER NOT NULL
         ) STRICT;
         CREATE INDEX IF NOT EXISTS replays ON dead_letters (id) WHERE replaying = 1;",
    )?;
    if is_first {
        let copy = format!(
            "INSERT INTO dead_letters ({COLUMNS})
                 SELECT id, partition, offset, plugin, 0, digest, {ROUTER}, fault, record, ?1, 0
                 FROM first_dead_letters"
        );
        connection.execute(&copy, [now.0])?;
        connection.execute_batch("DROP TABLE first_dead_letters")?;
    }
    Ok(())
}

/// Keeps letters; past the limit the oldest go.
pub(super) fn set_aside(
    connection: &Connection,
    partition: Partition,
    letters: &[DeadLetter],
    now: Millis,
) -> Result<()> {
    for letter in letters {
        connection
            .prepare_cached(
                "INSERT INTO dead_letters
                     (partition, offset, plugin, generation, digest, stage, fault, record, set_aside_at, replaying)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0)",
            )?
            .execute(params![
                partition.0,
                letter.offset.0.cast_signed(),
                letter.plugin,
                letter.generation.cast_signed(),
                letter.digest,
                stage_number(letter.stage),
                letter.fault,
                &*letter.record,
                now.0,
            ])?;
    }
    if !letters.is_empty() {
        connection
            .prepare_cached(
                "DELETE FROM dead_letters
                 WHERE id <= (SELECT max(id) FROM dead_letters) - ?1 AND replaying = 0",
            )?
            .execute([DEAD_LETTERS_COUNT_MAX])?;
    }
    Ok(())
}

/// The replays whose letter is not there, or is replayed by one before in the same list.
pub(super) fn not_due(connection: &Connection, replayed: &[Replayed]) -> Result<Vec<Offset>> {
    let mut met = HashSet::new();
    let mut offsets = Vec::new();
    for Replayed { offset, letter } in replayed {
        let mut there = connection.prepare_cached("SELECT 1 FROM dead_letters WHERE id = ?1")?;
        if !met.insert(letter) || !there.exists([letter.0.cast_signed()])? {
            offsets.push(*offset);
        }
    }
    Ok(offsets)
}

/// Removes letters whose replays are applied.
pub(super) fn remove(connection: &Connection, replayed: &[Replayed]) -> Result<()> {
    for Replayed { letter, .. } in replayed {
        discard(connection, &Discard::One(*letter))?;
    }
    Ok(())
}

pub(super) fn discard(connection: &Connection, which: &Discard) -> Result<u64> {
    let count = match which {
        Discard::One(id) => connection
            .prepare_cached("DELETE FROM dead_letters WHERE id = ?1")?
            .execute([id.0.cast_signed()])?,
        Discard::AllOf(plugin) => {
            connection.prepare_cached("DELETE FROM dead_letters WHERE plugin = ?1")?.execute([plugin])?
        }
    };
    Ok(count as u64)
}

pub(super) fn begin_replay(connection: &Connection, id: LetterId) -> Result<Begun> {
    let replaying: Option<bool> = connection
        .prepare_cached("SELECT replaying FROM dead_letters WHERE id = ?1")?
        .query_row([id.0.cast_signed()], |row| row.get(0))
        .optional()?;
    match replaying {
        None => return Ok(Begun::Gone),
        Some(true) => return Ok(Begun::Noted),
        Some(false) => {}
    }
    let others: i64 = connection
        .prepare_cached("SELECT count(*) FROM dead_letters WHERE replaying = 1")?
        .query_row([], |row| row.get(0))?;
    if others >= REPLAYS_COUNT_MAX as i64 {
        return Ok(Begun::TooMany);
    }
    connection
        .prepare_cached("UPDATE dead_letters SET replaying = 1 WHERE id = ?1")?
        .execute([id.0.cast_signed()])?;
    Ok(Begun::Noted)
}

pub(super) fn cancel_replay(connection: &Connection, id: LetterId) -> Result<()> {
    connection
        .prepare_cached("UPDATE dead_letters SET replaying = 0 WHERE id = ?1")?
        .execute([id.0.cast_signed()])?;
    Ok(())
}

/// Letters below an id, newest first.
pub(super) fn list(
    connection: &Connection,
    plugin: Option<&str>,
    before: Option<LetterId>,
    count_max: usize,
    bytes_max: usize,
) -> Result<Vec<KeptLetter>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM dead_letters WHERE id < ?1 AND (?2 IS NULL OR plugin = ?2)
         ORDER BY id DESC LIMIT ?3"
    ))?;
    let below = before.map_or(i64::MAX, |id| i64::try_from(id.0).unwrap_or(i64::MAX));
    let rows = statement.query_map(params![below, plugin, count_max.cast_signed()], kept)?;
    let (mut letters, mut bytes) = (Vec::new(), 0);
    for kept in rows {
        let kept = kept?;
        bytes += kept.letter.record.len();
        letters.push(kept);
        if bytes >= bytes_max {
            break;
        }
    }
    Ok(letters)
}

pub(super) fn get(connection: &Connection, id: LetterId) -> Result<Option<KeptLetter>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM dead_letters WHERE id = ?1"))?
        .query_row([id.0.cast_signed()], kept)
        .optional()
}

fn kept(row: &Row<'_>) -> Result<KeptLetter> {
    let number = |column: usize| row.get::<_, i64>(column).map(i64::cast_unsigned);
    Ok(KeptLetter {
        id: LetterId(number(0)?),
        partition: Partition(row.get(1)?),
        set_aside_at: UNIX_EPOCH + Duration::from_millis(number(9)?),
        state: if row.get(10)? { LetterState::Replaying } else { LetterState::Waiting },
        letter: DeadLetter {
            offset: Offset(number(2)?),
            plugin: row.get(3)?,
            generation: number(4)?,
            digest: row.get(5)?,
            stage: if row.get::<_, u8>(6)? == FILTER { Stage::Filter } else { Stage::Router },
            fault: row.get(7)?,
            record: row.get::<_, Vec<u8>>(8)?.into(),
        },
    })
}

const FILTER: u8 = 0;
const ROUTER: u8 = 1;

fn stage_number(stage: Stage) -> u8 {
    match stage {
        Stage::Filter => FILTER,
        Stage::Router => ROUTER,
    }
}
