//! The history's tables, and every statement on them.
//!
//! In: a connection of the state, within a transaction or a snapshot. Out: plain values.
//!
//! Invariant: sequences above the floor are contiguous, and below it are only channels' values (`values.rs`). Messages,
//! offsets, floor, values and dead letters (`letters.rs`) change within the same transaction.

use std::sync::Arc;

use bytes::Bytes;

use super::Config;
use super::directory::Directory;
use super::letters;
use super::values::{self, Values, Words};
use crate::bus::{Batch, Kept};
use crate::event::{Channel, FeedWrite, Form, Message, Offset, Partition, Retention, Sequence};
use crate::limits::HISTORY_SWEEP_COUNT_MAX;
use crate::state::sql::{Connection, Error, OptionalExtension, Result, Row, params};
use crate::state::{Along, Then};

/// Milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Millis(pub(super) i64);

/// What is there at a start.
pub(super) struct Found {
    pub(super) head: Sequence,
    pub(super) floor: Sequence,
    pub(super) directory: Directory,
    pub(super) values: Values,
    pub(super) committed: Vec<(Partition, Offset)>,
}

/// What became of a batch.
pub(super) enum Outcome {
    /// It is applied.
    Applied(Applied),
    /// It was applied before.
    Behind,
    /// It does not begin at the committed offset.
    Gap { committed: Offset },
    /// It holds replays, at these offsets, whose letters are gone.
    NotDue(Vec<Offset>),
}

/// What others learn of an applied batch.
pub(super) struct Applied {
    pub(super) partition: Partition,
    pub(super) next: Offset,
    pub(super) kept: Vec<Arc<Kept>>,
    pub(super) live: Vec<Arc<Message>>,
    pub(super) floor: Sequence,
    pub(super) values: values::Changes,
    /// What follows for feeds.
    pub(super) then: Option<Then>,
}

pub(super) fn create(connection: &Connection, config: Config, now: Millis) -> Result<Found> {
    letters::create(connection, now)?;
    values::create(connection)?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS messages (
             sequence INTEGER PRIMARY KEY,
             channel TEXT NOT NULL,
             event TEXT NOT NULL,
             payload BLOB NOT NULL,
             kept_at INTEGER NOT NULL,
             form INTEGER NOT NULL
         ) STRICT;
         CREATE TABLE IF NOT EXISTS offsets (partition INTEGER PRIMARY KEY, next INTEGER NOT NULL) STRICT;
         CREATE TABLE IF NOT EXISTS retention (floor INTEGER NOT NULL) STRICT;
         INSERT INTO retention SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM retention);",
    )?;
    add_form(connection)?;
    let committed = connection
        .prepare("SELECT partition, next FROM offsets")?
        .query_map([], |row| Ok((Partition(row.get(0)?), Offset(unsigned(row, 1)?))))?
        .collect::<Result<_>>()?;
    let floor = floor(connection)?;
    // The bounds may be narrower than they were.
    values::write(connection, Words::default(), floor, config)?;
    let (directory, values) = (directory(connection, floor)?, Values::read(connection)?);
    Ok(Found { head: head(connection)?, floor, directory, values, committed })
}

/// Histories that were begun before messages had forms get the column; to call all of theirs text is never wrong.
fn add_form(connection: &Connection) -> Result<()> {
    let is_there =
        connection.prepare("SELECT 1 FROM pragma_table_info('messages') WHERE name = 'form'")?.exists([])?;
    if is_there {
        return Ok(());
    }
    let text = form_number(Form::Text);
    connection.execute_batch(&format!("ALTER TABLE messages ADD COLUMN form INTEGER NOT NULL DEFAULT {text}"))
}

/// As the tables have it; a number never changes meaning.
fn form_number(form: Form) -> u8 {
    match form {
        Form::Json => 0,
        Form::Text => 1,
        Form::Base64 => 2,
    }
}

fn form(row: &Row<'_>, column: usize) -> Result<Form> {
    match row.get::<_, u8>(column)? {
        0 => Ok(Form::Json),
        1 => Ok(Form::Text),
        2 => Ok(Form::Base64),
        number => Err(Error::IntegralValueOutOfRange(column, number.into())),
    }
}

