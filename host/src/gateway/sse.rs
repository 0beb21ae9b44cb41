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
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use warp::http::{HeaderValue, header};
use warp::reply::{Reply, Response};

use super::admission::{Attending, admit, starts};
use super::codes::Refusal;
use super::crowd::Seat;
use super::feed::{Begun, Feed, Start, Told};
use super::frame::sse as frame;
use super::hub::Pulse;
use super::listening::listen;
use super::mailbox::Own;
use super::permits::Permits;
use super::query::Query;
use super::routes::{Asker, State};
use crate::access;
use crate::event::Channel;
use crate::http::{Line, Takeover, Unframed, Wire};
use crate::limits::{CONNECTION_BUFFER_BYTES_MAX, SOCKET_CLOSE_TIME_MAX, STREAM_SAID_BYTES_MAX};
use crate::telemetry::Face;

/// The connection of a request.
pub(super) struct Connection {
    pub(super) own: Own,
    /// To have what is left of it, once HTTP has answered.
    pub(super) takeover: Option<Takeover>,
}

/// Answers the request. `header` is `Last-Event-ID`.
pub(super) async fn events(
    state: &Arc<State>,
    asker: &Asker,
    query: &Query,
    header: Option<&str>,
    connection: Connection,
) -> Response {
    let Connection { own, takeover } = connection;
    match open(state, asker, query, header, own.clone()).await {
        Ok(writer) => match (own.line, own.cut, takeover) {
            (Some(line), Some(cut), Some(takeover)) => {
                takeover.put(writer.write(line, cut));
                let mut response = response(warp::reply());
                response.extensions_mut().insert(Unframed);
                response
            }
            _ => response(warp::reply::stream(EventStream::new(writer))),
        },
        Err(refusal) => refusal.response(),
    }
}

async fn open(
    state: &Arc<State>,
    asker: &Asker,
    query: &Query,
    header: Option<&str>,
    own: Own,
) -> Result<Writer, Refusal> {
    let channels = query.channels("/v1/events")?;
    // The header wins: a browser that comes back by itself repeats the query with its first id.
    let header = header.filter(|id| !id.is_empty());
    let id = header.or_else(|| query.get("last_event_id")).or_else(|| query.get("lastEventId"));
    let start = Start::of(&*state.bus, id).map_err(Refusal::resume_id)?;
    let doubts = state.access.doubts();
    let permit = admit(state, asker, query, &channels, Arc::clone(&doubts)).await?;
    // A stream that anybody may have holds nothing for its end.
    let own = Own { doubts: (!permit.is_for_ever()).then_some(doubts), ..own };
    let names = channels.clone();
    let channels = starts(channels, start, &permit);
    let seat = state.crowd.enter(permit.visitor())?;
    let subscription = state.hub.join(Face::EventStream, own)?;
    let mut feed = Feed::new(Arc::clone(&state.bus), subscription);
    feed.listen(listen(state, None, &names).await?);
    let mut heartbeat = tokio::time::interval(state.config.heartbeat_interval);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat.reset();
    let phase = Phase::Greeting { channels, attending: Box::new(Attending::of(&permit, &names)) };
    let permits = (!permit.is_for_ever()).then(|| {
        let mut permits = feed.permits();
        permits.add(names, permit);
        permits
    });
    Ok(Writer { state: Arc::clone(state), feed, phase, heartbeat, permits, _seat: seat })
}

fn response(reply: impl Reply) -> Response {
    let mut response = reply.into_response();
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
    /// None where they have no end.
    permits: Option<Permits>,
    _seat: Seat,
}

impl Writer {
    /// Writes it to a line of its own, until it ends or the client has gone.
    async fn write(mut self, line: Arc<Line>, cut: CancellationToken) {
        let (mut wire, pulse) = (Wire::new(line), self.feed.pulse());
        loop {
            let bytes = tokio::select! {
                biased;
                () = cut.cancelled() => return,
                bytes = self.next() => bytes,
                // After it: whoever says much must not keep the stream from its own end.
                () = end(&mut wire) => return,
            };
            let Some(bytes) = bytes else { break };
            for part in bytes.chunks(CONNECTION_BUFFER_BYTES_MAX) {
                pulse.offered();
                let written = cut.run_until_cancelled(wire.write_all(part)).await;
                if !matches!(written, Some(Ok(()))) {
                    return;
                }
            }
            pulse.waiting();
        }
        // Its place is free while it says good-bye: what the client has sent and nobody has read would reset the connection,
        // and the last words would be lost.
        drop(self);
        let closing = async {
            if wire.shutdown().await.is_ok() {
                end(&mut wire).await;
            }
        };
        let _ = tokio::time::timeout(SOCKET_CLOSE_TIME_MAX, closing).await;
    }

    /// The next bytes; none when the stream ends.
    async fn next(&mut self) -> Option<Bytes> {
        let Some(mut permits) = self.permits.take() else { return self.bytes().await };
        let pass = permits.pass();
        tokio::select! {
            // First: a stream that is always busy must end as well.
            biased;
            refusal = permits.ended() => Some(self.refuse(refusal)),
            bytes = pass.hold(self.bytes()) => {
                self.permits = Some(permits);
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
        frame::farewell(self.feed.reconnect_delay())
    }
}

/// Waits until the client has gone, or has said more than a stream's client has to say, which is nothing.
async fn end(wire: &mut Wire) {
    let mut said = [0; 64];
    let mut bytes_left = STREAM_SAID_BYTES_MAX;
    while let Ok(count @ 1..) = wire.read(&mut said).await {
        let Some(left) = bytes_left.checked_sub(count) else { return };
        bytes_left = left;
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

impl EventStream {
    fn new(writer: Writer) -> Self {
        let pulse = writer.feed.pulse();
        let frames = futures_util::stream::unfold(writer, |mut writer| async move {
            let bytes = writer.next().await?;
            Some((bytes, writer))
        });
        Self { frames: Mutex::new(Box::pin(frames)), rest: Bytes::new(), pulse }
    }
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
