//! `GET /v1/events?channel=a&channel=b`: a stream of messages that can be resumed.
//!
//! In: channels, and the id of the last message that the client has. Out: `text/event-stream`, without end.
//!
//! A stream follows the hub first and reads the history up to the hub's position then; what comes in the meantime
//! waits in the mailbox, and what was read already is skipped by its sequence. A mailbox that overflows meanwhile,
//! or later because the client is slow, begins the same anew from the stream's cursor. So there is one way into the
//! live stream, and it has neither gap nor double.
//!
//! Invariants: every kept message of the channels at or before the cursor was written, or a `reset` was. Nothing is
//! written after the permit has ended but the refusal that says so.

use std::collections::HashSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use warp::http::{HeaderValue, header};
use warp::reply::{Reply, Response};

use super::codes::{Code, Refusal};
use super::frame;
use super::hub::{Pulse, SubscribeError, Subscription};
use super::mailbox::Taken;
use super::resume::{self, LossReason, Reach, Resume};
use super::routes::{Asker, State};
use crate::access::{self, Deed, Permit, Rights, Wanted};
use crate::bus::Kept;
use crate::event::{Channel, Sequence};
use crate::limits::{CHANNELS_PER_CONNECTION_MAX, CONNECTION_BUFFER_BYTES_MAX, REPLAY_READ_COUNT_MAX};

/// Answers the request. `header` is `Last-Event-ID`; `cut` ends the connection, if the request has it for itself.
pub(super) async fn events(
    state: &Arc<State>,
    asker: &Asker,
    query: &[(String, String)],
    header: Option<&str>,
    cut: Option<CancellationToken>,
) -> Response {
    let opened = async {
        let channels = channels_of(query)?;
        let permit = permit_for(state, asker, query, &channels).await?;
        let start = start_of(state, query, header)?.within(permit.rights());
        open(state, channels, permit, start, cut)
    };
    match opened.await {
        Ok(stream) => response(stream),
        Err(refusal) => refusal.response(),
    }
}

async fn permit_for(
    state: &State,
    asker: &Asker,
    query: &[(String, String)],
    channels: &[Channel],
) -> Result<Permit, Refusal> {
    let visitor = asker.visitor(&state.access, query, Deed::Read).await?;
    let wanted: Vec<_> = channels.iter().map(|channel| Wanted::channel(channel.as_str())).collect();
    Ok(state.access.admit(visitor, &wanted).await?)
}

fn open(
    state: &Arc<State>,
    channels: Box<[Channel]>,
    permit: Permit,
    start: Start,
    cut: Option<CancellationToken>,
) -> Result<EventStream, Refusal> {
    let subscription = state.hub.subscribe(channels, cut).map_err(|error| match error {
        SubscribeError::Full => Refusal::new(Code::Overloaded, "the server has as many streams as it may"),
        SubscribeError::Closed => Refusal::new(Code::ShuttingDown, "the server is stopping"),
    })?;
    let pulse = subscription.pulse();
    let mut heartbeat = tokio::time::interval(state.config.heartbeat_interval);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat.reset();
    let writer = Writer {
        state: Arc::clone(state),
        subscription,
        cursor: Sequence(0),
        phase: Phase::Greeting(start),
        page: Vec::new().into_iter(),
        heartbeat,
        ending: ending(permit),
    };
    let frames = futures_util::stream::unfold(writer, |mut writer| async move {
        let bytes = writer.next().await?;
        Some((bytes, writer))
    });
    Ok(EventStream { frames: Mutex::new(Box::pin(frames)), rest: Bytes::new(), pulse })
}

/// The wait for the end of a permit, where it can have one: a stream that anybody may have holds nothing for it.
fn ending(mut permit: Permit) -> Option<Ending> {
    (!permit.is_for_ever()).then(|| Box::pin(async move { permit.ended().await }) as Ending)
}

