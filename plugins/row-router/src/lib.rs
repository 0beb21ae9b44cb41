//! `row-router`: each change of a configured table goes to the channels `TABLE` and `TABLE:KEY`, each message of a
//! virtual table to the channel that it names.
//!
//! In: changes of the tables that the setting `tables` names. Out: of a row two messages a change, one for a truncate,
//! with the operation's name as their event and the row as their payload; of the tables that `retain` names, `TABLE:KEY`
//! has its last row as its value; of a message one, with its own event and body, in the form in which it was said; all
//! kept for those who resume. Always holds: no two tables share a channel unless they have the same name and the setting
//! does not name their schemas. Documented for those who deploy it in
//! `docs/plugins/row-router.md`.

use twohop_plugin::{
    Change, Configured, Operation, Plugin, Router, Routes, Settings, Subscription, Value, export,
};

/// The virtual table of what clients say.
const CLIENT: &str = "$client";
/// All that there are.
const VIRTUAL: [&str; 3] = [CLIENT, "$notify", "$logical"];

/// The policy.
#[derive(Debug)]
pub struct RowRouter {
    /// One a subscription.
    tables: Vec<Table>,
}

/// What becomes of the changes of a table.
#[derive(Debug)]
enum Table {
    Rows {
        /// What the channels of a row begin with: the table's channel and a `:`.
        prefix: String,
        /// Whether a row's channel has the row as its value.
        retain: bool,
    },
    /// Messages, and whether they say in which form they are.
    Messages { with_form: bool },
}

impl Plugin for RowRouter {
    fn configure(settings: &Settings) -> Configured<Self> {
        let (messages, tables) =
            settings.list("tables")?.into_iter().partition::<Vec<_>, _>(|table| VIRTUAL.contains(table));
        // A change comes for the first subscription that it matches: `audit.orders` must stand before `orders`.
        let (mut tables, bare) = tables.into_iter().partition::<Vec<_>, _>(|table| table.contains('.'));
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
        if let Some(twice) =
            messages.iter().enumerate().find(|(index, table)| messages[..*index].contains(table))
        {
            return Err(format!("the setting `tables` names `{}` twice: remove one of them", twice.1));
        }
        let retained = settings.optional_list("retain")?;
        if let Some(unknown) = retained.iter().find(|table| !tables.contains(table)) {
            return Err(format!(
                "the setting `retain` names `{unknown}`, which `tables` does not: write it the same in both"
            ));
        }
        let of_rows = |(channel, table)| Table::Rows {
            prefix: format!("{channel}:"),
            retain: retained.contains(table),
        };
        let of_messages = |table: &&str| Table::Messages { with_form: *table == CLIENT };
        let policy = Self {
            tables: channels
                .iter()
                .zip(&tables)
                .map(of_rows)
                .chain(messages.iter().map(of_messages))
                .collect(),
        };
        let rows = |table| Subscription::table(table).operations(Operation::ROWS).columns(["$key"]);
        let messages = messages.iter().map(|table| messages_of(table));
        Ok((policy, tables.into_iter().map(rows).chain(messages).collect()))
    }
}

/// Only what clients say has a form beside its body: of others text is text.
fn messages_of(table: &str) -> Subscription {
    let subscription = Subscription::table(table).operations([Operation::Message]);
    match table {
        CLIENT => subscription.columns(["channel", "event", "body", "form"]),
        _ => subscription.columns(["channel", "event", "body"]),
    }
}

impl Router for RowRouter {
    fn direct(&self, change: &Change<'_>, routes: &mut Routes) {
        match &self.tables[change.subscription()] {
            Table::Rows { prefix, retain } => direct_row(prefix, *retain, change, routes),
            Table::Messages { with_form } => direct_message(*with_form, change, routes),
        }
    }
}

fn direct_row(prefix: &str, retain: bool, change: &Change<'_>, routes: &mut Routes) {
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

/// A message that names no channel, or whose body a filter hides, goes nowhere.
fn direct_message(with_form: bool, change: &Change<'_>, routes: &mut Routes) {
    let Some(row) = change.row() else { return };
    let Some(channel) = row.text("channel").filter(|channel| !channel.is_empty()) else { return };
    let is_json = with_form && row.text("form") == Some("json");
    let draft = routes.channel(channel).event(row.text("event").unwrap_or_default());
    match row.value("body") {
        Value::Text(json) if is_json => draft.json(json),
        Value::Text(text) => draft.text(text),
        Value::Bytes(bytes) => draft.bytes(bytes),
        _ => drop(draft),
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
