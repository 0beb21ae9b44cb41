//! A router's answer, from numbers to routes.
//!
//! In: the eight lists of an outcome, from a plugin that may lie. Out: typed routes, or the first rule that is broken.
//!
//! Invariant: every number is checked here and nowhere else. Nothing a plugin answers can make this panic, or
//! allocate more than a small multiple of what it answered. A kind, option or attribute that this host does not
//! know is refused, never ignored: the answer is refused whole.
//! To add a kind of route, change [`Route`] and `Checker::direction`.

use std::sync::Arc;

use bytes::Bytes;

use super::batch::Member;
use super::bindings::exports::twohop::policy::router::Outcome;
use super::error::reason;
use crate::event::{Channel, ChannelError, EventName, Retention, has_control, is_printable};
use crate::limits::{EVENT_BYTES_MAX, PAYLOAD_BYTES_MAX, ROUTES_PER_CHANGE_MAX, SHARED_TEXT_BYTES_MAX};

/// The bits of a route's options that say what its payload is, and what they say.
const PAYLOAD_BITS: u8 = 0b111;
const ROW: u8 = 0;
const NOTHING: u8 = 2;
const JSON: u8 = 3;
const TEXT: u8 = 4;
const BYTES: u8 = 5;
/// Above them, for a channel, what is kept.
const RETENTION_SHIFT: u32 = 3;
const KEPT: u8 = 0;
const LIVE_ONLY: u8 = 1;

/// Where a change goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To those who listen on a channel.
    Channel {
        /// The channel.
        channel: Channel,
        /// The event's name as clients see it, may be empty.
        event: EventName,
        /// What they get.
        payload: Payload,
        /// Whether it is kept for those who resume.
        retention: Retention,
    },
}

/// What travels with a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// The row as JSON: the new one, the old one of a delete, else `null`. The host has it, or makes it once.
    Row,
    /// Nothing.
    Nothing,
    /// A JSON document of the plugin, checked.
    Json(Bytes),
    /// Text of the plugin, UTF-8.
    Text(Bytes),
    /// Bytes of the plugin.
    Bytes(Bytes),
}

/// Which rule of the interface an answer breaks. Routes are counted from 0, as they stand in the answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Lists that must be equally long are not.
    #[error("the list `{list}` has {length} entries instead of {expected}")]
    Length {
        /// Its name in the interface.
        list: &'static str,
        /// What it has.
        length: usize,
        /// What it must have.
        expected: usize,
    },
    /// A route for a change that was not handed over.
    #[error("route {route} is for change {change} of {changes}")]
    Change {
        /// The route.
        route: usize,
        /// The change.
        change: u32,
        /// How many there are.
        changes: usize,
    },
    /// Routes are not in the order of their changes.
    #[error("route {0} is for an earlier change than the route before it")]
    Descending(usize),
    /// One change has too many routes.
    #[error("change {0} has more than {ROUTES_PER_CHANGE_MAX} routes")]
    TooMany(u32),
    /// An unknown kind.
    #[error("route {route} is of the unknown kind {kind}")]
    Kind {
        /// The route.
        route: usize,
        /// The kind.
        kind: u8,
    },
    /// A kind or option that is part of the interface, but not of this host.
    #[error("route {route} asks for {what}, which this version of the host does not do yet")]
    NotYet {
        /// The route.
        route: usize,
        /// What it asks for.
        what: &'static str,
    },
    /// Unknown options, or some that its kind does not have.
    #[error("route {route} has options {options:#010b}, which its kind does not have")]
    Options {
        /// The route.
        route: usize,
        /// The options.
        options: u8,
    },
    /// A span that leaves the arena.
    #[error("route {route}: the span of its {what} leaves the arena")]
    Span {
        /// The route.
        route: usize,
        /// What the span is.
        what: &'static str,
    },
    /// A span that must be text.
    #[error("route {route}: its {what} is not UTF-8")]
    Text {
        /// The route.
        route: usize,
        /// What the span is.
        what: &'static str,
    },
    /// A number that its kind does not use.
    #[error("route {route}: its {what} must be 0")]
    NotZero {
        /// The route.
        route: usize,
        /// Which.
        what: &'static str,
    },
    /// Not the name of a channel.
    #[error("route {route}: {problem}")]
    Channel {
        /// The route.
        route: usize,
        /// Why.
        problem: ChannelError,
    },
    /// The name of the event is too long or would break the framing of the wire.
    #[error("route {0}: its event has more than {EVENT_BYTES_MAX} bytes, or a control character")]
    Event(usize),
    /// The payload is too large.
    #[error("route {route}: its payload has {bytes} bytes, at most {PAYLOAD_BYTES_MAX} are allowed")]
    PayloadTooLarge {
        /// The route.
        route: usize,
        /// Its size.
        bytes: usize,
    },
    /// The payload is said to be JSON.
    #[error("route {0}: its payload is not JSON")]
    Json(usize),
    /// A rejection without a reason.
    #[error("route {0} rejects without a reason")]
    Reason(usize),
    /// Attributes are for later versions.
    #[error("it has {0} attributes, but there is none in this version of the interface")]
    Attributes(usize),
}

