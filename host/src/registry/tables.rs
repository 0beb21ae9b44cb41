//! The registry's tables, and every statement on them.
//!
//! In: a connection of the state, within a transaction or a snapshot. Out: plain values.
//!
//! Invariant: what a newest set or a shadow names stays, whatever else goes because there is too much of it.

use std::collections::HashSet;

use super::text::{self, TextError};
use super::{Action, Component, Entry, Generation, Note, PluginSet, SetRecord, Shadow, Step};
use crate::event::{Micros, Offset, Partition};
use crate::limits::{AUDIT_COUNT_MAX, COMPONENTS_COUNT_MAX, GENERATIONS_COUNT_MAX, SETS_COUNT_MAX};
use crate::policy::{Activation, Digest};
use crate::state::sql::{Connection, Error, OptionalExtension, Result, Row, params};

pub(super) fn create(connection: &Connection) -> Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS components (
             digest TEXT PRIMARY KEY,
             bytes_count INTEGER NOT NULL,
             name TEXT,
             version TEXT,
             description TEXT,
             stages TEXT NOT NULL,
             profile TEXT NOT NULL,
             who TEXT NOT NULL,
             at INTEGER NOT NULL
         ) STRICT;
         CREATE TABLE IF NOT EXISTS generations (
             plugin TEXT NOT NULL,
             generation INTEGER NOT NULL,
             activation TEXT NOT NULL,
             who TEXT NOT NULL,
             at INTEGER NOT NULL,
             quarantined_at INTEGER,
             PRIMARY KEY (plugin, generation)
         ) STRICT;
         CREATE TABLE IF NOT EXISTS plugin_sets (
             partition INTEGER NOT NULL,
             first INTEGER NOT NULL,
             members TEXT NOT NULL,
             PRIMARY KEY (partition, first)
         ) STRICT;
         CREATE TABLE IF NOT EXISTS shadows (
             plugin TEXT PRIMARY KEY,
             candidate TEXT NOT NULL,
             who TEXT NOT NULL,
             at INTEGER NOT NULL
         ) STRICT;
         CREATE TABLE IF NOT EXISTS file_plugins (plugin TEXT PRIMARY KEY, said TEXT NOT NULL) STRICT;
         CREATE TABLE IF NOT EXISTS audit (
             id INTEGER PRIMARY KEY,
             at INTEGER NOT NULL,
             who TEXT NOT NULL,
             action TEXT NOT NULL,
             plugin TEXT,
             generation INTEGER,
             digest TEXT,
             first INTEGER,
             settings TEXT NOT NULL,
             text TEXT NOT NULL
         ) STRICT;",
    )
}

/// Does a whole step; gives its entries as they are kept.
pub(super) fn record(connection: &Connection, step: &Step, now: Micros) -> Result<Vec<Entry>> {
    for (activation, by) in &step.generations {
        connection.prepare_cached("INSERT INTO generations VALUES (?1, ?2, ?3, ?4, ?5, NULL)")?.execute(
            params![
                &*activation.plugin,
                activation.generation.cast_signed(),
                text::of_activation(activation),
                by,
                now.0
            ],
        )?;
    }
    if let Some(record) = &step.record {
        connection
            .prepare_cached("INSERT OR REPLACE INTO plugin_sets VALUES (?1, ?2, ?3)")?
            .execute(params![record.partition.0, record.from.0.cast_signed(), text::of_set(&record.set)])?;
    }
    if let Some((plugin, generation)) = &step.quarantined {
        connection
            .prepare_cached(
                "UPDATE generations SET quarantined_at = ?3 WHERE plugin = ?1 AND generation = ?2",
            )?
            .execute(params![&**plugin, generation.cast_signed(), now.0])?;
    }
    if let Some(file) = &step.file {
        connection.execute("DELETE FROM file_plugins", [])?;
        for said in file {
            connection
                .prepare_cached("INSERT INTO file_plugins VALUES (?1, ?2)")?
                .execute(params![&*said.plugin, text::of_activation(said)])?;
        }
    }
    bound(connection)?;
    step.notes.iter().map(|note| add_note(connection, note, now)).collect()
}

fn bound(connection: &Connection) -> Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM plugin_sets WHERE rowid <= (SELECT max(rowid) FROM plugin_sets) - ?1
             AND first < (SELECT max(first) FROM plugin_sets AS newer WHERE newer.partition = plugin_sets.partition)",
        )?
        .execute([SETS_COUNT_MAX])?;
    let count: i64 =
        connection.prepare_cached("SELECT count(*) FROM generations")?.query_row([], |row| row.get(0))?;
    if count <= GENERATIONS_COUNT_MAX {
        return Ok(());
    }
    let active: HashSet<_> = newest_sets(connection)?
        .iter()
        .flat_map(PluginSet::members)
        .map(|member| (member.plugin.to_string(), member.generation.cast_signed()))
        .collect();
    let oldest = connection
        .prepare_cached("SELECT plugin, generation FROM generations ORDER BY at, rowid")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<Vec<(String, i64)>>>()?;
    let excess = (count - GENERATIONS_COUNT_MAX).cast_unsigned() as usize;
    for (plugin, generation) in oldest.iter().filter(|one| !active.contains(one)).take(excess) {
        connection
            .prepare_cached("DELETE FROM generations WHERE plugin = ?1 AND generation = ?2")?
            .execute(params![plugin, generation])?;
    }
    Ok(())
}

