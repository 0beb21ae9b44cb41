//! `POST /v1/channels/CHANNEL`: what a client says on a channel; over WebSocket the command `publish` does the same.
//!
//! In: who says what where. Out: that it is kept, with a receipt, or that it was told; or why not.
//!
//! ```text
//! rate ─► gate ─┬► keep ──────► intake ─► change log ─► policy, like any change
//!               └► ephemeral ─► bus ────► those who listen now
//! ```
//! Invariant: that a message is kept is said once it is on disk, never before.
//!
//! Absent on purpose: what becomes of a kept message. The policy may change it, send it elsewhere, or nowhere.

use std::sync::Arc;

use serde_json::{Value, json};
use warp::http::{HeaderValue, Method, StatusCode, header};
use warp::reply::Response;

use super::codes::{Code, Refusal};
use super::history::json_response;
use super::query::{Query, channel_named, decoded};
use super::routes::{Asker, State};
use super::spoken::{Fields, Spoken};
use crate::access::{self, Deed, Reception, Visitor};
use crate::event::Channel;
use crate::http::{Body, BodyError, Network};
use crate::intake::ClientMessage;
use crate::limits::{CLIENT_MESSAGE_BODY_TIME_MAX, CLIENT_MESSAGE_BYTES_MAX};
use crate::timeline::user_of;

/// The header that names a message, so that it is kept once however often it is sent.
const ID_HEADER: &str = "idempotency-key";

/// Answers the request; `channel` is as it stands in the path.
pub(super) async fn post(
    state: &Arc<State>,
    asker: &Asker,
    (channel, method): (&str, &Method),
    query: &Query,
    body: Body,
) -> Response {
    if *method != Method::POST {
        let refusal =
            Refusal::new(Code::MethodNotAllowed, "a message is sent by POST; what was kept is at …/messages");
        let mut response = refusal.response();
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    match take(state, asker, channel, query, body).await {
        Ok(answer) => {
            let mut response = json_response(answer.to_string().into());
            // What becomes of it is decided later.
            *response.status_mut() = StatusCode::ACCEPTED;
            response
        }
        Err(refusal) => refusal.response(),
    }
}

async fn take(
    state: &State,
    asker: &Asker,
    channel: &str,
    query: &Query,
    body: Body,
) -> Result<Value, Refusal> {
    let read = async {
        let channel = channel_named(&decoded(channel)?)?;
        let visitor = asker.visitor(&state.access, query, Deed::Write).await?;
        // Before anything is read of it.
        may_say(state, &visitor, &channel)?;
        check_type(asker)?;
        let id = id_of(asker)?;
        let body =
            body.read(CLIENT_MESSAGE_BYTES_MAX, CLIENT_MESSAGE_BODY_TIME_MAX).await.map_err(refuse_body)?;
        Ok((channel, visitor, Fields::of_request(&body)?.spoken(id)?))
    };
    let read: Result<_, Refusal> = read.await;
    let (channel, visitor, spoken) = read.inspect_err(|refusal| count(state, refusal))?;
    say(state, &visitor, channel, spoken).await
}

/// What a command of WebSocket says.
pub(super) async fn publish(
    state: &State,
    visitor: &Visitor,
    channel: Channel,
    spoken: Spoken,
) -> Result<Value, Refusal> {
    may_say(state, visitor, &channel).inspect_err(|refusal| count(state, refusal))?;
    let mut answer = say(state, visitor, channel, spoken).await?;
    answer["type"] = "published".into();
    Ok(answer)
}

/// Whose messages are counted together: those of a subject, or of an address for those without one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Speaker {
    Subject(Box<str>),
    Network(Network),
}

impl Speaker {
    fn of(visitor: &Visitor) -> Self {
        match visitor.identity.subject() {
            Some(subject) => Self::Subject(subject.into()),
            None => Self::Network(Network::of(visitor.address)),
        }
    }
}

