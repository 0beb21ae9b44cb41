//! What clients say, in commands of WebSocket and bodies of requests, without a gateway.
//!
//! `codes` and `query` stand in for the host's, which know of HTTP.

mod codes;
mod query;
mod socket;
#[path = "../../../host/src/gateway/spoken.rs"]
#[allow(dead_code, reason = "only parts are used")]
mod spoken;

use spoken::{Fields, Spoken};

use crate::event::{EventName, has_control};
use crate::intake::Body;
use crate::limits::ID_BYTES_MAX;

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
