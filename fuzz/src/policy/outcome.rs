//! Routers' answers: whatever lists a plugin gives, they are routes or an error, whole, and every route obeys the rules.

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::arbitrary::{self, Arbitrary};

use super::answer::{self, Asked, Routes};
use super::bindings::exports::twohop::policy::router::Outcome;
use super::handed::Handed;
use super::route::{CacheKeys, Entry, Payload, Route};
use super::spans::{Arena, Span};
use crate::event::{Channel, Table};
use crate::limits::{
    EVENT_BYTES_MAX, ID_BYTES_MAX, KEY_BYTES_MAX, PAYLOAD_BYTES_MAX, ROUTES_PER_CHANGE_MAX, TOPIC_BYTES_MAX,
};

/// Lists that fit each other, mostly.
#[derive(Debug, Arbitrary)]
pub struct Input {
    members_count: u8,
    routes: Vec<MadeRoute>,
    arena: Arena,
    spoiled: Option<Spoiled>,
}

#[derive(Debug, Clone, Arbitrary)]
struct MadeRoute {
    change: u8,
    kind: u8,
    options: u8,
    spans: [Span; 4],
    number: Option<i64>,
}

/// What is wrong with the lists as a whole.
#[derive(Debug, Arbitrary)]
enum Spoiled {
    Unsorted,
    Lengths([u8; 4]),
    Attributes(Vec<u32>, Vec<u64>),
    FarChange(u32),
}

/// As many as an input can ask for.
static HANDED: LazyLock<Handed> = LazyLock::new(|| {
    let table = Table { source: "s".into(), schema: "p".into(), name: "t".into(), columns: [].into() };
    Handed::new(&Arc::new(table), usize::from(u8::MAX))
});

/// Reads the answer.
///
/// # Panics
/// If an invariant does not hold.
pub fn check(input: &Input) {
    let outcome = outcome(input);
    let members = &HANDED.members()[..usize::from(input.members_count)];
    let mut routes = Routes::default();
    let Ok(rejected) = answer::routes(outcome.clone(), Asked { plugin: 5, members }, &mut routes) else {
        assert!(routes.is_empty(), "a wrong answer leaves nothing");
        return;
    };
    assert!(routes.len() <= outcome.changes.len());
    let directed: Vec<_> = routes.iter().map(|directed| directed.change()).collect();
    assert!(directed.is_sorted());
    assert!(rejected.is_sorted_by(|(one, _), (next, _)| one < next));
    assert!(rejected.iter().all(|(change, why)| *change < input.members_count.into() && !why.is_empty()));
    let is_rejected = |change: u32| rejected.iter().any(|(rejected, _)| *rejected == change);
    let standing = outcome.changes.iter().filter(|change| !is_rejected(**change));
    let standing: Vec<_> = standing.map(|change| Handed::nth(*change as usize)).collect();
    assert_eq!(directed, standing, "each route but those of rejected changes, for the change that it names");
    for same in directed.chunk_by(|one, next| one == next) {
        assert!(same.len() <= ROUTES_PER_CHANGE_MAX);
    }
    for directed in routes.iter() {
        assert_eq!(directed.plugin(), 5);
        let route = directed.route();
        look(&route);
        assert!(!route.to_string().contains(char::is_control), "it is shown as one line");
    }
}

/// Whether the route keeps to the rules.
fn look(route: &Route) {
    let name = |name: &str, bytes_max: usize| assert!((1..=bytes_max).contains(&name.len()));
    match route {
        Route::Channel { channel, event, payload, .. } => {
            assert_eq!(Channel::check(channel.as_str()), Ok(()));
            assert!(event.len() <= EVENT_BYTES_MAX && !event.contains(char::is_control));
            assert_ne!(&**event, crate::event::RESET_EVENT);
            look_at_payload(payload);
        }
        Route::Audience(entry) => look_at_entry(entry),
        Route::Inbox { user, entry } => {
            name(user, ID_BYTES_MAX);
            look_at_entry(entry);
        }
        Route::Retract { author: one, item: other }
        | Route::Follow { follower: one, followee: other }
        | Route::Unfollow { follower: one, followee: other } => {
            name(one, ID_BYTES_MAX);
            name(other, ID_BYTES_MAX);
        }
        Route::Cache(CacheKeys::One(key)) => name(key, KEY_BYTES_MAX),
        Route::Cache(CacheKeys::Prefix(prefix)) => assert!(prefix.len() <= KEY_BYTES_MAX),
        Route::Topic { topic, key, payload } => {
            name(topic, TOPIC_BYTES_MAX);
            assert!(key.len() <= KEY_BYTES_MAX);
            look_at_payload(payload);
        }
    }
}

fn look_at_entry(entry: &Entry) {
    for name in [&entry.author, &entry.item] {
        assert!((1..=ID_BYTES_MAX).contains(&name.len()));
    }
    look_at_payload(&entry.payload);
}

fn look_at_payload(payload: &Payload) {
    let bytes = match payload {
        Payload::Row | Payload::Envelope | Payload::Nothing => return,
        Payload::Json(bytes) => {
            assert!(serde_json::from_slice::<&serde_json::value::RawValue>(bytes).is_ok());
            bytes
        }
        Payload::Text(bytes) => {
            assert!(std::str::from_utf8(bytes).is_ok());
            bytes
        }
        Payload::Bytes(bytes) => bytes,
    };
    assert!(bytes.len() <= PAYLOAD_BYTES_MAX);
}

fn outcome(input: &Input) -> Outcome {
    let arena = input.arena.bytes();
    let mut routes = input.routes.clone();
    let change = |route: &MadeRoute| u32::from(route.change) % u32::from(input.members_count.max(1));
    if !matches!(input.spoiled, Some(Spoiled::Unsorted)) {
        routes.sort_by_key(change);
    }
    let spans = routes.iter().flat_map(|route| &route.spans).map(|span| span.number(arena.len()));
    let mut outcome = Outcome {
        changes: routes.iter().map(change).collect(),
        kinds: routes.iter().map(|route| route.kind % 10).collect(),
        options: routes.iter().map(|route| route.options).collect(),
        spans: spans.collect(),
        numbers: routes.iter().map(|route| route.number.unwrap_or(0)).collect(),
        attributed_routes: vec![],
        attributes: vec![],
        arena,
    };
    match &input.spoiled {
        None | Some(Spoiled::Unsorted) => {}
        Some(Spoiled::Lengths([kinds, options, spans, numbers])) => {
            outcome.kinds.resize((*kinds).into(), 0);
            outcome.options.resize((*options).into(), 0);
            outcome.spans.resize((*spans).into(), 0);
            outcome.numbers.resize((*numbers).into(), 0);
        }
        Some(Spoiled::Attributes(routes, attributes)) => {
            outcome.attributed_routes.clone_from(routes);
            outcome.attributes.clone_from(attributes);
        }
        Some(Spoiled::FarChange(change)) => {
            if let Some(last) = outcome.changes.last_mut() {
                *last = *change;
            }
        }
    }
    outcome
}
