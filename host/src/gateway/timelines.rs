//! `GET /v1/timelines/USER?limit=100&cursor=…`: a page of a user's timeline, newest first.
//!
//! In: a user, the cursor of the page before. Out: `{"entries":[…],"next":…}`; `next` is the `cursor` of the next page, and
//! null at the end.
//!
//! Who may read it is whoever may listen to the channel `timeline:USER` and read its history.

use serde::Serialize;
use serde_json::value::RawValue;
use warp::reply::Response;

use super::admission::admit;
use super::codes::{Code, Refusal};
use super::history::{json_response, may_read_history, unavailable};
use super::query::{Query, channel_named, decoded};
use super::routes::{Asker, State};
use crate::limits::{ID_BYTES_MAX, TIMELINE_PAGE_COUNT_MAX};
use crate::timeline::{Cursor, Entry, Page};

const LIMIT_DEFAULT: usize = 100;
const CHANNEL_PREFIX: &str = "timeline:";

/// Answers the request; `user` is as it stands in the path.
pub(super) async fn read(state: &State, asker: &Asker, user: &str, query: &Query) -> Response {
    match page(state, asker, user, query).await {
        Ok(response) => response,
        Err(refusal) => refusal.response(),
    }
}

async fn page(state: &State, asker: &Asker, user: &str, query: &Query) -> Result<Response, Refusal> {
    let user = decoded(user)?;
    if user.len() > ID_BYTES_MAX {
        let message = format!("a user's id has {} bytes, at most {ID_BYTES_MAX} are allowed", user.len());
        return Err(Refusal::new(Code::QueryInvalid, message));
    }
    let channel = channel_named(&format!("{CHANNEL_PREFIX}{user}"))?;
    let limit = query.number("limit", LIMIT_DEFAULT, 1, TIMELINE_PAGE_COUNT_MAX)?;
    let before = query.get("cursor").map(str::parse::<Cursor>).transpose();
    let before = before.map_err(|error| Refusal::new(Code::QueryInvalid, error.to_string()))?;
    let permit = admit(state, asker, query, std::slice::from_ref(&channel)).await?;
    may_read_history(state, &permit, &channel)?;
    let Some(timelines) = &state.timelines else {
        return Err(Refusal::new(Code::NotFound, "this server keeps no timelines"));
    };
    let page = timelines.read(&user, before, limit).await.map_err(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, "cannot read a timeline");
        unavailable()
    })?;
    answer(&page)
}

#[derive(Serialize)]
struct Shown<'a> {
    entries: Vec<ShownEntry<'a>>,
    next: Option<String>,
}

#[derive(Serialize)]
struct ShownEntry<'a> {
    author: &'a str,
    item: &'a str,
    /// Microseconds since the Unix epoch.
    time: i64,
    edits: u64,
    payload: &'a RawValue,
}

fn answer(page: &Page) -> Result<Response, Refusal> {
    let entries = page.entries.iter().map(shown).collect::<Result<_, _>>();
    let text = entries.and_then(|entries| {
        let next = page.next.map(|cursor| cursor.to_string());
        serde_json::to_vec(&Shown { entries, next })
    });
    match text {
        Ok(text) => Ok(json_response(text.into())),
        Err(error) => {
            tracing::error!(%error, "a kept post is no JSON");
            Err(unavailable())
        }
    }
}

fn shown(entry: &Entry) -> serde_json::Result<ShownEntry<'_>> {
    Ok(ShownEntry {
        author: &entry.author,
        item: &entry.item,
        time: entry.place.time.0,
        edits: entry.edits_count,
        payload: serde_json::from_slice(&entry.payload)?,
    })
}
