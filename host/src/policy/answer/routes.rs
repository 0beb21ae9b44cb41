//! A router's answer: where each change goes.
//!
//! The lists are checked, and stay what they are: a route becomes a place in them. Making routes of an answer, moving
//! and dropping them would cost more than all the checks.
//! To add a kind of route, change [`Kind`], `Checker::other` and `Directed::route`.

use std::string::FromUtf8Error;

use super::super::bindings::exports::twohop::policy::router::Outcome;
use super::super::error::reason;
use super::super::matches::Member;
use super::super::route::Kind;
use super::answered::{Answered, Place};
use super::list::Routes;
use super::{AnswerError, Arena, Asked, Rejected};
use crate::event::{Channel, EventError, EventName, is_printable};
use crate::limits::{ID_BYTES_MAX, KEY_BYTES_MAX, PAYLOAD_BYTES_MAX, ROUTES_PER_CHANGE_MAX, TOPIC_BYTES_MAX};

/// In the list of kinds: the change has no routes, and this is why.
const REJECT: u8 = 8;

/// The bits of a route's options that say what its payload is, and what they say.
pub(super) const PAYLOAD_BITS: u8 = 0b111;
pub(super) const ROW: u8 = 0;
pub(super) const ENVELOPE: u8 = 1;
pub(super) const NOTHING: u8 = 2;
pub(super) const JSON: u8 = 3;
pub(super) const TEXT: u8 = 4;
const BYTES: u8 = 5;
/// Above them, for a channel, what is kept.
pub(super) const RETENTION_SHIFT: u32 = 3;
const RETENTION_BITS: u8 = 0b11 << RETENTION_SHIFT;
pub(super) const LIVE_ONLY: u8 = 1;
pub(super) const VALUE: u8 = 2;
pub(super) const FORGET: u8 = 3;
/// For a cache key, that it is a prefix.
pub(super) const PREFIX_BIT: u8 = 1 << 5;

/// Checks an outcome, appends its routes, and gives the changes that it rejects, in their order, which have no
/// routes. Appends nothing if it breaks a rule.
pub(in crate::policy) fn routes(
    mut outcome: Outcome,
    asked: Asked<'_>,
    routes: &mut Routes,
) -> Result<Vec<Rejected>, AnswerError> {
    check_lengths(&outcome)?;
    let text = String::from_utf8(std::mem::take(&mut outcome.arena)).map_err(FromUtf8Error::into_bytes);
    let arena = Arena::of(&text);
    let (places, answer) = routes.next();
    let first = places.len();
    places.reserve(outcome.changes.len());
    let checker = Checker {
        arena,
        printable: arena.text.is_some_and(is_printable),
        members: asked.members,
        answer,
        places: &mut *places,
        event: None,
        rejected: Vec::new(),
    };
    let rejected = checker.check(&outcome).inspect_err(|_| places.truncate(first))?;
    if !rejected.is_empty() {
        let changes = &outcome.changes;
        let is_rejected = |place: &Place| {
            rejected.binary_search_by_key(&changes[place.nth as usize], |(change, _)| *change)
        };
        places.extract_if(first.., |place| is_rejected(place).is_ok()).for_each(drop);
    }
    routes.finish(Answered::new(asked.plugin, outcome, text));
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

impl Numbers<'_> {
    /// It has no other options than these.
    fn has_only(self, bits: u8) -> Result<(), AnswerError> {
        let Self { route, options, .. } = self;
        if options & !bits == 0 { Ok(()) } else { Err(AnswerError::Options { route, options }) }
    }

    /// The spans from that one on are not used.
    fn ends_with(self, from: usize) -> Result<(), AnswerError> {
        let Self { route, spans, .. } = self;
        if spans[from..].iter().all(|span| *span == 0) {
            return Ok(());
        }
        Err(AnswerError::NotZero { route, what: "unused spans" })
    }

    /// Its number is not used.
    fn has_no_number(self) -> Result<(), AnswerError> {
        if self.number == 0 {
            return Ok(());
        }
        Err(AnswerError::NotZero { route: self.route, what: "number" })
    }
}

