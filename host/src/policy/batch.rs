//! Changes as a plugin sees them: eight lists of numbers over one arena.
//!
//! In: changes, and for each the subscription that it is handed over for. Out: the lists of the WIT interface,
//! borrowed; the buffers are used again and again.
//!
//! The virtual columns: `$position` is the text of the whole position, its index too (`0/16B3748#2`); `$transaction`
//! is the number as text, null where there is none. They are the same in the new and the old row.
//!
//! Invariant: a change of a subscription with columns has at least one row; every span lies within the arena; the
//! batch has at most `BATCH_COUNT_MAX` changes and `BATCH_BYTES_MAX` bytes, so spans have no need of more than 32 bits.

use std::fmt::Write;

use super::bindings::twohop::policy::types::Changes;
use super::matches::{Cell, Key, Match, Matches, Member};
use super::subscription::Virtual;
use crate::event::{Change, Operation, Row, row_to_json};
use crate::limits::{BATCH_BYTES_MAX, BATCH_COUNT_MAX};

const NONE: u32 = u32::MAX;
const NULL: u8 = 0;
const UNCHANGED: u8 = 1;
const BOOLEAN: u8 = 3;
const INTEGER: u8 = 4;
const TEXT: u8 = 6;
/// A cell's kind and value.
const CELL_BYTES: usize = 9;
/// What a change has besides its cells.
const CHANGE_BYTES: usize = 21;

/// The lists.
#[derive(Debug, Default)]
pub(super) struct Batch {
    subscriptions: Vec<u32>,
    operations: Vec<u8>,
    committed_at: Vec<i64>,
    rows: Vec<u32>,
    old_rows: Vec<u32>,
    kinds: Vec<u8>,
    values: Vec<u64>,
    arena: Vec<u8>,
    scratch: String,
}

impl Batch {
    /// Lowers as many of the members, from the first, as fit into one call, and says how many these are: none only
    /// if the first alone is too large; [`Batch::refused_bytes`] then says how large.
    pub(super) fn fill(&mut self, changes: &[Change], members: &[Member], matches: &Matches) -> Filled {
        self.clear();
        for (count, member) in members.iter().take(BATCH_COUNT_MAX).enumerate() {
            let (cells, bytes) = (self.kinds.len(), self.arena.len());
            self.push(&changes[member.change], matches.get(*member));
            let size = self.bytes();
            if size > BATCH_BYTES_MAX {
                self.pop(cells, bytes);
                if count == 0 {
                    return Filled::TooLarge(size);
                }
                break;
            }
        }
        let members = &members[..self.rows.len()];
        self.extend(changes, members, matches);
        Filled::Changes(members.len())
    }

    /// What is the same for all changes, whatever they have for cells: a list at a time, which costs less than a
    /// change at a time.
    fn extend(&mut self, changes: &[Change], members: &[Member], matches: &Matches) {
        let changes = members.iter().map(|member| &changes[member.change]);
        self.subscriptions.extend(members.iter().map(|member| matches.get(*member).subscription));
        self.operations.extend(changes.clone().map(|change| change.operation as u8));
        self.committed_at.extend(changes.map(|change| change.committed_at.0));
    }

