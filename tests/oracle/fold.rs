//! The oracle: whether a change log is what a database committed, and what the tables are by it.
//!
//! In: the changes, in the order of the log. Out: the tables that they fold to, or the first of them that cannot be.
//!
//! What is looked at: positions grow; a transaction's changes stand together, all of its parts in their order, and
//! its last alone is marked; each key's sequence has no gap and no step back; checksums are right; a row is inserted
//! where there is none, and updated and deleted where there is one.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use twohop::event::{Change, Operation, Position, Row, Value};

use super::writers::{MOVED_BEFORE, checksum};

/// What the changes make of the tables.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tables {
    /// Key → sequence, and body where that has come.
    pub(super) cells: BTreeMap<i64, (i64, Option<String>)>,
    /// Key, sequence.
    pub(super) moves: BTreeSet<(i64, i64)>,
    /// Keys of which the stream has brought a row.
    pub(super) touched: BTreeSet<i64>,
    /// The last move of each key that the stream has brought.
    pub(super) moved: BTreeMap<i64, i64>,
    /// Whether all rows of the snapshot have come.
    pub(super) is_complete: bool,
}

/// Looks at all of them, and folds them.
pub(super) fn fold(changes: &[Change]) -> Result<Tables> {
    let mut tables = Tables::default();
    let mut open = None;
    let mut before: Option<Position> = None;
    for change in changes {
        let at = change.position;
        let place = || format!("the {} of `{}` at {at}", change.operation.name(), change.table.name);
        ensure!(before.is_none_or(|before| before < at), "{}: it comes after {before:?}", place());
        before = Some(at);
        if &*change.table.name == "$snapshot" {
            let state = change.row().context("it has a row")?.value(0);
            tables.is_complete |= state == Value::Text("complete");
            continue;
        }
        if change.operation == Operation::Snapshot {
            ensure!(open.is_none(), "{}: it is within a transaction", place());
            tables.read(change).with_context(place)?;
            continue;
        }
        let parts = open.get_or_insert(Open {
            commit: at.commit,
            transaction: change.transaction,
            part: 0,
            parts: 0,
        });
        ensure!(
            parts.commit == at.commit && parts.transaction == change.transaction,
            "{}: the transaction at {:X} is not over",
            place(),
            parts.commit
        );
        tables.apply(change, parts).with_context(place)?;
        if change.last {
            let is_whole = parts.part == parts.parts && parts.part > 0;
            ensure!(is_whole, "{}: {} of {} parts", place(), parts.part, parts.parts);
            open = None;
        }
    }
    ensure!(open.is_none(), "the last transaction has no end");
    Ok(tables)
}

/// The transaction that the changes are in.
struct Open {
    commit: u64,
    transaction: u64,
    part: i64,
    parts: i64,
}

impl Tables {
    /// Takes a row of the snapshot.
    fn read(&mut self, change: &Change) -> Result<()> {
        let row = change.row().context("it has no row")?;
        let (key, sequence) = checked(row, change)?;
        if &*change.table.name == "moves" {
            ensure!(sequence <= MOVED_BEFORE, "the stream brings {sequence}");
            self.moves.insert((key, sequence));
            return Ok(());
        }
        let Value::Text(body) = row.value(column("body", change)?) else { bail!("it has no body") };
        let found = (sequence, Some(body.to_owned()));
        match self.cells.insert(key, found.clone()) {
            None => ensure!(!self.touched.contains(&key), "it was deleted"),
            Some((known, None)) => ensure!(known == sequence, "{known} is known, {sequence} comes"),
            Some(known) => ensure!(known == found, "{known:?} is known, {found:?} comes"),
        }
        Ok(())
    }

    /// Whether a row may be there of which nothing has come.
    fn may_be_unread(&self, key: i64) -> bool {
        !self.is_complete && !self.touched.contains(&key)
    }

    fn apply(&mut self, change: &Change, open: &mut Open) -> Result<()> {
        match (&*change.table.name, change.operation) {
            ("moves", Operation::Insert) => self.moved(change, open),
            ("cells", Operation::Delete) => {
                let key = integer(change.old().context("it has no old row")?, "key", change)?;
                let known = self.cells.remove(&key);
                ensure!(known.is_some() || self.may_be_unread(key), "there is no row {key}");
                self.touched.insert(key);
                Ok(())
            }
            ("cells", operation @ (Operation::Insert | Operation::Update)) => {
                let row = change.row().context("it has no row")?;
                let (key, sequence) = checked(row, change)?;
                let known = self.cells.get(&key);
                match operation {
                    Operation::Insert => ensure!(known.is_none(), "row {key} is there"),
                    _ => ensure!(known.is_some() || self.may_be_unread(key), "row {key} is not there"),
                }
                let body = match row.value(column("body", change)?) {
                    Value::Text(body) => Some(body.to_owned()),
                    Value::Unchanged if operation == Operation::Update => known.and_then(|its| its.1.clone()),
                    other => bail!("its body is {other:?}"),
                };
                self.touched.insert(key);
                self.cells.insert(key, (sequence, body));
                Ok(())
            }
            _ => bail!("nobody did that"),
        }
    }

