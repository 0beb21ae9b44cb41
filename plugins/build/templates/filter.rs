//! The policy: columns of a table that nobody shall see are hidden, and its private rows are dropped.
//!
//! What a filter hides or drops is seen by no later stage, in no message and in no payload.

use twohop_plugin::*;

/// The policy as it was configured. It cannot change: the same change always has the same answer.
#[derive(Debug)]
struct Privacy {
    hidden: Vec<String>,
    private: String,
}

impl Plugin for Privacy {
    /// Reads the settings, all of them text. An error is shown to whoever deploys the plugin, and a setting that is
    /// not asked for here is one.
    fn configure(settings: &Settings) -> Configured<Self> {
        let table = settings.get("table").unwrap_or("customers");
        let hidden = settings.get("hide").unwrap_or("email").split(',');
        let hidden = hidden.map(|column| column.trim().to_owned()).collect();
        let private = settings.get("private").unwrap_or("private").to_owned();
        // Nothing else is handed over: changes of this table, and of its rows this column. To hide a column, one need
        // not see it.
        let wanted = Subscription::table(table).columns([private.as_str()]);
        Ok((Self { hidden, private }, vec![wanted]))
    }
}

impl Filter for Privacy {
    /// Called once for each change of the table; changes of others go on as they are.
    fn evaluate(&self, change: &Change<'_>, masks: &mut Masks<'_>) -> Verdict {
        for column in &self.hidden {
            masks.hide(column);
        }
        // A deleted row has only its old values, and PostgreSQL sends more than the key of those only of tables with
        // `REPLICA IDENTITY FULL`.
        let row = change.row().or(change.old());
        match row.and_then(|row| row.boolean(&self.private)) {
            Some(true) => Verdict::Drop,
            Some(false) | None => Verdict::Keep,
        }
    }
}

// Makes the component's exports; in a native build it only checks that the policy is a filter.
export!(Privacy: filter);

#[cfg(test)]
mod tests {
    use super::*;
    use twohop_plugin::testing::{Judged, Policy, Sample};

    fn judged(sample: Sample) -> Judged {
        let settings = [("table", "customers"), ("hide", "email, phone")];
        let policy = Policy::<Privacy>::configure(settings).expect("these settings are right");
        policy.evaluate(&[sample]).remove(0)
    }

    #[test]
    fn a_row_goes_on_without_the_columns_that_nobody_shall_see() {
        let insert = Sample::insert("customers", row! { "id" => 1, "private" => false });
        let judged = judged(insert);
        assert_eq!(judged.verdict, Verdict::Keep);
        assert_eq!(judged.masked, ["email", "phone"]);
    }

    #[test]
    fn a_private_row_is_dropped() {
        let update = Sample::update("customers", row! { "id" => 1, "private" => true });
        assert_eq!(judged(update).verdict, Verdict::Drop);
    }

    #[test]
    fn other_tables_are_left_alone() {
        let insert = Sample::insert("orders", row! { "private" => true });
        let judged = judged(insert);
        assert_eq!(judged.verdict, Verdict::Keep);
        assert!(judged.masked.is_empty());
    }
}