/// One route of one change.
#[derive(Debug, PartialEq, Eq)]
pub struct Directed {
    /// The index of the change in what was evaluated.
    pub change: usize,
    /// The index of the plugin in [`Policy::plugins`](super::Policy::plugins).
    pub plugin: usize,
    /// Where it goes.
    pub route: Route,
}

/// A change that the plugin rejects: its index in the batch, and why.
pub(super) type Rejected = (u32, Arc<str>);

/// Whose answer it is, to what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// The index of the plugin.
    pub(super) plugin: usize,
    /// The changes of the batch.
    pub(super) members: &'a [Member],
}

/// Checks an outcome, appends its routes, and gives the changes that it rejects, in their order, which have no
/// routes. Appends nothing if it breaks a rule.
///
/// All is checked before the first route is made: making one cannot fail then, and it is written once, where it
/// stays. Moving routes about costs more than all the checks.
pub(super) fn read(
    outcome: &Outcome,
    asked: Asked<'_>,
    routes: &mut Vec<Directed>,
) -> Result<Vec<Rejected>, AnswerError> {
    check_lengths(outcome)?;
    let text = std::str::from_utf8(&outcome.arena).ok();
    let printable = text.is_some_and(is_printable);
    let changes = asked.members.len();
    let checker =
        Checker { arena: &outcome.arena, text, printable, changes, event: None, rejected: Vec::new() };
    let rejected = checker.check(outcome)?;

    let shared = text.filter(|text| text.len() <= SHARED_TEXT_BYTES_MAX).map(Arc::from);
    let mut maker = Maker { arena: &outcome.arena, shared, asked, event: (0, EventName::from("")) };
    let (spans, _) = outcome.spans.as_chunks::<4>();
    let lists = outcome.changes.iter().zip(&outcome.options).zip(spans);
    let lists = lists.map(|((change, options), spans)| (*change, *options, spans));
    if rejected.is_empty() && outcome.options.iter().all(|options| options & PAYLOAD_BITS == ROW) {
        // The commonest by itself: where nothing is chosen, nothing is put together elsewhere and then moved.
        routes.extend(lists.map(|numbers| maker.make(numbers, Payload::Row)));
    } else {
        let is_rejected = |change: u32| rejected.binary_search_by_key(&change, |(change, _)| *change).is_ok();
        routes.extend(lists.filter(|(change, ..)| !is_rejected(*change)).map(|numbers| {
            let payload = maker.payload(numbers);
            maker.make(numbers, payload)
        }));
    }
    Ok(rejected)
}

