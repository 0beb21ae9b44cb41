//! A part of a table, as it is now.
//!
//! In: where the last part ended. Out: the rows after it, each with what it is to the source; or that it is too early, or
//! that the table is gone.
//!
//! Invariants:
//! - the rows were read after every transaction that the stream has brought was over, so none shows what was before one
//!   of them; who calls sees to it that the stream brings nothing meanwhile;
//! - a chunk ends with a row, and everything up to it is in it: at most `SNAPSHOT_CHUNK_ROWS_MAX` rows, and no further one
//!   once it has `SNAPSHOT_CHUNK_BYTES_MAX` bytes;
//! - the table's columns and files cannot change while it is read; it is held for as long as that takes, and not waited
//!   for much longer than that.
//!
//! A table with a key is read in the order of its key, one without in that of its blocks.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::Instant;
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use super::super::assemble::unreadable;
use super::super::connect::{Control, quoted};
use super::super::error::SourceError;
use super::super::table::{Captured, Kind, describe};
use super::super::values::{self, Class};
use super::DOING;
use super::rounds::{At, TableState};
use super::visible::{Age, Files, Unsettled, Visible};
use crate::event::{Change, Micros, Operation, Position, RowBuilder, Rows, Table, Value};
use crate::limits::{
    CHANGE_BYTES_MAX, SNAPSHOT_BLOCKS_MAX, SNAPSHOT_CHUNK_BYTES_MAX, SNAPSHOT_CHUNK_ROWS_MAX,
    SNAPSHOT_ROWS_MIN, SNAPSHOT_SETTLE_TIME_MAX,
};

/// Between two looks whether a transaction is over.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// What is to be read.
pub(super) struct Task {
    pub(super) source: Arc<str>,
    pub(super) captured: Captured,
    pub(super) state: TableState,
    /// The snapshot that its rows are compared with.
    pub(super) kept: Visible,
    pub(super) unsettled: Unsettled,
    pub(super) size: Size,
}

/// How much is read at once: so much that the last time would have been enough and not too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    rows: usize,
    blocks: u32,
}

impl Default for Size {
    fn default() -> Self {
        Self { rows: SNAPSHOT_ROWS_MIN, blocks: 1 }
    }
}

impl Size {
    /// After something was read in vain, since rows of it changed meanwhile. Of a single row it is soon read in time.
    pub(super) fn smaller(self) -> Self {
        let rows = (self.rows.min(SNAPSHOT_ROWS_MIN) / 2).max(1);
        Self { rows, blocks: (self.blocks / 2).max(1) }
    }

    /// After so many rows and bytes were read.
    fn adapted(self, rows: usize, bytes: usize) -> Self {
        let halves = |part: usize, whole: usize| 2 * part < whole;
        if halves(rows, SNAPSHOT_CHUNK_ROWS_MAX) && halves(bytes, SNAPSHOT_CHUNK_BYTES_MAX) {
            let rows = (2 * self.rows).min(SNAPSHOT_CHUNK_ROWS_MAX);
            return Self { rows, blocks: (2 * self.blocks).min(SNAPSHOT_BLOCKS_MAX) };
        }
        if bytes >= SNAPSHOT_CHUNK_BYTES_MAX {
            return Self { rows: (self.rows / 2).max(1), blocks: (self.blocks / 2).max(1) };
        }
        self
    }
}

/// What came of it.
pub(super) enum Read {
    /// It is too early, or somebody holds the table.
    Later,
    /// The table is not what it was: dropped, or another one by now.
    Gone,
    Chunk(Chunk),
}

/// By what rows are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Order {
    Key,
    /// By nothing but where they are.
    Block,
}

/// What the stream brings of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changes {
    /// Whole rows only.
    Whole,
    /// Also rows without some of their values: those that are stored out of line and did not change.
    Partial,
}

/// Rows of one table.
pub(super) struct Chunk {
    /// Their positions are yet to be given.
    pub(super) rows: Vec<(Age, Change)>,
    pub(super) at: At,
    pub(super) taken_at: Micros,
    pub(super) order: Order,
    /// Whether the stream brings whole rows only.
    pub(super) changes: Changes,
    pub(super) size: Size,
}

