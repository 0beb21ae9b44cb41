//! `/v1/dead-letters`: changes that plugins could not digest.
//!
//! In: which, and what to do with them. Out: what is known of them; `letters` decides.
//!
//! Invariant: the rows of a change are told of one letter at a time, where somebody asks for that one.

use serde_json::{Value, json};
use warp::http::StatusCode;
use warp::reply::Response;

use super::query::Query;
use super::refusal::{Refusal, sentence};
use super::{State, wire};
use crate::bus::{Discard, LetterState, Stage};
use crate::event::LetterId;
use crate::letters::{About, Force, LetterError, Shown, Whole};
use crate::limits::LETTERS_READ_COUNT_MAX;

const COUNT: usize = 100;

/// Letters, newest first; `next` is the `before` of the next page.
pub(super) async fn list(state: &State, query: &str) -> Result<Response, Refusal> {
    let query = Query::of(query, &["plugin", "before", "limit"])?;
    let count_max = query.count("limit", COUNT, LETTERS_READ_COUNT_MAX)?;
    let before = query.number("before")?.map(LetterId);
    let letters = state.parts.letters.list(query.text("plugin"), before, count_max).await?;
    // Fewer may have come because they are large: only an empty page is the last for sure.
    let next = letters.last().map(|shown| shown.kept.id.0);
    let letters: Vec<_> = letters.iter().map(letter).collect();
    Ok(wire::json(&json!({"letters": letters, "next": next})))
}

/// One, with the rows of its change.
pub(super) async fn show(state: &State, id: &str) -> Result<Response, Refusal> {
    let Whole { shown, row, old } = state.parts.letters.get(id_of(id)?).await?;
    let mut value = letter(&shown);
    let parse = |row: Option<String>| row.and_then(|row| serde_json::from_str::<Value>(&row).ok());
    value["row"] = parse(row).into();
    value["old"] = parse(old).into();
    Ok(wire::json(&value))
}

/// Hands one over again.
pub(super) async fn replay(state: &State, id: &str, query: &str) -> Result<Response, Refusal> {
    let force = if Query::of(query, &["force"])?.is("force")? { Force::Yes } else { Force::No };
    let id = id_of(id)?;
    let offset = state.parts.letters.replay(id, force).await?;
    Ok(wire::json(&json!({"id": id.0, "offset": offset.0})))
}

/// Removes one.
pub(super) async fn discard(state: &State, id: &str) -> Result<Response, Refusal> {
    let id = id_of(id)?;
    match state.parts.letters.discard(Discard::One(id)).await? {
        0 => Err(LetterError::Gone(id).into()),
        count => Ok(wire::json(&json!({"discarded": count}))),
    }
}

/// Removes all of a plugin.
pub(super) async fn discard_all(state: &State, query: &str) -> Result<Response, Refusal> {
    let query = Query::of(query, &["plugin"])?;
    let plugin = query.text("plugin");
    let plugin = plugin.ok_or_else(|| Refusal::invalid("name the plugin: /v1/dead-letters?plugin=NAME"))?;
    let count = state.parts.letters.discard(Discard::AllOf(plugin.to_owned())).await?;
    Ok(wire::json(&json!({"discarded": count})))
}

fn id_of(text: &str) -> Result<LetterId, Refusal> {
    text.parse().map_err(|_| Refusal::invalid(format!("`{text}` is no number of a dead letter")))
}

fn letter(shown: &Shown) -> Value {
    let Shown { kept, about } = shown;
    let since = kept.set_aside_at.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut value = json!({
        "id": kept.id.0,
        "plugin": kept.letter.plugin,
        "generation": kept.letter.generation,
        "digest": kept.letter.digest,
        "stage": match kept.letter.stage {
            Stage::Filter => "filter",
            Stage::Router => "router",
        },
        "fault": kept.letter.fault,
        "offset": kept.letter.offset.0,
        "at": u64::try_from(since.as_micros()).unwrap_or(u64::MAX),
        "state": match kept.state {
            LetterState::Waiting => "waiting",
            LetterState::Replaying => "replaying",
        },
    });
    if let Some(About { source, schema, table, operation, key, position, transaction }) = about {
        value["change"] = json!({
            "source": source,
            "schema": schema,
            "table": table,
            "operation": operation.name(),
            "key": key,
            "position": position.to_string(),
            "transaction": transaction,
        });
    }
    value
}

impl From<LetterError> for Refusal {
    fn from(error: LetterError) -> Self {
        let (status, code) = match &error {
            LetterError::Gone(_) => (StatusCode::NOT_FOUND, "unknown_letter"),
            LetterError::Unreadable { .. } => (StatusCode::CONFLICT, "letter_unreadable"),
            LetterError::Outdated { .. } => (StatusCode::CONFLICT, "letter_outdated"),
            LetterError::Keyless { .. } | LetterError::Forgotten { .. } | LetterError::TooFar(_) => {
                (StatusCode::CONFLICT, "letter_may_be_outdated")
            }
            LetterError::TooMany => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
            LetterError::Log(_) | LetterError::Bus(_) => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
        };
        Self::new(status, code, sentence(&error)).logged()
    }
}
