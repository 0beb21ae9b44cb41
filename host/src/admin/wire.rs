//! The JSON of the admin listener: how plain values are written.
//!
//! Times are microseconds since the Unix epoch, durations nanoseconds, digests hexadecimal. Offsets and counts are
//! numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use warp::http::{HeaderValue, header};
use warp::reply::{Reply, Response};

use super::refusal::Refusal;
use crate::deploy::{Activated, PluginStatus, Request, ShadowReport};
use crate::policy::{Comparison, Example, Grants, OnFault, PluginLine, Profile, Side};
use crate::registry::{Component, Entry, Generation, Standing};
use crate::telemetry::PluginMetrics;

/// An answer.
pub(super) fn json(body: &Value) -> Response {
    let mut response = warp::reply::json(body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

pub(super) fn component(component: &Component) -> Value {
    let Component { digest, bytes_count, name, version, description, stages, profile, by, at } = component;
    json!({
        "digest": digest.to_string(),
        "bytes": bytes_count,
        "name": name,
        "version": version,
        "description": description,
        "stages": stages,
        "profile": profile_name(*profile),
        "by": by,
        "at": at.0,
    })
}

pub(super) fn plugin(status: &PluginStatus) -> Value {
    let PluginStatus { plugin, active, generations_count, in_file, shadow } = status;
    let state = match active.as_ref().map(|active| active.standing) {
        None => "inactive",
        Some(Standing::Running) => "active",
        Some(Standing::Quarantined) => "quarantined",
    };
    json!({
        "plugin": **plugin,
        "state": state,
        "active": active.as_ref().map(|active| generation(&active.generation)),
        "generations_count": generations_count,
        "in_file": in_file,
        "shadow": shadow.as_ref().map(request),
    })
}

pub(super) fn generation(generation: &Generation) -> Value {
    let Generation { activation, by, at, quarantined_at } = generation;
    let mut value = request(&Request::of(activation));
    value["generation"] = activation.generation.into();
    value["by"] = by.as_str().into();
    value["at"] = at.0.into();
    value["quarantined_at"] = quarantined_at.map(|at| at.0).into();
    value
}

pub(super) fn request(request: &Request) -> Value {
    let Request { plugin: _, digest, order, settings, grants, profile, on_fault } = request;
    json!({
        "digest": digest.to_string(),
        "order": order,
        "settings": settings,
        "grants": self::grants(grants),
        "profile": profile_name(*profile),
        "on_fault": on_fault_name(*on_fault),
    })
}

fn grants(grants: &Grants) -> Value {
    let Grants { channels, audience, topics, cache } = grants;
    let texts =
        |patterns: &[crate::policy::Pattern]| patterns.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "channels": texts(channels),
        "audience": audience,
        "topics": texts(topics),
        "cache": texts(cache),
    })
}

pub(super) fn comparison(comparison: &Comparison) -> Value {
    json!({
        "seen": comparison.seen_count,
        "equal": comparison.equal_count,
        "different": comparison.different_count,
        "only_active": comparison.only_active_count,
        "only_candidate": comparison.only_candidate_count,
        "active": side(&comparison.active),
        "candidate": side(&comparison.candidate),
        "examples": comparison.examples.iter().map(example).collect::<Vec<_>>(),
        "stopped": comparison.stopped,
    })
}

fn side(side: &Side) -> Value {
    let Side { seen_count, effects_count, only_here_count, faults_count, time } = side;
    json!({
        "seen": seen_count,
        "effects": effects_count,
        "only_here": only_here_count,
        "faults": faults_count,
        "nanoseconds": u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
    })
}

fn example(example: &Example) -> Value {
    let Example { of, key, position, active, candidate } = example;
    json!({
        "of": of,
        "key": key,
        "position": position.map(|position| position.to_string()),
        "active": active,
        "candidate": candidate,
    })
}

pub(super) fn shadow(report: &ShadowReport) -> Value {
    let ShadowReport { candidate, by, since, left_out_count, comparison } = report;
    json!({
        "plugin": *candidate.plugin,
        "candidate": request(candidate),
        "by": by,
        "since": since.0,
        "left_out": left_out_count,
        "comparison": self::comparison(comparison),
    })
}

pub(super) fn entry(entry: &Entry) -> Value {
    let note = &entry.note;
    json!({
        "id": entry.id,
        "at": entry.at.0,
        "by": note.by,
        "action": note.action.as_str(),
        "plugin": note.plugin,
        "generation": note.generation,
        "digest": note.digest.map(|digest| digest.to_string()),
        "from": note.from.map(|offset| offset.0),
        "settings": note.settings,
        "text": note.text,
    })
}

pub(super) fn line(line: &PluginLine) -> Value {
    let PluginLine { id, at, plugin, generation, level, text } = line;
    json!({
        "id": id,
        "at": at.0,
        "plugin": **plugin,
        "generation": generation,
        "level": level.to_string(),
        "text": text,
    })
}

fn profile_name(profile: Profile) -> &'static str {
    match profile {
        Profile::Small => "small",
        Profile::Large => "large",
    }
}

/// # Errors
/// If there is no such profile.
pub(super) fn profile_of(name: &str) -> Result<Profile, Refusal> {
    match name {
        "small" => Ok(Profile::Small),
        "large" => Ok(Profile::Large),
        other => Err(Refusal::invalid(format!("there is no profile `{other}`: there are small and large"))),
    }
}

fn on_fault_name(on_fault: OnFault) -> &'static str {
    match on_fault {
        OnFault::SetAside => "set-aside",
        OnFault::Pause => "pause",
    }
}

/// # Errors
/// If there is no such thing.
pub(super) fn on_fault_of(name: &str) -> Result<OnFault, Refusal> {
    match name {
        "set-aside" => Ok(OnFault::SetAside),
        "pause" => Ok(OnFault::Pause),
        other => {
            Err(Refusal::invalid(format!("`on_fault` cannot be `{other}`: it is `set-aside` or `pause`")))
        }
    }
}

pub(super) fn counters(counters: &PluginMetrics) -> Value {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    json!({
        "changes": read(&counters.changes),
        "routes": read(&counters.routes),
        "refused_routes": read(&counters.refused_routes),
        "faults": read(&counters.faults),
        "missing_columns": read(&counters.missing_columns),
        "dead_letters": read(&counters.dead_letters),
        "nanoseconds": read(&counters.nanoseconds),
    })
}

pub(super) fn activated(plugin: &str, activated: Activated) -> Value {
    json!({"plugin": plugin, "generation": activated.generation, "from": activated.from.0})
}
