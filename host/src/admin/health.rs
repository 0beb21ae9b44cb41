//! `/healthz`, `/readyz`, `/v1/pipeline`: whether the server lives, is ready, and how far it is.
//!
//! Invariant: without the token nothing is told but one word.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::{Reply, Response};

use super::{State, sources, wire};
use crate::deploy::Flow;

/// Whether changes flow. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// From now on they do.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// It answers, so it lives.
pub(super) fn health() -> Response {
    word(StatusCode::OK, "ok\n")
}

/// `ok`, or why not.
pub(super) fn ready(state: &State) -> Response {
    if state.stop.is_cancelled() {
        word(StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    } else if !state.parts.readiness.is_set() {
        word(StatusCode::SERVICE_UNAVAILABLE, "starting\n")
    } else if matches!(state.parts.deployer.flow(), Flow::Paused { .. }) {
        word(StatusCode::SERVICE_UNAVAILABLE, "paused\n")
    } else if state.parts.metrics.cache.trouble().is_some() {
        word(StatusCode::SERVICE_UNAVAILABLE, "cache\n")
    } else {
        word(StatusCode::OK, "ok\n")
    }
}

fn word(status: StatusCode, word: &'static str) -> Response {
    let mut response = warp::reply::with_status(word, status).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Where the pipeline is.
pub(super) fn pipeline(state: &State) -> Response {
    wire::json(&pipeline_value(state))
}

/// The pipeline, the sources, and the counters of plugins by name.
pub(super) fn status(state: &State) -> Value {
    let mut plugins = serde_json::Map::new();
    for (name, counters) in state.parts.metrics.plugins() {
        plugins.insert(name.to_string(), wire::counters(&counters));
    }
    json!({"pipeline": pipeline_value(state), "sources": sources::value(state), "plugins": plugins})
}

fn pipeline_value(state: &State) -> Value {
    let partition = state.parts.partition;
    let kept = state.parts.log.bounds(partition);
    let mut value = json!({
        "partition": partition.0,
        "committed": state.parts.bus.committed(partition).0,
        "first": kept.start.0,
        "end": kept.end.0,
        "head": state.parts.bus.head().borrow().0,
    });
    match state.parts.deployer.flow() {
        Flow::Running => value["state"] = "running".into(),
        Flow::Paused { plugin, offset, fault } => {
            value["state"] = "paused".into();
            value["plugin"] = (*plugin).into();
            value["offset"] = offset.0.into();
            value["fault"] = fault.into();
        }
    }
    if let Some(trouble) = state.parts.metrics.cache.trouble() {
        value["cache"] = trouble.into();
    }
    value
}