    fn moved(&mut self, change: &Change, open: &mut Open) -> Result<()> {
        let row = change.row().context("it has no row")?;
        let (key, sequence) = checked(row, change)?;
        let last = self.moved.insert(key, sequence).unwrap_or(MOVED_BEFORE);
        ensure!(sequence == last + 1, "key {key} goes from {last} to {sequence}");
        self.moves.insert((key, sequence));
        open.part += 1;
        open.parts = integer(row, "parts", change)?;
        let part = integer(row, "part", change)?;
        ensure!(part == open.part, "it is part {part} and should be {}", open.part);
        Ok(())
    }
}

fn column(name: &str, change: &Change) -> Result<usize> {
    change.table.column(name).with_context(|| format!("there is no column {name}"))
}

fn integer(row: Row<'_>, name: &str, change: &Change) -> Result<i64> {
    match row.value(column(name, change)?) {
        Value::Integer(number) => Ok(number),
        other => bail!("its {name} is {other:?}"),
    }
}

/// Key and sequence, if the checksum is theirs.
fn checked(row: Row<'_>, change: &Change) -> Result<(i64, i64)> {
    let (key, sequence) = (integer(row, "key", change)?, integer(row, "sequence", change)?);
    ensure!(
        integer(row, "checksum", change)? == checksum(key, sequence),
        "the checksum of {key}/{sequence} is wrong"
    );
    Ok((key, sequence))
}

#[cfg(test)]
mod tests {
    use twohop::event::change_from_line;

    use super::*;

    /// Three transactions: two moves with a row, a move with the row's update, a move with the row's end.
    fn good() -> Vec<Change> {
        let moved = |nth: i64, part: i64, parts: i64| {
            let sequence = MOVED_BEFORE + nth;
            let checksum = checksum(7, sequence);
            format!(
                r#""table":"moves","operation":"insert","row":{{"key":7,"sequence":{sequence},"part":{part},"parts":{parts},"checksum":{checksum}}}"#
            )
        };
        let put = |operation: &str, nth: i64, body: &str| {
            let sequence = MOVED_BEFORE + nth;
            let checksum = checksum(7, sequence);
            format!(
                r#""table":"cells","operation":"{operation}","row":{{"key":7,"sequence":{sequence},"checksum":{checksum}{body}}},"columns":{{"key":"int4","sequence":"int8","checksum":"int8","body":"text"}}"#
            )
        };
        let deleted = r#""table":"cells","operation":"delete","old":{"key":7}"#.to_owned();
        let all = [
            (1, 0, false, moved(1, 1, 2)),
            (1, 1, false, moved(2, 2, 2)),
            (1, 2, true, put("insert", 2, r#","body":"x""#)),
            (2, 0, false, moved(3, 1, 1)),
            (2, 1, true, put("update", 3, "")),
            (3, 0, false, moved(4, 1, 1)),
            (3, 1, true, deleted),
        ];
        let line = |(commit, index, last, rest)| {
            format!(r#"{{"position":"0/{commit}#{index}","transaction":{commit},"last":{last},{rest}}}"#)
        };
        let begin = r#"{"position":"0/0#1","last":true,"table":"$snapshot","operation":"message","row":{"state":"complete"}}"#;
        let lines = std::iter::once(begin.to_owned()).chain(all.map(line));
        lines.map(|line| change_from_line(&line).expect("the line is a change")).collect()
    }

    #[test]
    fn what_was_committed_folds_to_the_tables() {
        let changes = good();
        let tables = fold(&changes[..6]).expect("they are in order");
        assert_eq!(tables.cells, BTreeMap::from([(7, (MOVED_BEFORE + 3, Some("x".to_owned())))]));
        assert_eq!(tables.moves.len(), 3);
        assert!(fold(&changes).expect("they are in order").cells.is_empty());
    }

    #[test]
    fn a_change_that_is_lost_or_comes_twice_or_too_early_is_found() {
        let whole = fold(&good()).expect("they are in order");
        for at in 1..good().len() {
            let mut lost = good();
            lost.remove(at);
            assert!(fold(&lost).is_err(), "{at} is lost");
            let mut twice = good();
            twice.insert(at, twice[at].clone());
            assert!(fold(&twice).is_err(), "{at} comes twice");
            let mut early = good();
            let last = early.len() - 1;
            early.swap(at, (at + 1).min(last));
            assert!(at == last || fold(&early).is_err(), "{at} comes late");
        }
        // The end alone is for the database to compare with.
        assert_ne!(fold(&good()[..6]).expect("they are in order"), whole);
    }
}
