//! The one encoding of a change: what the change log keeps.
//!
//! A record is self-contained: it carries its table's names and columns, so that no catalog has to be kept in step
//! with the log, on one machine or in Kafka. A [`Decoder`] meets the same table block again and again and decodes
//! it once.
//!
//! ```text
//! version u8 | operation u8 | flags u8 (1 last, 2 row, 4 old, 8 replay) | commit u64 | index u32
//! | transaction u64 | committed_at i64 | source: u8 length, text | table block: u32 length, bytes
//! | if it is a replay: letter u64, first offset u64, router: u8 length, text (none: all routers)
//! | for each row that is there, new then old: a kind u8 a column, then a value u64 a column | arena
//! ```
//! Integers are little-endian. The table block: schema, name (u16 length, text), column count u16, and for each
//! column name, type (u16 length, text), key u8.
//!
//! Invariants: decoding what was encoded gives the same change, also what an older program of this version encoded;
//! decoding anything else gives an error, never a panic.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes};

use super::change::{Cell, Kind, span_range};
use super::{Change, Column, LetterId, Micros, Offset, Operation, Position, Replay, Table};
use crate::limits::DECODER_TABLES_MAX;

const VERSION: u8 = 1;
const LAST: u8 = 1;
const ROW: u8 = 2;
const OLD: u8 = 4;
const REPLAY: u8 = 8;

/// Why bytes are not a record of this version.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    /// Written by a newer program.
    #[error(
        "the record has version {0}, this program reads version {VERSION}: start the program that wrote it"
    )]
    Version(u8),
    /// It ends too early.
    #[error("the record ends within its {0}")]
    Short(&'static str),
    /// A number or text that no encoder writes.
    #[error("the record's {0} is not valid")]
    Invalid(&'static str),
}

/// What the change log itself needs to know of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The source's name.
    pub source: &'a str,
    /// Where the source stands with it.
    pub position: Position,
    /// Whether its position says how far the source is. It does not for a dead letter that is handed over again, whose
    /// position is an old one, and for a change of columns, which stands at the position of the change behind it.
    pub is_reached: bool,
}

impl<'a> Header<'a> {
    /// Reads the header alone.
    ///
    /// # Errors
    /// If the bytes are not a record of this version.
    pub fn of(record: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader { bytes: record, at: 0 };
        let fixed = Fixed::read(&mut reader)?;
        let source = reader.text8("source")?;
        let is_reached = fixed.flags & REPLAY == 0 && fixed.operation != Operation::Schema;
        Ok(Self { source, position: fixed.position, is_reached })
    }
}

/// Encodes a change.
///
/// # Panics
/// If a name is longer than its length field: sources refuse such names, PostgreSQL's have 63 bytes.
#[must_use]
pub fn encode(change: &Change) -> Bytes {
    if change.is_masked() {
        // What was hidden must not be in the record either.
        return encode_whole(&change.compact());
    }
    encode_whole(change)
}

fn encode_whole(change: &Change) -> Bytes {
    let rows = [change.row.as_deref(), change.old.as_deref()];
    let cells_count: usize = rows.iter().flatten().map(|cells| cells.len()).sum();
    let mut out =
        Vec::with_capacity(96 + 24 * change.table.columns.len() + 9 * cells_count + change.arena.len());
    let flag = |there: bool, bit: u8| if there { bit } else { 0 };
    out.put_u8(VERSION);
    out.put_u8(change.operation as u8);
    out.put_u8(
        flag(change.last, LAST)
            | flag(change.row.is_some(), ROW)
            | flag(change.old.is_some(), OLD)
            | flag(change.replay.is_some(), REPLAY),
    );
    out.put_u64_le(change.position.commit);
    out.put_u32_le(change.position.index);
    out.put_u64_le(change.transaction);
    out.put_i64_le(change.committed_at.0);
    encode_name(&change.table.source, &mut out);
    let length_at = out.len();
    out.put_u32_le(0);
    encode_table(&change.table, &mut out);
    let length = u32::try_from(out.len() - length_at - 4).expect("a table block is below 4 GiB");
    out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    if let Some(Replay { letter, first, router }) = &change.replay {
        out.put_u64_le(letter.0);
        out.put_u64_le(first.0);
        encode_name(router.as_deref().unwrap_or_default(), &mut out);
    }
    for cells in rows.into_iter().flatten() {
        out.extend(cells.iter().map(|cell| cell.kind as u8));
        for cell in cells {
            out.put_u64_le(cell.value);
        }
    }
    out.put_slice(&change.arena);
    out.into()
}

fn encode_name(name: &str, out: &mut Vec<u8>) {
    out.put_u8(u8::try_from(name.len()).expect("the configuration bounds names of sources and plugins"));
    out.put_slice(name.as_bytes());
}