fn response(stream: EventStream) -> Response {
    let mut response = warp::reply::stream(stream).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // A proxy that compresses would hold frames back.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The channels asked for, each once, in the order of the query.
fn channels_of(query: &[(String, String)]) -> Result<Box<[Channel]>, Refusal> {
    let mut seen = HashSet::new();
    let mut channels = Vec::new();
    for (_, name) in query.iter().filter(|(key, _)| key == "channel") {
        let channel =
            Channel::new(name).map_err(|error| Refusal::new(Code::ChannelInvalid, error.to_string()))?;
        if seen.insert(channel.clone()) {
            channels.push(channel);
        }
        if channels.len() > CHANNELS_PER_CONNECTION_MAX {
            let message = format!("a stream has at most {CHANNELS_PER_CONNECTION_MAX} channels");
            return Err(Refusal::new(Code::ChannelsTooMany, message));
        }
    }
    if channels.is_empty() {
        return Err(Refusal::new(Code::ChannelMissing, "name at least one channel: /v1/events?channel=NAME"));
    }
    Ok(channels.into())
}

/// The header wins: a browser that comes back by itself repeats the query with its first id. An empty one says nothing.
fn start_of(state: &State, query: &[(String, String)], header: Option<&str>) -> Result<Start, Refusal> {
    let parameter = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let mut ids = [header, parameter("last_event_id"), parameter("lastEventId")].into_iter().flatten();
    let Some(id) = ids.find(|id| !id.is_empty()) else { return Ok(Start::Live) };
    let reach =
        Reach { epoch: state.bus.epoch(), floor: state.bus.floor(), head: *state.bus.head().borrow() };
    match resume::interpret(id, reach) {
        Ok(Resume::After(sequence)) => Ok(Start::After(sequence)),
        Ok(Resume::Lost(reason)) => Ok(Start::Reset(reason)),
        Err(error) => Err(Refusal::new(Code::ResumeIdInvalid, error.to_string())),
    }
}

/// Where a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Live,
    After(Sequence),
    Reset(LossReason),
}

