//! Which changes are for which plugins, and what of them.
//!
//! In: plugins with their subscriptions, changes. Out: for each plugin the changes that it subscribed to, and for each
//! of these where the cells of its row come from.
//!
//! A change goes to a plugin once: for the first subscription that matches its table and operation. A column that
//! the table lacks is `unchanged` in each row, as the interface says; it is told once for each version of a table, since
//! nobody knows at configuration which tables there will be, and a column may go while the plugin is active.
//!
//! A table is matched with all plugins at once when it is met for the first time: a plugin that did not subscribe to it
//! then costs its changes nothing, however many such plugins there are.
//!
//! Invariant: a table is known by the identity of its `Arc`, which is kept, so that an address is never met again
//! with another table behind it. Other plugins get a new [`Matches`].

use std::collections::HashMap;
use std::sync::Arc;

use super::subscription::{ColumnName, Subscription, Virtual, bit};
use crate::event::{Change, Table};
use crate::limits::MATCHED_TABLES_MAX;

/// Where a cell of a plugin's row comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell {
    /// The table's column of that index.
    Column(usize),
    /// The table has no such column.
    Missing,
    /// The host.
    Virtual(Virtual),
}

/// The key columns of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    None,
    /// The index of the only one.
    One(usize),
    Several,
}

impl Key {
    fn of(table: &Table) -> Self {
        let mut columns = (0..table.columns.len()).filter(|index| table.columns[*index].key);
        match (columns.next(), columns.next()) {
            (None, _) => Self::None,
            (Some(only), None) => Self::One(only),
            (Some(_), Some(_)) => Self::Several,
        }
    }
}

/// A subscription that matches a table.
#[derive(Debug)]
pub(super) struct Match {
    /// The index of the plugin.
    plugin: usize,
    pub(super) subscription: u32,
    operations: u8,
    pub(super) cells: Box<[Cell]>,
    pub(super) key: Key,
}

impl Match {
    fn new(plugin: usize, nth: usize, subscription: &Subscription, table: &Table) -> Self {
        let cells = subscription.columns().iter().map(|column| match column {
            ColumnName::Virtual(column) => Cell::Virtual(*column),
            ColumnName::Real(column) => table.column(column).map_or(Cell::Missing, Cell::Column),
        });
        Self {
            plugin,
            subscription: u32::try_from(nth).expect("a few hundred at most"),
            operations: subscription.operations(),
            cells: cells.collect(),
            key: Key::of(table),
        }
    }
}

/// A column that a plugin subscribed to and a table lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    /// The index of the plugin.
    pub(super) plugin: usize,
    pub(super) table: Arc<Table>,
    pub(super) column: Box<str>,
}

/// A change that a plugin subscribed to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    /// Its index in what is evaluated.
    pub(super) change: usize,
    found: MatchId,
}

#[cfg(test)]
impl Member {
    /// For tests of what does not look at the match.
    pub(super) fn without_match(change: usize) -> Self {
        Self { change, found: MatchId::default() }
    }
}

/// Where [`Matches`] keeps a match.
#[derive(Debug, Clone, Copy, Default)]
struct MatchId {
    table: u32,
    nth: u32,
}

/// A plugin, as far as it matters here.
#[derive(Debug, Clone)]
pub(super) struct Subscriber {
    pub(super) subscriptions: Arc<[Subscription]>,
}

/// Plugins, the tables that were met, and the changes that were matched last.
#[derive(Debug, Default)]
pub(super) struct Matches {
    subscribers: Box<[Subscriber]>,
    /// By the address of the table, which `tables` keeps alive.
    by_address: HashMap<usize, u32>,
    /// With what matches it, by plugin and then by subscription.
    tables: Vec<(Arc<Table>, Box<[Match]>)>,
    /// The table of the change before: nearly always that of the next one too.
    last: Option<(usize, u32)>,
    /// By plugin, for those that are called, else empty.
    members: Vec<Vec<Member>>,
    /// Of the tables that were met last.
    missing: Vec<Missing>,
    called: Vec<usize>,
}

impl Matches {
    /// For these plugins, in this order.
    pub(super) fn new(subscribers: Box<[Subscriber]>) -> Self {
        let members = subscribers.iter().map(|_| Vec::new()).collect();
        Self { subscribers, members, ..Self::default() }
    }

