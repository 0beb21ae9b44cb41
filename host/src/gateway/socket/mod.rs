//! `GET /v1/ws`: many channels over one WebSocket, chosen and left while it lives. `docs/protocol.md` is the protocol.
//!
//! In: a handshake, then commands. Out: what the feed tells, and an answer for each command, in JSON.
//!
//! ```text
//! client ─► link ─► command ─► feed ◄─ hub        one feed a socket
//!    ▲                           │
//!    └──────── link ◄────────────┘
//! ```
//! Invariants:
//! - a command is done whole or not at all, and its answer stands before all that follows from it;
//! - a socket whose client says nothing for long, not even that it lives, is ended; so is one that takes nothing;
//! - nothing is told after a permit has ended but the refusal that says so, and then the socket ends;
//! - what a client can make us hold is one command, one page of history, and its mailbox.
//!
//! Absent on purpose: compression: it would cost an idle connection more than all else.

mod command;
mod link;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_tungstenite::tungstenite::handshake::server::{Request, create_response_with_body};
use tokio_util::sync::CancellationToken;
use warp::http::HeaderMap;
use warp::reply::{Reply, Response};

use self::command::{Command, Reference};
pub(super) use self::link::{Link, Said};
use super::admission::{Attending, admit_visitor, within};
use super::codes::{Code, Refusal};
use super::crowd::Seat;
use super::feed::{Begun, Feed, Start, Told};
use super::frame::json as frame;
use super::hub::Pulse;
use super::listening::listen;
use super::mailbox::Own;
use super::permits::Permits;
use super::publish::publish;
use super::query::{Query, too_many_channels};
use super::routes::{Asker, State};
use crate::access::{Deed, Doubts, Visitor};
use crate::event::Channel;
use crate::http::{Cut, Line, Takeover};
use crate::limits::{CHANNELS_PER_CONNECTION_MAX, CONNECTION_BUFFER_BYTES_MAX};
use crate::telemetry::{CutReason, Face};

/// What an upgrade needs of a request.
pub(super) struct Handshake {
    pub(super) headers: HeaderMap,
    pub(super) upgrade: Option<OnUpgrade>,
    pub(super) takeover: Option<Takeover>,
    pub(super) cut: Option<Cut>,
    pub(super) line: Option<Arc<Line>>,
}

/// Answers the handshake, and leaves the rest to the connection.
pub(super) async fn open(state: &Arc<State>, asker: &Asker, query: &Query, handshake: Handshake) -> Response {
    let visitor = match asker.visitor(&state.access, query, Deed::Socket).await {
        Ok(visitor) => visitor,
        Err(refusal) => return refusal.response(),
    };
    let Some(Cut(cut)) = handshake.cut.clone() else {
        return Refusal::new(Code::UpgradeRequired, "WebSocket is spoken over HTTP/1.1 here").response();
    };
    let seat = match state.crowd.enter(&visitor) {
        Ok(seat) => seat,
        Err(refusal) => return refusal.response(),
    };
    let doubts = state.access.doubts();
    let own = Own { cut: Some(cut.clone()), line: handshake.line.clone(), doubts: Some(Arc::clone(&doubts)) };
    let feed = match state.hub.join(Face::WebSocket, own) {
        Ok(subscription) => Feed::new(Arc::clone(&state.bus), subscription),
        Err(error) => return Refusal::from(error).response(),
    };
    let state = Arc::clone(state);
    upgrade(handshake, move |io| async move {
        let mut heartbeat = tokio::time::interval(state.config.heartbeat_interval);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat.reset();
        let pulse = feed.pulse();
        let (link, heard, permits) = (Link::new(io).await, Instant::now(), feed.permits());
        let socket =
            Socket { state, link, feed, pulse, cut, heartbeat, heard, visitor, seat, permits, doubts };
        socket.run().await;
    })
}

/// Answers a handshake; `talk` gets the connection afterwards.
pub(super) fn upgrade<Talk>(
    handshake: Handshake,
    talk: impl FnOnce(TokioIo<hyper::upgrade::Upgraded>) -> Talk + Send + 'static,
) -> Response
where
    Talk: Future<Output = ()> + Send + 'static,
{
    let Handshake { headers, upgrade, takeover, .. } = handshake;
    let mut request = Request::new(());
    *request.headers_mut() = headers;
    let answer = create_response_with_body(&request, || ());
    let (answer, upgrade, takeover) = match (answer, upgrade, takeover) {
        (Ok(answer), Some(upgrade), Some(takeover)) => (answer, upgrade, takeover),
        (Err(error), ..) => {
            let message = format!("this is no handshake of WebSocket: {error}");
            return Refusal::new(Code::UpgradeRequired, message).response();
        }
        _ => return Refusal::new(Code::UpgradeRequired, "this connection cannot be upgraded").response(),
    };
    takeover.put(async move {
        match upgrade.await {
            Ok(upgraded) => talk(TokioIo::new(upgraded)).await,
            Err(error) => tracing::debug!(%error, "a client left before its WebSocket began"),
        }
    });
    let (parts, ()) = answer.into_parts();
    let mut response = warp::reply().into_response();
    *response.status_mut() = parts.status;
    response.headers_mut().extend(parts.headers);
    response
}