fn add_note(connection: &Connection, note: &Note, now: Micros) -> Result<Entry> {
    connection
        .prepare_cached("INSERT INTO audit VALUES (NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?
        .execute(params![
            now.0,
            note.by,
            note.action.as_str(),
            note.plugin,
            note.generation.map(u64::cast_signed),
            note.digest.map(|digest| digest.to_string()),
            note.from.map(|from| from.0.cast_signed()),
            text::of_settings(&note.settings),
            note.text
        ])?;
    let id = connection.last_insert_rowid();
    connection.prepare_cached("DELETE FROM audit WHERE id <= ?1 - ?2")?.execute([id, AUDIT_COUNT_MAX])?;
    Ok(Entry { id: id.cast_unsigned(), at: now, note: note.clone() })
}

/// The record with the greatest first offset not above this one.
pub(super) fn owner(
    connection: &Connection,
    partition: Partition,
    offset: Offset,
) -> Result<Option<SetRecord>> {
    connection
        .prepare_cached(
            "SELECT first, members FROM plugin_sets WHERE partition = ?1 AND first <= ?2
             ORDER BY first DESC LIMIT 1",
        )?
        .query_row(params![partition.0, i64::try_from(offset.0).unwrap_or(i64::MAX)], |row| {
            set_record(partition, row)
        })
        .optional()
}

/// The records of a partition, oldest first.
pub(super) fn sets(connection: &Connection, partition: Partition) -> Result<Vec<SetRecord>> {
    connection
        .prepare_cached("SELECT first, members FROM plugin_sets WHERE partition = ?1 ORDER BY first")?
        .query_map([partition.0], |row| set_record(partition, row))?
        .collect()
}

fn set_record(partition: Partition, row: &Row<'_>) -> Result<SetRecord> {
    let from = Offset(row.get::<_, i64>(0)?.cast_unsigned());
    Ok(SetRecord { partition, from, set: parsed(row, 1, text::set)? })
}

fn newest_sets(connection: &Connection) -> Result<Vec<PluginSet>> {
    connection
        .prepare_cached("SELECT max(first), members FROM plugin_sets GROUP BY partition")?
        .query_map([], |row| parsed(row, 1, text::set))?
        .collect()
}

pub(super) fn plugins(connection: &Connection) -> Result<Vec<(String, u64)>> {
    connection
        .prepare_cached("SELECT plugin, count(*) FROM generations GROUP BY plugin ORDER BY plugin")?
        .query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned())))?
        .collect()
}

/// Of one plugin, newest first.
pub(super) fn generations(connection: &Connection, plugin: &str) -> Result<Vec<Generation>> {
    connection
        .prepare_cached(
            "SELECT generation, activation, who, at, quarantined_at FROM generations WHERE plugin = ?1
             ORDER BY generation DESC",
        )?
        .query_map([plugin], |row| {
            let number = row.get::<_, i64>(0)?.cast_unsigned();
            Ok(Generation {
                activation: parsed(row, 1, |text| text::activation(plugin, number, text))?,
                by: row.get(2)?,
                at: Micros(row.get(3)?),
                quarantined_at: row.get::<_, Option<i64>>(4)?.map(Micros),
            })
        })?
        .collect()
}

/// Keeps a component; gives those that had to go.
pub(super) fn keep_component(
    connection: &Connection,
    component: &Component,
    note: &Note,
) -> Result<(Vec<Digest>, Entry)> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO components VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?
        .execute(params![
            component.digest.to_string(),
            component.bytes_count.cast_signed(),
            component.name,
            component.version,
            component.description,
            component.stages.join(" "),
            component.profile.as_str(),
            component.by,
            component.at.0
        ])?;
    let gone = forget_components(connection, component.digest)?;
    Ok((gone, add_note(connection, note, component.at)?))
}

fn forget_components(connection: &Connection, newest: Digest) -> Result<Vec<Digest>> {
    let components = components(connection)?;
    let excess = components.len().saturating_sub(COMPONENTS_COUNT_MAX);
    if excess == 0 {
        return Ok(Vec::new());
    }
    let mut needed = HashSet::from([newest]);
    for member in newest_sets(connection)?.iter().flat_map(PluginSet::members) {
        let generations = generations(connection, &member.plugin)?;
        let active = generations.iter().find(|one| one.activation.generation == member.generation);
        needed.extend(active.map(|generation| generation.activation.digest));
    }
    needed.extend(shadows(connection)?.iter().map(|shadow| shadow.candidate.digest));
    let oldest = components.iter().rev().map(|component| component.digest);
    let gone: Vec<_> = oldest.filter(|digest| !needed.contains(digest)).take(excess).collect();
    for digest in &gone {
        connection
            .prepare_cached("DELETE FROM components WHERE digest = ?1")?
            .execute([digest.to_string()])?;
    }
    Ok(gone)
}

