//! `hybrid-fanout`: posts of authors whom few follow are pushed, those of celebrities pulled.
//!
//! In: for each post how many follow its author, and how the author's last post went. Out: push or pull, and whether
//! those online are told at once. Always holds: between the two thresholds a post goes as the author's last one did, so
//! an author who gains and loses a few followers there stays with one of both. Documented for those who deploy it in
//! `docs/plugins/hybrid-fanout.md`.

use twohop_plugin::{Configured, Delivery, Facts, Fanout, Notify, Plan, Plugin, Settings, export};

const PUSH_FOLLOWERS_MAX: u64 = 10_000;

/// The policy.
#[derive(Debug)]
pub struct HybridFanout {
    /// Posts of authors with more followers are pulled.
    push_followers_max: u64,
    /// Once pulled, an author's posts are pushed again from here on.
    push_again_followers_max: u64,
    notify: Notify,
}

impl Plugin for HybridFanout {
    fn configure(settings: &Settings) -> Configured<Self> {
        let push_followers_max = number(settings, "push_followers_max")?.unwrap_or(PUSH_FOLLOWERS_MAX);
        let again = number(settings, "push_again_followers_max")?;
        let push_again_followers_max = again.unwrap_or(push_followers_max - push_followers_max / 5);
        if push_again_followers_max > push_followers_max {
            return Err(format!(
                "the setting `push_again_followers_max` is {push_again_followers_max}, which is above \
                 `push_followers_max`, {push_followers_max}: it is the lower of the two thresholds"
            ));
        }
        let notify = match settings.get("notify").unwrap_or("online") {
            "online" => Notify::Online,
            "nobody" => Notify::Nobody,
            other => return Err(format!("the setting `notify` is `{other}`: write `online` or `nobody`")),
        };
        Ok((Self { push_followers_max, push_again_followers_max, notify }, vec![]))
    }
}

impl Fanout for HybridFanout {
    fn decide(&self, post: &Facts<'_>) -> Plan {
        let followers_max = match post.previous {
            Some(Plan { delivery: Delivery::Pull, .. }) => self.push_again_followers_max,
            Some(Plan { delivery: Delivery::Push, .. }) | None => self.push_followers_max,
        };
        let delivery = if post.followers <= followers_max { Delivery::Push } else { Delivery::Pull };
        Plan { delivery, notify: self.notify }
    }
}

fn number(settings: &Settings, key: &str) -> Result<Option<u64>, String> {
    let Some(value) = settings.get(key) else { return Ok(None) };
    let number = value.trim().parse();
    number
        .map(Some)
        .map_err(|_| format!("the setting `{key}` is `{value}`: write a number of followers, such as 10000"))
}

export!(HybridFanout: fanout);

#[cfg(test)]
mod tests;