fn encode_table(table: &Table, out: &mut Vec<u8>) {
    let text = |text: &str, out: &mut Vec<u8>| {
        out.put_u16_le(u16::try_from(text.len()).expect("a name is below 64 KiB"));
        out.put_slice(text.as_bytes());
    };
    text(&table.schema, out);
    text(&table.name, out);
    out.put_u16_le(u16::try_from(table.columns.len()).expect("a table has at most 1,600 columns"));
    for column in &table.columns {
        text(&column.name, out);
        text(&column.type_name, out);
        out.put_u8(u8::from(column.key));
    }
}

/// Decodes records, and remembers their tables.
#[derive(Debug, Default)]
pub struct Decoder {
    /// By source and table block as they stand in the record.
    tables: HashMap<Box<[u8]>, Arc<Table>>,
}

impl Decoder {
    /// Decodes a record. The change shares its bytes.
    ///
    /// # Errors
    /// If the bytes are not a record of this version.
    pub fn decode(&mut self, record: &Bytes) -> Result<Change, DecodeError> {
        let mut reader = Reader { bytes: record, at: 0 };
        let fixed = Fixed::read(&mut reader)?;
        let names_start = reader.at;
        let source = reader.text8("source")?;
        let block_length = reader.u32("table")? as usize;
        let block = reader.take(block_length, "table")?;
        let table = match self.tables.get(&record[names_start..reader.at]) {
            Some(table) => table.clone(),
            None => self.remember(&record[names_start..reader.at], decode_table(source, block)?),
        };
        let replay = (fixed.flags & REPLAY != 0).then(|| reader.replay()).transpose()?;
        let width = table.columns.len();
        let mut cells = |bit: u8| (fixed.flags & bit != 0).then(|| reader.cells(width)).transpose();
        let row = cells(ROW)?;
        let old = cells(OLD)?;
        let arena = record.slice(reader.at..);
        for cell in [&row, &old].into_iter().flatten().flatten() {
            check_cell(*cell, &arena)?;
        }
        Ok(Change {
            table,
            operation: fixed.operation,
            position: fixed.position,
            last: fixed.flags & LAST != 0,
            transaction: fixed.transaction,
            committed_at: fixed.committed_at,
            replay,
            arena,
            row,
            old,
        })
    }

    fn remember(&mut self, names: &[u8], table: Table) -> Arc<Table> {
        if self.tables.len() >= DECODER_TABLES_MAX {
            self.tables.clear();
        }
        let table = Arc::new(table);
        self.tables.insert(names.into(), table.clone());
        table
    }
}

struct Fixed {
    operation: Operation,
    flags: u8,
    position: Position,
    transaction: u64,
    committed_at: Micros,
}

impl Fixed {
    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let version = reader.u8("version")?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        Ok(Self {
            operation: Operation::from_number(reader.u8("operation")?)
                .ok_or(DecodeError::Invalid("operation"))?,
            flags: reader.flags()?,
            position: Position { commit: reader.u64("position")?, index: reader.u32("position")? },
            transaction: reader.u64("transaction")?,
            committed_at: Micros(reader.u64("commit time")?.cast_signed()),
        })
    }
}

fn decode_table(source: &str, block: &[u8]) -> Result<Table, DecodeError> {
    let mut reader = Reader { bytes: block, at: 0 };
    let schema = reader.text16("schema")?.into();
    let name = reader.text16("table")?.into();
    let column_count = reader.u16("columns")?;
    let columns = (0..column_count)
        .map(|_| {
            Ok(Column {
                name: reader.text16("column")?.into(),
                type_name: reader.text16("type")?.into(),
                key: reader.u8("key")? != 0,
            })
        })
        .collect::<Result<_, DecodeError>>()?;
    if reader.at < block.len() {
        return Err(DecodeError::Invalid("table block"));
    }
    Ok(Table { source: source.into(), schema, name, columns })
}

