//! `social-router`: posts and follows become audience and edges.
//!
//! In: changes of the tables that the settings `posts` and `follows` name. Out: for a post that is there `audience`, for
//! one that is gone `retract`; for an edge that is there `follow`, for one that is gone `unfollow`. Always holds: an
//! update that gives a post another author, or an edge another end, takes the old one back first, as far as the source
//! sent the old row. What was taken back stays away, whatever is put later: that is the host's. A change from which nothing right can follow is set aside with the reason, never guessed at.
//! Documented for those who deploy it in `docs/plugins/social-router.md`.

mod pair;
mod time;

use twohop_plugin::{
    Change, Configured, Operation, Plugin, Router, Routes, Settings, Subscription, Time, Value, export,
};

use pair::{Pair, Pairs, Second};

/// The policy.
#[derive(Debug)]
pub struct SocialRouter {
    /// One a subscription.
    tables: Vec<Table>,
}

/// A table, and what of its rows is read.
#[derive(Debug)]
struct Table {
    name: String,
    kind: Kind,
    pairs: Pairs,
}

#[derive(Debug)]
enum Kind {
    /// Author and item.
    Posts { time: Option<String> },
    /// Follower and followee.
    Follows,
}

impl Plugin for SocialRouter {
    fn configure(settings: &Settings) -> Configured<Self> {
        let mut tables = Vec::new();
        tables.extend(posts(settings)?);
        tables.extend(follows(settings)?);
        if tables.is_empty() {
            return Err("there is nothing to do: the setting `posts` names the table of posts, and `follows` that of \
                        the edges between users"
                .to_owned());
        }
        if let [posts, follows] = &tables[..]
            && posts.name == follows.name
        {
            return Err(format!(
                "the settings `posts` and `follows` both name `{}`: name two tables",
                posts.name
            ));
        }
        // A change comes for the first subscription that it matches: `social.posts` must stand before `posts`.
        if tables[tables.len() - 1].name.contains('.') {
            tables.reverse();
        }
        let subscriptions = tables.iter().map(Table::subscription).collect::<Result<_, _>>()?;
        Ok((Self { tables }, subscriptions))
    }
}

impl Router for SocialRouter {
    fn direct(&self, change: &Change<'_>, routes: &mut Routes) {
        if let Err(why) = self.tables[change.subscription()].direct(change, routes) {
            routes.reject(&why);
        }
    }
}

fn posts(settings: &Settings) -> Result<Option<Table>, String> {
    let Some(name) = table(settings, "posts")? else { return Ok(None) };
    let first = column(settings, "posts_author")?;
    let deleted = optional_column(settings, "posts_deleted")?;
    let time = optional_column(settings, "posts_time")?;
    let pairs = Pairs { first, second: Second::Key, deleted };
    Ok(Some(Table { name, kind: Kind::Posts { time }, pairs }))
}

fn follows(settings: &Settings) -> Result<Option<Table>, String> {
    let Some(name) = table(settings, "follows")? else { return Ok(None) };
    let first = column(settings, "follows_follower")?;
    let second = Second::Column(column(settings, "follows_followee")?);
    let deleted = optional_column(settings, "follows_deleted")?;
    Ok(Some(Table { name, kind: Kind::Follows, pairs: Pairs { first, second, deleted } }))
}

impl Table {
    fn subscription(&self) -> Result<Subscription, String> {
        let mut columns = self.pairs.columns();
        if let Kind::Posts { time: Some(time) } = &self.kind {
            columns.push(time);
        }
        for (index, column) in columns.iter().enumerate() {
            if columns[..index].contains(column) {
                return Err(format!("the column `{column}` of `{}` is named for two purposes", self.name));
            }
        }
        Ok(Subscription::table(&self.name).operations(Operation::ROWS).columns(columns))
    }

    fn direct(&self, change: &Change<'_>, routes: &mut Routes) -> Result<(), String> {
        if change.operation() == Operation::Truncate {
            return Err(
                "a truncate cannot be followed, what the table held stays known: delete the rows instead"
                    .into(),
            );
        }
        let (before, now) = self.pairs.of(change)?;
        let put = match now {
            Some(now) => Some((now, self.time(change)?)),
            None => None,
        };
        if let Some(before) = before.filter(|before| now != Some(*before)) {
            self.take_back(before, routes);
        }
        if let Some((now, time)) = put {
            self.put(now, time, routes);
        }
        Ok(())
    }

    fn put(&self, (first, second): Pair<'_>, time: Time, routes: &mut Routes) {
        match self.kind {
            Kind::Posts { .. } => routes.audience(first, second).at(time).row(),
            Kind::Follows => routes.follow(first, second),
        }
    }

    fn take_back(&self, (first, second): Pair<'_>, routes: &mut Routes) {
        match self.kind {
            Kind::Posts { .. } => routes.retract(first, second),
            Kind::Follows => routes.unfollow(first, second),
        }
    }

    /// That of the post where its table has one, else that of the commit.
    fn time(&self, change: &Change<'_>) -> Result<Time, String> {
        let (Kind::Posts { time: Some(column) }, Some(row)) = (&self.kind, change.row()) else {
            return Ok(change.committed_at());
        };
        match row.value(column) {
            Value::Null => Ok(change.committed_at()),
            Value::Unchanged | Value::Masked => Err(pair::not_there(column)),
            Value::Text(text) => time::parse(text).ok_or_else(|| not_a_time(column)),
            _ => Err(not_a_time(column)),
        }
    }
}

fn not_a_time(column: &str) -> String {
    format!("the column `{column}` is no time such as `2024-01-02 03:04:05.678+00`")
}

fn table(settings: &Settings, setting: &str) -> Result<Option<String>, String> {
    match settings.get(setting).map(str::trim) {
        None | Some("") => Ok(None),
        Some(name) if name == "*" || name.starts_with('$') || name.contains(',') => {
            Err(format!("the setting `{setting}` is `{name}`: name one table, as `table` or `schema.table`"))
        }
        Some(name) => Ok(Some(name.to_owned())),
    }
}

fn column(settings: &Settings, setting: &str) -> Result<String, String> {
    column_name(setting, settings.required(setting)?.trim())
}

fn optional_column(settings: &Settings, setting: &str) -> Result<Option<String>, String> {
    match settings.get(setting).map(str::trim) {
        None | Some("") => Ok(None),
        Some(name) => column_name(setting, name).map(Some),
    }
}

fn column_name(setting: &str, name: &str) -> Result<String, String> {
    if name.starts_with('$') || name.contains(',') {
        return Err(format!("the setting `{setting}` is `{name}`: name one column of the table"));
    }
    Ok(name.to_owned())
}

export!(SocialRouter: router);

#[cfg(test)]
mod tests;