    /// Finds out which of the changes are for which plugin.
    pub(super) fn select(&mut self, changes: &[Change]) {
        for plugin in self.called.drain(..) {
            self.members[plugin].clear();
        }
        self.missing.clear();
        if self.tables.len() >= MATCHED_TABLES_MAX {
            self.by_address.clear();
            self.tables.clear();
            self.last = None;
        }
        for (index, change) in changes.iter().enumerate() {
            let table = self.table(&change.table);
            let bit = bit(change.operation);
            let mut before = None;
            for (found, nth) in self.tables[table as usize].1.iter().zip(0..) {
                let plugin = found.plugin;
                if found.operations & bit == 0 || before == Some(plugin) {
                    continue;
                }
                before = Some(plugin);
                let members = &mut self.members[plugin];
                if members.is_empty() {
                    self.called.push(plugin);
                }
                members.push(Member { change: index, found: MatchId { table, nth } });
            }
        }
        self.called.sort_unstable();
    }

    /// The plugins that subscribed to any of the changes, ascending.
    pub(super) fn called(&self) -> &[usize] {
        &self.called
    }

    /// What the tables lack that were met for the first time among the changes.
    pub(super) fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// The changes of one plugin, in their order.
    pub(super) fn members(&self, plugin: usize) -> &[Member] {
        &self.members[plugin]
    }

    /// Takes changes away from all plugins: `gone` says for each change whether.
    pub(super) fn leave_out(&mut self, gone: &[bool]) {
        for plugin in &self.called {
            self.members[*plugin].retain(|member| !gone[member.change]);
        }
    }

    pub(super) fn get(&self, member: Member) -> &Match {
        let MatchId { table, nth } = member.found;
        &self.tables[table as usize].1[nth as usize]
    }

    fn table(&mut self, table: &Arc<Table>) -> u32 {
        let address = Arc::as_ptr(table).addr();
        match self.last {
            Some((last, id)) if last == address => id,
            _ => {
                let id = match self.by_address.get(&address) {
                    Some(id) => *id,
                    None => self.meet(address, table),
                };
                self.last = Some((address, id));
                id
            }
        }
    }