fn check_cell(cell: Cell, arena: &[u8]) -> Result<(), DecodeError> {
    let number_max = match cell.kind {
        Kind::Null | Kind::Unchanged | Kind::Masked => 0,
        Kind::Boolean => 1,
        Kind::Integer | Kind::Float | Kind::Text | Kind::Bytes => u64::MAX,
    };
    if cell.value > number_max {
        return Err(DecodeError::Invalid("value"));
    }
    if !matches!(cell.kind, Kind::Text | Kind::Bytes) {
        return Ok(());
    }
    let bytes = arena.get(span_range(cell.value)).ok_or(DecodeError::Invalid("span"))?;
    if cell.kind == Kind::Text && std::str::from_utf8(bytes).is_err() {
        return Err(DecodeError::Invalid("text"));
    }
    Ok(())
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let end = self.at.checked_add(length).ok_or(DecodeError::Short(what))?;
        let taken = self.bytes.get(self.at..end).ok_or(DecodeError::Short(what))?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        Ok(self.take(N, what)?.try_into().expect("take gives what was asked for"))
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(self.array::<1>(what)?[0])
    }

    fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        self.array(what).map(u16::from_le_bytes)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn text(&mut self, length: usize, what: &'static str) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.take(length, what)?).map_err(|_| DecodeError::Invalid(what))
    }

    fn text8(&mut self, what: &'static str) -> Result<&'a str, DecodeError> {
        let length = self.u8(what)?.into();
        self.text(length, what)
    }

    fn text16(&mut self, what: &'static str) -> Result<&'a str, DecodeError> {
        let length = self.u16(what)?.into();
        self.text(length, what)
    }

    fn flags(&mut self) -> Result<u8, DecodeError> {
        let flags = self.u8("flags")?;
        if flags & !(LAST | ROW | OLD | REPLAY) == 0 { Ok(flags) } else { Err(DecodeError::Invalid("flags")) }
    }

    fn replay(&mut self) -> Result<Replay, DecodeError> {
        let (letter, first) = (LetterId(self.u64("letter")?), Offset(self.u64("first offset")?));
        let router = self.text8("router")?;
        Ok(Replay { letter, first, router: (!router.is_empty()).then(|| router.into()) })
    }

    fn cells(&mut self, width: usize) -> Result<Box<[Cell]>, DecodeError> {
        let kinds = self.take(width, "cells")?;
        let values = self.take(width * 8, "cells")?;
        kinds
            .iter()
            .zip(values.chunks_exact(8))
            .map(|(kind, value)| {
                Ok(Cell {
                    kind: Kind::from_number(*kind).ok_or(DecodeError::Invalid("kind"))?,
                    value: u64::from_le_bytes(value.try_into().expect("chunks have eight bytes")),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::{Origin, RowBuilder, Rows, Value};

    #[derive(Debug, Clone)]
    enum Owned {
        Null,
        Unchanged,
        Masked,
        Boolean(bool),
        Integer(i64),
        Float(f64),
        Text(String),
        Bytes(Vec<u8>),
    }

    impl Owned {
        fn value(&self) -> Value<'_> {
            match self {
                Self::Null => Value::Null,
                Self::Unchanged => Value::Unchanged,
                Self::Masked => Value::Masked,
                Self::Boolean(value) => Value::Boolean(*value),
                Self::Integer(value) => Value::Integer(*value),
                Self::Float(value) => Value::Float(*value),
                Self::Text(value) => Value::Text(value),
                Self::Bytes(value) => Value::Bytes(value),
            }
        }
    }

    fn owned() -> impl Strategy<Value = Owned> {
        prop_oneof![
            Just(Owned::Null),
            Just(Owned::Unchanged),
            Just(Owned::Masked),
            any::<bool>().prop_map(Owned::Boolean),
            any::<i64>().prop_map(Owned::Integer),
            (-1e9..1e9f64).prop_map(Owned::Float),
            ".{0,40}".prop_map(Owned::Text),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(Owned::Bytes),
        ]
    }

    prop_compose! {
        fn changes()(width in 0..6usize)(
            cells in prop::collection::vec(owned(), width * 2),
            names in prop::collection::vec((".{0,12}", "[a-z0-9]{0,8}", any::<bool>()), width),
            operation in 0..7u8,
            rows in 0..4usize,
            (commit, index, transaction, committed_at) in any::<(u64, u32, u64, i64)>(),
            last in any::<bool>(),
            replay in prop::option::of((any::<(u64, u64)>(), prop::option::of("[a-z]{1,9}"))),
        ) -> Change {
            let table = Table {
                source: "shop".into(),
                schema: "public".into(),
                name: "orders".into(),
                columns: names.into_iter()
                    .map(|(name, type_name, key)| Column { name: name.into(), type_name: type_name.into(), key })
                    .collect(),
            };
            let width = table.columns.len();
            let rows = [Rows::Neither, Rows::New, Rows::Old, Rows::NewThenOld][rows];
            let count = match rows {
                Rows::Neither => 0,
                Rows::New | Rows::Old => width,
                Rows::NewThenOld => width * 2,
            };
            let mut builder = RowBuilder::default();
            for cell in &cells[..count] {
                builder.push(cell.value());
            }
            let origin = Origin {
                table: Arc::new(table),
                operation: Operation::from_number(operation).expect("a number below 7"),
                position: Position { commit, index },
                last,
                transaction,
                committed_at: Micros(committed_at),
            };
            let mut change = builder.finish(origin, rows);
            change.replay = replay.map(|((letter, first), router)| Replay {
                letter: LetterId(letter),
                first: Offset(first),
                router: router.map(Arc::from),
            });
            change
        }
    }

    fn values(row: Option<crate::event::Row<'_>>) -> Option<Vec<Value<'_>>> {
        row.map(|row| row.columns().map(|(_, value)| value).collect())
    }

    proptest! {
        #[test]
        fn decoding_what_was_encoded_gives_the_same_change(change in changes()) {
            let record = encode(&change);
            let decoded = Decoder::default().decode(&record).expect("the record is whole");
            prop_assert_eq!(&decoded.table, &change.table);
            prop_assert_eq!(decoded.operation, change.operation);
            prop_assert_eq!(decoded.position, change.position);
            prop_assert_eq!(decoded.last, change.last);
            prop_assert_eq!(decoded.transaction, change.transaction);
            prop_assert_eq!(decoded.committed_at, change.committed_at);
            prop_assert_eq!(&decoded.replay, &change.replay);
            prop_assert_eq!(values(decoded.row()), values(change.row()));
            prop_assert_eq!(values(decoded.old()), values(change.old()));
            let header = Header::of(&record).expect("the record is whole");
            let is_reached = change.replay.is_none() && change.operation != Operation::Schema;
            prop_assert_eq!(header, Header { source: "shop", position: change.position, is_reached });
        }

        #[test]
        fn damaged_records_are_errors_or_changes_but_never_panics(
            change in changes(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
        ) {
            let mut record = encode(&change).to_vec();
            let at = at.index(record.len());
            record[at] = byte;
            record.truncate(cut.index(record.len()) + 1);
            if let Ok(decoded) = Decoder::default().decode(&record.into()) {
                let _ = values(decoded.row());
                let _ = values(decoded.old());
            }
        }
    }

    /// What a host wrote that knew no replays: such records live on in logs and dead letters.
    const BEFORE_REPLAYS: &[u8] = b"\x01\x02\x07\x10\0\0\0\0\0\0\0\x02\0\0\0\x4d\0\0\0\0\0\0\0\
        \x40\x42\x0f\0\0\0\0\0\x04shop\x2a\0\0\0\x06\0public\x06\0orders\x02\0\x02\0id\x04\0int8\x01\
        \x04\0note\x04\0text\0\x04\x06\x07\0\0\0\0\0\0\0\0\0\0\0\x03\0\0\0\x04\x01\x07\0\0\0\0\0\0\0\
        \0\0\0\0\0\0\0\0new";

    #[test]
    fn a_record_of_a_host_that_knew_no_replays_is_read_and_written_the_same() {
        let change = Decoder::default().decode(&Bytes::from_static(BEFORE_REPLAYS)).expect("it is whole");
        assert_eq!((change.operation, change.last), (Operation::Update, true));
        assert_eq!(change.position, Position { commit: 16, index: 2 });
        assert_eq!((change.transaction, change.committed_at), (77, Micros(1_000_000)));
        assert_eq!(change.replay, None);
        assert_eq!(values(change.row()), Some(vec![Value::Integer(7), Value::Text("new")]));
        assert_eq!(values(change.old()), Some(vec![Value::Integer(7), Value::Unchanged]));
        assert_eq!(encode(&change), BEFORE_REPLAYS);
    }

    #[test]
    fn a_flag_that_nobody_writes_is_refused() {
        let mut record = BEFORE_REPLAYS.to_vec();
        record[2] |= 16;
        assert_eq!(Header::of(&record), Err(DecodeError::Invalid("flags")));
        assert_eq!(Decoder::default().decode(&record.into()).unwrap_err(), DecodeError::Invalid("flags"));
    }

    #[test]
    fn a_cell_with_a_number_that_nobody_writes_is_refused() {
        // The number of the last cell, which is unchanged, ends before the three bytes of the arena.
        let mut record = BEFORE_REPLAYS.to_vec();
        let at = record.len() - 4;
        record[at] = 1;
        assert_eq!(Decoder::default().decode(&record.into()).unwrap_err(), DecodeError::Invalid("value"));
    }

    #[test]
    fn a_table_block_that_goes_on_after_its_columns_is_refused() {
        let table = |columns: Vec<Column>| Table {
            source: "s".into(),
            schema: "p".into(),
            name: "t".into(),
            columns: columns.into(),
        };
        let mut block = Vec::new();
        encode_table(&table(Vec::new()), &mut block);
        assert_eq!(decode_table("s", &block), Ok(table(Vec::new())));
        block.push(0);
        assert_eq!(decode_table("s", &block), Err(DecodeError::Invalid("table block")));
    }

    #[test]
    fn a_record_of_another_version_says_so() {
        assert_eq!(Header::of(&[9, 0, 0]), Err(DecodeError::Version(9)));
        assert_eq!(Header::of(&[]), Err(DecodeError::Short("version")));
    }
}
