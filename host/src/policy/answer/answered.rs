//! A router's answer that was checked, and routes, read out of it when somebody asks.
//!
//! Nothing is made of an answer that nobody needs: its lists are kept as the plugin gave them, and a route is a place
//! in them. To read one cannot fail.

use std::cell::OnceCell;
use std::sync::Arc;

use bytes::Bytes;

use super::super::bindings::exports::twohop::policy::router::Outcome;
use super::super::route::{CacheKeys, Entry, Kind, Payload, Route};
use super::routes::{
    ENVELOPE, FORGET, JSON, LIVE_ONLY, NOTHING, PAYLOAD_BITS, PREFIX_BIT, RETENTION_SHIFT, ROW, TEXT, VALUE,
};
use super::{Arena, range};
use crate::event::{Channel, Micros, Retention};
use crate::limits::SHARED_TEXT_BYTES_MAX;

/// The lists of one answer.
#[derive(Debug)]
pub(super) struct Answered {
    /// The index of the plugin whose it is.
    plugin: usize,
    options: Vec<u8>,
    spans: Vec<u64>,
    numbers: Vec<i64>,
    /// The arena, or its bytes if they are no text.
    text: Result<String, Vec<u8>>,
    /// The arena, for channels to share, if it is short text; made for the first of them.
    shared: OnceCell<Option<Arc<str>>>,
}

/// Where one route is, and whose change it is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The index of the change in what was evaluated.
    pub(super) change: usize,
    /// The index of its answer.
    pub(super) answer: u32,
    /// Which of the answer's routes it is.
    pub(super) nth: u32,
    pub(super) kind: Kind,
}

/// One route of one change.
#[derive(Debug, Clone, Copy)]
pub struct Directed<'a> {
    place: Place,
    answered: &'a Answered,
}

/// What goes to those who listen on a channel.
#[derive(Debug)]
pub struct ToChannel<'a> {
    /// The channel.
    pub channel: Channel,
    /// The event's name as clients see it, may be empty.
    pub event: &'a str,
    /// What they get.
    pub payload: Payload,
    /// For whom it is kept.
    pub retention: Retention,
}

impl Answered {
    /// Keeps what of the lists is needed still; `text` is the arena, which was taken out of them.
    pub(super) fn new(plugin: usize, outcome: Outcome, text: Result<String, Vec<u8>>) -> Self {
        let Outcome { options, spans, numbers, .. } = outcome;
        Self { plugin, options, spans, numbers, text, shared: OnceCell::new() }
    }

    fn shared(&self) -> Option<&Arc<str>> {
        let text = || self.text.as_ref().ok().filter(|text| text.len() <= SHARED_TEXT_BYTES_MAX);
        self.shared.get_or_init(|| text().map(|text| text.as_str().into())).as_ref()
    }
}

impl<'a> Directed<'a> {
    pub(super) fn new(place: Place, answered: &'a Answered) -> Self {
        Self { place, answered }
    }

    /// The index of the change in what was evaluated.
    #[must_use]
    pub fn change(&self) -> usize {
        self.place.change
    }

    /// The index of the plugin in [`Policy::plugins`](crate::policy::Policy::plugins).
    #[must_use]
    pub fn plugin(&self) -> usize {
        self.answered.plugin
    }

    /// What kind of route it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.place.kind
    }

    /// The channel's name, if it is for one.
    pub(in crate::policy) fn channel_name(&self) -> Option<&'a str> {
        (self.kind() == Kind::Channel).then(|| self.text(0))
    }

    /// What goes to a channel, if it is for one.
    #[must_use]
    pub fn to_channel(&self) -> Option<ToChannel<'a>> {
        let name = self.channel_name()?;
        let channel = match self.answered.shared() {
            Some(text) => Channel::part_of(text.clone(), range(self.span(0))),
            None => Channel::part_of(name.into(), 0..name.len()),
        };
        let retention = match self.options() >> RETENTION_SHIFT {
            LIVE_ONLY => Retention::LiveOnly,
            VALUE => Retention::Value,
            FORGET => Retention::Forget,
            _ => Retention::Kept,
        };
        Some(ToChannel { channel, event: self.text(1), payload: self.payload(), retention })
    }

    /// All of it.
    #[must_use]
    pub fn route(&self) -> Route {
        let name = |nth| self.text(nth).into();
        match self.kind() {
            Kind::Channel => {
                let ToChannel { channel, event, payload, retention } =
                    self.to_channel().expect("it is for one");
                Route::Channel { channel, event: event.into(), payload, retention }
            }
            Kind::Audience => Route::Audience(self.entry()),
            Kind::Inbox => Route::Inbox { user: name(3), entry: self.entry() },
            Kind::Retract => Route::Retract { author: name(0), item: name(1) },
            Kind::Follow => Route::Follow { follower: name(0), followee: name(1) },
            Kind::Unfollow => Route::Unfollow { follower: name(0), followee: name(1) },
            Kind::Cache if self.options() == PREFIX_BIT => Route::Cache(CacheKeys::Prefix(name(0))),
            Kind::Cache => Route::Cache(CacheKeys::One(name(0))),
            Kind::Topic => Route::Topic { topic: name(0), key: name(1), payload: self.payload() },
        }
    }

    fn entry(&self) -> Box<Entry> {
        Box::new(Entry {
            author: self.text(0).into(),
            item: self.text(1).into(),
            payload: self.payload(),
            time: Micros(self.answered.numbers[self.place.nth as usize]),
        })
    }

    fn payload(&self) -> Payload {
        match self.options() & PAYLOAD_BITS {
            ROW => Payload::Row,
            ENVELOPE => Payload::Envelope,
            NOTHING => Payload::Nothing,
            JSON => Payload::Json(self.bytes(2)),
            TEXT => Payload::Text(self.bytes(2)),
            _ => Payload::Bytes(self.bytes(2)),
        }
    }

    fn options(&self) -> u8 {
        self.answered.options[self.place.nth as usize]
    }

    fn span(&self, nth: usize) -> u64 {
        self.answered.spans[4 * self.place.nth as usize + nth]
    }

    fn text(&self, nth: usize) -> &'a str {
        Arena::of(&self.answered.text).text(self.span(nth)).expect("it was checked")
    }

    /// Copied: a slice of the arena would keep all of it for as long as the one message lives.
    fn bytes(&self, nth: usize) -> Bytes {
        Bytes::copy_from_slice(Arena::of(&self.answered.text).bytes(self.span(nth)).expect("it was checked"))
    }
}