/// One client.
struct Socket<Io> {
    state: Arc<State>,
    link: Link<Io>,
    feed: Feed,
    pulse: Pulse,
    cut: CancellationToken,
    heartbeat: Interval,
    heard: Instant,
    visitor: Visitor,
    seat: Seat,
    permits: Permits,
    doubts: Arc<Doubts>,
}

/// Why a socket ends.
enum End {
    /// The client is gone, or takes nothing.
    Gone,
    /// With this word.
    Said(u16, &'static str),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Socket<Io> {
    async fn run(mut self) {
        if let End::Said(code, reason) = self.talk().await {
            let Self { link, feed, .. } = self;
            // Its place is free while it says good-bye.
            drop(feed);
            Box::pin(link.close(code, reason)).await;
        }
    }

    async fn talk(&mut self) -> End {
        let heartbeat_ms = self.state.config.heartbeat_interval.as_millis();
        if let Err(end) = self.say(&json!({"type": "hello", "heartbeat_ms": heartbeat_ms})).await {
            return end;
        }
        let pass = self.permits.pass();
        loop {
            let done = tokio::select! {
                            // In this order: a socket that is always busy must end as well.
                            biased;
                            () = self.cut.cancelled() => Err(End::Gone),
                            refusal = self.permits.ended() => self.dismiss(&refusal.into()).await,
            // What commands need, and the end, are in boxes: nearly all sockets wait, and would hold room for it.
                            said = self.link.receive() => Box::pin(self.hear(said)).await,
                            told = pass.hold(self.feed.next()) => self.tell(told).await,
                            _ = self.heartbeat.tick() => self.show_life().await,
                        };
            if let Err(end) = done {
                return end;
            }
        }
    }

    async fn hear(&mut self, said: Said) -> Result<(), End> {
        self.heard = Instant::now();
        match said {
            Said::Text(text) => {
                // Its answer stands before all that comes meanwhile.
                self.feed.claim();
                let (reference, command) = Command::parse(&text);
                let done = match command {
                    Ok(command) => self.obey(command).await,
                    Err(refusal) => Err(refusal),
                };
                match done {
                    Ok(answer) => self.answer(reference, answer).await,
                    Err(refusal) => self.refuse(reference, &refusal).await,
                }
            }
            Said::Binary(_) => {
                let message = "a command is one JSON object in a text frame";
                self.refuse(None, &Refusal::new(Code::CommandInvalid, message)).await
            }
            Said::Sign => Ok(()),
            Said::End => Err(End::Gone),
            Said::Broken(code, reason) => Err(End::Said(code, reason)),
        }
    }

    /// Does what was asked, or nothing of it.
    async fn obey(&mut self, command: Command) -> Result<Value, Refusal> {
        match command {
            Command::Subscribe(wanted) => self.subscribe(wanted).await,
            Command::Unsubscribe(channels) => {
                if let Some(channel) = channels.iter().find(|channel| !self.feed.channels().contains(channel))
                {
                    let message = format!("there is no subscription to {channel}");
                    return Err(Refusal::new(Code::NotSubscribed, message));
                }
                self.feed.unsubscribe(&channels);
                self.permits.remove(&channels);
                let names: Vec<&str> = channels.iter().map(Channel::as_str).collect();
                Ok(json!({"type": "unsubscribed", "channels": names}))
            }
            Command::Publish(channel, spoken) => publish(&self.state, &self.visitor, channel, spoken).await,
            Command::Refresh(token) => self.refresh(&token).await,
            Command::Ping => Ok(self.with_place(json!({"type": "pong"}))),
        }
    }

    /// Another token counts from now on, for all channels, if it may have them all.
    async fn refresh(&mut self, token: &str) -> Result<Value, Refusal> {
        let visitor = self.state.access.identify_token(token, self.visitor.address).await?;
        let channels = self.feed.channels().to_vec();
        let permit = admit_visitor(&self.state, visitor.clone(), &channels, Arc::clone(&self.doubts)).await?;
        self.state.crowd.pass(&mut self.seat, &visitor)?;
        self.visitor = visitor;
        self.feed.attend(&Attending::of(&permit, &channels));
        self.permits.replace(channels, permit);
        Ok(json!({"type": "refreshed"}))
    }

    async fn subscribe(&mut self, wanted: Vec<(Channel, Option<String>)>) -> Result<Value, Refusal> {
        if self.feed.channels().len() + wanted.len() > CHANNELS_PER_CONNECTION_MAX {
            return Err(too_many_channels());
        }
        let mut seen: HashSet<&Channel> = self.feed.channels().iter().collect();
        let mut starts = Vec::with_capacity(wanted.len());
        for (channel, after) in &wanted {
            if !seen.insert(channel) {
                let message = format!("there is a subscription to {channel} already");
                return Err(Refusal::new(Code::AlreadySubscribed, message));
            }
            let start = Start::of(&*self.state.bus, after.as_deref()).map_err(Refusal::resume_id)?;
            starts.push((channel.clone(), start));
        }
        let channels: Vec<Channel> = wanted.iter().map(|(channel, _)| channel.clone()).collect();
        let (visitor, doubts) = (self.visitor.clone(), Arc::clone(&self.doubts));
        let permit = admit_visitor(&self.state, visitor, &channels, doubts).await?;
        for ((_, start), rights) in starts.iter_mut().zip(permit.rights()) {
            *start = within(*start, *rights);
        }
        self.feed.listen(listen(&self.state, self.feed.listening(), &channels).await?);
        let attending = Attending::of(&permit, &channels);
        self.permits.add(channels, permit);
        let Begun { position, with_value } = self.feed.subscribe(starts.clone()).await;
        self.feed.attend(&attending);
        let epoch = self.feed.epoch();
        let places = starts.iter().map(|(channel, start)| {
            let begins = match start {
                Start::After(sequence) => Some(*sequence),
                Start::New | Start::Live => (!with_value.contains(channel)).then_some(position),
                Start::Lost(_) => None,
            };
            let mut place = json!({"channel": channel.as_str()});
            // Whoever is cut off before what comes next must not have an id that covers it.
            if let Some(begins) = begins {
                place["id"] = frame::id(epoch, begins).into();
            }
            place
        });
        Ok(json!({"type": "subscribed", "channels": places.collect::<Vec<_>>()}))
    }

    async fn tell(&mut self, told: Told) -> Result<(), End> {
        match told {
            Told::Message { bytes, .. } | Told::Value { bytes } => self.send(bytes).await,
            Told::Place(sequence) => {
                let id = frame::id(self.feed.epoch(), sequence);
                self.say(&json!({"type": "alive", "id": id})).await
            }
            Told::Reset { channels, from, reason } => {
                self.send(frame::reset(self.feed.epoch(), from, &channels, reason)).await
            }
            Told::Unavailable => {
                let message =
                    "the history cannot be read at the moment: come back with the ids that you have";
                self.dismiss(&Refusal::new(Code::HistoryUnavailable, message)).await
            }
            Told::Closed => self.dismiss(&Refusal::stopping(self.feed.reconnect_delay())).await,
        }
    }

    async fn show_life(&mut self) -> Result<(), End> {
        if self.heard.elapsed() > self.state.config.silence_time_max {
            self.state.config.metrics.gateway.listener.count_cut(CutReason::Silent);
            let message = "no sign of life came, not even an answer to a ping";
            return self.dismiss(&Refusal::new(Code::Silent, message)).await;
        }
        let alive = self.with_place(json!({"type": "alive"}));
        self.say(&alive).await?;
        self.ping().await
    }

    /// The last word, and then the end with the same code.
    async fn dismiss(&mut self, refusal: &Refusal) -> Result<(), End> {
        let mut error = refusal.json();
        error["type"] = "error".into();
        self.say(&error).await?;
        Err(End::Said(refusal.code.number(), refusal.code.reason()))
    }

    async fn refuse(&mut self, reference: Reference, refusal: &Refusal) -> Result<(), End> {
        let mut error = refusal.json();
        error["type"] = "error".into();
        self.answer(reference, error).await
    }

    async fn answer(&mut self, reference: Reference, mut answer: Value) -> Result<(), End> {
        if let Some(reference) = reference {
            answer["ref"] = reference.into();
        }
        self.say(&answer).await
    }

    /// With the id that holds for all channels, if there is one.
    fn with_place(&mut self, mut value: Value) -> Value {
        if let Some(sequence) = self.feed.place() {
            value["id"] = frame::id(self.feed.epoch(), sequence).into();
        }
        value
    }

    async fn say(&mut self, value: &Value) -> Result<(), End> {
        self.send(frame::frame(value)).await
    }

    /// In slices, so that a connection that takes some of a large frame shows that it does.
    async fn send(&mut self, frame: Bytes) -> Result<(), End> {
        for part in frame.chunks(CONNECTION_BUFFER_BYTES_MAX) {
            self.pulse.offered();
            tokio::select! {
                biased;
                () = self.cut.cancelled() => return Err(End::Gone),
                written = self.link.write(part) => written?,
            }
        }
        self.pulse.waiting();
        Ok(())
    }

    async fn ping(&mut self) -> Result<(), End> {
        self.pulse.offered();
        tokio::select! {
            biased;
            () = self.cut.cancelled() => return Err(End::Gone),
            written = self.link.ping() => written?,
        }
        self.pulse.waiting();
        Ok(())
    }
}
