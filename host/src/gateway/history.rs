//! `GET /v1/channels/CHANNEL/messages?after=ID&limit=100`: what a channel has kept.
//!
//! In: a channel, the id of the page before. Out: `{"messages":[…],"id":…,"more":…}` in order, where `id` is the
//! `after` of the next page, and of a subscription that goes on from here. Without an id it begins at the oldest that is
//! kept; so it does, with a `"reset":{…}`, where the history does not reach back to the id.

use bytes::{BufMut, Bytes, BytesMut};
use warp::http::{HeaderValue, header};
use warp::reply::Response;

use super::admission::admit_once;
use super::codes::{Code, Refusal};
use super::feed::Start;
use super::frame::{self, Format, json};
use super::query::{Query, channel_named, decoded};
use super::resume::LossReason;
use super::routes::{Asker, State};
use crate::access::{self, Permit};
use crate::bus::{Bus, Kept};
use crate::event::{Channel, Sequence};
use crate::limits::{HISTORY_PAGE_BYTES_MAX, HISTORY_PAGE_COUNT_MAX};

const LIMIT_DEFAULT: usize = 100;

/// Answers the request; `channel` is as it stands in the path.
pub(super) async fn messages(state: &State, asker: &Asker, channel: &str, query: &Query) -> Response {
    match page(state, asker, channel, query).await {
        Ok(response) => response,
        Err(refusal) => refusal.response(),
    }
}

async fn page(state: &State, asker: &Asker, channel: &str, query: &Query) -> Result<Response, Refusal> {
    let bus = &*state.bus;
    let channel = channel_named(&decoded(channel)?)?;
    let limit = query.number("limit", LIMIT_DEFAULT, 1, HISTORY_PAGE_COUNT_MAX)?;
    let after = query.get("after");
    let start = Start::of(bus, after).map_err(Refusal::resume_id)?;
    let permit = admit_once(state, asker, query, &channel).await?;
    may_read_history(state, &permit, &channel)?;
    let (mut begin, mut lost) = match start {
        Start::New | Start::Live => (bus.floor(), None),
        Start::After(sequence) => (sequence, None),
        Start::Lost(reason) => (bus.floor(), Some(reason)),
    };
    let head = *bus.head().borrow();
    let mut kept = read(bus, &channel, begin, limit).await?;
    // Retention moves the floor before it removes: a floor that is not past the beginning vouches for the page.
    while bus.floor() > begin {
        lost = lost.or(after.map(|_| LossReason::Expired));
        begin = bus.floor();
        kept = read(bus, &channel, begin, limit).await?;
    }
    Ok(answer(bus, &channel, begin.max(head), lost, kept, limit))
}

async fn read(
    bus: &dyn Bus,
    channel: &Channel,
    after: Sequence,
    limit: usize,
) -> Result<Vec<std::sync::Arc<Kept>>, Refusal> {
    bus.read(Some(std::slice::from_ref(channel)), after, limit).await.map_err(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, "cannot read a history");
        unavailable()
    })
}

/// `head` is where the history ended before it was read.
fn answer(
    bus: &dyn Bus,
    channel: &Channel,
    head: Sequence,
    lost: Option<LossReason>,
    kept: Vec<std::sync::Arc<Kept>>,
    limit: usize,
) -> Response {
    let (mut messages, mut bytes, mut last) = (Vec::with_capacity(kept.len()), 0, None);
    let count = kept.len();
    for kept in kept {
        if bytes >= HISTORY_PAGE_BYTES_MAX {
            break;
        }
        let frame = frame::message(Format::Json, bus.epoch(), Some(kept.sequence), &kept.message);
        let text = json::text(&frame);
        bytes += text.len();
        messages.push(text);
        last = Some(kept.sequence);
    }
    let more = count == limit || messages.len() < count;
    let id = match last {
        Some(last) if more => last,
        Some(last) => last.max(head),
        None => head,
    };
    let mut rest = serde_json::json!({"id": json::id(bus.epoch(), id), "more": more});
    if let Some(reason) = lost {
        rest["reset"] = serde_json::json!({"channels": [channel.as_str()], "reason": reason.name()});
    }
    json_response(with_messages(&messages, bytes, &rest))
}

/// Whether the permit, which is for this channel, is also for what was before.
pub(super) fn may_read_history(state: &State, permit: &Permit, channel: &Channel) -> Result<(), Refusal> {
    if permit.rights().iter().all(|rights| rights.history) {
        return Ok(());
    }
    let why = format!("you may listen to {channel}, and not read what was before");
    Err(state.access.refuse(access::Refusal::Forbidden(why)).into())
}

pub(super) fn unavailable() -> Refusal {
    Refusal::new(Code::HistoryUnavailable, "the history cannot be read at the moment")
}

/// `{"messages":[…],…}`: the messages are JSON already.
pub(super) fn with_messages(messages: &[Bytes], bytes: usize, rest: &serde_json::Value) -> Bytes {
    let rest = rest.to_string();
    let mut out = BytesMut::with_capacity(bytes + messages.len() + rest.len() + 16);
    out.put_slice(b"{\"messages\":[");
    for (nth, message) in messages.iter().enumerate() {
        if nth > 0 {
            out.put_u8(b',');
        }
        out.put_slice(message);
    }
    out.put_slice(b"],");
    out.put_slice(&rest.as_bytes()[1..]);
    out.freeze()
}

pub(super) fn json_response(body: Bytes) -> Response {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
