//! `/v1/sources`: how far the snapshots of tables are, and that one is to be read again.
//!
//! In: a source and a table. Out: what `source` says; figures of the sources that read tables.

use serde::Deserialize;
use serde_json::{Value, json};
use warp::http::StatusCode;
use warp::reply::Response;

use super::body::Body;
use super::refusal::{Refusal, sentence};
use super::{State, wire};
use crate::source::AskError;
use crate::telemetry::TableProgress;

/// The body of a request for a snapshot.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    table: String,
}

/// The sources that read tables, and how far their snapshots are.
pub(super) fn list(state: &State) -> Response {
    wire::json(&json!({"sources": value(state)}))
}

/// Has all rows of a table read again.
pub(super) async fn snapshot(state: &State, source: &str, body: Body) -> Result<Response, Refusal> {
    let Some(asking) = state.parts.sources.get(source) else {
        let known: Vec<_> = state.parts.sources.keys().map(|name| format!("`{name}`")).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let message = format!("there is no source `{source}` that reads tables: there is {known}");
        return Err(Refusal::new(StatusCode::NOT_FOUND, "unknown_source", message));
    };
    let Wanted { table } = body.json().await?;
    let table = asking.snapshot(&table).await?;
    Ok(wire::json(&json!({"source": source, "table": table})))
}

/// By the names of the sources.
pub(super) fn value(state: &State) -> Value {
    let mut sources = serde_json::Map::new();
    for (name, snapshot) in state.parts.metrics.snapshots() {
        let percent = |part: f64| (part * 1_000.0).floor() / 10.0;
        let table = |table: &TableProgress| {
            json!({
                "table": table.table,
                "rows": table.rows,
                "estimate": table.estimate,
                "percent": percent(table.part()),
            })
        };
        let under_way = snapshot.part().map(|part| {
            json!({
                "percent": percent(part),
                "seconds_left": snapshot.time_left().map(|left| left.as_secs()),
                "tables": snapshot.tables().iter().map(table).collect::<Vec<_>>(),
            })
        });
        sources.insert(
            name.to_string(),
            json!({"snapshot": under_way, "snapshot_rows": snapshot.rows(), "gaps": snapshot.gaps()}),
        );
    }
    sources.into()
}

impl From<AskError> for Refusal {
    fn from(error: AskError) -> Self {
        let (status, code) = match &error {
            AskError::Name(_) => (StatusCode::BAD_REQUEST, "request_invalid"),
            AskError::Unknown { .. } => (StatusCode::NOT_FOUND, "unknown_table"),
            AskError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
            AskError::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            AskError::Away(_) => (StatusCode::SERVICE_UNAVAILABLE, "source_away"),
        };
        Self::new(status, code, sentence(&error))
    }
}