fn check_lengths(outcome: &Outcome) -> Result<(), AnswerError> {
    if !outcome.attributed_routes.is_empty() || !outcome.attributes.is_empty() {
        let count = outcome.attributed_routes.len().max(outcome.attributes.len().div_ceil(2));
        return Err(AnswerError::Attributes(count));
    }
    let routes = outcome.changes.len();
    let lists = [
        ("kinds", outcome.kinds.len(), routes),
        ("options", outcome.options.len(), routes),
        ("spans", outcome.spans.len(), routes * 4),
        ("numbers", outcome.numbers.len(), routes),
    ];
    for (list, length, expected) in lists {
        if length != expected {
            return Err(AnswerError::Length { list, length, expected });
        }
    }
    Ok(())
}

/// One route as it stands in the lists.
#[derive(Clone, Copy)]
struct Numbers<'a> {
    /// Which route it is.
    route: usize,
    change: u32,
    options: u8,
    spans: &'a [u64; 4],
    number: i64,
}

struct Checker<'a> {
    arena: &'a [u8],
    /// The whole arena, if it is text: then each span has to be looked at only where it begins and ends.
    text: Option<&'a str>,
    /// Whether the arena is printable ASCII: then so is every name in it.
    printable: bool,
    /// How many were handed over.
    changes: usize,
    /// The span of the last event: many routes have the same.
    event: Option<u64>,
    rejected: Vec<Rejected>,
}

impl<'a> Checker<'a> {
    fn check(mut self, outcome: &Outcome) -> Result<Vec<Rejected>, AnswerError> {
        let changes = self.changes;
        let (spans, _) = outcome.spans.as_chunks::<4>();
        let lists =
            outcome.changes.iter().zip(&outcome.kinds).zip(&outcome.options).zip(spans).zip(&outcome.numbers);
        let (mut before, mut of_change) = (0, 0);
        for (route, ((((change, kind), options), spans), number)) in lists.enumerate() {
            let (change, kind, options, number) = (*change, *kind, *options, *number);
            if change as usize >= changes {
                return Err(AnswerError::Change { route, change, changes });
            }
            if change < before {
                return Err(AnswerError::Descending(route));
            }
            of_change = if change == before { of_change + 1 } else { 1 };
            before = change;
            if of_change > ROUTES_PER_CHANGE_MAX {
                return Err(AnswerError::TooMany(change));
            }
            self.direction(kind, Numbers { route, change, options, spans, number })?;
        }
        Ok(self.rejected)
    }

    fn direction(&mut self, kind: u8, numbers: Numbers<'_>) -> Result<(), AnswerError> {
        let route = numbers.route;
        let what = match kind {
            0 => return self.channel(numbers),
            8 => return self.reject(numbers),
            1 => "an audience",
            2 => "an inbox",
            3 => "a retraction",
            4 => "to follow",
            5 => "to unfollow",
            6 => "to delete a cache key",
            7 => "a topic",
            _ => return Err(AnswerError::Kind { route, kind }),
        };
        Err(AnswerError::NotYet { route, what })
    }

    fn channel(&mut self, numbers: Numbers<'_>) -> Result<(), AnswerError> {
        let Numbers { route, options, spans, .. } = numbers;
        if options & 0b1110_0000 != 0 {
            return Err(AnswerError::Options { route, options });
        }
        match options >> RETENTION_SHIFT & 0b11 {
            KEPT | LIVE_ONLY => {}
            2 => return Err(AnswerError::NotYet { route, what: "a channel's value" }),
            _ => return Err(AnswerError::NotYet { route, what: "to forget a channel's value" }),
        }
        zero(numbers, 3)?;
        let name = self.span_text(route, spans[0], "channel")?;
        let checked = if self.printable { Channel::check_printable(name) } else { Channel::check(name) };
        checked.map_err(|problem| AnswerError::Channel { route, problem })?;
        self.event(route, spans[1])?;
        self.payload(route, spans[2], options)
    }