/// Reads what is next.
///
/// # Errors
/// If the server refuses, the connection broke, or a row is too large.
pub(super) async fn read(control: &Control, task: &mut Task) -> Result<Read, SourceError> {
    if !settled(control, &mut task.unsettled).await? {
        return Ok(Read::Later);
    }
    let name = table_sql(&task.captured);
    control.execute(DOING, "BEGIN; SET LOCAL lock_timeout = '100ms'").await?;
    let locked = control.execute(DOING, &format!("LOCK TABLE {name} IN ACCESS SHARE MODE")).await;
    let read = match locked {
        Ok(()) => within(control, task).await?,
        Err(SourceError::Server { said, .. }) => match said.code.as_str() {
            "55P03" => Read::Later,
            "42P01" | "3F000" | "42809" => Read::Gone,
            _ => return Err(SourceError::said(DOING, said)),
        },
        Err(error) => return Err(error),
    };
    control.execute(DOING, "ROLLBACK").await?;
    Ok(read)
}

/// Whether all are over that the stream has brought; waits a little for it.
async fn settled(control: &Control, unsettled: &mut Unsettled) -> Result<bool, SourceError> {
    let begun_at = Instant::now();
    while !unsettled.settle(&look(control).await?) {
        if begun_at.elapsed() > SNAPSHOT_SETTLE_TIME_MAX {
            return Ok(false);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(true)
}

/// What the server sees now, or what the open transaction does.
pub(super) async fn look(control: &Control) -> Result<Visible, SourceError> {
    const LOOK: &str = "SELECT pg_current_snapshot()::text";
    let rows = control.query(DOING, LOOK, &[]).await?;
    parsed(rows.first().map(|row| row.get(0)))
}

pub(super) fn parsed(text: Option<&str>) -> Result<Visible, SourceError> {
    let what = || "the answer is no snapshot".to_owned();
    let visible = text.and_then(Visible::parse);
    visible.ok_or_else(|| SourceError::Protocol { doing: DOING.to_owned(), what: what() })
}

/// The files of a table and of all its partitions, as text, and what the stream brings of it; nothing if the table is
/// gone, or has another number.
pub(super) async fn files(
    control: &Control,
    state: &TableState,
) -> Result<Option<(String, Changes)>, SourceError> {
    const LOOK: &str = "SELECT string_agg(c.oid::text || ':' || c.relfilenode::text, ',' ORDER BY c.oid), \
         bool_or(c.oid = $1 AND c.relname = $2 AND n.nspname = $3), \
         bool_or(c.reltoastrelid <> 0 AND c.relreplident <> 'f') \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.oid = $1 OR c.oid IN (SELECT relid FROM pg_partition_tree($1::oid::regclass))";
    let rows = control.query(DOING, LOOK, &[&state.oid, &state.name, &state.schema]).await?;
    let row = rows.first().filter(|row| row.get::<_, Option<bool>>(1) == Some(true));
    Ok(row.map(|row| (row.get(0), if row.get(2) { Changes::Partial } else { Changes::Whole })))
}

/// Reads while the table is held.
async fn within(control: &Control, task: &Task) -> Result<Read, SourceError> {
    let Some((files, changes)) = files(control, &task.state).await? else { return Ok(Read::Gone) };
    let files = if files == task.state.files { Files::Same } else { Files::Replaced };
    let (table, classes) = describe(control, &task.source, &task.captured).await?;
    let (span, order) = match key(control, &task.captured, &table).await? {
        Some(key) => (Some(Span::by_key(&task.captured, key, &task.state.at, task.size)), Order::Key),
        None => (Span::by_block(control, task).await?, Order::Block),
    };
    let mut reader = Reader { table: Arc::new(table), classes, rows: Vec::new(), bytes: 0, last: None };
    let mut at = At::End;
    if let Some(span) = span {
        let is_whole = reader.read(control, &span).await?;
        at = span.end(is_whole, reader.rows.len(), reader.last.as_ref());
    }
    let now = now(control).await?;
    let age = |(xmin, change)| (task.kept.age(&now.visible, files, xmin), change);
    Ok(Read::Chunk(Chunk {
        at,
        size: task.size.adapted(reader.rows.len(), reader.bytes),
        rows: reader.rows.into_iter().map(age).collect(),
        taken_at: now.at,
        order,
        changes,
    }))
}

/// A moment of the server.
struct Now {
    visible: Visible,
    at: Micros,
}

async fn now(control: &Control) -> Result<Now, SourceError> {
    const LOOK: &str =
        "SELECT pg_current_snapshot()::text, (extract(epoch FROM clock_timestamp()) * 1000000)::int8";
    let rows = control.query(DOING, LOOK, &[]).await?;
    let row = rows.first();
    Ok(Now { visible: parsed(row.map(|row| row.get(0)))?, at: Micros(row.map_or(0, |row| row.get(1))) })
}

/// A column of the key.
struct KeyColumn {
    name: String,
    type_sql: String,
    /// Its place among the columns that are read.
    column: usize,
}

/// The columns of the key in the order of its index; nothing if there is none, or one of them is not read.
async fn key(
    control: &Control,
    captured: &Captured,
    table: &Table,
) -> Result<Option<Vec<KeyColumn>>, SourceError> {
    const KEY: &str = "SELECT a.attname::text, format('%I.%I', n.nspname, t.typname) FROM pg_class c \
         JOIN pg_index k ON k.indrelid = c.oid \
           AND CASE c.relreplident WHEN 'i' THEN k.indisreplident ELSE k.indisprimary END \
         CROSS JOIN LATERAL unnest((k.indkey::int2[])[0:k.indnkeyatts - 1]) WITH ORDINALITY AS u (attnum, nth) \
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.attnum JOIN pg_type t ON t.oid = a.atttypid \
         JOIN pg_namespace n ON n.oid = t.typnamespace WHERE c.oid = $1 ORDER BY u.nth";
    let rows = control.query(DOING, KEY, &[&captured.oid]).await?;
    let column = |row: &tokio_postgres::Row| {
        let (name, type_sql) = (row.get::<_, String>(0), row.get(1));
        Some(KeyColumn { column: table.column(&name)?, name, type_sql })
    };
    let columns: Option<Vec<_>> = rows.iter().map(column).collect();
    Ok(columns.filter(|columns| !columns.is_empty()))
}

/// What one statement reads.
enum Span {
    /// So many rows from a key on.
    Key { name: String, key: Vec<KeyColumn>, after: Option<Vec<String>>, rows: usize },
    /// Blocks of one file.
    Blocks { name: String, leaf: u32, after: String, end: u32 },
}

impl Span {
    fn by_key(captured: &Captured, key: Vec<KeyColumn>, at: &At, size: Size) -> Self {
        let after = match at {
            At::Key { columns, values } if *columns == key_columns(&key) => Some(values.clone()),
            // Another key than before has another order.
            _ => None,
        };
        Self::Key { name: table_sql(captured), key, after, rows: size.rows }
    }

    /// The next blocks; nothing if there are none.
    async fn by_block(control: &Control, task: &Task) -> Result<Option<Self>, SourceError> {
        const LEAVES: &str = "SELECT c.oid, c.oid::regclass::text, \
             (pg_relation_size(c.oid) / current_setting('block_size')::int8)::int8 \
             FROM pg_class c WHERE c.relkind = 'r' AND c.oid >= $2 \
             AND (c.oid = $1 OR c.oid IN (SELECT relid FROM pg_partition_tree($1::oid::regclass))) ORDER BY c.oid";
        let (from, mut after) = match &task.state.at {
            At::Row { leaf, place } => (*leaf, place.clone()),
            _ => (0, "(0,0)".to_owned()),
        };
        for row in control.query(DOING, LEAVES, &[&task.captured.oid, &from]).await? {
            let (leaf, name, blocks) = (row.get::<_, u32>(0), row.get(1), row.get::<_, i64>(2));
            if leaf != from {
                "(0,0)".clone_into(&mut after);
            }
            let block = block_of(&after);
            if i64::from(block) < blocks {
                let end = block.saturating_add(task.size.blocks);
                return Ok(Some(Self::Blocks { name, leaf, after, end }));
            }
        }
        Ok(None)
    }

    /// The statement; its rows begin with `xmin` and `ctid`.
    fn sql(&self, table: &Table) -> String {
        let columns: Vec<_> = table.columns.iter().map(|column| quoted(&column.name)).collect();
        let columns = columns.join(", ");
        match self {
            Self::Key { name, key, after, rows } => {
                let names: Vec<_> = key.iter().map(|column| quoted(&column.name)).collect();
                let names = names.join(", ");
                let from = after.as_ref().map(|values| {
                    let values = key.iter().zip(values);
                    let values: Vec<_> = values
                        .map(|(column, value)| format!("{}::{}", literal(value), column.type_sql))
                        .collect();
                    format!("WHERE ({names}) > ({}) ", values.join(", "))
                });
                let from = from.unwrap_or_default();
                format!("SELECT xmin, NULL, {columns} FROM {name} {from}ORDER BY {names} LIMIT {rows}")
            }
            Self::Blocks { name, after, end, .. } => format!(
                "SELECT xmin, ctid, {columns} FROM ONLY {name} WHERE ctid > '{after}'::tid AND ctid < '({end},0)'::tid"
            ),
        }
    }

    /// Where the next one begins, after so many rows of which this was the last.
    fn end(&self, is_whole: bool, count: usize, last: Option<&SimpleQueryRow>) -> At {
        let text = |column: usize| last.and_then(|row| row.get(column)).unwrap_or_default().to_owned();
        match self {
            Self::Key { rows, .. } if is_whole && count < *rows => At::End,
            Self::Key { key, .. } => At::Key {
                columns: key_columns(key),
                values: key.iter().map(|column| text(column.column + HIDDEN)).collect(),
            },
            Self::Blocks { leaf, end, .. } if is_whole => {
                At::Row { leaf: *leaf, place: format!("({end},0)") }
            }
            Self::Blocks { leaf, .. } => At::Row { leaf: *leaf, place: text(1) },
        }
    }
}

/// `xmin` and `ctid`.
const HIDDEN: usize = 2;

fn key_columns(key: &[KeyColumn]) -> Vec<String> {
    key.iter().map(|column| format!("{} {}", quoted(&column.name), column.type_sql)).collect()
}

fn block_of(place: &str) -> u32 {
    place.trim_start_matches('(').split(',').next().and_then(|block| block.parse().ok()).unwrap_or(0)
}

/// A text within SQL, whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// A table within SQL: a partitioned one with its partitions, another without its children.
pub(super) fn table_sql(captured: &Captured) -> String {
    let only = match captured.kind {
        Kind::Ordinary => "ONLY ",
        Kind::Partitioned => "",
    };
    format!("{only}{}", captured.name.sql())
}

/// Rows as they come.
struct Reader {
    table: Arc<Table>,
    classes: Box<[Class]>,
    rows: Vec<(u32, Change)>,
    bytes: usize,
    last: Option<SimpleQueryRow>,
}

impl Reader {
    /// Whether it took all that the statement gave.
    async fn read(&mut self, control: &Control, span: &Span) -> Result<bool, SourceError> {
        let rows = control.rows(DOING, &span.sql(&self.table)).await?;
        tokio::pin!(rows);
        let mut is_whole = true;
        while let Some(message) = rows.next().await {
            match message.map_err(|error| SourceError::control(DOING, error))? {
                // What does not fit is read again.
                SimpleQueryMessage::Row(_) if self.bytes >= SNAPSHOT_CHUNK_BYTES_MAX => is_whole = false,
                SimpleQueryMessage::Row(row) => self.push(row)?,
                _ => {}
            }
        }
        Ok(is_whole)
    }

    fn push(&mut self, row: SimpleQueryRow) -> Result<(), SourceError> {
        let text = |column: usize| row.try_get(column).map_err(|error| SourceError::control(DOING, error));
        let mut builder = RowBuilder::default();
        let mut bytes = 0;
        for (column, class) in self.classes.iter().enumerate() {
            match text(column + HIDDEN)? {
                None => builder.push(Value::Null),
                Some(text) => {
                    bytes += text.len();
                    values::push(&mut builder, *class, text.as_bytes())
                        .map_err(|_| unreadable(&self.table, column))?;
                }
            }
        }
        if bytes > CHANGE_BYTES_MAX {
            let table = format!("{}.{}", self.table.schema, self.table.name);
            return Err(SourceError::RowTooLarge { table, bytes });
        }
        let xmin = text(0)?.and_then(|xmin| xmin.parse().ok()).unwrap_or(0);
        let nowhere = Position { commit: 0, index: 0 };
        let origin = super::origin(self.table.clone(), Operation::Snapshot, nowhere, Micros(0));
        self.rows.push((xmin, builder.finish(origin, Rows::New)));
        self.bytes += bytes + size_of::<Change>();
        self.last = Some(row);
        Ok(())
    }
}
