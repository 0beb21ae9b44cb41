//! Where a change goes: what a router writes.
//!
//! Every route goes straight into the lists and the arena of the interface; nothing is allocated for one route. A draft
//! that is dropped leaves no route behind, only unused bytes. What the commonest route goes through is always inlined: in
//! a plugin that makes routes in two places it would become calls, which cost `row-router` some 5 ns a change.
//! To add a kind, change [`kind`], give [`Routes`] a method, and teach `testing/route.rs` to read it.

use std::marker::PhantomData;

use crate::cells::span_since;
use crate::{IntoText, Operation, Time};

/// Numbers of `kinds` of an outcome.
pub(crate) mod kind {
    pub(crate) const CHANNEL: u8 = 0;
    pub(crate) const AUDIENCE: u8 = 1;
    pub(crate) const INBOX: u8 = 2;
    pub(crate) const RETRACT: u8 = 3;
    pub(crate) const FOLLOW: u8 = 4;
    pub(crate) const UNFOLLOW: u8 = 5;
    pub(crate) const CACHE: u8 = 6;
    pub(crate) const TOPIC: u8 = 7;
    pub(crate) const REJECT: u8 = 8;
}

/// Bits of `options` of an outcome.
pub(crate) mod option {
    pub(crate) const ROW: u8 = 0;
    pub(crate) const ENVELOPE: u8 = 1;
    pub(crate) const NOTHING: u8 = 2;
    pub(crate) const JSON: u8 = 3;
    pub(crate) const TEXT: u8 = 4;
    pub(crate) const BYTES: u8 = 5;
    pub(crate) const LIVE_ONLY: u8 = 1 << 3;
    pub(crate) const RETAINED: u8 = 2 << 3;
    pub(crate) const FORGET: u8 = 3 << 3;
    pub(crate) const PREFIX: u8 = 1 << 5;
}

/// The span that is the payload, for every kind that has one.
const PAYLOAD_SPAN: usize = 2;

/// The lists of an outcome: see `wit/policy.wit` for what each holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) changes: Vec<u32>,
    pub(crate) kinds: Vec<u8>,
    pub(crate) options: Vec<u8>,
    pub(crate) spans: Vec<u64>,
    pub(crate) numbers: Vec<i64>,
    pub(crate) arena: Vec<u8>,
}

/// Where the changes of a batch go.
///
/// What has a payload (a channel, a post, a topic) is a [`Draft`], and goes nowhere until its payload is given.
#[derive(Debug)]
pub struct Routes {
    outcome: Outcome,
    /// The change that routes are written for, and its time.
    change: u32,
    committed_at: Time,
}

impl Routes {
    /// Room for a batch in which each change has `ROUTES_EXPECTED` routes; more of them cost a few reallocations.
    pub(crate) fn for_batch(changes: usize) -> Self {
        const ROUTES_EXPECTED: usize = 2;
        const BYTES_EXPECTED: usize = 24;
        let routes = changes * ROUTES_EXPECTED;
        let mut arena = Vec::with_capacity(Operation::NAMES.len() + routes * BYTES_EXPECTED);
        arena.extend_from_slice(Operation::NAMES.as_bytes());
        let outcome = Outcome {
            changes: Vec::with_capacity(routes),
            kinds: Vec::with_capacity(routes),
            options: Vec::with_capacity(routes),
            spans: Vec::with_capacity(routes * 4),
            numbers: Vec::with_capacity(routes),
            arena,
        };
        Self { outcome, change: 0, committed_at: Time::default() }
    }

    /// Says which change the following routes are for. Never goes back.
    pub(crate) fn begin(&mut self, change: usize, committed_at: Time) {
        self.change = change as u32;
        self.committed_at = committed_at;
    }

    pub(crate) fn into_outcome(mut self) -> Outcome {
        let routes = self.outcome.changes.len();
        self.outcome.kinds.resize(routes, 0);
        self.outcome.options.resize(routes, 0);
        self.outcome.numbers.resize(routes, 0);
        self.outcome
    }