fn directory(connection: &Connection, floor: Sequence) -> Result<Directory> {
    let mut directory = Directory::new(floor);
    let mut statement =
        connection.prepare("SELECT channel FROM messages WHERE sequence > ?1 ORDER BY sequence")?;
    let mut rows = statement.query([signed(floor.0)])?;
    while let Some(row) = rows.next()? {
        directory.push(&channel(row, 0)?);
    }
    Ok(directory)
}

/// Applies a batch, and removes about as many old messages as it brings new ones where there are too many.
pub(super) fn apply(
    connection: &Connection,
    batch: Batch,
    feeds: Option<&Along<[FeedWrite], Vec<Message>>>,
    config: Config,
    now: Millis,
) -> Result<Outcome> {
    let Batch { partition, offsets, messages, feed, dead_letters, replayed, committed_at } = batch;
    let committed = committed(connection, partition)?;
    if offsets.end <= committed {
        return Ok(Outcome::Behind);
    }
    if offsets.start != committed {
        return Ok(Outcome::Gap { committed });
    }
    let not_due = letters::not_due(connection, &replayed)?;
    if !not_due.is_empty() {
        return Ok(Outcome::NotDue(not_due));
    }
    let (news, then) = feeds.map(|feeds| feeds.write(connection, &feed)).transpose()?.unzip();
    let mut sequence = head(connection)?;
    let mut kept = Vec::with_capacity(messages.len());
    let (mut live, mut words) = (Vec::new(), Words::default());
    let mut insert = connection.prepare_cached("INSERT INTO messages VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    for mut message in messages.into_iter().chain(news.unwrap_or_default()) {
        let word = match message.retention {
            Retention::LiveOnly => {
                live.push(Arc::new(message));
                continue;
            }
            // A value stays, and must not keep the whole answer of a plugin that its channel's name was a part of.
            Retention::Value => {
                message.channel = message.channel.own();
                Retention::Value
            }
            word => word,
        };
        message.retention = Retention::Kept;
        sequence.0 += 1;
        insert.execute(params![
            signed(sequence.0),
            message.channel.as_str(),
            &*message.event,
            &*message.payload,
            now.0,
            form_number(message.form)
        ])?;
        let message = Arc::new(Kept { sequence, message, committed_at });
        words.add(&message, word);
        kept.push(message);
    }
    letters::remove(connection, &replayed)?;
    letters::set_aside(connection, partition, &dead_letters, now)?;
    connection
        .prepare_cached("INSERT INTO offsets VALUES (?1, ?2) ON CONFLICT DO UPDATE SET next = ?2")?
        .execute(params![partition.0, signed(offsets.end.0)])?;
    let values = values::write(connection, words, floor(connection)?, config)?;
    let floor = make_room(connection, kept.len() as u64, sequence, config, now)?;
    Ok(Outcome::Applied(Applied { partition, next: offsets.end, kept, live, floor, values, then }))
}

/// Retention as a batch pays for it: nothing until a whole step is due, then at least twice what the batch brought,
/// so that the history stays within its limit and one step.
fn make_room(
    connection: &Connection,
    count: u64,
    head: Sequence,
    config: Config,
    now: Millis,
) -> Result<Sequence> {
    let floor = floor(connection)?;
    let excess = (head.0 - floor.0).saturating_sub(config.count_max);
    let step_end = Sequence(floor.0 + HISTORY_SWEEP_COUNT_MAX);
    if excess >= HISTORY_SWEEP_COUNT_MAX {
        let removed = excess.min((2 * count).max(HISTORY_SWEEP_COUNT_MAX));
        return remove(connection, Sequence(floor.0 + removed));
    }
    let kept_at: Option<i64> = connection
        .prepare_cached("SELECT kept_at FROM messages WHERE sequence = ?1")?
        .query_row([signed(step_end.0)], |row| row.get(0))
        .optional()?;
    if kept_at.is_some_and(|kept_at| kept_at <= config.cutoff(now).0) {
        return remove(connection, step_end);
    }
    Ok(floor)
}

