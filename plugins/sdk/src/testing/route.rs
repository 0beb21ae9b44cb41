//! An outcome read back, and everything that a host checks about it.
//!
//! In: the lists of the interface. Out: routes with names and types, or why a host would refuse them. To add a kind,
//! change `crate::route` and the two functions that match on kinds here.

use crate::Time;
use crate::cells::bounds;
use crate::route::{Outcome, kind, option};

/// The bits of `options` that say what the payload is, and how long a channel keeps it.
const PAYLOAD_BITS: u8 = 0b111;
const KEEP_BITS: u8 = 0b11 << 3;

/// One route, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields say what the documentation of `Routes` says at length")]
pub enum Route {
    /// A message on a channel.
    Channel { channel: String, event: String, payload: Payload, keep: Keep },
    /// A post to the author's followers.
    Audience { author: String, item: String, payload: Payload, time: Time },
    /// A post into the timeline of one user.
    Inbox { user: String, author: String, item: String, payload: Payload, time: Time },
    /// A post taken back.
    Retract { author: String, item: String },
    /// An edge of the graph.
    Follow { follower: String, followee: String },
    /// An edge that is gone.
    Unfollow { follower: String, followee: String },
    /// Keys of the cache that are deleted.
    Cache { key: String, reach: Reach },
    /// A message for other services.
    Topic { topic: String, key: String, payload: Payload },
    /// A dead letter.
    Reject { reason: String },
}

/// What a route carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The row as JSON, which the host has.
    Row,
    /// Debezium's envelope, which the host makes.
    Envelope,
    /// None.
    Nothing,
    /// The policy's own JSON.
    Json(String),
    /// The policy's own text.
    Text(String),
    /// The policy's own bytes.
    Bytes(Vec<u8>),
}

/// How long a channel has a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// For those who resume.
    History,
    /// Not at all.
    LiveOnly,
    /// For those who resume, and as the channel's value.
    Retained,
    /// For those who resume, and the channel has no value any more.
    Forget,
}

/// Which keys of a cache are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The one.
    Key,
    /// All that begin so.
    Prefix,
}

/// The routes of an outcome, each with the index of its change.
pub(super) fn read(outcome: &Outcome, changes: usize) -> Result<Vec<(usize, Route)>, String> {
    let routes = outcome.changes.len();
    let lists = [outcome.kinds.len(), outcome.options.len(), outcome.numbers.len()];
    if lists != [routes; 3] || outcome.spans.len() != routes * 4 {
        return Err("its lists have different lengths".to_owned());
    }
    if !outcome.changes.is_sorted() {
        return Err("routes go back to an earlier change".to_owned());
    }
    let read = |index: usize| {
        let change = outcome.changes[index] as usize;
        if change >= changes {
            return Err(format!("a route is for the change {change} of {changes}"));
        }
        let route = Encoded {
            kind: outcome.kinds[index],
            options: outcome.options[index],
            spans: &outcome.spans[index * 4..][..4],
            number: outcome.numbers[index],
            arena: &outcome.arena,
        };
        route
            .read()
            .map(|route| (change, route))
            .map_err(|why| format!("the route {index}, of the change {change}: {why}"))
    };
    (0..routes).map(read).collect()
}

struct Encoded<'a> {
    kind: u8,
    options: u8,
    spans: &'a [u64],
    number: i64,
    arena: &'a [u8],
}

