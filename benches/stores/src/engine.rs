//! The candidates behind one interface: a batch of messages and the committed offset, durable as one.
//!
//! Each is set up as the state would set it up: 32 MiB of cache, flushes on, small memtables for the LSM tree.

use std::path::Path;

use anyhow::{Context, Result};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};

/// The engines, by the names of the command line.
pub const NAMES: [&str; 3] = ["sqlite", "fjall", "redb"];
const CACHE_BYTES: usize = 32 << 20;

/// One candidate.
pub trait Engine {
    /// Appends messages under the sequences from `first` on, and sets the offset; durable when it returns.
    fn apply(&mut self, first: u64, messages: &[Vec<u8>], next: u64) -> Result<()>;
    /// The committed offset.
    fn offset(&self) -> Result<u64>;
    /// Reads everything: how many messages there are, and the greatest sequence.
    fn scan(&self) -> Result<(u64, u64)>;
}

/// Opens or makes a store in a folder.
pub fn open(name: &str, folder: &Path) -> Result<Box<dyn Engine>> {
    std::fs::create_dir_all(folder)?;
    Ok(match name {
        "sqlite" => Box::new(Sqlite::open(folder)?),
        "fjall" => Box::new(Fjall::open(folder)?),
        "redb" => Box::new(Redb::open(folder)?),
        other => anyhow::bail!("no engine is named {other}: one of {NAMES:?}"),
    })
}

struct Sqlite(rusqlite::Connection);

impl Sqlite {
    fn open(folder: &Path) -> Result<Self> {
        let connection = rusqlite::Connection::open(folder.join("state.db"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 2_048)?;
        connection.pragma_update(None, "cache_size", -(CACHE_BYTES as i64 / 1_024))?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS messages (sequence INTEGER PRIMARY KEY, payload BLOB NOT NULL) STRICT;
             CREATE TABLE IF NOT EXISTS offsets (partition INTEGER PRIMARY KEY, next INTEGER NOT NULL) STRICT;",
        )?;
        Ok(Self(connection))
    }
}

impl Engine for Sqlite {
    fn apply(&mut self, first: u64, messages: &[Vec<u8>], next: u64) -> Result<()> {
        let transaction = self.0.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT INTO messages VALUES (?1, ?2)")?;
            for (sequence, message) in (first..).zip(messages) {
                insert.execute(rusqlite::params![sequence.cast_signed(), message])?;
            }
            transaction
                .prepare_cached("INSERT INTO offsets VALUES (0, ?1) ON CONFLICT DO UPDATE SET next = ?1")?
                .execute([next.cast_signed()])?;
        }
        Ok(transaction.commit()?)
    }

    fn offset(&self) -> Result<u64> {
        let next: i64 =
            self.0.query_row("SELECT coalesce(max(next), 0) FROM offsets", [], |row| row.get(0))?;
        Ok(next.cast_unsigned())
    }

    fn scan(&self) -> Result<(u64, u64)> {
        let sql = "SELECT count(*), coalesce(max(sequence), 0), sum(length(payload)) FROM messages";
        let found: (i64, i64) = self.0.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok((found.0.cast_unsigned(), found.1.cast_unsigned()))
    }
}

struct Fjall {
    database: fjall::Database,
    messages: fjall::Keyspace,
    offsets: fjall::Keyspace,
}

impl Fjall {
    fn open(folder: &Path) -> Result<Self> {
        let database =
            fjall::Database::builder(folder.join("fjall")).cache_size(CACHE_BYTES as u64).open()?;
        let options = || fjall::KeyspaceCreateOptions::default().max_memtable_size(8 << 20);
        let messages = database.keyspace("messages", options)?;
        let offsets = database.keyspace("offsets", options)?;
        Ok(Self { database, messages, offsets })
    }
}

impl Engine for Fjall {
    fn apply(&mut self, first: u64, messages: &[Vec<u8>], next: u64) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(fjall::PersistMode::SyncData));
        for (sequence, message) in (first..).zip(messages) {
            batch.insert(&self.messages, sequence.to_be_bytes(), message.as_slice());
        }
        batch.insert(&self.offsets, "0", next.to_be_bytes());
        Ok(batch.commit()?)
    }

    fn offset(&self) -> Result<u64> {
        self.offsets.get("0")?.map_or(Ok(0), |bytes| number(&bytes))
    }

    fn scan(&self) -> Result<(u64, u64)> {
        let (mut count, mut greatest) = (0, 0);
        for guard in self.messages.iter() {
            let (key, _) = guard.into_inner()?;
            (count, greatest) = (count + 1, number(&key)?);
        }
        Ok((count, greatest))
    }
}

fn number(bytes: &[u8]) -> Result<u64> {
    Ok(u64::from_be_bytes(bytes.try_into().context("a number has eight bytes")?))
}

const MESSAGES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("messages");
const OFFSETS: TableDefinition<'_, u64, u64> = TableDefinition::new("offsets");

struct Redb(redb::Database);

impl Redb {
    fn open(folder: &Path) -> Result<Self> {
        let database = redb::Builder::new().set_cache_size(CACHE_BYTES).create(folder.join("state.redb"))?;
        let transaction = database.begin_write()?;
        transaction.open_table(MESSAGES)?;
        transaction.open_table(OFFSETS)?;
        transaction.commit()?;
        Ok(Self(database))
    }
}

impl Engine for Redb {
    fn apply(&mut self, first: u64, messages: &[Vec<u8>], next: u64) -> Result<()> {
        let transaction = self.0.begin_write()?;
        {
            let mut table = transaction.open_table(MESSAGES)?;
            for (sequence, message) in (first..).zip(messages) {
                table.insert(sequence, message.as_slice())?;
            }
            transaction.open_table(OFFSETS)?.insert(0, next)?;
        }
        Ok(transaction.commit()?)
    }

    fn offset(&self) -> Result<u64> {
        let table = self.0.begin_read()?.open_table(OFFSETS)?;
        Ok(table.get(0)?.map_or(0, |next| next.value()))
    }

    fn scan(&self) -> Result<(u64, u64)> {
        let table = self.0.begin_read()?.open_table(MESSAGES)?;
        let (mut count, mut greatest) = (0, 0);
        for entry in table.iter()? {
            let (key, _) = entry?;
            (count, greatest) = (count + 1, key.value());
        }
        Ok((count, greatest))
    }
}
