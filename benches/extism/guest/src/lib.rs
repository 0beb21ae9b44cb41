//! What `row-router` does, as an Extism plugin: a list of changes as JSON in, a list of routes as JSON out.
//!
//! Each change of the table goes to the channels `TABLE` and `TABLE:KEY` with its row as payload.
#![allow(missing_docs, reason = "the macro's function")]

use std::borrow::Cow;

use extism_pdk::{FnResult, plugin_fn};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Change<'a> {
    #[serde(borrow)]
    table: Cow<'a, str>,
    #[serde(borrow)]
    operation: Cow<'a, str>,
    #[serde(borrow)]
    key: Cow<'a, str>,
}

#[derive(Serialize)]
struct Route<'a> {
    change: usize,
    channel: Cow<'a, str>,
    event: &'a str,
    payload: &'static str,
}

#[plugin_fn]
pub fn direct(changes: String) -> FnResult<String> {
    let changes: Vec<Change> = serde_json::from_str(&changes)?;
    let mut routes = Vec::with_capacity(2 * changes.len());
    for (index, change) in changes.iter().enumerate() {
        if change.table != "orders" {
            continue;
        }
        let event = &*change.operation;
        routes.push(Route { change: index, channel: Cow::Borrowed(&*change.table), event, payload: "row" });
        let row = format!("{}:{}", change.table, change.key);
        routes.push(Route { change: index, channel: Cow::Owned(row), event, payload: "row" });
    }
    Ok(serde_json::to_string(&routes)?)
}