    pub(super) fn changes(&self) -> Changes<'_> {
        Changes {
            subscriptions: &self.subscriptions,
            operations: &self.operations,
            committed_at: &self.committed_at,
            rows: &self.rows,
            old_rows: &self.old_rows,
            kinds: &self.kinds,
            values: &self.values,
            arena: &self.arena,
        }
    }

    fn bytes(&self) -> usize {
        self.arena.len() + CELL_BYTES * self.kinds.len() + CHANGE_BYTES * self.rows.len()
    }

    fn clear(&mut self) {
        self.subscriptions.clear();
        self.operations.clear();
        self.committed_at.clear();
        self.rows.clear();
        self.old_rows.clear();
        self.kinds.clear();
        self.values.clear();
        self.arena.clear();
    }

    /// Takes back the last change, before which there were so many cells and bytes.
    fn pop(&mut self, cells: usize, bytes: usize) {
        self.rows.pop();
        self.old_rows.pop();
        self.kinds.truncate(cells);
        self.values.truncate(cells);
        self.arena.truncate(bytes);
        // One huge change must not keep its size for ever.
        self.arena.shrink_to(BATCH_BYTES_MAX);
        self.scratch.clear();
        self.scratch.shrink_to(BATCH_BYTES_MAX);
    }

    fn push(&mut self, change: &Change, found: &Match) {
        let (row, old) = if found.cells.is_empty() { (NONE, NONE) } else { self.push_rows(change, found) };
        self.rows.push(row);
        self.old_rows.push(old);
    }

    /// Which rows there are depends on the operation alone: a row that a source should have sent and did not has
    /// `unchanged` cells.
    fn push_rows(&mut self, change: &Change, found: &Match) -> (u32, u32) {
        match change.operation {
            Operation::Delete => (NONE, self.push_row(change, change.old(), found, None)),
            Operation::Truncate | Operation::Schema => (self.push_row(change, None, found, None), NONE),
            Operation::Update => {
                let row = self.push_row(change, change.row(), found, None);
                let old = change.old().map(|old| self.push_row(change, Some(old), found, Some(row)));
                (row, old.unwrap_or(NONE))
            }
            Operation::Snapshot | Operation::Insert | Operation::Message => {
                (self.push_row(change, change.row(), found, None), NONE)
            }
        }
    }

    /// `twin`: the first cell of the change's other row, from which virtual columns are taken.
    fn push_row(&mut self, change: &Change, row: Option<Row<'_>>, found: &Match, twin: Option<u32>) -> u32 {
        let first = self.kinds.len();
        for (nth, cell) in found.cells.iter().enumerate() {
            let (kind, value) = match (cell, row) {
                (Cell::Column(column), Some(row)) => {
                    let (kind, value, bytes) = row.raw(*column);
                    (kind, bytes.map_or(value, |bytes| self.store(bytes)))
                }
                (Cell::Column(_), None) | (Cell::Missing, _) => (UNCHANGED, 0),
                (Cell::Virtual(column), _) => match twin {
                    Some(twin) => (self.kinds[twin as usize + nth], self.values[twin as usize + nth]),
                    None => self.virtual_cell(change, *column, found.key),
                },
            };
            self.kinds.push(kind);
            self.values.push(value);
        }
        u32::try_from(first).expect("a batch is bounded in bytes")
    }

    fn virtual_cell(&mut self, change: &Change, column: Virtual, key: Key) -> (u8, u64) {
        match column {
            Virtual::Source => (TEXT, self.store(change.table.source.as_bytes())),
            Virtual::Schema => (TEXT, self.store(change.table.schema.as_bytes())),
            Virtual::Table => (TEXT, self.store(change.table.name.as_bytes())),
            Virtual::Key => self.key(change, key),
            Virtual::Row => self.json(change.row()),
            Virtual::Old => self.json(change.old()),
            Virtual::Transaction if change.transaction == 0 => (NULL, 0),
            Virtual::Transaction => self.displayed(change.transaction),
            Virtual::Position => self.displayed(change.position),
            Virtual::Index => (INTEGER, u64::from(change.position.index)),
            Virtual::Last => (BOOLEAN, u64::from(change.last)),
            Virtual::Replay => (BOOLEAN, u64::from(change.replay.is_some())),
        }
    }

    /// As [`Change::write_key`] writes it; the commonest keys without its detour over a string.
    fn key(&mut self, change: &Change, key: Key) -> (u8, u64) {
        let Some(row) = change.key_row() else { return (NULL, 0) };
        match key {
            Key::None => return (NULL, 0),
            Key::Several => {}
            Key::One(column) => match row.raw(column) {
                (INTEGER, value, _) => return self.integer(value.cast_signed()),
                (TEXT, _, Some(text)) if !text.iter().any(|byte| matches!(byte, b',' | b'\\')) => {
                    return (TEXT, self.store(text));
                }
                _ => {}
            },
        }
        self.written(|out| change.write_key(out))
    }

    /// Decimal digits, straight into the arena.
    fn integer(&mut self, value: i64) -> (u8, u64) {
        let start = self.arena.len();
        if value < 0 {
            self.arena.push(b'-');
        }
        append_digits(&mut self.arena, value.unsigned_abs());
        (TEXT, span(start, self.arena.len() - start))
    }

    fn json(&mut self, row: Option<Row<'_>>) -> (u8, u64) {
        row.map_or((NULL, 0), |row| self.written(|out| row_to_json(row, out)))
    }

    fn displayed(&mut self, value: impl std::fmt::Display) -> (u8, u64) {
        self.written(|out| write!(out, "{value}").expect("writing to a string cannot fail"))
    }

    fn written(&mut self, write: impl FnOnce(&mut String)) -> (u8, u64) {
        self.scratch.clear();
        write(&mut self.scratch);
        let start = self.arena.len();
        self.arena.extend_from_slice(self.scratch.as_bytes());
        (TEXT, span(start, self.scratch.len()))
    }

    fn store(&mut self, bytes: &[u8]) -> u64 {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        span(start, bytes.len())
    }
}

