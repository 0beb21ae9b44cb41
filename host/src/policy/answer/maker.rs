//! Routes, made of an outcome that was checked.
//!
//! Routes to channels by far outnumber all others, so they have a way of their own, on which nothing is put together
//! elsewhere and then moved.

use std::sync::Arc;

use bytes::Bytes;

use super::super::bindings::exports::twohop::policy::router::Outcome;
use super::super::route::{CacheKeys, Directed, Entry, Payload, Route};
use super::routes::{
    AUDIENCE, CACHE, CHANNEL, ENVELOPE, FOLLOW, INBOX, JSON, LIVE_ONLY, NOTHING, PAYLOAD_BITS, PREFIX_BIT,
    RETENTION_SHIFT, RETRACT, ROW, TEXT, TOPIC, UNFOLLOW,
};
use super::{Arena, Asked, Rejected, range};
use crate::event::{Channel, EventName, Micros, Retention};
use crate::limits::SHARED_TEXT_BYTES_MAX;

pub(super) struct Maker<'a> {
    arena: Arena<'a>,
    /// The arena, for the channels to share, if it is short.
    shared: Option<Arc<str>>,
    asked: Asked<'a>,
    /// The last event, and its span: many routes have the same.
    event: (u64, EventName),
}

/// One route as it stands in the lists.
#[derive(Clone, Copy)]
struct Numbers<'a> {
    change: u32,
    kind: u8,
    options: u8,
    spans: &'a [u64; 4],
    number: i64,
}

impl<'a> Maker<'a> {
    pub(super) fn new(arena: Arena<'a>, asked: Asked<'a>) -> Self {
        let shared = arena.text.filter(|text| text.len() <= SHARED_TEXT_BYTES_MAX).map(Arc::from);
        Self { arena, shared, asked, event: (0, EventName::from("")) }
    }

    /// Appends all routes but those of rejected changes.
    pub(super) fn make_all(mut self, outcome: &Outcome, rejected: &[Rejected], routes: &mut Vec<Directed>) {
        let (spans, _) = outcome.spans.as_chunks::<4>();
        let only_rows = outcome.kinds.iter().all(|kind| *kind == CHANNEL)
            && outcome.options.iter().all(|options| options & PAYLOAD_BITS == ROW);
        if only_rows && rejected.is_empty() {
            let lists = outcome.changes.iter().zip(&outcome.options).zip(spans);
            routes.extend(
                lists.map(|((change, options), spans)| self.channel(*change, *options, spans, Payload::Row)),
            );
            return;
        }
        let is_rejected = |change: u32| rejected.binary_search_by_key(&change, |(change, _)| *change).is_ok();
        let lists =
            outcome.changes.iter().zip(&outcome.kinds).zip(&outcome.options).zip(spans).zip(&outcome.numbers);
        let lists = lists.map(|((((change, kind), options), spans), number)| Numbers {
            change: *change,
            kind: *kind,
            options: *options,
            spans,
            number: *number,
        });
        routes.extend(lists.filter(|numbers| !is_rejected(numbers.change)).map(|numbers| self.any(numbers)));
    }

    #[inline]
    fn channel(&mut self, change: u32, options: u8, spans: &[u64; 4], payload: Payload) -> Directed {
        if self.event.0 != spans[1] {
            self.event = (spans[1], EventName::from(self.text(spans[1])));
        }
        let name = range(spans[0]);
        let (text, name) = match &self.shared {
            Some(text) => (text.clone(), name),
            None => (self.text(spans[0]).into(), 0..name.len()),
        };
        let retention =
            if options >> RETENTION_SHIFT == LIVE_ONLY { Retention::LiveOnly } else { Retention::Kept };
        Directed {
            change: self.asked.members[change as usize].change,
            plugin: self.asked.plugin,
            route: Route::Channel {
                channel: Channel::part_of(text, name),
                event: self.event.1.clone(),
                payload,
                retention,
            },
        }
    }

    fn any(&mut self, numbers: Numbers<'_>) -> Directed {
        let Numbers { change, kind, options, spans, .. } = numbers;
        if kind == CHANNEL {
            let payload = self.payload(numbers);
            return self.channel(change, options, spans, payload);
        }
        Directed {
            change: self.asked.members[change as usize].change,
            plugin: self.asked.plugin,
            route: self.other(numbers),
        }
    }

    fn other(&self, numbers: Numbers<'_>) -> Route {
        let Numbers { kind, options, spans, .. } = numbers;
        let name = |nth: usize| self.text(spans[nth]).into();
        match kind {
            AUDIENCE => Route::Audience(self.entry(numbers)),
            INBOX => Route::Inbox { user: name(3), entry: self.entry(numbers) },
            RETRACT => Route::Retract { author: name(0), item: name(1) },
            FOLLOW => Route::Follow { follower: name(0), followee: name(1) },
            UNFOLLOW => Route::Unfollow { follower: name(0), followee: name(1) },
            CACHE if options == PREFIX_BIT => Route::Cache(CacheKeys::Prefix(name(0))),
            CACHE => Route::Cache(CacheKeys::One(name(0))),
            TOPIC => Route::Topic { topic: name(0), key: name(1), payload: self.payload(numbers) },
            _ => unreachable!("the checker knows the kinds, and a change that is rejected has no routes"),
        }
    }

    fn entry(&self, numbers: Numbers<'_>) -> Box<Entry> {
        Box::new(Entry {
            author: self.text(numbers.spans[0]).into(),
            item: self.text(numbers.spans[1]).into(),
            payload: self.payload(numbers),
            time: Micros(numbers.number),
        })
    }

    fn text(&self, span: u64) -> &'a str {
        self.arena.text(span).expect("it was checked")
    }

    fn payload(&self, numbers: Numbers<'_>) -> Payload {
        let span = numbers.spans[2];
        match numbers.options & PAYLOAD_BITS {
            ROW => Payload::Row,
            ENVELOPE => Payload::Envelope,
            NOTHING => Payload::Nothing,
            JSON => Payload::Json(self.bytes(span)),
            TEXT => Payload::Text(self.bytes(span)),
            _ => Payload::Bytes(self.bytes(span)),
        }
    }

    /// Copied: a slice of the arena would keep all of it for as long as the one message lives.
    fn bytes(&self, span: u64) -> Bytes {
        Bytes::copy_from_slice(self.arena.bytes(span).expect("it was checked"))
    }
}
