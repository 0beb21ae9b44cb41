//! The polling publisher: an outbox in a database without logical replication, read by asking for it.
//!
//! ```text
//! BEGIN ─► SELECT … PENDING … FOR UPDATE SKIP LOCKED ─► claim ─► append ─► UPDATE … PUBLISHED ─► COMMIT
//! ```
//! In: a [`PollingConfig`]. Out: a `message` for each row, in the change log, in the order of ids within a round.
//!
//! Invariants:
//! - a row is marked only after the change log has it on disk, so none is lost;
//! - after a crash of either side the round that was under way is finished first: of its rows, those that the log has
//!   (`claim`) are only marked. So a row is appended once, as long as data folder and database are those of before,
//!   and nobody else takes rows from that outbox;
//! - the rows' locks are held for one append, never while the log is full.
//!
//! Absent on purpose: deleting what was published; an order among transactions that commit at the same time.

mod claim;

use std::fmt;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::Instant;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::append::PARTITION;
use super::assemble::unreadable;
use super::connect::{Control, Target, quoted};
use super::error::{Disposition, SourceError, disposition};
use super::outage::Outage;
use super::outbox::{Outbox, OutboxColumns};
use super::stream::now;
use super::table::{Captured, Kind, TableName, describe};
use super::values::{self, Class};
use crate::backoff::Backoff;
use crate::event::{
    Change, Column, Micros, Operation, Origin, Position, RowBuilder, Rows, Table, Value, encode,
};
use crate::limits::{CHANGE_BYTES_MAX, POLLING_ROWS_MAX, RETRY_DELAY_MAX, SOURCE_PENDING_BYTES_MAX};
use crate::log::ChangeLog;
use claim::{Claim, Next};

const DOING: &str = "a look at the outbox";

