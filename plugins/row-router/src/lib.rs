//! `row-router`: each change of a configured table goes to the channels `TABLE` and `TABLE:KEY`.
//!
//! In: changes of the tables that the setting `tables` names. Out: two messages a change, one for a truncate, with
//! the operation's name as their event and the row as their payload, kept for those who resume. Always holds: no two
//! tables share a channel unless they have the same name and the setting does not name their schemas. Documented for
//! those who deploy it in `docs/plugins/row-router.md`.

use twohop_plugin::{Change, Configured, Operation, Plugin, Router, Routes, Settings, Subscription, export};

/// The policy.
#[derive(Debug)]
pub struct RowRouter {
    /// What the channels of a row begin with, one a subscription: the table's channel and a `:`.
    prefixes: Vec<String>,
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
        let subscribe = |table| Subscription::table(table).operations(Operation::ROWS).columns(["$key"]);
        let prefixes = channels.iter().map(|channel| format!("{channel}:")).collect();
        Ok((Self { prefixes }, tables.into_iter().map(subscribe).collect()))
    }
}

impl Router for RowRouter {
    fn direct(&self, change: &Change<'_>, routes: &mut Routes) {
        let prefix = self.prefixes[change.subscription()].as_str();
        let operation = change.operation();
        routes.channel(&prefix[..prefix.len() - 1]).event(operation).row();
        if let Some(key) = change.key() {
            routes.channel([prefix, key]).event(operation).row();
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
