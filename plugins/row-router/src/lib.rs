//! `row-router`: each change of a configured table goes to the channels `TABLE` and `TABLE:KEY`.
//!
//! In: changes of the tables that the setting `tables` names. Out: two messages a change, one for a truncate, with
//! the operation's name as their event and the row as their payload, kept for those who resume; of the tables that
//! `retain` names, `TABLE:KEY` has its last row as its value. Always holds: no two tables share a channel unless they have
//! the same name and the setting does not name their schemas. Documented for those who deploy it in
//! `docs/plugins/row-router.md`.

use twohop_plugin::{Change, Configured, Operation, Plugin, Router, Routes, Settings, Subscription, export};

/// The policy.
#[derive(Debug)]
pub struct RowRouter {
    /// One a subscription.
    tables: Vec<Table>,
}

#[derive(Debug)]
struct Table {
    /// What the channels of a row begin with: the table's channel and a `:`.
    prefix: String,
    /// Whether a row's channel has the row as its value.
    retain: bool,
}

impl Plugin for RowRouter {
    fn configure(settings: &Settings) -> Configured<Self> {
        // A change comes for the first subscription that it matches: `audit.orders` must stand before `orders`.
        let (mut tables, bare) =
            settings.list("tables")?.into_iter().partition::<Vec<_>, _>(|table| table.contains('.'));
        tables.extend(bare);
        let channels = tables.iter().map(|table| channel(table)).collect::<Result<Vec<_>, _>>()?;
        for (index, channel) in channels.iter().enumerate() {
            if let Some(first) = channels[..index].iter().position(|earlier| earlier == channel) {
                let (first, second) = (tables[first], tables[index]);
                return Err(format!(
                    "the setting `tables` names `{first}` and `{second}`, which would share the channel `{channel}`: \
                     remove one of them"
                ));
            }
        }
        let retained = settings.optional_list("retain")?;
        if let Some(unknown) = retained.iter().find(|table| !tables.contains(table)) {
            return Err(format!(
                "the setting `retain` names `{unknown}`, which `tables` does not: write it the same in both"
            ));
        }
        let table =
            |(channel, table)| Table { prefix: format!("{channel}:"), retain: retained.contains(table) };
        let policy = Self { tables: channels.iter().zip(&tables).map(table).collect() };
        let subscribe = |table| Subscription::table(table).operations(Operation::ROWS).columns(["$key"]);
        Ok((policy, tables.into_iter().map(subscribe).collect()))
    }
}

impl Router for RowRouter {
    fn direct(&self, change: &Change<'_>, routes: &mut Routes) {
        let Table { prefix, retain } = &self.tables[change.subscription()];
        let operation = change.operation();
        routes.channel(&prefix[..prefix.len() - 1]).event(operation).row();
        if let Some(key) = change.key() {
            let draft = routes.channel([prefix, key]).event(operation);
            match (retain, operation) {
                (false, _) => draft.row(),
                (true, Operation::Delete) => draft.forget_retained().row(),
                (true, _) => draft.retained().row(),
            }
        }
    }
}

/// The channel of a table: its name, after its schema where the setting gives one other than `public`.
fn channel(table: &str) -> Result<String, String> {
    let refuse = |why| Err(format!("the setting `tables` names `{table}`: {why}"));
    if table == "*" || table.starts_with('$') {
        return refuse("name each table, as `table` or `schema.table`");
    }
    if table.contains(':') {
        return refuse("a name with `:` cannot be told from the channel of a row");
    }
    match table.split_once('.') {
        Some(("", _) | (_, "")) => refuse("write `table` or `schema.table`"),
        Some(("public", name)) if !name.contains('.') => Ok(name.to_owned()),
        Some(_) | None => Ok(table.to_owned()),
    }
}

export!(RowRouter: router);

#[cfg(test)]
mod tests;