/// Whether anything may be said there at all, and by this visitor now.
fn may_say(state: &State, visitor: &Visitor, channel: &Channel) -> Result<(), Refusal> {
    if user_of(channel).is_some() {
        let message = "a timeline is made of posts: nobody can send a message to it";
        return Err(Refusal::new(Code::ChannelInvalid, message));
    }
    state.speakers.take(Speaker::of(visitor)).map_err(|delay| {
        Refusal::new(Code::MessagesTooMany, "too many messages: wait, and send fewer").after(delay)
    })
}

/// Lets the gate decide, and does as it says.
async fn say(state: &State, visitor: &Visitor, channel: Channel, spoken: Spoken) -> Result<Value, Refusal> {
    let said = async {
        let Spoken { event, id, body } = spoken;
        let asked = access::Spoken {
            channel: channel.as_str().into(),
            event: event.clone().unwrap_or_default(),
            body: bytes::Bytes::copy_from_slice(body.as_bytes()),
        };
        let reception = state.access.receive(visitor, asked).await?;
        let subject = visitor.identity.subject().map(Into::into);
        let message = ClientMessage { channel, subject, event, id, body };
        match reception {
            Reception::Keep => keep(state, message).await,
            Reception::Ephemeral => tell(state, message).await,
        }
    };
    let said: Result<_, Refusal> = said.await;
    said.inspect_err(|refusal| count(state, refusal))
}

async fn keep(state: &State, message: ClientMessage) -> Result<Value, Refusal> {
    let receipt = state.intake.take(message).await?;
    let outcome = if receipt.is_repeated { "repeated" } else { "kept" };
    state.config.metrics.client_messages.add(outcome);
    Ok(json!({"kept": true, "receipt": format!("{:x}", receipt.number)}))
}

async fn tell(state: &State, message: ClientMessage) -> Result<Value, Refusal> {
    state.bus.tell(message.into_live()).await.map_err(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, "cannot tell what a client said");
        Refusal::new(Code::Overloaded, "the message cannot be handed on at the moment: nothing was done")
    })?;
    state.config.metrics.client_messages.add("ephemeral");
    Ok(json!({"kept": false}))
}

fn count(state: &State, refusal: &Refusal) {
    state.config.metrics.client_messages.add(refusal.code.reason());
}

/// JSON alone: for anything that a form can send, a browser would not ask beforehand whether the page may.
fn check_type(asker: &Asker) -> Result<(), Refusal> {
    let is_json = asker.header(header::CONTENT_TYPE.as_str())?.is_some_and(|kind| {
        let kind = kind.split_once(';').map_or(kind, |(kind, _)| kind);
        kind.trim().eq_ignore_ascii_case("application/json")
    });
    let message = "a message is JSON: send it with `Content-Type: application/json`";
    if is_json { Ok(()) } else { Err(Refusal::new(Code::MessageInvalid, message)) }
}

/// The message's id, with or without the quotes of a structured field (RFC 8941, section 3.3.3).
fn id_of(asker: &Asker) -> Result<Option<Box<str>>, Refusal> {
    let id = asker.header(ID_HEADER)?.map(str::trim);
    let bare = |id: &str| id.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).map(Into::into);
    Ok(id.map(|id| bare(id).unwrap_or_else(|| id.into())))
}

fn refuse_body(error: BodyError) -> Refusal {
    match error {
        BodyError::TooLarge => {
            let message =
                format!("a message has at most {CLIENT_MESSAGE_BYTES_MAX} bytes, its JSON included");
            Refusal::new(Code::MessageTooLarge, message)
        }
        BodyError::TooSlow => {
            let seconds = CLIENT_MESSAGE_BODY_TIME_MAX.as_secs();
            Refusal::new(Code::MessageInvalid, format!("the message took longer than {seconds} s to come"))
        }
        BodyError::Cut(error) => Refusal::new(Code::MessageInvalid, format!("the message is cut: {error}")),
    }
}
