//! The channels' values: at which kept message each of them stands, for those who come new.
//!
//! In: the kept messages of a batch, and what each says about the value of its channel. Out: what has changed, for
//! memory, from which values are read.
//!
//! A value is a message of the history that retention leaves where it is, below the floor: it is written once, and goes
//! when it is a value no more.
//!
//! Invariants:
//! - a channel has one value at most: the last that was set, if it was not forgotten since and the bounds did not drop it;
//! - what was set least recently is dropped first, and so much of it that both bounds hold;
//! - what is too large to be a value leaves its channel without one: an older one would tell what is no longer so.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Config, tables};
use crate::bus::Kept;
use crate::event::{Channel, Retention, Sequence};
use crate::limits::VALUE_BYTES_MAX;
use crate::state::sql::{Connection, OptionalExtension, Result, params};

/// One change of the values.
pub(super) enum Change {
    /// The channel's value is this message from now on.
    Set(Arc<Kept>),
    /// The channel has none from now on.
    End(Channel),
}

/// What a batch did to the values.
#[derive(Default)]
pub(super) struct Changes {
    /// In the order in which they count.
    pub(super) list: Vec<Change>,
    /// How many values the bounds did not leave.
    pub(super) dropped_count: u64,
}

/// What the messages of a batch say about values: of each channel the last word counts.
#[derive(Default)]
pub(super) struct Words(HashMap<Channel, Option<Arc<Kept>>>);

impl Words {
    /// Takes the next message, and what it says.
    pub(super) fn add(&mut self, kept: &Arc<Kept>, word: Retention) {
        let value = match word {
            Retention::Kept | Retention::LiveOnly => return,
            Retention::Value => Some(Arc::clone(kept)),
            Retention::Forget => None,
        };
        self.0.insert(kept.message.channel.clone(), value);
    }
}

pub(super) fn create(connection: &Connection) -> Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS channel_values (
             sequence INTEGER PRIMARY KEY,
             channel TEXT NOT NULL UNIQUE,
             bytes INTEGER NOT NULL
         ) STRICT;
         CREATE TABLE IF NOT EXISTS value_totals (count INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
         INSERT INTO value_totals SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM value_totals);",
    )
}

/// How many values there are, and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Totals {
    count: u64,
    bytes: u64,
}

impl Totals {
    fn read(connection: &Connection) -> Result<Self> {
        let row = |row: &crate::state::sql::Row<'_>| {
            let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
            Ok(Self { count: number(0)?, bytes: number(1)? })
        };
        connection.prepare_cached("SELECT count, bytes FROM value_totals")?.query_row([], row)
    }

    fn write(self, connection: &Connection) -> Result<()> {
        let mut update = connection.prepare_cached("UPDATE value_totals SET count = ?1, bytes = ?2")?;
        update.execute([self.count.cast_signed(), self.bytes.cast_signed()])?;
        Ok(())
    }

    fn exceed(self, config: Config) -> bool {
        self.count > config.values_count_max || self.bytes > config.values_bytes_max
    }
}

/// Does what a batch says, then what the bounds ask for. Call it before retention goes on, with the floor as it is.
pub(super) fn write(
    connection: &Connection,
    words: Words,
    floor: Sequence,
    config: Config,
) -> Result<Changes> {
    let before = Totals::read(connection)?;
    let (mut totals, mut changes) = (before, Changes::default());
    for (channel, kept) in words.0 {
        let old = connection
            .prepare_cached("SELECT sequence, bytes FROM channel_values WHERE channel = ?1")?
            .query_row([channel.as_str()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
            .optional()?;
        if let Some((sequence, bytes)) = old {
            remove(connection, sequence, floor)?;
            totals.count -= 1;
            totals.bytes -= bytes.cast_unsigned();
        }
        let is_set = kept.is_some();
        if let Some(kept) = kept.filter(|kept| bytes(kept) <= VALUE_BYTES_MAX) {
            let bytes = bytes(&kept) as u64;
            connection.prepare_cached("INSERT INTO channel_values VALUES (?1, ?2, ?3)")?.execute(params![
                kept.sequence.0.cast_signed(),
                channel.as_str(),
                bytes.cast_signed()
            ])?;
            totals.count += 1;
            totals.bytes += bytes;
            changes.list.push(Change::Set(kept));
            continue;
        }
        changes.dropped_count += u64::from(is_set);
        if old.is_some() {
            changes.list.push(Change::End(channel));
        }
    }
    while totals.exceed(config) {
        let (sequence, channel, bytes) = connection
            .prepare_cached("SELECT sequence, channel, bytes FROM channel_values ORDER BY sequence LIMIT 1")?
            .query_row([], |row| Ok((row.get(0)?, tables::channel(row, 1)?, row.get::<_, i64>(2)?)))?;
        remove(connection, sequence, floor)?;
        totals.count -= 1;
        totals.bytes -= bytes.cast_unsigned();
        changes.dropped_count += 1;
        changes.list.push(Change::End(channel));
    }
    if totals != before {
        totals.write(connection)?;
    }
    Ok(changes)
}

/// The message goes as well, where retention has only left it because it was a value.
fn remove(connection: &Connection, sequence: i64, floor: Sequence) -> Result<()> {
    connection.prepare_cached("DELETE FROM channel_values WHERE sequence = ?1")?.execute([sequence])?;
    if sequence <= floor.0.cast_signed() {
        connection.prepare_cached("DELETE FROM messages WHERE sequence = ?1")?.execute([sequence])?;
    }
    Ok(())
}

/// About what a value takes in memory.
fn bytes(kept: &Kept) -> usize {
    // Its name is there twice, as the map's key and in the message.
    size_of::<(Channel, Kept)>() + 2 * kept.message.channel.as_str().len() + kept.message.payload.len()
}

/// All values, in memory.
#[derive(Default)]
pub(super) struct Values {
    of: HashMap<Channel, Arc<Kept>>,
    bytes: usize,
}

impl Values {
    pub(super) fn read(connection: &Connection) -> Result<Self> {
        let mut values = Self::default();
        let mut statement = connection.prepare(
            "SELECT sequence, channel, event, payload, form FROM messages
             WHERE sequence IN (SELECT sequence FROM channel_values)",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            values.change(Change::Set(tables::kept(row)?));
        }
        Ok(values)
    }

    pub(super) fn change(&mut self, change: Change) {
        let old = match change {
            Change::Set(kept) => {
                self.bytes += bytes(&kept);
                self.of.insert(kept.message.channel.clone(), kept)
            }
            Change::End(channel) => self.of.remove(&channel),
        };
        self.bytes -= old.map_or(0, |old| bytes(&old));
    }

    /// Those of some channels, by sequence.
    pub(super) fn get(&self, channels: &[Channel]) -> Vec<Arc<Kept>> {
        if self.of.is_empty() {
            return Vec::new();
        }
        let mut found: Vec<_> = channels.iter().filter_map(|channel| self.of.get(channel).cloned()).collect();
        found.sort_unstable_by_key(|kept| kept.sequence);
        found
    }

    /// How many there are, and their bytes.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.of.len() as u64, self.bytes as u64)
    }
}