struct Checker<'a> {
    arena: Arena<'a>,
    /// Whether the arena is printable ASCII: then so is every name in it.
    printable: bool,
    /// Those that were handed over.
    members: &'a [Member],
    /// The index of the answer.
    answer: u32,
    places: &'a mut Vec<Place>,
    /// The span of the last event: many routes have the same.
    event: Option<u64>,
    rejected: Vec<Rejected>,
}

impl<'a> Checker<'a> {
    fn check(mut self, outcome: &Outcome) -> Result<Vec<Rejected>, AnswerError> {
        let changes = self.members.len();
        let (spans, _) = outcome.spans.as_chunks::<4>();
        let lists =
            outcome.changes.iter().zip(&outcome.kinds).zip(&outcome.options).zip(spans).zip(&outcome.numbers);
        let (mut before, mut of_change) = (0, 0);
        for (nth, ((((change, kind), options), spans), number)) in (0_u32..).zip(lists) {
            let route = nth as usize;
            let (change, kind, options, number) = (*change, *kind, *options, *number);
            let Some(member) = self.members.get(change as usize) else {
                return Err(AnswerError::Change { route, change, changes });
            };
            if change < before {
                return Err(AnswerError::Descending(route));
            }
            of_change = if change == before { of_change + 1 } else { 1 };
            before = change;
            if of_change > ROUTES_PER_CHANGE_MAX {
                return Err(AnswerError::TooMany(change));
            }
            let numbers = Numbers { route, change, options, spans, number };
            if kind == Kind::Channel as u8 && self.is_plain(numbers) {
                self.places.push(Place {
                    change: member.change,
                    answer: self.answer,
                    nth,
                    kind: Kind::Channel,
                });
                continue;
            }
            let Some(kind) = Kind::of(kind) else {
                if kind != REJECT {
                    return Err(AnswerError::Kind { route, kind });
                }
                self.reject(numbers)?;
                continue;
            };
            if kind == Kind::Channel {
                self.channel(numbers)?
            } else {
                self.other(kind, numbers)?
            }
            self.places.push(Place { change: member.change, answer: self.answer, nth, kind });
        }
        Ok(self.rejected)
    }

    /// Whether it is the commonest route to a channel, and right: the row, kept, with the event of one before, all text
    /// printable. Asked all at once, its rules cost half of what they cost one after the other.
    fn is_plain(&self, numbers: Numbers<'_>) -> bool {
        let Numbers { options, spans: [name, event, payload, unused], number, .. } = numbers;
        let zero = u64::from(options) | payload | unused | number.cast_unsigned();
        let is_channel = |name| Channel::check_printable(name).is_ok();
        zero == 0
            && self.printable
            && self.event == Some(*event)
            && self.arena.text(*name).is_ok_and(is_channel)
    }

    fn channel(&mut self, numbers: Numbers<'_>) -> Result<(), AnswerError> {
        let Numbers { route, options, spans, .. } = numbers;
        numbers.has_only(PAYLOAD_BITS | RETENTION_BITS)?;
        numbers.ends_with(3)?;
        numbers.has_no_number()?;
        let name = self.text(route, spans[0], "channel")?;
        let checked = if self.printable { Channel::check_printable(name) } else { Channel::check(name) };
        checked.map_err(|problem| AnswerError::Channel { route, problem })?;
        self.event(route, spans[1])?;
        self.payload(route, spans[2], options)
    }

