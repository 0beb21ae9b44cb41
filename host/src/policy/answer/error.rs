//! Which rule of the interface an answer breaks.
//!
//! Routes, changes, masks and posts are counted from 0, as they stand in the lists.

use crate::event::{ChannelError, PRESENCE_EVENT, REFUSED_EVENT, RESET_EVENT};
use crate::limits::{EVENT_BYTES_MAX, PAYLOAD_BYTES_MAX, ROUTES_PER_CHANGE_MAX};

/// Why a span is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    /// It ends behind the arena.
    #[error("leaves the arena")]
    Leaves,
    /// It must be text.
    #[error("is not UTF-8")]
    Text,
}

/// Which rule a router's answer breaks.
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
    /// Unknown options, or some that its kind does not have.
    #[error("route {route} has options {options:#010b}, which its kind does not have")]
    Options {
        /// The route.
        route: usize,
        /// The options.
        options: u8,
    },
    /// A span that leaves the arena, or is not the text that it must be.
    #[error("route {route}: the span of its {what} {problem}")]
    Span {
        /// The route.
        route: usize,
        /// What the span is.
        what: &'static str,
        /// Why.
        problem: SpanError,
    },
    /// A number that its kind does not use.
    #[error("route {route}: its {what} must be 0")]
    NotZero {
        /// The route.
        route: usize,
        /// Which.
        what: &'static str,
    },
    /// What must not be empty is.
    #[error("route {route}: its {what} is empty")]
    Empty {
        /// The route.
        route: usize,
        /// What.
        what: &'static str,
    },
    /// A name that is too long.
    #[error("route {route}: its {what} has {bytes} bytes, at most {bytes_max} are allowed")]
    TooLong {
        /// The route.
        route: usize,
        /// What.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// What is allowed.
        bytes_max: usize,
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
    /// The name of the event is the gateway's own: a client would take the message for a loss, or for its end.
    #[error(
        "route {0}: its event is `{RESET_EVENT}`, `{REFUSED_EVENT}` or `{PRESENCE_EVENT}`, which the gateway sends by itself: choose another name"
    )]
    EventReserved(usize),
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

/// Which rule a filter's answer breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerdictError {
    /// A list does not have as many entries as it must.
    #[error("the list `{list}` has {length} entries instead of {expected}")]
    Length {
        /// Its name in the interface.
        list: &'static str,
        /// What it has.
        length: usize,
        /// What it must have.
        expected: usize,
    },
    /// An unknown verdict.
    #[error("the verdict on change {change} is the unknown number {verdict}")]
    Verdict {
        /// The change.
        change: usize,
        /// The number.
        verdict: u8,
    },
    /// A reason whose span is none.
    #[error("the span of the reason to reject change {change} {problem}")]
    ReasonSpan {
        /// The change.
        change: usize,
        /// Why.
        problem: SpanError,
    },
    /// A rejection without a reason.
    #[error("change {0} is rejected without a reason")]
    Reason(usize),
    /// A mask for a change that was not handed over.
    #[error("mask {mask} is for change {change} of {changes}")]
    Change {
        /// The mask.
        mask: usize,
        /// The change.
        change: u32,
        /// How many there are.
        changes: usize,
    },
    /// Masks are not in the order of their changes.
    #[error("mask {0} is for an earlier change than the mask before it")]
    Descending(usize),
    /// A column whose span is none.
    #[error("mask {mask}: the span of its column {problem}")]
    ColumnSpan {
        /// The mask.
        mask: usize,
        /// Why.
        problem: SpanError,
    },
    /// What the host itself puts into a row cannot be hidden.
    #[error("mask {0} is for a virtual column: these cannot be hidden")]
    Virtual(usize),
    /// The key is the row's name.
    #[error("mask {mask} is for `{column}`, a column of the key: these cannot be hidden")]
    Key {
        /// The mask.
        mask: usize,
        /// The column.
        column: String,
    },
}

/// Which rule a fan-out's answer breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not one plan a post.
    #[error("{plans} plans for {posts} posts")]
    Length {
        /// What it answered.
        plans: usize,
        /// What it was asked about.
        posts: usize,
    },
    /// Bits that mean nothing.
    #[error("the plan of post {post} is the unknown number {number}")]
    Number {
        /// The post.
        post: usize,
        /// The number.
        number: u8,
    },
}
