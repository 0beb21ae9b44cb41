//! `cache-router`: deletes the keys of a cache that changed rows are behind.
//!
//! In: changes of the tables that the setting `keys` names, with the columns that its patterns need. Out: for each
//! pattern of the table the key of the new row and that of the old one, for a truncate all keys that begin as the
//! pattern does. Always holds: a change whose new key cannot be told is a dead letter; an old key that the
//! database does not send (`REPLICA IDENTITY`) is passed over. Documented for those who deploy it in
//! `docs/plugins/cache-router.md`.

mod pattern;

use twohop_plugin::{Change, Configured, Operation, Plugin, Router, Routes, Settings, Subscription, export};

use pattern::{Key, Pattern};

/// The policy.
#[derive(Debug)]
pub struct CacheRouter {
    /// One a subscription: the patterns of its table.
    patterns: Vec<Vec<Pattern>>,
}

impl Plugin for CacheRouter {
    fn configure(settings: &Settings) -> Configured<Self> {
        let mut tables: Vec<(&str, Vec<Pattern>)> = Vec::new();
        for entry in settings.list("keys")? {
            let refuse = |why: &str| format!("the setting `keys` has `{entry}`: {why}");
            let (table, text) = entry
                .split_once('=')
                .ok_or_else(|| refuse("write `TABLE=PATTERN`, such as `users=user:{id}`"))?;
            let (table, text) = (table.trim(), text.trim());
            if table.is_empty() || table == "*" || table.starts_with(['$', '.']) || table.ends_with('.') {
                return Err(refuse("name a table before the `=`, as `table` or `schema.table`"));
            }
            let pattern = Pattern::new(text).map_err(refuse)?;
            match tables.iter_mut().find(|(known, _)| *known == table) {
                Some((_, patterns)) => patterns.push(pattern),
                None => tables.push((table, vec![pattern])),
            }
        }
        // A change comes for the first subscription that it matches: `audit.users` must stand before `users`.
        tables.sort_by_key(|(table, _)| !table.contains('.'));
        let subscription = |(table, patterns): &(&str, Vec<Pattern>)| {
            let mut columns: Vec<&str> = patterns.iter().flat_map(Pattern::columns).collect();
            columns.sort_unstable();
            columns.dedup();
            Subscription::table(*table).operations(Operation::ROWS).columns(columns)
        };
        let subscriptions = tables.iter().map(subscription).collect();
        Ok((Self { patterns: tables.into_iter().map(|(_, patterns)| patterns).collect() }, subscriptions))
    }
}

impl Router for CacheRouter {
    fn direct(&self, change: &Change<'_>, routes: &mut Routes) {
        let patterns = &self.patterns[change.subscription()];
        if change.operation() == Operation::Truncate {
            patterns.iter().for_each(|pattern| routes.cache_prefix(pattern.beginning()));
            return;
        }
        let mut keys: Vec<String> = Vec::new();
        for pattern in patterns {
            let new = change.row().map(|row| pattern.key(&row));
            let old = change.old().map(|row| pattern.key(&row));
            // An update brings what did not change only in its new row.
            let old = old.filter(|key| change.row().is_none() || !matches!(key, Key::Unknown(_)));
            for key in [new, old].into_iter().flatten() {
                match key {
                    Key::Is(key) => keys.push(key),
                    Key::IsNone => {}
                    Key::Unknown(column) => return routes.reject(unknown(change, column)),
                }
            }
        }
        keys.sort_unstable();
        keys.dedup();
        keys.iter().for_each(|key| routes.cache(key));
    }
}

fn unknown(change: &Change<'_>, column: &str) -> String {
    let hint = match change.row() {
        None => "a delete brings other columns than the key's only after ALTER TABLE … REPLICA IDENTITY FULL",
        Some(_) => "the table does not have it, or a filter hides it",
    };
    format!("the key of the cache needs the column `{column}`, which did not come: {hint}")
}

export!(CacheRouter: router);

#[cfg(test)]
mod tests;
