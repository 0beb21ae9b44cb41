//! What clients say, in commands of WebSocket and bodies of requests, and what they ask for, without a gateway.
//!
//! `codes` stands in for the host's, which knows of HTTP.

mod codes;
#[path = "../../../host/src/gateway/query.rs"]
#[allow(dead_code, reason = "only parts are used")]
mod query;
#[path = "../../../host/src/gateway/resume.rs"]
#[allow(dead_code, reason = "only parts are used")]
mod resume;
mod socket;
#[path = "../../../host/src/gateway/spoken.rs"]
#[allow(dead_code, reason = "only parts are used")]
mod spoken;

use std::collections::HashSet;

use query::{Query, channel_named, decoded};
use resume::{Reach, Resume, interpret};
use spoken::{Fields, Spoken};

use crate::event::{Channel, Epoch, EventName, Sequence, has_control};
use crate::intake::Body;
use crate::limits::{CHANNELS_PER_CONNECTION_MAX, ID_BYTES_MAX, RESUME_ID_BYTES_MAX};

/// Reads bytes, if they are text, as an id to go on from, and what follows the first space as the query of a request and
/// as a name in its path.
///
/// # Panics
/// If something is taken that is no place, no name or out of its bounds.
pub fn check_asked(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (id, rest) = text.split_once(' ').unwrap_or((text, text));
    let reach = Reach { epoch: Epoch(0x9f), floor: Sequence(10), head: Sequence(20) };
    if let Ok(Resume::After(sequence)) = interpret(id, reach) {
        assert!((reach.floor..=reach.head).contains(&sequence) && id.starts_with("9f."), "{id}");
        assert!(id.len() <= RESUME_ID_BYTES_MAX);
    }
    // As warp reads it.
    if let Ok(parameters) = serde_urlencoded::from_str::<Vec<(String, String)>>(rest) {
        let query = Query::new(parameters);
        if let Ok(channels) = query.channels("/") {
            assert!((1..=CHANNELS_PER_CONNECTION_MAX).contains(&channels.len()));
            assert_eq!(channels.iter().collect::<HashSet<_>>().len(), channels.len());
            assert!(channels.iter().all(is_name), "{channels:?}");
        }
        assert!(
            query.number("limit", 7, 5, 9).is_ok_and(|number| (5..=9).contains(&number))
                || query.get("limit").is_some()
        );
    }
    if let Ok(channel) = decoded(rest).and_then(|name| channel_named(&name)) {
        assert!(is_name(&channel), "{channel}");
    }
}

fn is_name(channel: &Channel) -> bool {
    let name = channel.as_str();
    Channel::new(name).is_ok() && !has_control(name) && !name.starts_with('$')
}

/// Reads bytes as a body and, if they are text, as a command.
///
/// # Panics
/// If something is taken that a plugin's answer with it would be refused for, or that another reader reads otherwise.
pub fn check(bytes: &[u8]) {
    if let Ok(spoken) = Fields::of_request(bytes).and_then(|fields| fields.spoken(None)) {
        check_spoken(&spoken);
    }
    if let Some(spoken) = std::str::from_utf8(bytes).ok().and_then(socket::published) {
        check_spoken(&spoken);
    }
}

fn check_spoken(spoken: &Spoken) {
    let Spoken { event, id, body } = spoken;
    assert!(event.as_ref().is_none_or(|event| !event.is_empty() && EventName::check(event).is_ok()));
    assert!(id.as_ref().is_none_or(|id| (1..=ID_BYTES_MAX).contains(&id.len()) && !has_control(id)));
    if let Body::Json(json) = body {
        // As an answer of a router is checked.
        assert!(serde_json::from_slice::<serde::de::IgnoredAny>(json.as_bytes()).is_ok(), "{json}");
    }
}
