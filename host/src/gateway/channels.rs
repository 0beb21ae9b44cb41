//! `GET /v1/channels?prefix=&after=&limit=`: the channels that have kept messages.
//!
//! In: a prefix, all of which the client must be allowed to listen to, the last name of the page before, a limit. Out: `{"channels":[…],"next":…}` in order of names, where
//! `next` is the `after` of the next page, or null if this is the last.

use warp::reply::Response;

use super::admission::may_list;
use super::codes::{Code, Refusal};
use super::history::{json_response, unavailable};
use super::query::Query;
use super::routes::{Asker, State};
use crate::event::Channel;
use crate::limits::{CHANNEL_BYTES_MAX, CHANNELS_PAGE_COUNT_MAX};

const LIMIT_DEFAULT: usize = 100;

/// Answers the request.
pub(super) async fn list(state: &State, asker: &Asker, query: &Query) -> Response {
    match page(state, asker, query).await {
        Ok(response) => response,
        Err(refusal) => refusal.response(),
    }
}

async fn page(state: &State, asker: &Asker, query: &Query) -> Result<Response, Refusal> {
    let (prefix, after) = (query.get("prefix").unwrap_or(""), query.get("after").unwrap_or(""));
    if prefix.len().max(after.len()) > CHANNEL_BYTES_MAX {
        let message = format!("prefix and after have at most {CHANNEL_BYTES_MAX} bytes");
        return Err(Refusal::new(Code::QueryInvalid, message));
    }
    let limit = query.number("limit", LIMIT_DEFAULT, 1, CHANNELS_PAGE_COUNT_MAX)?;
    may_list(state, asker, query, prefix).await?;
    // One more tells whether there is another page.
    let mut channels = state.bus.channels(prefix, after, limit + 1).await.map_err(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, "cannot list channels");
        unavailable()
    })?;
    let more = channels.len() > limit;
    channels.truncate(limit);
    let names: Vec<&str> = channels.iter().map(Channel::as_str).collect();
    let next = if more { names.last() } else { None };
    let body = serde_json::json!({"channels": names, "next": next});
    Ok(json_response(body.to_string().into()))
}
