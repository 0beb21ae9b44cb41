//! `GET /v1/timelines/USER?limit=100&cursor=…`: a page of a user's timeline, newest first.
//!
//! In: a user, the cursor of the page before. Out: `{"entries":[…],"next":…,"id":…}`; `next` is the `cursor` of the next page,
//! and null at the end; `id` is from where to listen to `timeline:USER`.
//!
//! Invariant: the page shows all that comes at or before its id; what comes after it, it may show as well.
//!
//! Who may read it is whoever may listen to the channel `timeline:USER` and read its history.

use warp::reply::Response;

use super::admission::admit_once;
use super::codes::{Code, Refusal};
use super::frame::json;
use super::history::{json_response, may_read_history, unavailable};
use super::query::{Query, channel_named, decoded};
use super::routes::{Asker, State};
use crate::limits::{ID_BYTES_MAX, TIMELINE_PAGE_COUNT_MAX};
use crate::timeline::{Cursor, Page, channel_of};

const LIMIT_DEFAULT: usize = 100;

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
    let channel = channel_named(&channel_of(&user))?;
    let limit = query.number("limit", LIMIT_DEFAULT, 1, TIMELINE_PAGE_COUNT_MAX)?;
    let before = query.get("cursor").map(str::parse::<Cursor>).transpose();
    let before = before.map_err(|error| Refusal::new(Code::QueryInvalid, error.to_string()))?;
    let permit = admit_once(state, asker, query, &channel).await?;
    may_read_history(state, &permit, &channel)?;
    let Some(timelines) = &state.timelines else {
        return Err(Refusal::new(Code::NotFound, "this server keeps no timelines"));
    };
    // First: what is applied while the page is read comes after it.
    let head = *state.bus.head().borrow();
    let page = timelines.read(&user, before, limit).await.map_err(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, "cannot read a timeline");
        unavailable()
    })?;
    Ok(answer(&page, &json::id(state.bus.epoch(), head)))
}

/// `id` is where to listen on from.
fn answer(page: &Page, id: &str) -> Response {
    let mut out = String::from("{\"entries\":[");
    for (nth, entry) in page.entries.iter().enumerate() {
        if nth > 0 {
            out.push(',');
        }
        entry.to_json(&mut out);
    }
    let next = page.next.map(|cursor| cursor.to_string());
    let rest = serde_json::json!({"next": next, "id": id}).to_string();
    out.push_str("],");
    out.push_str(&rest[1..]);
    json_response(out.into())
}