impl Encoded<'_> {
    fn read(&self) -> Result<Route, String> {
        self.check_unused()?;
        let time = Time::from_micros(self.number);
        Ok(match self.kind {
            kind::CHANNEL => Route::Channel {
                channel: printable(self.name(0, "channel")?, "channel")?,
                event: event(self.text(1)?)?,
                payload: self.payload()?,
                keep: self.keep(),
            },
            kind::AUDIENCE => Route::Audience {
                author: self.name(0, "author")?,
                item: self.name(1, "item")?,
                payload: self.payload()?,
                time,
            },
            kind::INBOX => Route::Inbox {
                user: self.name(3, "user")?,
                author: self.name(0, "author")?,
                item: self.name(1, "item")?,
                payload: self.payload()?,
                time,
            },
            kind::RETRACT => Route::Retract { author: self.name(0, "author")?, item: self.name(1, "item")? },
            kind::FOLLOW => {
                Route::Follow { follower: self.name(0, "follower")?, followee: self.name(1, "followee")? }
            }
            kind::UNFOLLOW => {
                Route::Unfollow { follower: self.name(0, "follower")?, followee: self.name(1, "followee")? }
            }
            kind::CACHE if self.options == option::PREFIX => {
                Route::Cache { key: self.text(0)?, reach: Reach::Prefix }
            }
            kind::CACHE => Route::Cache { key: self.name(0, "key")?, reach: Reach::Key },
            kind::TOPIC => {
                Route::Topic { topic: self.name(0, "topic")?, key: self.text(1)?, payload: self.payload()? }
            }
            kind::REJECT => Route::Reject { reason: self.name(0, "reason")? },
            unknown => return Err(format!("there is no kind {unknown}")),
        })
    }

    /// Spans, options and numbers that the kind does not have must be 0.
    fn check_unused(&self) -> Result<(), String> {
        let (spans, options, has_time) = match self.kind {
            kind::CHANNEL => (3, PAYLOAD_BITS | KEEP_BITS, false),
            kind::AUDIENCE => (3, PAYLOAD_BITS, true),
            kind::INBOX => (4, PAYLOAD_BITS, true),
            kind::TOPIC => (3, PAYLOAD_BITS, false),
            kind::CACHE => (1, option::PREFIX, false),
            kind::REJECT => (1, 0, false),
            _ => (2, 0, false),
        };
        if self.spans[spans..].iter().any(|span| *span != 0) {
            return Err("a span that its kind does not have is not 0".to_owned());
        }
        if self.options & !options != 0 {
            return Err(format!("its options {:#010b} are not of its kind", self.options));
        }
        if !has_time && self.number != 0 {
            return Err("its kind has no time, but its number is not 0".to_owned());
        }
        Ok(())
    }

    fn payload(&self) -> Result<Payload, String> {
        let payload = self.options & PAYLOAD_BITS;
        if payload < option::JSON && self.spans[2] != 0 {
            return Err("a payload that the host makes has a span".to_owned());
        }
        Ok(match payload {
            option::ROW => Payload::Row,
            option::ENVELOPE => Payload::Envelope,
            option::NOTHING => Payload::Nothing,
            option::JSON => Payload::Json(self.text(2)?),
            option::TEXT => Payload::Text(self.text(2)?),
            option::BYTES => Payload::Bytes(self.bytes(2)?.to_owned()),
            unknown => return Err(format!("there is no payload {unknown}")),
        })
    }

    fn keep(&self) -> Keep {
        match self.options & KEEP_BITS {
            option::LIVE_ONLY => Keep::LiveOnly,
            option::RETAINED => Keep::Retained,
            option::FORGET => Keep::Forget,
            _ => Keep::History,
        }
    }

    /// A text that may not be empty.
    fn name(&self, span: usize, what: &str) -> Result<String, String> {
        let text = self.text(span)?;
        if text.is_empty() { Err(format!("its {what} is empty")) } else { Ok(text) }
    }

    fn text(&self, span: usize) -> Result<String, String> {
        let bytes = self.bytes(span)?;
        String::from_utf8(bytes.to_owned()).map_err(|_| format!("its span {span} is not UTF-8"))
    }

    fn bytes(&self, span: usize) -> Result<&[u8], String> {
        let (start, length) = bounds(self.spans[span]);
        let bytes = self.arena.get(start..).and_then(|rest| rest.get(..length));
        bytes.ok_or_else(|| format!("its span {span} is outside of the arena"))
    }
}

fn event(name: String) -> Result<String, String> {
    match &*name {
        "reset" | "refused" | "presence" => {
            Err(format!("its event is `{name}`, which the gateway sends by itself"))
        }
        _ => printable(name, "event"),
    }
}

fn printable(name: String, what: &str) -> Result<String, String> {
    if name.chars().any(char::is_control) {
        Err(format!("its {what} has a control character"))
    } else {
        Ok(name)
    }
}