/// What a polling source is told.
#[derive(Clone, PartialEq, Eq)]
pub struct PollingConfig {
    /// The source's name.
    pub name: String,
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`.
    pub url: String,
    /// The outbox, as a source's `tables` name tables.
    pub table: String,
    /// What its columns are called.
    pub columns: OutboxColumns,
    /// The column that says whether a row was published.
    pub status: String,
    /// Its value in rows that were not.
    pub pending: String,
    /// Its value in rows that were.
    pub published: String,
    /// Between two looks that found little.
    pub interval: Duration,
    /// Where claims are kept; goes with the change log.
    pub folder: PathBuf,
}

impl fmt::Debug for PollingConfig {
    /// Without the URL, which has a password in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollingConfig")
            .field("name", &self.name)
            .field("table", &self.table)
            .finish_non_exhaustive()
    }
}

/// A polling source that can begin.
pub struct Polling {
    config: PollingConfig,
    target: Target,
    outbox: Outbox,
    log: Arc<dyn ChangeLog>,
    claim: PathBuf,
}

/// The outbox as the catalog knows it.
struct Layout {
    table: Arc<Table>,
    classes: Box<[Class]>,
    /// The place of the id among the columns.
    id: usize,
    /// `SELECT … FROM …`
    select: String,
}

/// Rows that are locked.
struct Taken {
    ids: Vec<String>,
    changes: Vec<Change>,
}

impl Polling {
    /// Connects, and looks at the table.
    ///
    /// # Errors
    /// Anything that is wrong now: a person is looking.
    pub async fn prepare(config: PollingConfig, log: Arc<dyn ChangeLog>) -> Result<Self, SourceError> {
        let target = Target::parse(&config.url)?;
        let outbox = Outbox { table: TableName::parse(&config.table)?, columns: config.columns.clone() };
        let claim = claim::path(&config.folder, &config.name);
        claim::read(&claim)?;
        look(&config, &target, &outbox).await?;
        Ok(Self { config, target, outbox, log, claim })
    }

    /// Polls until told to stop; what may heal by itself is tried again for ever, and said once.
    ///
    /// # Errors
    /// What a person has to mend.
    pub async fn run(self, stop: CancellationToken) -> Result<(), SourceError> {
        let outage = Outage::new(&self.config.name);
        let mut backoff = Backoff::default();
        loop {
            let began_at = Instant::now();
            // To cut a round short is as if we were killed: the next start finishes it.
            let Some(Err(error)) = stop.run_until_cancelled(self.attempt(&outage)).await else {
                return Ok(());
            };
            if disposition(&error) == Disposition::Halt {
                return Err(error);
            }
            match error {
                SourceError::Log(_) => outage.log_is_full(&error),
                _ => outage.server_is_lost(&error),
            }
            if began_at.elapsed() > RETRY_DELAY_MAX {
                backoff = Backoff::default();
            }
            if stop.run_until_cancelled(backoff.wait()).await.is_none() {
                return Ok(());
            }
        }
    }

    /// One life of a connection.
    async fn attempt(&self, outage: &Outage) -> Result<(), SourceError> {
        let control = self.connect().await?;
        let mut next = claim::next(claim::read(&self.claim)?, self.log.last_position(&self.config.name));
        info!(source = self.config.name, "polls the outbox {}", self.outbox.table);
        loop {
            // Anew each time, since columns come and go.
            let layout = layout(&self.config, &self.outbox, &control).await?;
            control.execute(DOING, "BEGIN").await?;
            let (round, count) = match next {
                Next::Finish(claim, appended) => {
                    (claim.round, self.finish(&control, &layout, &claim, appended).await?)
                }
                Next::Take(round) => (round, self.take(&control, &layout, round).await?),
            };
            control.execute(DOING, "COMMIT").await?;
            next = Next::Take(round + 1);
            outage.server_is_back();
            outage.log_is_well();
            if count == 0 {
                tokio::time::sleep(self.config.interval).await;
            }
        }
    }

    async fn connect(&self) -> Result<Control, SourceError> {
        self.target.connect(&format!("twohop {}", self.config.name)).await
    }

    /// Appends and marks what is left of a round; gives how many rows the database did not know as published.
    async fn finish(
        &self,
        control: &Control,
        layout: &Layout,
        claim: &Claim,
        appended: usize,
    ) -> Result<usize, SourceError> {
        let condition = format!("{} AND {}", self.is_pending(), self.is_one_of(&claim.ids));
        let mut taken = self.select(control, layout, claim.round, &format!("{condition} FOR UPDATE")).await?;
        if taken.ids.is_empty() {
            return Ok(0);
        }
        let place = |id: &String| claim.ids.iter().position(|claimed| claimed == id).unwrap_or(usize::MAX);
        let mut rows: Vec<_> = taken.ids.drain(..).map(|id| (place(&id), id)).zip(taken.changes).collect();
        rows.sort_by_key(|((place, _), _)| *place);
        let ids: Vec<_> = rows.iter().map(|((_, id), _)| id.clone()).collect();
        let missing =
            rows.into_iter().filter(|((place, _), _)| *place >= appended).map(|((place, _), mut change)| {
                change.position.index = u32::try_from(place).unwrap_or(u32::MAX);
                change
            });
        self.append(missing.collect()).await?;
        self.mark(control, &ids).await?;
        Ok(ids.len())
    }

    /// Takes rows that nobody has, appends and marks them; gives how many.
    async fn take(&self, control: &Control, layout: &Layout, round: u64) -> Result<usize, SourceError> {
        let condition = format!(
            "{} ORDER BY {} LIMIT {POLLING_ROWS_MAX} FOR UPDATE SKIP LOCKED",
            self.is_pending(),
            quoted(&self.outbox.columns.id)
        );
        let Taken { ids, changes } = self.select(control, layout, round, &condition).await?;
        if ids.is_empty() {
            return Ok(0);
        }
        claim::write(&self.claim, &Claim { round, ids: ids.clone() })?;
        self.append(changes).await?;
        self.mark(control, &ids).await?;
        Ok(ids.len())
    }

    async fn append(&self, changes: Vec<Change>) -> Result<(), SourceError> {
        if changes.is_empty() {
            return Ok(());
        }
        let records = changes.iter().map(encode).collect();
        self.log.append(PARTITION, records).await.map(drop).map_err(SourceError::Log)
    }

    /// Marks the rows.
    async fn mark(&self, control: &Control, ids: &[String]) -> Result<(), SourceError> {
        let sql = format!(
            "UPDATE {} SET {} = {} WHERE {}",
            self.outbox.table.sql(),
            quoted(&self.config.status),
            literal(&self.config.published),
            self.is_one_of(ids)
        );
        control.execute("the marking of the outbox's rows", &sql).await
    }

    fn is_pending(&self) -> String {
        format!("{} = {}", quoted(&self.config.status), literal(&self.config.pending))
    }

    /// By literals without a type, so that the id's own decides, and its index is used.
    fn is_one_of(&self, ids: &[String]) -> String {
        let ids: Vec<_> = ids.iter().map(|id| literal(id)).collect();
        format!("{} IN ({})", quoted(&self.outbox.columns.id), ids.join(", "))
    }

    async fn select(
        &self,
        control: &Control,
        layout: &Layout,
        round: u64,
        condition: &str,
    ) -> Result<Taken, SourceError> {
        let sql = format!("{} WHERE {condition}", layout.select);
        let mut rows = pin!(control.rows(DOING, &sql).await?);
        let mut taken = Taken { ids: Vec::new(), changes: Vec::new() };
        let (mut bytes, at) = (0, now());
        while let Some(message) = rows.next().await {
            let SimpleQueryMessage::Row(row) = message.map_err(|error| SourceError::control(DOING, error))?
            else {
                continue;
            };
            // The others are for the next round; their locks go with this one.
            if bytes < SOURCE_PENDING_BYTES_MAX {
                let index = u32::try_from(taken.ids.len()).unwrap_or(u32::MAX);
                bytes += taken.push(layout, &row, Position { commit: round, index }, at)?;
            }
        }
        Ok(taken)
    }
}

/// Sees that a polling source can begin, as a start does.
///
/// # Errors
/// What is wrong.
pub async fn examine_polling(config: &PollingConfig) -> Result<(), SourceError> {
    let outbox = Outbox { table: TableName::parse(&config.table)?, columns: config.columns.clone() };
    look(config, &Target::parse(&config.url)?, &outbox).await
}

/// What the role may not do is told now. Nothing is marked.
async fn look(config: &PollingConfig, target: &Target, outbox: &Outbox) -> Result<(), SourceError> {
    let control = target.connect(&format!("twohop {}", config.name)).await?;
    let layout = layout(config, outbox, &control).await?;
    let sql = format!("BEGIN; {} WHERE false FOR UPDATE; ROLLBACK", layout.select);
    control.execute(DOING, &sql).await
}

async fn layout(config: &PollingConfig, outbox: &Outbox, control: &Control) -> Result<Layout, SourceError> {
    const LOOK: &str = "SELECT c.oid, c.relkind = 'p' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')";
    let name = outbox.table.clone();
    let found = control.query(DOING, LOOK, &[&name.schema, &name.name]).await?;
    let missing = |what: String| SourceError::Config(what);
    let row = found.first().ok_or_else(|| {
        missing(format!("the outbox {name} does not exist: check `outbox.table` (names are case-sensitive)"))
    })?;
    let kind = if row.get(1) { Kind::Partitioned } else { Kind::Ordinary };
    let captured = Captured { oid: row.get(0), kind, name };
    let (table, classes) = describe(control, &config.name, &captured).await?;
    if table.column(&config.status).is_none() {
        let PollingConfig { status, .. } = config;
        let what = format!(
            "the outbox {} has no column `{status}`: add it, or name another by `polling.status`",
            captured.name
        );
        return Err(missing(what));
    }
    // Whether it was published is no part of what it says.
    let is_told = |column: &Column| *column.name != *config.status;
    let told: Vec<_> = table.columns.iter().zip(&classes).filter(|(column, _)| is_told(column)).collect();
    let classes = told.iter().map(|(_, class)| **class).collect();
    let table =
        Table { columns: told.into_iter().map(|(column, _)| column.clone()).collect(), ..table.clone() };
    let columns: Vec<_> = table.columns.iter().map(|column| quoted(&column.name)).collect();
    let select = format!("SELECT {} FROM {}", columns.join(", "), captured.name.sql());
    let messages = outbox.messages(&table).map_err(|error| missing(error.to_string()))?;
    let id = messages.column("id").unwrap_or(0);
    Ok(Layout { table: Arc::new(messages), classes, id, select })
}

impl Taken {
    /// Adds a row; gives its size.
    fn push(
        &mut self,
        layout: &Layout,
        row: &SimpleQueryRow,
        position: Position,
        at: Micros,
    ) -> Result<usize, SourceError> {
        let mut builder = RowBuilder::default();
        let mut bytes = 0;
        for (column, class) in layout.classes.iter().enumerate() {
            let text = row.try_get(column).map_err(|error| SourceError::control(DOING, error))?;
            bytes += text.map_or(0, str::len);
            match text {
                None => builder.push(Value::Null),
                Some(text) => values::push(&mut builder, *class, text.as_bytes())
                    .map_err(|_| unreadable(&layout.table, column))?,
            }
        }
        if bytes > CHANGE_BYTES_MAX {
            let what = format!(
                "a row of the outbox {} has {bytes} bytes, above the limit of {CHANGE_BYTES_MAX}: set its status by hand",
                layout.table.full_name()
            );
            return Err(SourceError::Config(what));
        }
        let id = row.try_get(layout.id).map_err(|error| SourceError::control(DOING, error))?;
        // A row without an id could not be marked.
        let id = id.ok_or_else(|| {
            SourceError::Config(format!("{} has a row without an id", layout.table.full_name()))
        })?;
        self.ids.push(id.to_owned());
        let origin = Origin {
            table: layout.table.clone(),
            operation: Operation::Message,
            position,
            last: true,
            transaction: 0,
            committed_at: at,
        };
        self.changes.push(builder.finish(origin, Rows::New));
        Ok(bytes)
    }
}

/// A text within SQL, whatever the server thinks of backslashes.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_ends_where_it_should() {
        assert_eq!(literal("it's"), "E'it''s'");
        assert_eq!(literal("a\\'; DROP"), "E'a\\\\''; DROP'");
    }
}
