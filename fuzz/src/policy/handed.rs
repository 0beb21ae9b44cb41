//! Changes of which a plugin was handed every other one, so that no index of a batch is that of the evaluation.

use std::sync::Arc;

use super::bindings::twohop::policy::types::Subscription as Asked;
use super::matches::{Matches, Member, Subscriber};
use super::subscription::Subscription;
use crate::event::{Change, Micros, Operation, Origin, Position, RowBuilder, Rows, Table, Value};

/// The changes, and what the plugin got of them.
pub(super) struct Handed {
    pub(super) changes: Vec<Change>,
    matches: Matches,
}

impl Handed {
    /// So many of the table are handed over.
    pub(super) fn new(table: &Arc<Table>, count: usize) -> Self {
        let operations = [Operation::Truncate, Operation::Insert].into_iter().cycle();
        let changes: Vec<_> = operations.take(count * 2).map(|operation| change(table, operation)).collect();
        let mut matches = everything(vec![Operation::Insert as u8], vec![]).expect("it makes sense");
        matches.select(&changes);
        Self { changes, matches }
    }

    pub(super) fn members(&self) -> &[Member] {
        self.matches.members(0)
    }

    /// Which change of the evaluation the nth of the batch is.
    pub(super) fn nth(index: usize) -> usize {
        index * 2 + 1
    }
}

/// Of one plugin, which subscribed to every table, if it may ask for these columns.
pub(super) fn everything(operations: Vec<u8>, columns: Vec<String>) -> Option<Matches> {
    let asked = Asked { source: String::new(), table: "*".into(), operations, columns };
    let subscriptions = [Subscription::new(asked).ok()?].into();
    Some(Matches::new([Subscriber { subscriptions }].into()))
}

fn change(table: &Arc<Table>, operation: Operation) -> Change {
    let mut row = RowBuilder::default();
    let rows = if operation == Operation::Insert { Rows::New } else { Rows::Neither };
    if rows == Rows::New {
        table.columns.iter().for_each(|_| row.push(Value::Integer(1)));
    }
    let origin = Origin {
        table: table.clone(),
        operation,
        position: Position { commit: 1, index: 0 },
        last: true,
        transaction: 1,
        committed_at: Micros(0),
    };
    row.finish(origin, rows)
}
