//! What routes write to feeds.
//!
//! In: the changes of a batch and its routes. Out: the writes, in the order of the changes; the other routes are left.
//!
//! Invariants:
//! - equal writes of one change are one, whichever plugins they came from;
//! - a payload is one JSON document: text becomes a string, bytes a string of base64, nothing `null`;
//! - a plan is the host's own until somebody else makes one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;

use super::{envelope_json, made_once, row_json};
use crate::event::{Change, FeedPost, FeedWrite, Plan, write_json_string};
use crate::policy::{Entry, Kind, Payload, Route, Routes};

/// Takes the routes to feeds out of `routes`.
///
/// # Panics
/// If a route names a change that is not there: the policy checks that.
pub fn take_feed(changes: &[Change], routes: &mut Routes) -> Vec<FeedWrite> {
    let mut writes: Vec<FeedWrite> = Vec::new();
    let mut made = Made::default();
    // The first write of the change.
    let (mut first, mut previous) = (0, None);
    for (change, route) in routes.take(Kind::is_for_feeds) {
        if previous.replace(change) != Some(change) {
            first = writes.len();
        }
        let mut post = |entry: Box<Entry>| made.post(changes, change, *entry);
        let write = match route {
            Route::Audience(entry) => FeedWrite::Post { post: post(entry), plan: Plan::HOSTS_OWN },
            Route::Inbox { user, entry } => FeedWrite::Inbox { user, post: post(entry) },
            Route::Retract { author, item } => FeedWrite::Retract { author, item },
            Route::Follow { follower, followee } => FeedWrite::Follow { follower, followee },
            Route::Unfollow { follower, followee } => FeedWrite::Unfollow { follower, followee },
            Route::Channel { .. } | Route::Cache(_) | Route::Topic { .. } => continue,
        };
        if !writes[first..].contains(&write) {
            writes.push(write);
        }
    }
    writes
}

/// What was made of a change once.
#[derive(Default)]
struct Made {
    row: Option<(usize, Bytes)>,
    envelope: Option<(usize, Bytes)>,
}

impl Made {
    fn post(&mut self, changes: &[Change], change: usize, entry: Entry) -> FeedPost {
        let Entry { author, item, payload, time } = entry;
        let payload = match payload {
            Payload::Row => made_once(&mut self.row, change, || row_json(&changes[change])),
            Payload::Envelope => made_once(&mut self.envelope, change, || envelope_json(&changes[change])),
            Payload::Nothing => Bytes::from_static(b"null"),
            Payload::Json(json) => json,
            Payload::Text(text) => string(&String::from_utf8_lossy(&text)),
            Payload::Bytes(bytes) => string(&BASE64.encode(bytes)),
        };
        FeedPost { author, item, payload, time, committed_at: changes[change].committed_at }
    }
}

fn string(text: &str) -> Bytes {
    let mut json = String::with_capacity(text.len() + 2);
    write_json_string(text, &mut json);
    json.into()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{change, directed};
    use super::*;
    use crate::event::{Micros, Rows};
    use crate::policy::routes_of;

    fn entry(item: &str, payload: Payload) -> Box<Entry> {
        Box::new(Entry { author: "ann".into(), item: item.into(), payload, time: Micros(3) })
    }

    #[test]
    fn routes_to_feeds_become_writes_and_the_others_are_left() {
        let changes = [change(1, Rows::New), change(2, Rows::New)];
        let to = |change, plugin, route| (change, plugin, route);
        let follow = |plugin| {
            let (follower, followee) = ("bob".into(), "ann".into());
            to(0, plugin, Route::Follow { follower, followee })
        };
        let text = Payload::Text(Bytes::from_static(b"say \"hi\""));
        let mut routes = routes_of([
            follow(0),
            directed(0, 0, "a", Payload::Row),
            to(0, 0, Route::Audience(entry("1", Payload::Row))),
            follow(1),
            to(0, 1, Route::Inbox { user: "bob".into(), entry: entry("2", text) }),
            to(1, 0, Route::Audience(entry("3", Payload::Bytes(Bytes::from_static(&[0xFF, 0]))))),
            to(1, 0, Route::Audience(entry("4", Payload::Nothing))),
            to(1, 0, Route::Retract { author: "ann".into(), item: "1".into() }),
            directed(1, 0, "b", Payload::Row),
        ]);
        let writes = take_feed(&changes, &mut routes);
        let left = routes_of([directed(0, 0, "a", Payload::Row), directed(1, 0, "b", Payload::Row)]);
        assert_eq!(routes, left);
        let post = |item: &str, payload: &'static str| FeedPost {
            author: "ann".into(),
            item: item.into(),
            payload: payload.into(),
            time: Micros(3),
            committed_at: Micros(0),
        };
        let public = |post| FeedWrite::Post { post, plan: Plan::HOSTS_OWN };
        assert_eq!(
            writes,
            [
                FeedWrite::Follow { follower: "bob".into(), followee: "ann".into() },
                public(post("1", r#"{"id":1}"#)),
                FeedWrite::Inbox { user: "bob".into(), post: post("2", r#""say \"hi\"""#) },
                public(post("3", r#""/wA=""#)),
                public(post("4", "null")),
                FeedWrite::Retract { author: "ann".into(), item: "1".into() },
            ]
        );
    }
}