    fn meet(&mut self, address: usize, table: &Arc<Table>) -> u32 {
        let matching = self.subscribers.iter().enumerate().flat_map(|(index, subscriber)| {
            let asked = subscriber.subscriptions.iter().enumerate();
            asked
                .filter(|(_, asked)| asked.matches(table))
                .map(move |(nth, asked)| Match::new(index, nth, asked, table))
        });
        let matching: Box<[_]> = matching.collect();
        for found in &matching {
            let asked = self.subscribers[found.plugin].subscriptions[found.subscription as usize].columns();
            let lacking = asked.iter().zip(&found.cells).filter(|(_, cell)| **cell == Cell::Missing);
            self.missing.extend(lacking.filter_map(|(column, _)| match column {
                ColumnName::Real(column) => {
                    Some(Missing { plugin: found.plugin, table: table.clone(), column: column.clone() })
                }
                ColumnName::Virtual(_) => None,
            }));
        }
        let id = u32::try_from(self.tables.len()).expect("bounded between evaluations");
        self.tables.push((table.clone(), matching));
        self.by_address.insert(address, id);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::super::bindings::twohop::policy::types;
    use super::*;
    use crate::event::Operation;
    use crate::policy::fixtures::{asked, insert, table};

    fn several(plugins: &[&[types::Subscription]]) -> Matches {
        let checked = |asked: &types::Subscription| Subscription::new(asked.clone()).expect("it is valid");
        let plugins =
            plugins.iter().map(|asked| Subscriber { subscriptions: asked.iter().map(checked).collect() });
        Matches::new(plugins.collect())
    }

    fn matches(subscriptions: &[types::Subscription]) -> Matches {
        several(&[subscriptions])
    }

    /// The subscription of the first plugin that the change is for.
    fn found(matches: &mut Matches, change: &Change) -> Option<u32> {
        matches.select(std::slice::from_ref(change));
        matches.members(0).first().map(|member| matches.get(*member).subscription)
    }

    #[test]
    fn each_plugin_gets_what_it_subscribed_to_until_it_is_left_out() {
        let mut matches = several(&[
            &[asked("a", &[], &[])],
            &[asked("none", &[], &[])],
            &[asked("b", &[], &[]), asked("*", &[], &[])],
        ]);
        let [a, b] = ["a", "b"].map(|name| table("s", name, &[("id", true)]));
        let changes = [insert(&a, 1), insert(&b, 2), insert(&a, 3)];
        matches.select(&changes);
        let got = |matches: &Matches, plugin: usize| -> Vec<(usize, u32)> {
            let members = matches.members(plugin).iter();
            members.map(|member| (member.change, matches.get(*member).subscription)).collect()
        };
        assert_eq!(matches.called(), [0, 2]);
        assert_eq!(got(&matches, 0), [(0, 0), (2, 0)]);
        assert_eq!(got(&matches, 1), []);
        assert_eq!(got(&matches, 2), [(0, 1), (1, 0), (2, 1)]);
        matches.leave_out(&[true, false, false]);
        assert_eq!(got(&matches, 0), [(2, 0)]);
        assert_eq!(got(&matches, 2), [(1, 0), (2, 1)]);
        matches.select(&changes[1..2]);
        assert_eq!(matches.called(), [2]);
        assert_eq!(got(&matches, 0), []);
    }

    #[test]
    fn a_change_goes_to_the_first_subscription_that_matches_table_and_operation() {
        let mut matches = matches(&[
            asked("shop.orders", &[3], &[]),
            asked("orders", &[1], &[]),
            asked("*", &[], &[]),
            asked("$client", &[], &[]),
        ]);
        let insert_into = |schema: &str, name: &str| insert(&table(schema, name, &[("id", true)]), 1);
        assert_eq!(found(&mut matches, &insert_into("shop", "orders")), Some(1));
        assert_eq!(found(&mut matches, &insert_into("other", "orders")), Some(1));
        assert_eq!(found(&mut matches, &insert_into("shop", "customers")), Some(2));
        assert_eq!(found(&mut matches, &insert_into("", "$client")), Some(3));
        assert_eq!(found(&mut matches, &insert_into("", "$notify")), None);
        let mut delete = insert_into("shop", "orders");
        delete.operation = Operation::Delete;
        assert_eq!(found(&mut matches, &delete), Some(0));
    }

    #[test]
    fn a_table_that_goes_away_is_not_confused_with_one_at_its_address() {
        let mut matches = matches(&[asked("a", &[], &[])]);
        for _ in 0..1_000 {
            assert_eq!(found(&mut matches, &insert(&table("s", "a", &[("id", true)]), 1)), Some(0));
            assert_eq!(found(&mut matches, &insert(&table("s", "b", &[("id", true)]), 1)), None);
        }
    }

    #[test]
    fn a_column_that_a_table_lacks_is_told_once_for_each_version_of_the_table() {
        let mut matches =
            several(&[&[asked("a", &[], &["id", "gone", "$key"])], &[asked("a", &[], &["id"])]]);
        let lacking = |matches: &Matches| -> Vec<(usize, String)> {
            let missing = matches.missing().iter();
            missing.map(|missing| (missing.plugin, missing.column.to_string())).collect()
        };
        let [before, now] = [&["id", "gone"][..], &["id"]]
            .map(|columns| table("s", "a", &columns.iter().map(|name| (*name, true)).collect::<Vec<_>>()));
        matches.select(&[insert(&before, 1)]);
        assert_eq!(lacking(&matches), []);
        matches.select(&[insert(&now, 2), insert(&now, 3)]);
        assert_eq!(lacking(&matches), [(0, "gone".to_owned())]);
        matches.select(&[insert(&now, 4)]);
        assert_eq!(lacking(&matches), []);
    }

    #[test]
    fn the_tables_remembered_are_bounded() {
        let mut matches = matches(&[asked("*", &[], &[])]);
        for _ in 0..MATCHED_TABLES_MAX + 10 {
            found(&mut matches, &insert(&table("s", "a", &[("id", true)]), 1));
        }
        assert_eq!(matches.tables.len(), 10);
        assert_eq!(matches.by_address.len(), 10);
    }

    #[test]
    fn a_source_that_is_named_must_be_the_changes() {
        let mut matches = matches(&[types::Subscription { source: "else".into(), ..asked("*", &[], &[]) }]);
        assert_eq!(found(&mut matches, &insert(&table("s", "a", &[("id", true)]), 1)), None);
    }
}
