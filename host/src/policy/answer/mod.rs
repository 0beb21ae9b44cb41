//! Plugins' answers, from numbers to what they mean.
//!
//! In: the lists of an outcome, from a plugin that may lie. Out: places of routes, verdicts or plans, or the first rule that is
//! broken.
//!
//! Invariant: every number is checked here and nowhere else. Nothing a plugin answers can make this panic, or
//! allocate more than a small multiple of what it answered. A kind, option or attribute that this host does not
//! know is refused, never ignored: the answer is refused whole.

mod answered;
mod error;
mod list;
#[cfg(test)]
mod lower;
mod plans;
mod routes;
mod verdicts;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use lower::routes_of;
#[cfg(test)]
pub(super) use {tests::outcome as outcome_of_a_router, verdicts::tests::outcome as outcome_of_a_filter};

pub use answered::{Directed, ToChannel};
pub use error::{AnswerError, PlanError, SpanError, VerdictError};
pub use list::Routes;
pub use plans::{Delivery, Plan};

pub(super) use plans::plans;
pub(super) use routes::routes;
pub(super) use verdicts::{Verdicts, verdicts};

use std::sync::Arc;

use super::matches::Member;

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

/// What spans point into.
#[derive(Debug, Clone, Copy)]
struct Arena<'a> {
    bytes: &'a [u8],
    /// All of it, if it is text: then each span has to be looked at only where it begins and ends.
    text: Option<&'a str>,
}

impl<'a> Arena<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, text: std::str::from_utf8(bytes).ok() }
    }

    /// Of what was read before.
    fn of(text: &'a Result<String, Vec<u8>>) -> Self {
        match text {
            Ok(text) => Self { bytes: text.as_bytes(), text: Some(text) },
            Err(bytes) => Self { bytes, text: None },
        }
    }

    fn bytes(&self, span: u64) -> Result<&'a [u8], SpanError> {
        self.bytes.get(range(span)).ok_or(SpanError::Leaves)
    }

    fn text(&self, span: u64) -> Result<&'a str, SpanError> {
        match self.text {
            Some(text) => match text.get(range(span)) {
                Some(text) => Ok(text),
                None => Err(if range(span).end > text.len() { SpanError::Leaves } else { SpanError::Text }),
            },
            None => std::str::from_utf8(self.bytes(span)?).map_err(|_| SpanError::Text),
        }
    }
}

fn range(span: u64) -> std::ops::Range<usize> {
    let start = (span & 0xFFFF_FFFF) as usize;
    start..start + (span >> 32) as usize
}
