//! The policy: each row of a table goes to the channel of one column's value.
//!
//! An order whose `status` is `new` goes to the channel `orders:new`. Where an update changes the value, the old
//! channel is told with the event `left`, so that a list on a screen can drop the row.

use twohop_plugin::*;

/// The policy as it was configured. It cannot change: the same change always has the same answer.
#[derive(Debug)]
struct ByColumn {
    table: String,
    column: String,
}

impl Plugin for ByColumn {
    /// Reads the settings, all of them text. An error is shown to whoever deploys the plugin, and a setting that is
    /// not asked for here is one.
    fn configure(settings: &Settings) -> Configured<Self> {
        let table = settings.get("table").unwrap_or("orders").to_owned();
        let column = settings.get("column").unwrap_or("status").to_owned();
        // Nothing else is handed over: changes of this table, and of its rows this column.
        let wanted = Subscription::table(&table).columns([column.as_str()]);
        let wanted = wanted.operations(Operation::ROWS);
        Ok((Self { table, column }, vec![wanted]))
    }
}

impl Router for ByColumn {
    /// Called once for each change. A change without a route goes nowhere.
    fn direct(&self, change: &Change<'_>, routes: &mut Routes) {
        let now = change.row().and_then(|row| row.text(&self.column));
        // PostgreSQL sends old values only of tables with `REPLICA IDENTITY FULL`.
        let before = change.old().and_then(|old| old.text(&self.column));
        if let Some(value) = now {
            let message = routes.channel([&self.table, ":", value]);
            message.event(change.operation()).row();
        }
        if let Some(value) = before.filter(|_| before != now) {
            let message = routes.channel([&self.table, ":", value]);
            message.event("left").row();
        }
    }
}

// Makes the component's exports; in a native build it only checks that the policy is a router.
export!(ByColumn: router);

#[cfg(test)]
mod tests {
    use super::*;
    use twohop_plugin::testing::{Keep, Payload, Policy, Route, Sample};

    fn routes(sample: Sample) -> Vec<Route> {
        let settings = [("table", "orders"), ("column", "status")];
        let policy = Policy::<ByColumn>::configure(settings).expect("these settings are right");
        policy.direct(&[sample]).remove(0)
    }

    fn to(channel: &str, event: &str) -> Route {
        Route::Channel {
            channel: channel.into(),
            event: event.into(),
            payload: Payload::Row,
            keep: Keep::History,
        }
    }

    #[test]
    fn a_new_row_goes_to_the_channel_of_its_value() {
        let insert = Sample::insert("orders", row! { "id" => 1, "status" => "new" });
        assert_eq!(routes(insert), [to("orders:new", "insert")]);
    }

    #[test]
    fn a_change_of_the_value_is_told_to_both_channels() {
        let update = Sample::update("orders", row! { "id" => 1, "status" => "sent" })
            .old(row! { "id" => 1, "status" => "new" });
        let expected = [to("orders:sent", "update"), to("orders:new", "left")];
        assert_eq!(routes(update), expected);
    }

    #[test]
    fn other_tables_go_nowhere() {
        let insert = Sample::insert("users", row! { "status" => "new" });
        assert_eq!(routes(insert), []);
    }
}