/// What [`Batch::fill`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// So many changes are in the batch, from the first.
    Changes(usize),
    /// The first change alone has so many bytes.
    TooLarge(usize),
}

fn append_digits(arena: &mut Vec<u8>, number: u64) {
    const TEN_TO_EIGHT: u64 = 100_000_000;
    if number >= TEN_TO_EIGHT {
        append_digits(arena, number / TEN_TO_EIGHT);
        arena.extend_from_slice(&eight_digits(number % TEN_TO_EIGHT).to_le_bytes());
    } else {
        let count = number.checked_ilog10().unwrap_or(0) as usize + 1;
        let end = arena.len() + count;
        arena.extend_from_slice(&(eight_digits(number) >> (8 * (8 - count))).to_le_bytes());
        arena.truncate(end);
    }
}

/// The digits of a number below 10^8, the first in the lowest byte. Halved three times, all parts at once: a division
/// a digit, and writing each by itself, would cost as much as all the rest of a change.
fn eight_digits(number: u64) -> u64 {
    let fours = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = ((fours * 5_243) >> 19) & 0x0000_007F_0000_007F;
    let twos = hundreds | ((fours - 100 * hundreds) << 16);
    let tens = ((twos * 103) >> 10) & 0x000F_000F_000F_000F;
    tens | ((twos - 10 * tens) << 8) | 0x3030_3030_3030_3030
}

