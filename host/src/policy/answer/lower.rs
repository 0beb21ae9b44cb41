//! Routes as the lists that a plugin would answer, for tests.

use super::super::bindings::exports::twohop::policy::router::Outcome;
use super::super::route::{CacheKeys, Entry, Kind, Payload, Route};
use super::routes::{
    ENVELOPE, FORGET, JSON, LIVE_ONLY, NOTHING, PREFIX_BIT, RETENTION_SHIFT, ROW, TEXT, VALUE,
};
use super::{Asked, Routes};
use crate::event::Retention;
use crate::policy::matches::Member;

/// The routes of (change, plugin, route), as if each had been answered by itself.
pub(crate) fn routes_of(list: impl IntoIterator<Item = (usize, usize, Route)>) -> Routes {
    let mut routes = Routes::default();
    for (change, plugin, route) in list {
        let members = [Member::without_match(change)];
        let asked = Asked { plugin, members: &members };
        let rejected = super::routes(lowered(&route), asked, &mut routes).expect("it is a route");
        assert_eq!(rejected, []);
    }
    routes
}

/// One route, for the first change.
pub(super) fn lowered(route: &Route) -> Outcome {
    let mut lists = Lists::default();
    let (kind, number) = lists.lower(route);
    Outcome {
        changes: vec![0],
        kinds: vec![kind as u8],
        options: vec![lists.options],
        spans: lists.spans.into(),
        numbers: vec![number],
        attributed_routes: vec![],
        attributes: vec![],
        arena: lists.arena,
    }
}

#[derive(Default)]
struct Lists {
    options: u8,
    spans: [u64; 4],
    arena: Vec<u8>,
}

impl Lists {
    fn lower(&mut self, route: &Route) -> (Kind, i64) {
        match route {
            Route::Channel { channel, event, payload, retention } => {
                self.texts([channel.as_str(), event]);
                self.payload(payload);
                self.options |= match retention {
                    Retention::Kept => 0,
                    Retention::LiveOnly => LIVE_ONLY,
                    Retention::Value => VALUE,
                    Retention::Forget => FORGET,
                } << RETENTION_SHIFT;
                (Kind::Channel, 0)
            }
            Route::Audience(entry) => (Kind::Audience, self.entry(entry)),
            Route::Inbox { user, entry } => {
                self.spans[3] = self.span(user.as_bytes());
                (Kind::Inbox, self.entry(entry))
            }
            Route::Retract { author, item } => self.names(Kind::Retract, [author, item]),
            Route::Follow { follower, followee } => self.names(Kind::Follow, [follower, followee]),
            Route::Unfollow { follower, followee } => self.names(Kind::Unfollow, [follower, followee]),
            Route::Cache(CacheKeys::One(key)) => self.names(Kind::Cache, [key]),
            Route::Cache(CacheKeys::Prefix(prefix)) => {
                self.options = PREFIX_BIT;
                self.names(Kind::Cache, [prefix])
            }
            Route::Topic { topic, key, payload } => {
                self.payload(payload);
                self.names(Kind::Topic, [topic, key])
            }
        }
    }

    fn entry(&mut self, entry: &Entry) -> i64 {
        self.texts([&*entry.author, &entry.item]);
        self.payload(&entry.payload);
        entry.time.0
    }

    fn names<const N: usize>(&mut self, kind: Kind, names: [&str; N]) -> (Kind, i64) {
        self.texts(names);
        (kind, 0)
    }

    fn texts<const N: usize>(&mut self, texts: [&str; N]) {
        for (nth, text) in texts.into_iter().enumerate() {
            self.spans[nth] = self.span(text.as_bytes());
        }
    }

    fn payload(&mut self, payload: &Payload) {
        let (option, bytes): (_, &[u8]) = match payload {
            Payload::Row => (ROW, &[]),
            Payload::Envelope => (ENVELOPE, &[]),
            Payload::Nothing => (NOTHING, &[]),
            Payload::Json(json) => (JSON, json),
            Payload::Text(text) => (TEXT, text),
            Payload::Bytes(bytes) => (TEXT + 1, bytes),
        };
        self.options |= option;
        self.spans[2] = if option < JSON { 0 } else { self.span(bytes) };
    }

    fn span(&mut self, bytes: &[u8]) -> u64 {
        let start = self.arena.len() as u64;
        self.arena.extend_from_slice(bytes);
        if bytes.is_empty() { 0 } else { start | (bytes.len() as u64) << 32 }
    }
}
