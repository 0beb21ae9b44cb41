//! A plugin with every stage, built once against twohop:policy@1.0.0. Its component is kept and must go on working.
//!
//! - filter: drops what has the status `draft`, rejects `broken`, masks `email`.
//! - router: one route of each kind, by the table.
//! - fan-out: pulls where an author has more than 10 followers, or was pulled last time; tells those online.
//! - gate: lets everybody listen to `public`, and the subject to its own `user:SUBJECT`; takes messages of the event
//!   `typing` as ephemeral, of `say` as kept.

use twohop_plugin::*;

struct Frozen {
    prefix: String,
}

impl Plugin for Frozen {
    fn configure(settings: &Settings) -> Configured<Self> {
        let prefix = settings.required("prefix")?.to_owned();
        Ok((Self { prefix }, vec![
            Subscription::table("orders").columns(["$key", "status", "email", "$replay"]),
            Subscription::table("posts").columns(["$key", "author"]),
            Subscription::table("follows").columns(["follower", "followee"]),
        ]))
    }
}

impl Filter for Frozen {
    fn evaluate(&self, change: &Change, masks: &mut Masks) -> Verdict {
        if change.subscription() == 0 {
            masks.hide("email");
        }
        match change.row().and_then(|row| row.text("status")) {
            Some("draft") => Verdict::Drop,
            Some("broken") => Verdict::Reject("it is broken".to_owned()),
            _ => Verdict::Keep,
        }
    }
}

impl Router for Frozen {
    fn direct(&self, change: &Change, routes: &mut Routes) {
        let Some(row) = change.row() else { return };
        let text = |column| row.text(column).unwrap_or("");
        let key = change.key().unwrap_or("");
        match change.subscription() {
            0 => {
                routes.channel([self.prefix.as_str(), key]).event(change.operation()).row();
                routes.channel("raw").event(if change.is_replay() { "again" } else { "" }).live_only().bytes(b"\xff");
                routes.channel("json").json("{\"a\":1}");
                routes.channel("text").text("hello");
                routes.channel("bell").nothing();
                routes.topic("orders").key(key).envelope();
                routes.cache(["order:", key]);
                routes.cache_prefix("orders:");
            }
            1 => {
                routes.audience(text("author"), key).row();
                routes.inbox(text("author"), key, "editor").row();
                routes.retract(text("author"), "old");
            }
            _ => {
                routes.follow(text("follower"), text("followee"));
                routes.unfollow(text("followee"), text("follower"));
                if text("follower") == text("followee") {
                    routes.reject("nobody follows oneself");
                }
            }
        }
    }
}

impl Fanout for Frozen {
    fn decide(&self, facts: &Facts) -> Plan {
        let pulled = facts.previous.is_some_and(|plan| plan.delivery == Delivery::Pull);
        let delivery = if facts.followers > 10 || pulled { Delivery::Pull } else { Delivery::Push };
        Plan { delivery, notify: if facts.online > 0 { Notify::Online } else { Notify::Nobody } }
    }
}

impl Gate for Frozen {
    fn admit(&self, connection: &Connection, request: &Request) -> Result<Grant, Refusal> {
        let own = connection.subject.as_ref().map(|subject| format!("user:{subject}"));
        match () {
            () if request.prefix => Err(Refusal::Invalid("no prefixes".to_owned())),
            () if request.channel == "public" => Ok(Grant { history: true, ..Grant::default() }),
            () if own.as_deref() == Some(&*request.channel) => {
                Ok(Grant { history: true, presence: true, publish: true, until: Some(Time::from_micros(7)) })
            }
            () if own.is_none() => Err(Refusal::Unauthenticated),
            () => Err(Refusal::Forbidden("it is of somebody else".to_owned())),
        }
    }

    fn receive(&self, connection: &Connection, request: &Request, message: &[u8]) -> Result<Reception, Refusal> {
        self.admit(connection, request)?;
        match &*request.event {
            "typing" => Ok(Reception::Ephemeral),
            "say" if !message.is_empty() => Ok(Reception::Keep),
            _ => Err(Refusal::Invalid("say something".to_owned())),
        }
    }
}

export!(Frozen: filter, router, fanout, gate);