fn span(start: usize, length: usize) -> u64 {
    start as u64 | (length as u64) << 32
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::event::{LetterId, Offset, Position, Replay, Rows, Table, Value};
    use crate::policy::bindings::twohop::policy::types;
    use crate::policy::fixtures::{change, table};
    use crate::policy::matches::Subscriber;
    use crate::policy::subscription::Subscription;

    const VIRTUAL: [&str; 11] = [
        "$source",
        "$schema",
        "$table",
        "$key",
        "$row",
        "$old",
        "$transaction",
        "$position",
        "$index",
        "$last",
        "$replay",
    ];

    /// A cell as a plugin reads it.
    #[derive(Debug, Clone, PartialEq)]
    enum Read {
        Null,
        Unchanged,
        Masked,
        Boolean(bool),
        Integer(i64),
        /// By its bits: a NaN is one too.
        Float(u64),
        Text(String),
        Bytes(Vec<u8>),
    }

    impl From<Value<'_>> for Read {
        fn from(value: Value<'_>) -> Self {
            match value {
                Value::Null => Self::Null,
                Value::Unchanged => Self::Unchanged,
                Value::Masked => Self::Masked,
                Value::Boolean(value) => Self::Boolean(value),
                Value::Integer(value) => Self::Integer(value),
                Value::Float(value) => Self::Float(value.to_bits()),
                Value::Text(text) => Self::Text(text.into()),
                Value::Bytes(bytes) => Self::Bytes(bytes.into()),
            }
        }
    }

    impl Read {
        fn value(&self) -> Value<'_> {
            match self {
                Self::Null => Value::Null,
                Self::Unchanged => Value::Unchanged,
                Self::Masked => Value::Masked,
                Self::Boolean(value) => Value::Boolean(*value),
                Self::Integer(value) => Value::Integer(*value),
                Self::Float(bits) => Value::Float(f64::from_bits(*bits)),
                Self::Text(text) => Value::Text(text),
                Self::Bytes(bytes) => Value::Bytes(bytes),
            }
        }
    }

    fn matches(columns: &[&str]) -> Matches {
        let asked = types::Subscription {
            source: String::new(),
            table: "*".into(),
            operations: vec![],
            columns: columns.iter().map(|column| (*column).into()).collect(),
        };
        let subscriptions = [Subscription::new(asked).expect("it is valid")].into();
        Matches::new([Subscriber { subscriptions }].into())
    }

    fn filled(changes: &[Change], matches: &mut Matches) -> Batch {
        matches.select(changes);
        let mut batch = Batch::default();
        assert_eq!(batch.fill(changes, matches.members(0), matches), Filled::Changes(changes.len()));
        batch
    }

    /// As a plugin reads it: nothing for no row.
    fn read(lists: &Changes<'_>, first: u32, width: usize) -> Option<Vec<Read>> {
        let cell = |at: usize| {
            let value = lists.values[at];
            let (start, length) = ((value & 0xFFFF_FFFF) as usize, (value >> 32) as usize);
            let bytes = || lists.arena[start..start + length].to_vec();
            match lists.kinds[at] {
                0 => Read::Null,
                1 => Read::Unchanged,
                2 => Read::Masked,
                3 => Read::Boolean(value == 1),
                4 => Read::Integer(value.cast_signed()),
                5 => Read::Float(value),
                6 => Read::Text(String::from_utf8(bytes()).expect("text is UTF-8")),
                7 => Read::Bytes(bytes()),
                kind => panic!("{kind} is no kind"),
            }
        };
        (first != NONE).then(|| (first as usize..first as usize + width).map(cell).collect())
    }

    /// The rows of a change and of the batch.
    fn rows(change: Change, columns: &[&str]) -> (Option<Vec<Read>>, Option<Vec<Read>>) {
        let batch = filled(&[change], &mut matches(columns));
        let lists = batch.changes();
        (read(&lists, lists.rows[0], columns.len()), read(&lists, lists.old_rows[0], columns.len()))
    }

    fn text(text: &str) -> Read {
        Read::Text(text.into())
    }

    fn two_columns() -> Arc<Table> {
        table("public", "orders", &[("id", true), ("note", false)])
    }

    #[test]
    fn virtual_columns_say_what_the_interface_says_and_the_same_in_both_rows() {
        let values = [Value::Integer(7), Value::Text("new"), Value::Integer(7), Value::Text("old")];
        let update = change(&two_columns(), Operation::Update, Rows::NewThenOld, &values);
        let (row, old) = rows(update, &VIRTUAL);
        let expected = [
            text("main"),
            text("public"),
            text("orders"),
            text("7"),
            text(r#"{"id":7,"note":"new"}"#),
            text(r#"{"id":7,"note":"old"}"#),
            text("77"),
            text("16/B3748000#2"),
            Read::Integer(2),
            Read::Boolean(true),
            Read::Boolean(false),
        ];
        assert_eq!(row.as_deref(), Some(&expected[..]));
        assert_eq!(old, row);
    }

    #[test]
    fn a_dead_letter_that_is_handed_over_again_says_so() {
        let mut again =
            change(&two_columns(), Operation::Delete, Rows::Old, &[Value::Integer(7), Value::Null]);
        again.replay = Some(Replay { letter: LetterId(1), first: Offset(0), router: None });
        assert_eq!(rows(again, &["$replay"]).1, Some(vec![Read::Boolean(true)]));
    }

    #[test]
    fn digits_are_those_of_the_number() {
        let written = |number: u64| {
            let mut arena = Vec::new();
            append_digits(&mut arena, number);
            String::from_utf8(arena).expect("digits")
        };
        for number in (0..100_000).chain((0..20).flat_map(|power| {
            let power = 10_u64.pow(power);
            [power - 1, power, power + 1, power.saturating_mul(7) - 3]
        })) {
            assert_eq!(written(number), number.to_string());
        }
        assert_eq!(written(u64::MAX), u64::MAX.to_string());
    }

    #[test]
    fn what_is_not_there_is_null() {
        let keyless = table("", "notes", &[("note", false)]);
        let mut insert = change(&keyless, Operation::Snapshot, Rows::New, &[Value::Text("n")]);
        insert.transaction = 0;
        let (row, old) = rows(insert, &["$key", "$old", "$transaction", "$schema"]);
        assert_eq!(row, Some(vec![Read::Null, Read::Null, Read::Null, text("")]));
        assert_eq!(old, None);
    }

    #[test]
    fn a_key_of_any_kind_is_written_as_a_change_writes_it() {
        let one = table("s", "t", &[("a", false), ("id", true)]);
        let two = table("s", "t", &[("a", true), ("id", true)]);
        let values = [0, 7, -7, 1_234_567_890, i64::MAX, i64::MIN].map(Value::Integer);
        let others = [Value::Text("a,b\\c"), Value::Text("ä"), Value::Boolean(true), Value::Bytes(&[0xAB])];
        for value in values.into_iter().chain(others) {
            for table in [&one, &two] {
                let insert = change(table, Operation::Insert, Rows::New, &[Value::Text("x"), value]);
                let mut expected = String::new();
                insert.write_key(&mut expected);
                assert_eq!(rows(insert, &["$key"]).0, Some(vec![Read::Text(expected)]));
            }
        }
    }

    #[test]
    fn a_delete_has_its_old_row_alone_and_its_key() {
        let values = [Value::Integer(7), Value::Unchanged];
        let delete = change(&two_columns(), Operation::Delete, Rows::Old, &values);
        let (row, old) = rows(delete, &["$key", "note", "id", "$row"]);
        assert_eq!(row, None);
        assert_eq!(old, Some(vec![text("7"), Read::Unchanged, Read::Integer(7), Read::Null]));
    }

    #[test]
    fn a_truncate_has_a_row_of_virtual_columns() {
        for operation in [Operation::Truncate, Operation::Schema] {
            let truncate = change(&two_columns(), operation, Rows::Neither, &[]);
            let (row, old) = rows(truncate, &["id", "$table", "$key"]);
            assert_eq!((row, old), (Some(vec![Read::Unchanged, text("orders"), Read::Null]), None));
        }
    }

    #[test]
    fn a_column_that_the_table_does_not_have_is_unchanged() {
        let insert = change(&two_columns(), Operation::Insert, Rows::New, &[Value::Integer(7), Value::Null]);
        assert_eq!(rows(insert, &["nota", "note"]).0, Some(vec![Read::Unchanged, Read::Null]));
    }

    #[test]
    fn a_subscription_without_columns_has_no_rows() {
        let insert = change(&two_columns(), Operation::Insert, Rows::New, &[Value::Integer(7), Value::Null]);
        assert_eq!(rows(insert, &[]), (None, None));
    }

    fn reads() -> impl Strategy<Value = Read> {
        prop_oneof![
            Just(Read::Null),
            Just(Read::Unchanged),
            Just(Read::Masked),
            any::<bool>().prop_map(Read::Boolean),
            any::<i64>().prop_map(Read::Integer),
            any::<u64>().prop_map(Read::Float),
            ".{0,20}".prop_map(Read::Text),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(Read::Bytes),
        ]
    }

    fn any_changes() -> impl Strategy<Value = Vec<(Operation, Vec<Read>, Vec<Read>)>> {
        let operation = prop::sample::select(&Operation::ALL[..4]);
        let row = || prop::collection::vec(reads(), 3);
        prop::collection::vec((operation, row(), row()), 1..20)
    }

    proptest! {
        #[test]
        fn what_a_plugin_reads_is_what_the_changes_hold(
            changes in any_changes(), order in Just(vec!["a", "b", "c"]).prop_shuffle(), width in 1..4_usize,
        ) {
            let columns = &order[..width];
            let table = table("s", "t", &[("a", true), ("b", false), ("c", false)]);
            let build = |(operation, new, old): &(Operation, Vec<Read>, Vec<Read>)| {
                let (rows, cells): (_, Vec<&Read>) = match operation {
                    Operation::Delete => (Rows::Old, old.iter().collect()),
                    Operation::Update => (Rows::NewThenOld, new.iter().chain(old).collect()),
                    _ => (Rows::New, new.iter().collect()),
                };
                let values: Vec<_> = cells.into_iter().map(Read::value).collect();
                let mut change = change(&table, *operation, rows, &values);
                change.position = Position { commit: 1, index: 0 };
                change
            };
            let built: Vec<_> = changes.iter().map(build).collect();
            let mut matches = matches(columns);
            let batch = filled(&built, &mut matches);
            let lists = batch.changes();
            for (at, (operation, new, old)) in changes.iter().enumerate() {
                prop_assert_eq!(lists.operations[at], *operation as u8);
                prop_assert_eq!(lists.subscriptions[at], 0);
                prop_assert_eq!(lists.committed_at[at], 1_700_000_000_000_000);
                let pick = |row: &[Read]| -> Vec<Read> {
                    columns.iter().map(|column| row[table.column(column).unwrap_or(9)].clone()).collect()
                };
                let expected_new = (*operation != Operation::Delete).then(|| pick(new));
                let has_old = matches!(operation, Operation::Delete | Operation::Update);
                prop_assert_eq!(read(&lists, lists.rows[at], width), expected_new);
                prop_assert_eq!(read(&lists, lists.old_rows[at], width), has_old.then(|| pick(old)));
            }
        }
    }
}
