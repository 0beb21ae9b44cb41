//! A router's answer, from numbers to routes.
//!
//! In: the eight lists of an outcome, from a plugin that may lie. Out: typed routes, or the first rule that is broken.
//!
//! Invariant: every number is checked here and nowhere else. Nothing a plugin answers can make this panic, or
//! allocate more than a small multiple of what it answered. A kind, option or attribute that this host does not
//! know is refused, never ignored: the answer is refused whole.
//! To add a kind of route, change [`Route`] and `Reader::direction`.

use std::sync::Arc;

use bytes::Bytes;

use super::bindings::exports::twohop::policy::router::Outcome;
use super::error::reason;
use super::names::Names;
use crate::event::{Channel, ChannelError, Retention};
use crate::limits::{EVENT_BYTES_MAX, PAYLOAD_BYTES_MAX, ROUTES_PER_CHANGE_MAX};

/// Where a change goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To those who listen on a channel.
    Channel {
        /// The channel.
        channel: Channel,
        /// The event's name as clients see it, may be empty.
        event: Arc<str>,
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

/// An answer that was checked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// By index in the batch, ascending.
    pub(super) routes: Vec<(u32, Route)>,
    /// By index in the batch, ascending; these have no routes.
    pub(super) rejected: Vec<(u32, Arc<str>)>,
}

enum Direction {
    Route(Route),
    Reject(Arc<str>),
}

impl Answer {
    /// Checks an outcome for a batch of so many changes.
    pub(super) fn check(outcome: &Outcome, changes: usize, names: &mut Names) -> Result<Self, AnswerError> {
        check_lengths(outcome)?;
        let text = std::str::from_utf8(&outcome.arena).ok();
        let reader = Reader { outcome, text };
        let mut answer = Self { routes: Vec::with_capacity(outcome.kinds.len()), rejected: Vec::new() };
        let (mut before, mut of_change) = (0, 0);
        for (route, change) in outcome.changes.iter().copied().enumerate() {
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
            answer.add(change, reader.direction(route, names)?);
        }
        Ok(answer)
    }

    fn add(&mut self, change: u32, direction: Direction) {
        let rejected = self.rejected.last().is_some_and(|(rejected, _)| *rejected == change);
        match direction {
            _ if rejected => {}
            Direction::Route(route) => self.routes.push((change, route)),
            Direction::Reject(reason) => {
                while self.routes.pop_if(|(of, _)| *of == change).is_some() {}
                self.rejected.push((change, reason));
            }
        }
    }
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

struct Reader<'a> {
    outcome: &'a Outcome,
    /// The whole arena, if it is text: then each span has to be looked at only where it begins and ends.
    text: Option<&'a str>,
}

impl<'a> Reader<'a> {
    fn direction(&self, route: usize, names: &mut Names) -> Result<Direction, AnswerError> {
        let kind = self.outcome.kinds[route];
        let what = match kind {
            0 => return self.channel(route, names).map(Direction::Route),
            8 => return self.reject(route).map(Direction::Reject),
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

    fn channel(&self, route: usize, names: &mut Names) -> Result<Route, AnswerError> {
        let options = self.outcome.options[route];
        if options & 0b1110_0000 != 0 {
            return Err(AnswerError::Options { route, options });
        }
        let retention = match options >> 3 & 0b11 {
            0 => Retention::Kept,
            1 => Retention::LiveOnly,
            2 => return Err(AnswerError::NotYet { route, what: "a channel's value" }),
            _ => return Err(AnswerError::NotYet { route, what: "to forget a channel's value" }),
        };
        self.zero(route, 3)?;
        let name = self.text(route, 0, "channel")?;
        let channel = names.channel(name).map_err(|problem| AnswerError::Channel { route, problem })?;
        let event = names.event(self.text(route, 1, "event")?).ok_or(AnswerError::Event(route))?;
        let payload = self.payload(route, 2, options & 0b111)?;
        Ok(Route::Channel { channel, event, payload, retention })
    }

    fn reject(&self, route: usize) -> Result<Arc<str>, AnswerError> {
        let options = self.outcome.options[route];
        if options != 0 {
            return Err(AnswerError::Options { route, options });
        }
        self.zero(route, 1)?;
        let text = self.text(route, 0, "reason")?;
        if text.is_empty() { Err(AnswerError::Reason(route)) } else { Ok(reason(text).into()) }
    }

    fn payload(&self, route: usize, nth: usize, kind: u8) -> Result<Payload, AnswerError> {
        if kind < 3 && self.outcome.spans[4 * route + nth] != 0 {
            return Err(AnswerError::NotZero { route, what: "payload's span" });
        }
        match kind {
            0 => Ok(Payload::Row),
            1 => Err(AnswerError::NotYet { route, what: "Debezium's envelope" }),
            2 => Ok(Payload::Nothing),
            3 => {
                let text = self.payload_size(route, self.text(route, nth, "payload")?.as_bytes())?;
                match serde_json::from_slice::<serde::de::IgnoredAny>(text) {
                    Ok(_) => Ok(Payload::Json(Bytes::copy_from_slice(text))),
                    Err(_) => Err(AnswerError::Json(route)),
                }
            }
            4 => {
                let text = self.payload_size(route, self.text(route, nth, "payload")?.as_bytes())?;
                Ok(Payload::Text(Bytes::copy_from_slice(text)))
            }
            5 => {
                let bytes = self.payload_size(route, self.bytes(route, nth, "payload")?)?;
                Ok(Payload::Bytes(Bytes::copy_from_slice(bytes)))
            }
            _ => Err(AnswerError::Options { route, options: self.outcome.options[route] }),
        }
    }

    fn payload_size(&self, route: usize, payload: &'a [u8]) -> Result<&'a [u8], AnswerError> {
        let bytes = payload.len();
        if bytes > PAYLOAD_BYTES_MAX {
            return Err(AnswerError::PayloadTooLarge { route, bytes });
        }
        Ok(payload)
    }

    /// The spans from that one on, and the number, are not used.
    fn zero(&self, route: usize, from: usize) -> Result<(), AnswerError> {
        if self.outcome.spans[4 * route + from..4 * route + 4].iter().any(|span| *span != 0) {
            return Err(AnswerError::NotZero { route, what: "unused spans" });
        }
        if self.outcome.numbers[route] != 0 {
            return Err(AnswerError::NotZero { route, what: "number" });
        }
        Ok(())
    }

    fn range(&self, route: usize, nth: usize) -> std::ops::Range<usize> {
        let span = self.outcome.spans[4 * route + nth];
        let start = (span & 0xFFFF_FFFF) as usize;
        start..start + (span >> 32) as usize
    }

    fn bytes(&self, route: usize, nth: usize, what: &'static str) -> Result<&'a [u8], AnswerError> {
        self.outcome.arena.get(self.range(route, nth)).ok_or(AnswerError::Span { route, what })
    }

    fn text(&self, route: usize, nth: usize, what: &'static str) -> Result<&'a str, AnswerError> {
        if let Some(text) = self.text.and_then(|text| text.get(self.range(route, nth))) {
            return Ok(text);
        }
        let bytes = self.bytes(route, nth, what)?;
        std::str::from_utf8(bytes).map_err(|_| AnswerError::Text { route, what })
    }
}
