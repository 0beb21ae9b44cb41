//! The policy: posts of authors with few followers are pushed, those of authors with many are pulled.
//!
//! A push writes the post to the timelines of active followers now; a pull merges it when a timeline is read. What
//! people see is the same either way, only the cost differs.

use twohop_plugin::*;

/// The policy as it was configured. It cannot change: the same post always has the same answer.
#[derive(Debug)]
struct ByFollowers {
    push_below: u64,
}

impl Plugin for ByFollowers {
    /// Reads the settings, all of them text. An error is shown to whoever deploys the plugin, and a setting that is
    /// not asked for here is one.
    fn configure(settings: &Settings) -> Configured<Self> {
        let push_below = settings.get("push_below").unwrap_or("10000");
        let push_below = push_below.parse().map_err(|_| {
            format!("the setting `push_below` is `{push_below}`: write how many followers, `10000`")
        })?;
        // A fan-out is asked about posts, wherever they come from: it subscribes to no changes.
        Ok((Self { push_below }, Vec::new()))
    }
}

impl Fanout for ByFollowers {
    /// Called once for each post, with what is known of the author's audience.
    fn decide(&self, post: &Facts<'_>) -> Plan {
        let mut plan = Plan {
            delivery: Delivery::Push,
            // Those who are connected are told at once, either way.
            notify: Notify::Online,
        };
        // Whose last post was pulled must fall clearly below, so that nobody near the threshold flaps.
        let was_pulled = matches!(post.previous, Some(last) if last.delivery == Delivery::Pull);
        let margin = if was_pulled { self.push_below / 10 } else { 0 };
        if post.followers >= self.push_below - margin {
            plan.delivery = Delivery::Pull;
        }
        plan
    }
}

// Makes the component's exports; in a native build it only checks that the policy is a fan-out.
export!(ByFollowers: fanout);

#[cfg(test)]
mod tests {
    use super::*;
    use twohop_plugin::testing::Policy;

    fn delivery(followers: u64, previous: Option<Plan>) -> Delivery {
        let settings = [("push_below", "100")];
        let policy = Policy::<ByFollowers>::configure(settings).expect("these settings are right");
        let post = Facts {
            // What is left out is nothing.
            followers,
            previous,
            ..Facts::default()
        };
        policy.decide(&[post])[0].delivery
    }

    #[test]
    fn few_followers_are_pushed_to_and_many_pull() {
        assert_eq!(delivery(99, None), Delivery::Push);
        assert_eq!(delivery(100, None), Delivery::Pull);
    }

    #[test]
    fn whose_last_post_was_pulled_is_pushed_again_only_well_below() {
        let pulled = Some(Plan {
            delivery: Delivery::Pull,
            // Of no matter here.
            notify: Notify::Nobody,
        });
        assert_eq!(delivery(95, pulled), Delivery::Pull);
        assert_eq!(delivery(89, pulled), Delivery::Push);
    }

    #[test]
    fn a_setting_that_is_no_number_is_refused() {
        let error = Policy::<ByFollowers>::configure([("push_below", "many")]).unwrap_err();
        assert!(error.contains("write how many followers"), "{error}");
    }
}
