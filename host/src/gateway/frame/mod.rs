//! Messages as clients get them, encoded once for all that share a format.
//!
//! In: a message and its place. Out: bytes.
//!
//! News of a timeline are encoded without a channel, so that all timelines share one frame, and get it when they are told:
//! see [`addressed`].
//!
//! To add a format: a variant of [`Format`], a module with its `message`, `value` and `addressed`, an arm in each function here.

pub(super) mod json;
pub(super) mod sse;

use std::sync::Arc;

use bytes::Bytes;

use crate::bus::Kept;
use crate::event::{Channel, Epoch, Message, Micros, Sequence};
use crate::telemetry::Face;
use crate::timeline::Source;

/// What a client understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// `text/event-stream`.
    EventStream,
    /// JSON, in the frame that WebSocket wants.
    Json,
}

impl Format {
    /// What is spoken on a face.
    pub(super) fn of(face: Face) -> Self {
        match face {
            Face::EventStream => Self::EventStream,
            Face::WebSocket | Face::LongPoll => Self::Json,
        }
    }
}

/// An encoded message, ready to be shared.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Its place, if it is kept.
    pub(super) sequence: Option<Sequence>,
    /// Where it belongs, or by which the history carries it.
    pub(super) channel: Channel,
    /// All that goes to the client, but for news, which lack a channel.
    pub(super) bytes: Bytes,
    /// What it is.
    pub(super) kind: Kind,
    /// When it was committed in its database, as far as that is known: to be measured.
    pub(super) committed_at: Option<Micros>,
}

/// What a frame is to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message of its channel.
    Message,
    /// Of a timeline.
    News,
    /// That whom the user follows has changed. It has no bytes.
    Turned,
}

impl Kind {
    fn of(message: &Message) -> Self {
        match Source::of(&message.channel) {
            None => Self::Message,
            Some(Source::Author(_) | Source::Inbox(_)) => Self::News,
            Some(Source::Edges) => Self::Turned,
        }
    }
}

/// News of a timeline with the channel on which they are told.
pub(super) fn addressed(format: Format, channel: &Channel, news: &Bytes) -> Bytes {
    match format {
        Format::EventStream => sse::addressed(channel, news),
        Format::Json => json::addressed(channel, news),
    }
}

/// Encodes a message; `sequence` is its place if it is kept. What is on a channel of the server's own is encoded without
/// it.
pub(super) fn message(format: Format, epoch: Epoch, sequence: Option<Sequence>, message: &Message) -> Bytes {
    match format {
        Format::EventStream => sse::message(epoch, sequence, message),
        Format::Json => json::message(epoch, sequence, message),
    }
}

/// Encodes the value of a channel for one client that is told of it.
pub(super) fn value(format: Format, epoch: Epoch, kept: &Kept) -> Bytes {
    match format {
        Format::EventStream => sse::value(epoch, kept.sequence, &kept.message),
        Format::Json => json::value(epoch, kept.sequence, &kept.message),
    }
}

/// Encodes who is on a channel, came or went: a JSON object with the channel's name.
pub(super) fn presence(format: Format, channel: &Channel, presence: &serde_json::Value) -> Bytes {
    match format {
        Format::EventStream => sse::presence(channel, presence),
        Format::Json => json::presence(presence),
    }
}

/// The frames of one message: each is made when the first client of its format asks for it.
pub(super) struct Frames<'a> {
    epoch: Epoch,
    sequence: Option<Sequence>,
    committed_at: Option<Micros>,
    message: &'a Message,
    event_stream: Option<Arc<Frame>>,
    json: Option<Arc<Frame>>,
}

impl<'a> Frames<'a> {
    /// Of a message that is kept.
    pub(super) fn kept(epoch: Epoch, kept: &'a Kept) -> Self {
        let Kept { sequence, message, committed_at } = kept;
        Self { sequence: Some(*sequence), committed_at: *committed_at, ..Self::live(epoch, message) }
    }

    /// Of one that is not.
    pub(super) fn live(epoch: Epoch, message: &'a Message) -> Self {
        Self { epoch, sequence: None, committed_at: None, message, event_stream: None, json: None }
    }

    /// Its place, if it is kept.
    pub(super) fn sequence(&self) -> Option<Sequence> {
        self.sequence
    }

    /// See [`Frame::committed_at`].
    pub(super) fn committed_at(&self) -> Option<Micros> {
        self.committed_at
    }

    pub(super) fn get(&mut self, format: Format) -> &Arc<Frame> {
        let Self { epoch, sequence, committed_at, message: of, event_stream, json } = self;
        let frame = match format {
            Format::EventStream => event_stream,
            Format::Json => json,
        };
        frame.get_or_insert_with(|| {
            // The name of its own: a frame that waits must not keep the whole answer of a plugin.
            let kind = Kind::of(of);
            let bytes = match kind {
                Kind::Message | Kind::News => message(format, *epoch, *sequence, of),
                Kind::Turned => Bytes::new(),
            };
            let (sequence, committed_at) = (*sequence, *committed_at);
            Arc::new(Frame { sequence, channel: of.channel.own(), bytes, kind, committed_at })
        })
    }
}
