//! `GET /v1/channels?prefix=&after=&limit=`: the channels that have kept messages.
//!
//! In: a prefix, all of which the client must be allowed to listen to, the last name of the page before, a limit. Out: `{"channels":[…],"next":…}` in order of names, where
//! `next` is the `after` of the next page, or null if this is the last.

use warp::http::{HeaderValue, header};
use warp::reply::{Reply, Response};

use super::codes::{Code, Refusal};
use super::routes::{Asker, State};
use crate::access::{Deed, Wanted};
use crate::event::Channel;
use crate::limits::{CHANNEL_BYTES_MAX, CHANNELS_PAGE_COUNT_MAX};

const LIMIT_DEFAULT: usize = 100;

/// Answers the request.
pub(super) async fn list(state: &State, asker: &Asker, query: &[(String, String)]) -> Response {
    match page(state, asker, query).await {
        Ok(response) => response,
        Err(refusal) => refusal.response(),
    }
}

async fn page(state: &State, asker: &Asker, query: &[(String, String)]) -> Result<Response, Refusal> {
    let parameter =
        |name: &str| query.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let (prefix, after) = (parameter("prefix"), parameter("after"));
    if prefix.len().max(after.len()) > CHANNEL_BYTES_MAX {
        let message = format!("prefix and after have at most {CHANNEL_BYTES_MAX} bytes");
        return Err(Refusal::new(Code::QueryInvalid, message));
    }
    let limit = match parameter("limit") {
        "" => LIMIT_DEFAULT,
        text => text.parse().ok().filter(|limit| (1..=CHANNELS_PAGE_COUNT_MAX).contains(limit)).ok_or_else(
            || {
                let message = format!("limit is a number from 1 to {CHANNELS_PAGE_COUNT_MAX}");
                Refusal::new(Code::QueryInvalid, message)
            },
        )?,
    };
    let visitor = asker.visitor(&state.access, query, Deed::Read).await?;
    state.access.admit(visitor, &[Wanted::prefix(prefix)]).await?;
    // One more tells whether there is another page.
    let mut channels = state.bus.channels(prefix, after, limit + 1).await.map_err(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, "cannot list channels");
        Refusal::new(Code::HistoryUnavailable, "the history cannot be read at the moment")
    })?;
    let more = channels.len() > limit;
    channels.truncate(limit);
    let names: Vec<&str> = channels.iter().map(Channel::as_str).collect();
    let next = if more { names.last() } else { None };
    let body = serde_json::json!({"channels": names, "next": next});
    let mut response = warp::reply::json(&body).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}