/// One step of retention to the letter. Returns the new floor, if there was something to remove.
pub(super) fn sweep(connection: &Connection, config: Config, now: Millis) -> Result<Option<Sequence>> {
    let floor = floor(connection)?;
    let head = head(connection)?;
    let step_end = (floor.0 + HISTORY_SWEEP_COUNT_MAX).min(head.0);
    let by_count = head.0.saturating_sub(config.count_max);
    let first_young: Option<i64> = connection
        .prepare_cached(
            "SELECT sequence FROM messages WHERE sequence > ?1 AND sequence <= ?2 AND kept_at > ?3
             ORDER BY sequence LIMIT 1",
        )?
        .query_row(params![signed(floor.0), signed(step_end), config.cutoff(now).0], |row| row.get(0))
        .optional()?;
    let by_age = first_young.map_or(step_end, |first| first.cast_unsigned() - 1);
    let end = by_count.max(by_age).min(step_end);
    if end <= floor.0 {
        return Ok(None);
    }
    remove(connection, Sequence(end)).map(Some)
}

fn remove(connection: &Connection, up_to: Sequence) -> Result<Sequence> {
    let range = [floor(connection)?, up_to].map(|sequence| signed(sequence.0));
    connection.prepare_cached("UPDATE retention SET floor = ?1")?.execute([signed(up_to.0)])?;
    // What it left before is not looked at again, however much that is.
    connection
        .prepare_cached(
            "DELETE FROM messages WHERE sequence > ?1 AND sequence <= ?2
             AND NOT EXISTS (SELECT 1 FROM channel_values WHERE channel_values.sequence = messages.sequence)",
        )?
        .execute(range)?;
    Ok(up_to)
}

/// Messages of all channels, above the floor.
pub(super) fn read_all(
    connection: &Connection,
    after: Sequence,
    up_to: Sequence,
    count_max: usize,
) -> Result<Vec<Arc<Kept>>> {
    connection
        .prepare_cached(
            "SELECT sequence, channel, event, payload, form FROM messages
             WHERE sequence > max(?1, (SELECT floor FROM retention)) AND sequence <= ?2 ORDER BY sequence LIMIT ?3",
        )?
        .query_map(params![signed(after.0), signed(up_to.0), count_max.cast_signed()], kept)?
        .collect()
}

/// Messages by their sequences; without those that retention has removed meanwhile.
pub(super) fn read_some(connection: &Connection, sequences: &[Sequence]) -> Result<Vec<Arc<Kept>>> {
    let mut row = connection
        .prepare_cached("SELECT sequence, channel, event, payload, form FROM messages WHERE sequence = ?1")?;
    let rows = sequences.iter().map(|sequence| row.query_row([signed(sequence.0)], kept).optional());
    rows.filter_map(Result::transpose).collect()
}

pub(super) fn floor(connection: &Connection) -> Result<Sequence> {
    connection
        .prepare_cached("SELECT floor FROM retention")?
        .query_row([], |row| Ok(Sequence(unsigned(row, 0)?)))
}

fn head(connection: &Connection) -> Result<Sequence> {
    connection
        .prepare_cached(
            // Below the floor there may be values, and above it nothing.
            "SELECT max(coalesce((SELECT max(sequence) FROM messages), 0), (SELECT floor FROM retention))",
        )?
        .query_row([], |row| Ok(Sequence(unsigned(row, 0)?)))
}

fn committed(connection: &Connection, partition: Partition) -> Result<Offset> {
    let next = connection
        .prepare_cached("SELECT next FROM offsets WHERE partition = ?1")?
        .query_row([partition.0], |row| unsigned(row, 0))
        .optional()?;
    Ok(Offset(next.unwrap_or(0)))
}

/// A message out of the columns sequence, channel, event, payload, form.
pub(super) fn kept(row: &Row<'_>) -> Result<Arc<Kept>> {
    let message = Message {
        channel: channel(row, 1)?,
        event: row.get_ref(2)?.as_str()?.into(),
        payload: Bytes::copy_from_slice(row.get_ref(3)?.as_blob()?),
        form: form(row, 4)?,
        retention: Retention::Kept,
    };
    Ok(Arc::new(Kept { sequence: Sequence(unsigned(row, 0)?), message, committed_at: None }))
}

pub(super) fn channel(row: &Row<'_>, column: usize) -> Result<Channel> {
    let name = row.get_ref(column)?;
    Channel::kept(name.as_str()?)
        .map_err(|error| Error::FromSqlConversionFailure(column, name.data_type(), Box::new(error)))
}

/// Sequences and offsets count from 0 by ones: they never reach the sign.
fn signed(number: u64) -> i64 {
    number.cast_signed()
}

fn unsigned(row: &Row<'_>, column: usize) -> Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}
