//! `GET /v1/poll?channel=a&channel=b&after=ID&wait=25`: what came after an id, as soon as there is something.
//!
//! In: channels, the id of the last answer, how long to wait. Out: `{"messages":[…],"id":…}`, where `id` is the `after`
//! of the next request; with `"reset":{…}` if messages may be missing.
//!
//! A request without an id is answered at once, with the id to begin at: a client that waited for its first answer
//! and lost it would not know its place.
//!
//! Invariant: what an answer does not hold comes after its id. So it holds all values that there are to tell.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};
use warp::reply::Response;

use super::admission::{Attending, admit, starts};
use super::codes::Refusal;
use super::feed::{Begun, Feed, Start, Told};
use super::frame::json as frame;
use super::history::{json_response, unavailable, with_messages};
use super::listening::listen;
use super::mailbox::Own;
use super::query::Query;
use super::resume::LossReason;
use super::routes::{Asker, State};
use crate::event::{Channel, Epoch, Sequence};
use crate::limits::{POLL_BYTES_MAX, POLL_COUNT_MAX, POLL_WAIT, POLL_WAIT_MAX};
use crate::telemetry::Face;

/// Answers the request.
pub(super) async fn poll(state: &Arc<State>, asker: &Asker, query: &Query) -> Response {
    match answer(state, asker, query).await {
        Ok(response) => response,
        Err(refusal) => refusal.response(),
    }
}

async fn answer(state: &Arc<State>, asker: &Asker, query: &Query) -> Result<Response, Refusal> {
    let channels = query.channels("/v1/poll")?;
    let seconds = |time: Duration| usize::try_from(time.as_secs()).unwrap_or(usize::MAX);
    let wait = query.number("wait", seconds(POLL_WAIT), 0, seconds(POLL_WAIT_MAX))?;
    let start = Start::of(&*state.bus, query.get("after")).map_err(Refusal::resume_id)?;
    let doubts = state.access.doubts();
    let permit = admit(state, asker, query, &channels, Arc::clone(&doubts)).await?;
    let _seat = state.crowd.enter(permit.visitor())?;
    let own = Own { doubts: Some(doubts), ..Own::default() };
    let mut feed = Feed::new(Arc::clone(&state.bus), state.hub.join(Face::LongPoll, own)?);
    feed.listen(listen(state, None, &channels).await?);
    let attending = Attending::of(&permit, &channels);
    let mut permits = feed.permits();
    let starts = starts(channels.clone(), start, &permit);
    permits.add(channels, permit);
    let Begun { position, .. } = feed.subscribe(starts).await;
    feed.attend(&attending);
    let (begin, deadline) = match start {
        Start::After(sequence) => (sequence, Instant::now() + Duration::from_secs(wait as u64)),
        Start::New | Start::Live | Start::Lost(_) => (position, Instant::now()),
    };
    let mut gathered = Gathered {
        epoch: feed.epoch(),
        id: begin,
        messages: Vec::new(),
        values_count: 0,
        bytes: 0,
        reset: None,
    };
    let pass = permits.pass();
    tokio::select! {
        biased;
        refusal = permits.ended() => return Err(refusal.into()),
        done = pass.hold(gathered.gather(&mut feed, deadline)) => done?,
    }
    Ok(gathered.response(feed.present()))
}

/// What goes into one answer.
struct Gathered {
    epoch: Epoch,
    /// Everything up to here is in the answer.
    id: Sequence,
    messages: Vec<Bytes>,
    bytes: usize,
    /// How many of the messages are values, which no later answer would bring: they do not count.
    values_count: usize,
    reset: Option<(Vec<Channel>, LossReason)>,
}

impl Gathered {
    /// All that is there, up to the bounds; if there is nothing, the first that comes.
    async fn gather(&mut self, feed: &mut Feed, deadline: Instant) -> Result<(), Refusal> {
        while self.messages.len() - self.values_count < POLL_COUNT_MAX && self.bytes < POLL_BYTES_MAX {
            let told = match feed.missed().await {
                Some(told) => told,
                None => {
                    // What waits in the mailbox comes at once, however late it is.
                    let until = if self.waits() { deadline } else { Instant::now() };
                    let Ok(told) = timeout_at(until, feed.next()).await else {
                        self.id = feed.place().map_or(self.id, |place| place.max(self.id));
                        return Ok(());
                    };
                    told
                }
            };
            match told {
                Told::Message { sequence, bytes } => {
                    self.id = sequence.map_or(self.id, |sequence| sequence.max(self.id));
                    let text = frame::text(&bytes);
                    self.bytes += text.len();
                    self.messages.push(text);
                }
                Told::Value { bytes } => {
                    self.messages.push(frame::text(&bytes));
                    self.values_count += 1;
                }
                Told::Place(sequence) => self.id = sequence.max(self.id),
                // An answer has one reset and begins with it: what was gathered goes first, and the next request is told.
                Told::Reset { .. } if !self.is_empty() => return Ok(()),
                Told::Reset { channels, from, reason } => {
                    self.id = from.unwrap_or(self.id);
                    self.reset = Some((channels, reason));
                }
                Told::Unavailable if self.is_empty() => return Err(unavailable()),
                Told::Closed if self.is_empty() => {
                    return Err(Refusal::stopping(feed.reconnect_delay()));
                }
                Told::Unavailable | Told::Closed => return Ok(()),
            }
        }
        Ok(())
    }

    /// Whether there is nothing that the client must not wait for. That it may not read what was before is so each time.
    fn waits(&self) -> bool {
        let is_withheld = |(_, reason): &(_, LossReason)| *reason == LossReason::Withheld;
        self.messages.is_empty() && self.reset.as_ref().is_none_or(is_withheld)
    }

    fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.reset.is_none()
    }

    /// With who is on its channels now, which is told in every answer: a change alone makes none.
    fn response(self, present: Vec<serde_json::Value>) -> Response {
        let Self { epoch, id, messages, bytes, reset, .. } = self;
        let reset = reset.map(|(channels, reason)| {
            let channels: Vec<&str> = channels.iter().map(Channel::as_str).collect();
            serde_json::json!({"channels": channels, "reason": reason.name()})
        });
        let mut rest = serde_json::json!({"id": frame::id(epoch, id)});
        if let Some(reset) = reset {
            rest["reset"] = reset;
        }
        if !present.is_empty() {
            rest["presence"] = present.into();
        }
        json_response(with_messages(&messages, bytes, &rest))
    }
}
