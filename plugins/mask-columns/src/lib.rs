//! `mask-columns`: hides configured columns from everything that comes later, and drops configured tables whole.
//!
//! In: changes of the tables that the settings `columns` and `drop` name. Out: a verdict and masks a change. Always
//! holds: what a setting names is hidden in every table that the name fits: a name without schema fits the tables of
//! that name in all schemas, also where another entry names one of these with its schema. Absent on purpose: hiding
//! parts of a value, or of some rows only. Documented for those who deploy it in `docs/plugins/mask-columns.md`.

use twohop_plugin::{
    Change, Configured, Filter, Masks, Operation, Plugin, Settings, Subscription, Verdict, export,
};

/// The operations that come with a row.
const WITH_A_ROW: [Operation; 4] =
    [Operation::Snapshot, Operation::Insert, Operation::Update, Operation::Delete];

/// The policy.
#[derive(Debug)]
pub struct MaskColumns {
    /// One a subscription.
    rules: Vec<Rule>,
}

/// What is done with the changes of a table.
#[derive(Debug)]
enum Rule {
    Drop,
    Hide(Vec<String>),
}

impl Plugin for MaskColumns {
    fn configure(settings: &Settings) -> Configured<Self> {
        let columns =
            settings.optional_list("columns")?.into_iter().map(column).collect::<Result<Vec<_>, _>>()?;
        let dropped =
            settings.optional_list("drop")?.into_iter().map(table).collect::<Result<Vec<_>, _>>()?;
        if columns.is_empty() && dropped.is_empty() {
            return Err("there is nothing to do: the setting `columns` names columns to hide, such as `users.email`, \
                        and `drop` whole tables"
                .to_owned());
        }
        refuse_what_is_said_twice(&columns, &dropped)?;
        let tables = tables(columns.iter().map(|column| column.table).chain(dropped.iter().copied()));
        let rules = tables.iter().map(|table| rule(table, &columns, &dropped)).collect::<Vec<_>>();
        let subscriptions = tables.iter().zip(&rules).map(|(table, rule)| match rule {
            Rule::Drop => Subscription::table(*table),
            // Not read here: the host warns of a column that is asked for and not there, which a mask alone cannot.
            Rule::Hide(columns) => {
                Subscription::table(*table).operations(WITH_A_ROW).columns(columns.iter().map(String::as_str))
            }
        });
        let subscriptions = subscriptions.collect();
        Ok((Self { rules }, subscriptions))
    }
}

impl Filter for MaskColumns {
    fn evaluate(&self, change: &Change<'_>, masks: &mut Masks<'_>) -> Verdict {
        match &self.rules[change.subscription()] {
            Rule::Drop => Verdict::Drop,
            Rule::Hide(columns) => {
                columns.iter().for_each(|column| masks.hide(column));
                Verdict::Keep
            }
        }
    }
}

/// An entry of `columns`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Column<'a> {
    entry: &'a str,
    /// With its schema, where the entry names it.
    table: &'a str,
    name: &'a str,
}

fn column(entry: &str) -> Result<Column<'_>, String> {
    let refuse = |why| Err(format!("the setting `columns` names `{entry}`: {why}"));
    let parts: Vec<&str> = entry.split('.').collect();
    if !matches!(parts.len(), 2 | 3) || parts.contains(&"") {
        return refuse(
            "write `table.column` or `schema.table.column`; a name with a dot in it cannot be written",
        );
    }
    if parts.iter().any(|part| part.starts_with('$')) {
        return refuse("what begins with `$` is virtual and cannot be hidden");
    }
    if parts.contains(&"*") {
        return refuse("name each table and each column");
    }
    let (table, name) = entry.rsplit_once('.').expect("it has two parts or three");
    Ok(Column { entry, table, name })
}

fn table(entry: &str) -> Result<&str, String> {
    let refuse = |why| Err(format!("the setting `drop` names `{entry}`: {why}"));
    if entry == "*" || entry.starts_with('$') {
        return refuse("name each table, as `table` or `schema.table`");
    }
    match entry.split_once('.') {
        Some(("", _) | (_, "")) => refuse("write `table` or `schema.table`"),
        Some(_) | None => Ok(entry),
    }
}

/// Each once. A change comes for the first subscription that it matches: `audit.users` must stand before `users`.
fn tables<'a>(named: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let (mut tables, mut bare) = (Vec::new(), Vec::new());
    for table in named {
        let those = if table.contains('.') { &mut tables } else { &mut bare };
        if !those.contains(&table) {
            those.push(table);
        }
    }
    tables.append(&mut bare);
    tables
}

fn refuse_what_is_said_twice(columns: &[Column<'_>], dropped: &[&str]) -> Result<(), String> {
    for (index, column) in columns.iter().enumerate() {
        if columns[..index].contains(column) {
            return Err(format!("the setting `columns` names `{}` twice", column.entry));
        }
        if let Some(table) = dropped.iter().find(|table| fits(table, column.table)) {
            return Err(format!(
                "the setting `columns` names `{}`, but the setting `drop` drops the whole table `{table}`: remove one \
                 of both",
                column.entry
            ));
        }
    }
    match (1..dropped.len()).find(|index| dropped[..*index].contains(&dropped[*index])) {
        Some(index) => Err(format!("the setting `drop` names `{}` twice", dropped[index])),
        None => Ok(()),
    }
}

/// All that the settings say of a table, whichever of its names they use.
fn rule(table: &str, columns: &[Column<'_>], dropped: &[&str]) -> Rule {
    if dropped.iter().any(|name| fits(name, table)) {
        return Rule::Drop;
    }
    let mut hidden: Vec<String> = Vec::new();
    for column in columns.iter().filter(|column| fits(column.table, table)) {
        if !hidden.iter().any(|name| name == column.name) {
            hidden.push(column.name.to_owned());
        }
    }
    Rule::Hide(hidden)
}

/// Whether a setting that says `name` means `table` too: the same, or without the schema.
fn fits(name: &str, table: &str) -> bool {
    name == table || table.split_once('.').is_some_and(|(_, bare)| bare == name)
}

export!(MaskColumns: filter);

#[cfg(test)]
mod tests;