    /// A message on a channel. Without further words it has no event and is kept for those who resume.
    #[inline(always)]
    pub fn channel(&mut self, channel: impl IntoText) -> Draft<'_, Channel> {
        let channel = self.span(channel);
        Draft::new(self, kind::CHANNEL, [channel, 0, 0, 0], 0)
    }

    /// A post to the author's followers; the fan-out stage decides how it reaches them. The same author and item again
    /// is an edit.
    pub fn audience(&mut self, author: impl IntoText, item: impl IntoText) -> Draft<'_, Post> {
        let (author, item) = (self.span(author), self.span(item));
        let time = self.committed_at.micros();
        Draft::new(self, kind::AUDIENCE, [author, item, 0, 0], time)
    }

    /// A post into the timeline of one user, whoever that user follows.
    pub fn inbox(
        &mut self,
        user: impl IntoText,
        author: impl IntoText,
        item: impl IntoText,
    ) -> Draft<'_, Post> {
        let (user, author, item) = (self.span(user), self.span(author), self.span(item));
        let time = self.committed_at.micros();
        Draft::new(self, kind::INBOX, [author, item, 0, user], time)
    }

    /// A message for other services. Without further words it has no key.
    pub fn topic(&mut self, topic: impl IntoText) -> Draft<'_, Topic> {
        let topic = self.span(topic);
        Draft::new(self, kind::TOPIC, [topic, 0, 0, 0], 0)
    }

    /// Takes a post back from wherever it went, for ever: what comes for the same author and item later does nothing.
    pub fn retract(&mut self, author: impl IntoText, item: impl IntoText) {
        self.pair(kind::RETRACT, author, item);
    }

    /// From now on `follower` follows `followee`.
    pub fn follow(&mut self, follower: impl IntoText, followee: impl IntoText) {
        self.pair(kind::FOLLOW, follower, followee);
    }

    /// From now on `follower` does not follow `followee`.
    pub fn unfollow(&mut self, follower: impl IntoText, followee: impl IntoText) {
        self.pair(kind::UNFOLLOW, follower, followee);
    }

    /// Deletes a key of the cache.
    pub fn cache(&mut self, key: impl IntoText) {
        let key = self.span(key);
        self.push(kind::CACHE, 0, [key, 0, 0, 0], 0);
    }

    /// Deletes all keys of the cache that begin so.
    pub fn cache_prefix(&mut self, prefix: impl IntoText) {
        let prefix = self.span(prefix);
        self.push(kind::CACHE, option::PREFIX, [prefix, 0, 0, 0], 0);
    }

    /// Sets this change aside as a dead letter, with the reason. Its other routes are not followed.
    pub fn reject(&mut self, reason: impl IntoText) {
        let reason = self.span(reason);
        self.push(kind::REJECT, 0, [reason, 0, 0, 0], 0);
    }

    fn pair(&mut self, kind: u8, first: impl IntoText, second: impl IntoText) {
        let spans = [self.span(first), self.span(second), 0, 0];
        self.push(kind, 0, spans, 0);
    }

    #[inline(always)]
    fn span(&mut self, text: impl IntoText) -> u64 {
        text.span_in(&mut self.outcome.arena)
    }

    #[inline(always)]
    fn push(&mut self, kind: u8, options: u8, spans: [u64; 4], number: i64) {
        let route = self.outcome.changes.len();
        self.outcome.changes.push(self.change);
        self.outcome.spans.extend_from_slice(&spans);
        set(&mut self.outcome.kinds, route, kind);
        set(&mut self.outcome.options, route, options);
        set(&mut self.outcome.numbers, route, number);
    }
}

/// Lists in which 0 is the commonest are written only where it is something else, and filled up at the end.
fn set<T: Copy + Default + PartialEq>(list: &mut Vec<T>, route: usize, value: T) {
    if value != T::default() {
        list.resize(route, T::default());
        list.push(value);
    }
}

/// A draft of a message on a channel.
#[derive(Debug)]
pub enum Channel {}

/// A draft of a post.
#[derive(Debug)]
pub enum Post {}

/// A draft of a message for other services.
#[derive(Debug)]
pub enum Topic {}

/// A route that still lacks its payload. `K` says what it is a draft of.
#[derive(Debug)]
#[must_use = "a draft goes nowhere until it has a payload: end it with `row()`, `nothing()`, `json(..)`, …"]
pub struct Draft<'r, K> {
    routes: &'r mut Routes,
    kind: u8,
    options: u8,
    spans: [u64; 4],
    number: i64,
    of: PhantomData<K>,
}

impl<'r, K> Draft<'r, K> {
    fn new(routes: &'r mut Routes, kind: u8, spans: [u64; 4], number: i64) -> Self {
        Self { routes, kind, options: 0, spans, number, of: PhantomData }
    }

    /// The row as JSON, which the host encodes once for all who get it: the new row, for a delete the old one.
    #[inline(always)]
    pub fn row(self) {
        self.finish(option::ROW);
    }

    /// The change in Debezium's envelope.
    pub fn envelope(self) {
        self.finish(option::ENVELOPE);
    }

    /// No payload: that it happened says enough.
    pub fn nothing(self) {
        self.finish(option::NOTHING);
    }

    /// JSON of the policy's own making: one document, else the host refuses the answer.
    pub fn json(self, json: impl IntoText) {
        self.finish_with(option::JSON, json);
    }

    /// Text of the policy's own making.
    pub fn text(self, text: impl IntoText) {
        self.finish_with(option::TEXT, text);
    }

    /// Bytes of the policy's own making.
    pub fn bytes(mut self, bytes: &[u8]) {
        let arena = &mut self.routes.outcome.arena;
        let start = arena.len();
        arena.extend_from_slice(bytes);
        self.spans[PAYLOAD_SPAN] = span_since(start, arena);
        self.finish(option::BYTES);
    }

    fn finish_with(mut self, payload: u8, text: impl IntoText) {
        self.spans[PAYLOAD_SPAN] = self.routes.span(text);
        self.finish(payload);
    }

    #[inline(always)]
    fn finish(self, payload: u8) {
        self.routes.push(self.kind, self.options | payload, self.spans, self.number);
    }
}

impl Draft<'_, Channel> {
    /// What the message is about: the event of an SSE frame.
    #[inline(always)]
    pub fn event(mut self, event: impl IntoText) -> Self {
        self.spans[1] = self.routes.span(event);
        self
    }

    /// For those who are connected now; whoever resumes does not get it.
    pub fn live_only(mut self) -> Self {
        self.options = option::LIVE_ONLY;
        self
    }

    /// Kept, and also the channel's value, which those who come new get first.
    pub fn retained(mut self) -> Self {
        self.options = option::RETAINED;
        self
    }

    /// Kept, and the channel has no value any more.
    pub fn forget_retained(mut self) -> Self {
        self.options = option::FORGET;
        self
    }
}

impl Draft<'_, Post> {
    /// The post's time, by which timelines are ordered. Without it the time of the commit.
    pub fn at(mut self, time: Time) -> Self {
        self.number = time.micros();
        self
    }
}

impl Draft<'_, Topic> {
    /// What the message is about: messages of one key stay in order.
    pub fn key(mut self, key: impl IntoText) -> Self {
        self.spans[1] = self.routes.span(key);
        self
    }
}