impl Start {
    /// Who may not read what was before gets none of it, and is told that there may have been something.
    fn within(self, rights: &[Rights]) -> Self {
        match self {
            Self::Live => Self::Live,
            _ if rights.iter().all(|rights| rights.history) => self,
            _ => Self::Reset(LossReason::Withheld),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Greeting(Start),
    /// Reads the history up to the hub's position at the time that it began to follow.
    Joining {
        until: Sequence,
    },
    Live,
    Ended,
}

/// Ends with the reason for which the stream must.
type Ending = Pin<Box<dyn Future<Output = access::Refusal> + Send>>;

/// Writes one stream.
struct Writer {
    state: Arc<State>,
    subscription: Subscription,
    cursor: Sequence,
    phase: Phase,
    page: std::vec::IntoIter<Arc<Kept>>,
    heartbeat: Interval,
    ending: Option<Ending>,
}

impl Writer {
    /// The next bytes; none when the stream ends.
    async fn next(&mut self) -> Option<Bytes> {
        let Some(mut ending) = self.ending.take() else { return self.bytes().await };
        tokio::select! {
            // First: a stream that is always busy must end as well.
            biased;
            refusal = &mut ending => Some(self.refuse(refusal)),
            bytes = self.bytes() => {
                self.ending = Some(ending);
                bytes
            }
        }
    }

    async fn bytes(&mut self) -> Option<Bytes> {
        loop {
            let bytes = match self.phase {
                // greeting → joining or live
                Phase::Greeting(start) => Some(self.greet(start)),
                // joining → live, once the history is read
                Phase::Joining { until } => self.join(until).await,
                // live → joining, when the mailbox has overflowed
                Phase::Live => self.live().await,
                Phase::Ended => return None,
            };
            if bytes.is_some() {
                return bytes;
            }
        }
    }

    /// Any → ended, with a word about why. There is nothing to wait for any more.
    fn refuse(&mut self, refusal: access::Refusal) -> Bytes {
        self.phase = Phase::Ended;
        frame::refused(&Refusal::from(refusal))
    }

    fn greet(&mut self, start: Start) -> Bytes {
        let position = self.subscription.follow();
        let delay = self.state.config.reconnect_delay;
        match start {
            Start::Live => {
                self.cursor = position;
                self.phase = Phase::Live;
                frame::greeting(delay, Some((self.state.bus.epoch(), position)))
            }
            Start::After(sequence) => {
                self.cursor = sequence;
                self.phase = Phase::Joining { until: position };
                frame::greeting(delay, None)
            }
            Start::Reset(reason) => {
                let mut bytes = Vec::from(frame::greeting(delay, None));
                bytes.extend_from_slice(&self.reset(reason));
                bytes.into()
            }
        }
    }

    /// Any → live, from the hub's position, with a word about the loss.
    fn reset(&mut self, reason: LossReason) -> Bytes {
        self.cursor = self.subscription.follow();
        self.phase = Phase::Live;
        self.page = Vec::new().into_iter();
        frame::reset(self.state.bus.epoch(), self.cursor, self.subscription.channels(), reason)
    }

    async fn join(&mut self, until: Sequence) -> Option<Bytes> {
        if let Some(kept) = self.page.next() {
            self.cursor = kept.sequence;
            return Some(frame::message(self.state.bus.epoch(), Some(kept.sequence), &kept.message).bytes);
        }
        if self.subscription.is_closed() {
            return Some(self.say_farewell());
        }
        if self.cursor >= until {
            self.phase = Phase::Live;
            return None;
        }
        let channels = Some(self.subscription.channels());
        match self.state.bus.read(channels, self.cursor, REPLAY_READ_COUNT_MAX).await {
            // Retention moves the floor before it removes: a floor that is not past us vouches for the page.
            Ok(_) if self.state.bus.floor() > self.cursor => Some(self.reset(LossReason::Expired)),
            Ok(page) => {
                if page.len() < REPLAY_READ_COUNT_MAX {
                    // There is nothing more for these channels up to `until`.
                    let last = page.last().map_or(self.cursor, |kept| kept.sequence);
                    self.phase = Phase::Joining { until: last };
                }
                self.page = page.into_iter();
                None
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a replay failed; its client may resume"
                );
                self.phase = Phase::Ended;
                None
            }
        }
    }

    async fn live(&mut self) -> Option<Bytes> {
        tokio::select! {
            biased;
            taken = self.subscription.take() => match taken {
                Taken::Frame(frame) => match frame.sequence {
                    Some(sequence) if sequence <= self.cursor => None,
                    Some(sequence) => {
                        self.cursor = sequence;
                        Some(frame.bytes)
                    }
                    None => Some(frame.bytes),
                },
                Taken::Behind => {
                    self.phase = Phase::Joining { until: self.subscription.follow() };
                    None
                }
                Taken::Closed => Some(self.say_farewell()),
            },
            _ = self.heartbeat.tick() => {
                if let Some(position) = self.subscription.drained_position() {
                    self.cursor = self.cursor.max(position);
                }
                Some(frame::heartbeat(self.state.bus.epoch(), self.cursor))
            }
        }
    }

    /// Any → ended. The delays differ, so that those who were here do not all come back in the same moment.
    fn say_farewell(&mut self) -> Bytes {
        self.phase = Phase::Ended;
        let share = u32::try_from(self.subscription.number() % 16).unwrap_or(0);
        let delay = self.state.config.reconnect_delay;
        frame::farewell(delay / 2 + delay * share / 16)
    }
}

/// The stream as the HTTP layer takes it.
struct EventStream {
    /// warp wants `Sync`, which a future that waits for the bus is not; the lock is never contended, since only
    /// `&mut self` reaches through it.
    frames: Mutex<Pin<Box<dyn Stream<Item = Bytes> + Send>>>,
    /// What is left of a large frame. It is handed over in slices, so that a connection that takes some of it shows
    /// that it does.
    rest: Bytes,
    pulse: Pulse,
}

impl Stream for EventStream {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            let frames = this.frames.get_mut().unwrap_or_else(PoisonError::into_inner);
            match frames.as_mut().poll_next(context) {
                Poll::Ready(Some(frame)) => this.rest = frame,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    this.pulse.waiting();
                    return Poll::Pending;
                }
            }
        }
        this.pulse.offered();
        let length = this.rest.len().min(CONNECTION_BUFFER_BYTES_MAX);
        Poll::Ready(Some(Ok(this.rest.split_to(length))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_with_one_channel_whose_history_is_withheld_begins_with_a_reset() {
        let [all, no_history] =
            [true, false].map(|history| Rights { history, presence: false, publish: false });
        for (start, rights, expected) in [
            (Start::After(Sequence(7)), &[all, all][..], Start::After(Sequence(7))),
            (Start::After(Sequence(7)), &[all, no_history], Start::Reset(LossReason::Withheld)),
            (Start::Reset(LossReason::Epoch), &[no_history], Start::Reset(LossReason::Withheld)),
            (Start::Live, &[no_history], Start::Live),
        ] {
            assert_eq!(start.within(rights), expected);
        }
    }
}