    /// Any other kind.
    fn other(&self, kind: Kind, numbers: Numbers<'_>) -> Result<(), AnswerError> {
        let Numbers { route, options, spans, .. } = numbers;
        let (bits, spans_count) = match kind {
            Kind::Channel | Kind::Audience | Kind::Topic => (PAYLOAD_BITS, 3),
            Kind::Inbox => (PAYLOAD_BITS, 4),
            Kind::Retract | Kind::Follow | Kind::Unfollow => (0, 2),
            Kind::Cache => (PREFIX_BIT, 1),
        };
        numbers.has_only(bits)?;
        numbers.ends_with(spans_count)?;
        if !matches!(kind, Kind::Audience | Kind::Inbox) {
            numbers.has_no_number()?;
        }
        match kind {
            Kind::Channel => unreachable!("channels are checked by themselves"),
            Kind::Follow | Kind::Unfollow => {
                self.names(numbers, [("follower", ID_BYTES_MAX), ("followee", ID_BYTES_MAX)])
            }
            Kind::Cache if options == PREFIX_BIT => {
                self.name_or_nothing(route, spans[0], "key", KEY_BYTES_MAX)
            }
            Kind::Cache => self.names(numbers, [("key", KEY_BYTES_MAX)]),
            Kind::Topic => {
                self.names(numbers, [("topic", TOPIC_BYTES_MAX)])?;
                self.name_or_nothing(route, spans[1], "key", KEY_BYTES_MAX)?;
                self.payload(route, spans[2], options)
            }
            Kind::Retract | Kind::Audience | Kind::Inbox => {
                self.names(numbers, [("author", ID_BYTES_MAX), ("item", ID_BYTES_MAX)])?;
                match kind {
                    Kind::Retract => return Ok(()),
                    Kind::Inbox => self.name(route, spans[3], "user", ID_BYTES_MAX)?,
                    _ => {}
                }
                self.payload(route, spans[2], options)
            }
        }
    }

    fn reject(&mut self, numbers: Numbers<'_>) -> Result<(), AnswerError> {
        let Numbers { route, change, spans, .. } = numbers;
        numbers.has_only(0)?;
        numbers.ends_with(1)?;
        numbers.has_no_number()?;
        let text = self.text(route, spans[0], "reason")?;
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
            let name = self.text(route, span, "event")?;
            EventName::check(name).map_err(|error| match error {
                EventError::Form => AnswerError::Event(route),
                EventError::Reserved => AnswerError::EventReserved(route),
            })?;
            self.event = Some(span);
        }
        Ok(())
    }

    /// The first spans.
    fn names<const N: usize>(
        &self,
        numbers: Numbers<'_>,
        names: [(&'static str, usize); N],
    ) -> Result<(), AnswerError> {
        names
            .into_iter()
            .zip(numbers.spans)
            .try_for_each(|((what, bytes_max), span)| self.name(numbers.route, *span, what, bytes_max))
    }

    fn name(&self, route: usize, span: u64, what: &'static str, bytes_max: usize) -> Result<(), AnswerError> {
        if span >> 32 == 0 {
            return Err(AnswerError::Empty { route, what });
        }
        self.name_or_nothing(route, span, what, bytes_max)
    }

    fn name_or_nothing(
        &self,
        route: usize,
        span: u64,
        what: &'static str,
        bytes_max: usize,
    ) -> Result<(), AnswerError> {
        let bytes = self.text(route, span, what)?.len();
        if bytes <= bytes_max { Ok(()) } else { Err(AnswerError::TooLong { route, what, bytes, bytes_max }) }
    }

    fn payload(&self, route: usize, span: u64, options: u8) -> Result<(), AnswerError> {
        let kind = options & PAYLOAD_BITS;
        if kind < JSON {
            if span == 0 {
                return Ok(());
            }
            return Err(AnswerError::NotZero { route, what: "payload's span" });
        }
        let what = "payload";
        let bytes = match kind {
            JSON | TEXT => self.text(route, span, what)?.as_bytes(),
            BYTES => self.arena.bytes(span).map_err(|problem| AnswerError::Span { route, what, problem })?,
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

    fn text(&self, route: usize, span: u64, what: &'static str) -> Result<&'a str, AnswerError> {
        self.arena.text(span).map_err(|problem| AnswerError::Span { route, what, problem })
    }
}
