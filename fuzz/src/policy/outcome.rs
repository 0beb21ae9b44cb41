//! Answers: whatever lists a plugin gives, they are routes or an error, whole, and every route obeys the rules.

use libfuzzer_sys::arbitrary::{self, Arbitrary};

use super::answer::{self, Asked, Route};
use super::batch::Member;
use super::bindings::exports::twohop::policy::router::Outcome;
use super::subscription::MatchId;
use crate::event::Channel;
use crate::limits::{EVENT_BYTES_MAX, PAYLOAD_BYTES_MAX};

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

#[derive(Debug, Clone, Arbitrary)]
enum Span {
    Zero,
    Within(u8, u8),
    Any(u64),
}

#[derive(Debug, Arbitrary)]
enum Arena {
    Text(String),
    Bytes(Vec<u8>),
}

/// What is wrong with the lists as a whole.
#[derive(Debug, Arbitrary)]
enum Spoiled {
    Unsorted,
    Lengths([u8; 4]),
    Attributes(Vec<u32>, Vec<u64>),
    FarChange(u32),
}

/// Reads the answer.
///
/// # Panics
/// If an invariant does not hold.
pub fn check(input: &Input) {
    let outcome = outcome(input);
    let members: Vec<_> = (0..usize::from(input.members_count))
        .map(|nth| Member { change: nth * 10 + 3, found: MatchId::default() })
        .collect();
    let mut routes = Vec::new();
    let Ok(rejected) = answer::read(&outcome, Asked { plugin: 5, members: &members }, &mut routes) else {
        assert!(routes.is_empty(), "a wrong answer leaves nothing");
        return;
    };
    assert!(routes.len() <= outcome.changes.len());
    assert!(routes.is_sorted_by_key(|directed| directed.change));
    assert!(rejected.is_sorted_by(|(one, _), (next, _)| one < next));
    for directed in &routes {
        let nth = (directed.change - 3) / 10;
        assert!(directed.plugin == 5 && members[nth].change == directed.change);
        assert!(rejected.iter().all(|(change, _)| *change as usize != nth), "what is rejected has no routes");
        let Route::Channel { channel, event, payload, .. } = &directed.route;
        assert_eq!(Channel::check(channel.as_str()), Ok(()));
        assert!(event.len() <= EVENT_BYTES_MAX && !event.contains(char::is_control));
        let bytes = match payload {
            answer::Payload::Row | answer::Payload::Nothing => continue,
            answer::Payload::Json(bytes) => {
                assert!(serde_json::from_slice::<&serde_json::value::RawValue>(bytes).is_ok());
                bytes
            }
            answer::Payload::Text(bytes) => {
                assert!(std::str::from_utf8(bytes).is_ok());
                bytes
            }
            answer::Payload::Bytes(bytes) => bytes,
        };
        assert!(bytes.len() <= PAYLOAD_BYTES_MAX);
    }
}

fn outcome(input: &Input) -> Outcome {
    let arena = match &input.arena {
        Arena::Text(text) => text.clone().into_bytes(),
        Arena::Bytes(bytes) => bytes.clone(),
    };
    let mut routes = input.routes.clone();
    let change = |route: &MadeRoute| u32::from(route.change) % u32::from(input.members_count.max(1));
    if !matches!(input.spoiled, Some(Spoiled::Unsorted)) {
        routes.sort_by_key(change);
    }
    let spans = routes.iter().flat_map(|route| &route.spans).map(|span| number(span, arena.len()));
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

fn number(span: &Span, arena: usize) -> u64 {
    match span {
        Span::Zero => 0,
        Span::Within(start, length) => {
            let start = usize::from(*start) % (arena + 1);
            let length = usize::from(*length) % (arena - start + 1);
            start as u64 | (length as u64) << 32
        }
        Span::Any(number) => *number,
    }
}