/// Newest first.
pub(super) fn components(connection: &Connection) -> Result<Vec<Component>> {
    connection
        .prepare_cached(
            "SELECT digest, bytes_count, name, version, description, stages, profile, who, at FROM components
             ORDER BY at DESC, rowid DESC",
        )?
        .query_map([], component)?
        .collect()
}

pub(super) fn find_component(connection: &Connection, digest: Digest) -> Result<Option<Component>> {
    connection
        .prepare_cached(
            "SELECT digest, bytes_count, name, version, description, stages, profile, who, at FROM components
             WHERE digest = ?1",
        )?
        .query_row([digest.to_string()], component)
        .optional()
}

fn component(row: &Row<'_>) -> Result<Component> {
    Ok(Component {
        digest: parsed(row, 0, |text| Ok(text.parse()?))?,
        bytes_count: row.get::<_, i64>(1)?.cast_unsigned(),
        name: row.get(2)?,
        version: row.get(3)?,
        description: row.get(4)?,
        stages: row.get_ref(5)?.as_str()?.split_whitespace().map(str::to_owned).collect(),
        profile: parsed(row, 6, |text| Ok(text.parse()?))?,
        by: row.get(7)?,
        at: Micros(row.get(8)?),
    })
}

pub(super) fn start_shadow(connection: &Connection, shadow: &Shadow, note: &Note) -> Result<Entry> {
    let Shadow { candidate, by, at } = shadow;
    connection.prepare_cached("INSERT OR REPLACE INTO shadows VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        &*candidate.plugin,
        text::of_activation(candidate),
        by,
        at.0
    ])?;
    add_note(connection, note, *at)
}

pub(super) fn stop_shadow(connection: &Connection, plugin: &str, note: &Note, now: Micros) -> Result<Entry> {
    connection.prepare_cached("DELETE FROM shadows WHERE plugin = ?1")?.execute([plugin])?;
    add_note(connection, note, now)
}

/// By name.
pub(super) fn shadows(connection: &Connection) -> Result<Vec<Shadow>> {
    connection
        .prepare_cached("SELECT plugin, candidate, who, at FROM shadows ORDER BY plugin")?
        .query_map([], |row| {
            let candidate = named(row)?;
            Ok(Shadow { candidate, by: row.get(2)?, at: Micros(row.get(3)?) })
        })?
        .collect()
}

/// What the file said last, by name.
pub(super) fn file(connection: &Connection) -> Result<Vec<Activation>> {
    connection
        .prepare_cached("SELECT plugin, said FROM file_plugins ORDER BY plugin")?
        .query_map([], named)?
        .collect()
}

/// A plugin's name, then what it is to be, without a number.
fn named(row: &Row<'_>) -> Result<Activation> {
    let plugin: String = row.get(0)?;
    parsed(row, 1, |text| text::activation(&plugin, 0, text))
}

/// Entries after this one, oldest first.
pub(super) fn audit(connection: &Connection, after: u64, count_max: usize) -> Result<Vec<Entry>> {
    connection
        .prepare_cached(
            "SELECT id, at, who, action, plugin, generation, digest, first, settings, text FROM audit
             WHERE id > ?1 ORDER BY id LIMIT ?2",
        )?
        .query_map(
            params![i64::try_from(after).unwrap_or(i64::MAX), i64::try_from(count_max).unwrap_or(i64::MAX)],
            entry,
        )?
        .collect()
}

fn entry(row: &Row<'_>) -> Result<Entry> {
    let action = row.get_ref(3)?.as_str()?;
    let known = Action::ALL.into_iter().find(|known| known.as_str() == action);
    let note = Note {
        by: row.get(2)?,
        action: known.ok_or(Error::InvalidColumnName(action.to_owned()))?,
        plugin: row.get(4)?,
        generation: row.get::<_, Option<i64>>(5)?.map(i64::cast_unsigned),
        digest: match row.get_ref(6)?.as_str_or_null()? {
            Some(_) => Some(parsed(row, 6, |text| Ok(text.parse()?))?),
            None => None,
        },
        from: row.get::<_, Option<i64>>(7)?.map(|from| Offset(from.cast_unsigned())),
        settings: parsed(row, 8, text::settings)?,
        text: row.get(9)?,
    };
    Ok(Entry { id: row.get::<_, i64>(0)?.cast_unsigned(), at: Micros(row.get(1)?), note })
}

fn parsed<T>(
    row: &Row<'_>,
    column: usize,
    parse: impl FnOnce(&str) -> std::result::Result<T, TextError>,
) -> Result<T> {
    let value = row.get_ref(column)?;
    parse(value.as_str()?)
        .map_err(|error| Error::FromSqlConversionFailure(column, value.data_type(), Box::new(error)))
}