    fn reject(&mut self, numbers: Numbers<'_>) -> Result<(), AnswerError> {
        let Numbers { route, change, options, spans, .. } = numbers;
        if options != 0 {
            return Err(AnswerError::Options { route, options });
        }
        zero(numbers, 1)?;
        let text = self.span_text(route, spans[0], "reason")?;
        if text.is_empty() {
            return Err(AnswerError::Reason(route));
        }
        if self.rejected.last().is_none_or(|(rejected, _)| *rejected != change) {
            self.rejected.push((change, reason(text).into()));
        }
        Ok(())
    }

    fn event(&mut self, route: usize, span: u64) -> Result<(), AnswerError> {
        if self.event != Some(span) {
            let name = self.span_text(route, span, "event")?;
            if name.len() > EVENT_BYTES_MAX || has_control(name) {
                return Err(AnswerError::Event(route));
            }
            self.event = Some(span);
        }
        Ok(())
    }

    fn payload(&self, route: usize, span: u64, options: u8) -> Result<(), AnswerError> {
        let kind = options & PAYLOAD_BITS;
        if kind < JSON {
            if span != 0 {
                return Err(AnswerError::NotZero { route, what: "payload's span" });
            }
            return match kind {
                ROW | NOTHING => Ok(()),
                _ => Err(AnswerError::NotYet { route, what: "Debezium's envelope" }),
            };
        }
        let bytes = match kind {
            JSON | TEXT => self.span_text(route, span, "payload")?.as_bytes(),
            BYTES => self.span_bytes(route, span, "payload")?,
            _ => return Err(AnswerError::Options { route, options }),
        };
        if bytes.len() > PAYLOAD_BYTES_MAX {
            return Err(AnswerError::PayloadTooLarge { route, bytes: bytes.len() });
        }
        if kind == JSON && serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_err() {
            return Err(AnswerError::Json(route));
        }
        Ok(())
    }

