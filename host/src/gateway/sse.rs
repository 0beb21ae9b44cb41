//! `GET /v1/events?channel=a&channel=b`: a stream of messages that can be resumed.
//!
//! In: channels, and the id of the last message that the client has. Out: `text/event-stream`, without end.
//!
//! Invariants: what the stream gives is what its feed tells, in that order; its ids never go beyond what was given;
//! nothing is given after the permit has ended but the refusal that says so.

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

use super::admission::{Attending, Ending, admit, ending, starts};
use super::codes::Refusal;
use super::feed::{Begun, Feed, Start, Told};
use super::frame::sse as frame;
use super::hub::Pulse;
use super::listening::listen;
use super::query::Query;
use super::routes::{Asker, State};
use crate::access;
use crate::event::Channel;
use crate::limits::CONNECTION_BUFFER_BYTES_MAX;
use crate::telemetry::Face;

/// Answers the request. `header` is `Last-Event-ID`; `cut` ends the connection, if the request has it for itself.
pub(super) async fn events(
    state: &Arc<State>,
    asker: &Asker,
    query: &Query,
    header: Option<&str>,
    cut: Option<CancellationToken>,
) -> Response {
    match open(state, asker, query, header, cut).await {
        Ok(stream) => response(stream),
        Err(refusal) => refusal.response(),
    }
}

async fn open(
    state: &Arc<State>,
    asker: &Asker,
    query: &Query,
    header: Option<&str>,
    cut: Option<CancellationToken>,
) -> Result<EventStream, Refusal> {
    let channels = query.channels("/v1/events")?;
    // The header wins: a browser that comes back by itself repeats the query with its first id.
    let header = header.filter(|id| !id.is_empty());
    let id = header.or_else(|| query.get("last_event_id")).or_else(|| query.get("lastEventId"));
    let start = Start::of(&*state.bus, id).map_err(Refusal::resume_id)?;
    let permit = admit(state, asker, query, &channels).await?;
    let names = channels.clone();
    let channels = starts(channels, start, &permit);
    let subscription = state.hub.join(Face::EventStream, cut)?;
    let mut feed = Feed::new(Arc::clone(&state.bus), subscription);
    feed.listen(listen(state, None, &names).await?);
    let pulse = feed.pulse();
    let mut heartbeat = tokio::time::interval(state.config.heartbeat_interval);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat.reset();
    let phase = Phase::Greeting { channels, attending: Box::new(Attending::of(&permit, &names)) };
    let writer = Writer { state: Arc::clone(state), feed, phase, heartbeat, ending: ending(permit) };
    let frames = futures_util::stream::unfold(writer, |mut writer| async move {
        let bytes = writer.next().await?;
        Some((bytes, writer))
    });
    Ok(EventStream { frames: Mutex::new(Box::pin(frames)), rest: Bytes::new(), pulse })
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

enum Phase {
    Greeting { channels: Vec<(Channel, Start)>, attending: Box<Attending> },
    Telling,
    Ended,
}

/// Writes one stream.
struct Writer {
    state: Arc<State>,
    feed: Feed,
    phase: Phase,
    heartbeat: Interval,
    /// None where the permit has no end.
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
        match std::mem::replace(&mut self.phase, Phase::Telling) {
            Phase::Greeting { channels, attending } => return Some(self.greet(channels, &attending).await),
            Phase::Telling => {}
            Phase::Ended => {
                self.phase = Phase::Ended;
                return None;
            }
        }
        tokio::select! {
            biased;
            told = self.feed.next() => match told {
                Told::Message { bytes, .. } | Told::Value { bytes } => Some(bytes),
                Told::Place(sequence) => Some(frame::heartbeat(Some((self.feed.epoch(), sequence)))),
                Told::Reset { channels, from, reason } => {
                    Some(frame::reset(self.feed.epoch(), from, &channels, reason))
                }
                Told::Closed => Some(self.say_farewell()),
                Told::Unavailable => None,
            },
            _ = self.heartbeat.tick() => {
                let place = self.feed.place().map(|sequence| (self.feed.epoch(), sequence));
                Some(frame::heartbeat(place))
            }
        }
    }

    /// With where the client is, unless it knows that, or is told values first.
    async fn greet(&mut self, channels: Vec<(Channel, Start)>, attending: &Attending) -> Bytes {
        let all_begin = channels.iter().all(|(_, start)| matches!(start, Start::New | Start::Live));
        let Begun { position, with_value } = self.feed.subscribe(channels).await;
        self.feed.attend(attending);
        let is_here = all_begin && with_value.is_empty();
        let from = is_here.then(|| (self.feed.epoch(), position));
        frame::greeting(self.state.config.reconnect_delay, from)
    }

    /// Any → ended, with a word about why.
    fn refuse(&mut self, refusal: access::Refusal) -> Bytes {
        self.phase = Phase::Ended;
        frame::refused(&Refusal::from(refusal))
    }

    /// Telling → ended.
    fn say_farewell(&mut self) -> Bytes {
        self.phase = Phase::Ended;
        frame::farewell(self.state.reconnect_delay(self.feed.number()))
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
