//! `/v1/plugins`: the lives of plugins, and the audit list.
//!
//! In: what somebody wants. Out: what became of it; `deploy` decides.

use serde::Deserialize;
use serde_json::json;
use warp::http::StatusCode;
use warp::reply::Response;

use super::body::Body;
use super::query::Query;
use super::refusal::Refusal;
use super::request::Asked;
use super::{State, events, wire};
use crate::deploy::DeployError;
use crate::limits::{AUDIT_PAGE_COUNT_MAX, CHECK_COUNT_MAX};

const CHECK_COUNT: usize = 1_000;
const AUDIT_COUNT: usize = 100;

/// All plugins.
pub(super) async fn list(state: &State, query: &str) -> Result<Response, Refusal> {
    Query::of(query, &[])?;
    let plugins = state.parts.deployer.plugins().await?;
    let plugins: Vec<_> = plugins.iter().map(wire::plugin).collect();
    Ok(wire::json(&json!({"plugins": plugins})))
}

/// One, with its generations.
pub(super) async fn show(state: &State, plugin: &str, query: &str) -> Result<Response, Refusal> {
    Query::of(query, &[])?;
    let generations = state.parts.deployer.generations(plugin).await?;
    let plugins = state.parts.deployer.plugins().await?;
    let status = plugins.iter().find(|status| *status.plugin == *plugin);
    let mut value = status.map(wire::plugin).ok_or_else(|| unknown(plugin))?;
    value["generations"] = generations.iter().map(wire::generation).collect();
    Ok(wire::json(&value))
}

fn unknown(plugin: &str) -> Refusal {
    DeployError::UnknownPlugin(plugin.to_owned()).into()
}

/// Asks a candidate about the newest changes.
pub(super) async fn check(state: &State, plugin: &str, query: &str, body: Body) -> Result<Response, Refusal> {
    let count_max = Query::of(query, &["last"])?.count("last", CHECK_COUNT, CHECK_COUNT_MAX)?;
    let Ok(_place) = state.uploads.try_acquire() else {
        let message = "other checks or uploads are under way: try again when they are done";
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message));
    };
    let request = body.json::<Asked>().await?.request(&state.parts.deployer, plugin).await?;
    let comparison = state.parts.deployer.check(request, count_max).await?;
    Ok(wire::json(&wire::comparison(&comparison)))
}

/// Makes a generation.
pub(super) async fn activate(state: &State, by: &str, plugin: &str, body: Body) -> Result<Response, Refusal> {
    let request = body.json::<Asked>().await?.request(&state.parts.deployer, plugin).await?;
    let activated = state.parts.deployer.activate(by, request).await?;
    Ok(wire::json(&wire::activated(plugin, activated)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Back {
    to: Option<u64>,
}

/// Makes a generation of an earlier one: of `to`, or of the one before the active one.
pub(super) async fn roll_back(
    state: &State,
    by: &str,
    plugin: &str,
    body: Body,
) -> Result<Response, Refusal> {
    let deployer = &state.parts.deployer;
    let to = match body.json::<Back>().await?.to {
        Some(to) => to,
        None => before_active(state, plugin).await?,
    };
    let activated = deployer.roll_back(by, plugin, to).await?;
    Ok(wire::json(&wire::activated(plugin, activated)))
}

async fn before_active(state: &State, plugin: &str) -> Result<u64, Refusal> {
    let generations = state.parts.deployer.generations(plugin).await?;
    let plugins = state.parts.deployer.plugins().await?;
    let active = plugins.iter().find(|status| *status.plugin == *plugin);
    let active = active.and_then(|status| status.active.as_ref());
    // Of a plugin that judges no more, the newest generation is the one before.
    let active = active.map_or(u64::MAX, |active| active.generation.activation.generation);
    let numbers = generations.iter().map(|generation| generation.activation.generation);
    numbers.filter(|number| *number < active).max().ok_or_else(|| {
        let message =
            format!("`{plugin}` has no generation before the active one: there is nothing to go back to");
        Refusal::new(StatusCode::CONFLICT, "no_earlier_generation", message)
    })
}

/// Takes a plugin out.
pub(super) async fn deactivate(state: &State, by: &str, plugin: &str) -> Result<Response, Refusal> {
    let from = state.parts.deployer.deactivate(by, plugin).await?;
    Ok(wire::json(&json!({"plugin": plugin, "from": from.0})))
}

/// Starts a shadow.
pub(super) async fn start_shadow(
    state: &State,
    by: &str,
    plugin: &str,
    body: Body,
) -> Result<Response, Refusal> {
    let request = body.json::<Asked>().await?.request(&state.parts.deployer, plugin).await?;
    let candidate = wire::request(&request);
    state.parts.deployer.shadow(by, request).await?;
    Ok(wire::json(&json!({"plugin": plugin, "candidate": candidate})))
}

/// What a shadow has found.
pub(super) async fn shadow(state: &State, plugin: &str) -> Result<Response, Refusal> {
    Ok(wire::json(&wire::shadow(&state.parts.deployer.shadow_report(plugin).await?)))
}

/// Ends a shadow.
pub(super) async fn stop_shadow(state: &State, by: &str, plugin: &str) -> Result<Response, Refusal> {
    Ok(wire::json(&wire::shadow(&state.parts.deployer.stop_shadow(by, plugin).await?)))
}

/// Recent log lines; with `follow`, those that come as well.
pub(super) async fn logs(
    state: &std::sync::Arc<State>,
    plugin: &str,
    query: &str,
) -> Result<Response, Refusal> {
    let query = Query::of(query, &["after", "follow"])?;
    let (after, follow) = (query.number("after")?.unwrap_or(0), query.is("follow")?);
    let plugins = state.parts.deployer.plugins().await?;
    if !plugins.iter().any(|status| *status.plugin == *plugin) {
        return Err(unknown(plugin));
    }
    if follow {
        return Ok(events::lines(state, plugin, after));
    }
    let lines: Vec<_> = state.parts.lines.after(plugin, after).iter().map(|line| wire::line(line)).collect();
    Ok(wire::json(&json!({"lines": lines})))
}

/// Who did what.
pub(super) async fn audit(state: &State, query: &str) -> Result<Response, Refusal> {
    let query = Query::of(query, &["after", "limit"])?;
    let after = query.number("after")?.unwrap_or(0);
    let count_max = query.count("limit", AUDIT_COUNT, AUDIT_PAGE_COUNT_MAX)?;
    let mut entries = state.parts.deployer.audit(after, count_max + 1).await?;
    let more = entries.len() > count_max;
    entries.truncate(count_max);
    let next = if more { entries.last().map(|entry| entry.id) } else { None };
    let entries: Vec<_> = entries.iter().map(wire::entry).collect();
    Ok(wire::json(&json!({"entries": entries, "next": next})))
}