    fn span_bytes(&self, route: usize, span: u64, what: &'static str) -> Result<&'a [u8], AnswerError> {
        self.arena.get(range(span)).ok_or(AnswerError::Span { route, what })
    }

    fn span_text(&self, route: usize, span: u64, what: &'static str) -> Result<&'a str, AnswerError> {
        if let Some(text) = self.text.and_then(|text| text.get(range(span))) {
            return Ok(text);
        }
        let bytes = self.span_bytes(route, span, what)?;
        std::str::from_utf8(bytes).map_err(|_| AnswerError::Text { route, what })
    }
}

fn range(span: u64) -> std::ops::Range<usize> {
    let start = (span & 0xFFFF_FFFF) as usize;
    start..start + (span >> 32) as usize
}

/// The spans from that one on, and the number, are not used.
fn zero(numbers: Numbers<'_>, from: usize) -> Result<(), AnswerError> {
    let Numbers { route, spans, number, .. } = numbers;
    if spans[from..].iter().any(|span| *span != 0) {
        return Err(AnswerError::NotZero { route, what: "unused spans" });
    }
    if number != 0 {
        return Err(AnswerError::NotZero { route, what: "number" });
    }
    Ok(())
}

/// Makes the routes of an outcome that was checked.
struct Maker<'a> {
    arena: &'a [u8],
    /// The arena, for the channels to share, if it is short.
    shared: Option<Arc<str>>,
    asked: Asked<'a>,
    /// The last event, and its span: many routes have the same.
    event: (u64, EventName),
}

impl Maker<'_> {
    #[inline]
    fn make(&mut self, numbers: (u32, u8, &[u64; 4]), payload: Payload) -> Directed {
        let (change, options, spans) = numbers;
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

    fn text(&self, span: u64) -> &str {
        std::str::from_utf8(&self.arena[range(span)]).expect("it was checked")
    }

    fn payload(&self, (_, options, spans): (u32, u8, &[u64; 4])) -> Payload {
        let span = spans[2];
        match options & PAYLOAD_BITS {
            ROW => Payload::Row,
            NOTHING => Payload::Nothing,
            JSON => Payload::Json(self.bytes(span)),
            TEXT => Payload::Text(self.bytes(span)),
            _ => Payload::Bytes(self.bytes(span)),
        }
    }

    /// Copied: a slice of the arena would keep all of it for as long as the one message lives.
    fn bytes(&self, span: u64) -> Bytes {
        Bytes::copy_from_slice(&self.arena[range(span)])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One route for the first of two changes, which each test spoils.
    fn outcome() -> Outcome {
        let arena = b"orders:1insert{\"a\":1}\xFF".to_vec();
        let span = |start: u64, length: u64| start | length << 32;
        Outcome {
            changes: vec![0],
            kinds: vec![0],
            options: vec![3],
            spans: vec![span(0, 8), span(8, 6), span(14, 7), 0],
            numbers: vec![0],
            attributed_routes: vec![],
            attributes: vec![],
            arena,
        }
    }

    #[derive(Debug, PartialEq)]
    struct Answer {
        routes: Vec<(usize, Route)>,
        rejected: Vec<Rejected>,
    }

    fn check(outcome: &Outcome) -> Result<Answer, AnswerError> {
        let members = [0, 1].map(Member::without_match);
        let mut routes = Vec::new();
        let rejected = read(outcome, Asked { plugin: 0, members: &members }, &mut routes);
        assert!(rejected.is_ok() || routes.is_empty(), "a wrong answer leaves nothing");
        let routes = routes.into_iter().map(|directed| (directed.change, directed.route)).collect();
        rejected.map(|rejected| Answer { routes, rejected })
    }

    fn spoiled(spoil: impl FnOnce(&mut Outcome)) -> AnswerError {
        let mut outcome = outcome();
        spoil(&mut outcome);
        check(&outcome).expect_err("it is spoiled")
    }

    #[test]
    fn every_part_of_a_route_is_read() {
        let answer = check(&outcome()).expect("it is right");
        let route = Route::Channel {
            channel: Channel::new("orders:1").expect("it is one"),
            event: "insert".into(),
            payload: Payload::Json("{\"a\":1}".into()),
            retention: Retention::Kept,
        };
        assert_eq!(answer.routes, [(0, route)]);
        for (options, payload, retention) in [
            (0, Payload::Row, Retention::Kept),
            (2, Payload::Nothing, Retention::Kept),
            (4 | 1 << 3, Payload::Text("{\"a\":1}".into()), Retention::LiveOnly),
            (5, Payload::Bytes("{\"a\":1}".into()), Retention::Kept),
        ] {
            let mut outcome = outcome();
            outcome.options = vec![options];
            if options < 3 {
                outcome.spans[2] = 0;
            }
            let answer = check(&outcome).expect("it is right");
            let Route::Channel { payload: read, retention: kept, .. } = &answer.routes[0].1;
            assert_eq!((read, *kept), (&payload, retention));
        }
    }

    #[test]
    fn channels_share_a_short_text_and_copy_their_name_from_a_long_one_or_from_bytes() {
        let place = |answer: &Answer, route: usize| {
            let Route::Channel { channel, .. } = &answer.routes[route].1;
            assert_eq!(channel.as_str(), "orders:1");
            channel.as_str().as_ptr()
        };
        let twice = |arena: Vec<u8>| {
            let mut outcome = outcome();
            outcome.arena = arena;
            outcome.changes = vec![0, 1];
            outcome.kinds = vec![0; 2];
            outcome.options = vec![0; 2];
            outcome.spans = [8 << 32, 8 | 6 << 32, 0, 0].repeat(2);
            outcome.numbers = vec![0; 2];
            let answer = check(&outcome).expect("it is right");
            place(&answer, 0) == place(&answer, 1)
        };
        let names = b"orders:1insert";
        assert!(twice(names.to_vec()));
        assert!(!twice([&names[..], b"\xFF"].concat()));
        assert!(!twice([&names[..], &vec![b' '; SHARED_TEXT_BYTES_MAX]].concat()));
    }

    #[test]
    fn lists_that_do_not_fit_each_other_are_refused() {
        let length = |list, length, expected| AnswerError::Length { list, length, expected };
        assert_eq!(spoiled(|o| o.kinds.push(0)), length("kinds", 2, 1));
        assert_eq!(spoiled(|o| o.options.clear()), length("options", 0, 1));
        assert_eq!(spoiled(|o| o.spans.truncate(3)), length("spans", 3, 4));
        assert_eq!(spoiled(|o| o.numbers.push(0)), length("numbers", 2, 1));
        assert_eq!(spoiled(|o| o.changes.clear()), length("kinds", 1, 0));
        assert_eq!(spoiled(|o| o.attributed_routes.push(0)), AnswerError::Attributes(1));
        assert_eq!(spoiled(|o| o.attributes.push(0)), AnswerError::Attributes(1));
    }

    #[test]
    fn routes_for_changes_that_are_not_there_or_out_of_order_are_refused() {
        assert_eq!(spoiled(|o| o.changes[0] = 2), AnswerError::Change { route: 0, change: 2, changes: 2 });
        let twice = |first, second| {
            spoiled(|o| {
                o.changes = vec![first, second];
                o.kinds.push(0);
                o.options.push(3);
                o.spans.extend_from_within(..);
                o.numbers.push(0);
            })
        };
        assert_eq!(twice(1, 0), AnswerError::Descending(1));
    }

    #[test]
    fn a_change_has_a_bounded_number_of_routes() {
        let many = |count: usize| {
            let mut outcome = outcome();
            outcome.changes = vec![1; count];
            outcome.kinds = vec![0; count];
            outcome.options = vec![3; count];
            outcome.spans = outcome.spans.repeat(count);
            outcome.numbers = vec![0; count];
            check(&outcome)
        };
        assert!(many(ROUTES_PER_CHANGE_MAX).is_ok());
        assert_eq!(many(ROUTES_PER_CHANGE_MAX + 1), Err(AnswerError::TooMany(1)));
    }

    #[test]
    fn spans_stay_in_the_arena_and_text_is_text() {
        let span = |what| AnswerError::Span { route: 0, what };
        assert_eq!(spoiled(|o| o.spans[0] = 22 | 1 << 32), span("channel"));
        assert_eq!(spoiled(|o| o.spans[0] = 23), span("channel"));
        assert_eq!(spoiled(|o| o.spans[1] = u64::MAX), span("event"));
        assert_eq!(spoiled(|o| o.spans[2] = 0xFFFF_FFFF | 1 << 32), span("payload"));
        assert_eq!(spoiled(|o| o.spans[1] = 21 | 1 << 32), AnswerError::Text { route: 0, what: "event" });
        assert_eq!(spoiled(|o| o.spans[3] = 1), AnswerError::NotZero { route: 0, what: "unused spans" });
        assert_eq!(spoiled(|o| o.options[0] = 0), AnswerError::NotZero { route: 0, what: "payload's span" });
        assert_eq!(spoiled(|o| o.numbers[0] = 1), AnswerError::NotZero { route: 0, what: "number" });
        let half = |o: &mut Outcome| {
            o.arena = "äö".repeat(8).into_bytes();
            o.spans[0] = 1 | 4 << 32;
        };
        assert_eq!(spoiled(half), AnswerError::Text { route: 0, what: "channel" });
    }

    #[test]
    fn names_and_payloads_keep_to_their_rules() {
        let problem = ChannelError::Empty;
        assert_eq!(spoiled(|o| o.spans[0] = 0), AnswerError::Channel { route: 0, problem });
        assert_eq!(spoiled(|o| o.arena[9] = b'\n'), AnswerError::Event(0));
        assert_eq!(spoiled(|o| o.arena[15] = b'a'), AnswerError::Json(0));
        assert_eq!(spoiled(|o| o.spans[2] = 0), AnswerError::Json(0));
        let large = |o: &mut Outcome| {
            o.options[0] = 5;
            o.arena.resize(14 + PAYLOAD_BYTES_MAX + 1, 0);
            o.spans[2] = 14 | (PAYLOAD_BYTES_MAX as u64 + 1) << 32;
        };
        let bytes = PAYLOAD_BYTES_MAX + 1;
        assert_eq!(spoiled(large), AnswerError::PayloadTooLarge { route: 0, bytes });
    }

    #[test]
    fn what_this_host_does_not_do_is_refused_by_name() {
        let not_yet = |what| AnswerError::NotYet { route: 0, what };
        assert_eq!(spoiled(|o| o.kinds[0] = 1), not_yet("an audience"));
        assert_eq!(spoiled(|o| o.kinds[0] = 7), not_yet("a topic"));
        assert_eq!(spoiled(|o| o.kinds[0] = 9), AnswerError::Kind { route: 0, kind: 9 });
        assert_eq!(spoiled(|o| o.options[0] = 3 | 2 << 3), not_yet("a channel's value"));
        assert_eq!(spoiled(|o| o.options[0] = 3 | 3 << 3), not_yet("to forget a channel's value"));
        assert_eq!(spoiled(|o| o.options[0] = 3 | 1 << 5), AnswerError::Options { route: 0, options: 35 });
        assert_eq!(spoiled(|o| o.options[0] = 6), AnswerError::Options { route: 0, options: 6 });
        let envelope = |o: &mut Outcome| {
            o.options[0] = 1;
            o.spans[2] = 0;
        };
        assert_eq!(spoiled(envelope), not_yet("Debezium's envelope"));
    }

    #[test]
    fn a_rejected_change_has_no_routes_before_or_after() {
        let mut outcome = outcome();
        outcome.changes = vec![0, 1, 1, 1];
        outcome.kinds = vec![0, 0, 8, 0];
        outcome.options = vec![3, 3, 0, 3];
        outcome.spans = outcome.spans.repeat(4);
        outcome.spans[8..12].copy_from_slice(&[8 | 6 << 32, 0, 0, 0]);
        outcome.numbers = vec![0; 4];
        let answer = check(&outcome).expect("it is right");
        let of: Vec<_> = answer.routes.iter().map(|(change, _)| *change).collect();
        assert_eq!(of, [0]);
        assert_eq!(answer.rejected, [(1, Arc::from("insert"))]);
        outcome.spans[8] = 0;
        assert_eq!(check(&outcome), Err(AnswerError::Reason(2)));
    }

    prop_compose! {
        fn lies()(routes in 0..6_usize)(
            changes in prop::collection::vec(0..4_u32, routes),
            kinds in prop::collection::vec(prop_oneof![Just(0), Just(8), any::<u8>()], routes),
            options in prop::collection::vec(prop_oneof![0..6_u8, any::<u8>()], routes),
            spans in prop::collection::vec(
                prop_oneof![Just(0), (0..40_u64, 0..40_u64).prop_map(|(s, l)| s | l << 32), any::<u64>()],
                routes * 4,
            ),
            numbers in prop::collection::vec(prop_oneof![9 => Just(0), 1 => any::<i64>()], routes),
            attributed_routes in prop_oneof![9 => Just(vec![]), 1 => Just(vec![0])],
            arena in prop_oneof![".{0,40}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..40)],
        ) -> Outcome {
            Outcome { changes, kinds, options, spans, numbers, attributed_routes, attributes: vec![], arena }
        }
    }

    proptest! {
        #[test]
        fn random_answers_are_errors_or_routes_but_never_panics(outcome in lies(), extra in any::<Option<bool>>()) {
            let mut outcome = outcome;
            match extra {
                Some(true) => outcome.spans.push(0),
                Some(false) => drop(outcome.kinds.pop()),
                None => {}
            }
            if let Ok(answer) = check(&outcome) {
                prop_assert!(answer.routes.len() <= outcome.kinds.len());
                prop_assert!(answer.routes.is_sorted_by_key(|(change, _)| *change));
                prop_assert!(answer.routes.iter().all(|(change, _)| *change < 2));
            }
        }
    }
}
