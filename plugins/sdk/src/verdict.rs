//! Which changes go on, and which columns are hidden: what a filter writes.
//!
//! A mask goes straight into the lists and the arena of the interface. Always holds: one verdict a change, one reason a
//! rejected change.

use crate::cells::span_since;

/// Numbers of `verdicts` of an outcome.
pub(crate) mod number {
    pub(crate) const KEEP: u8 = 0;
    pub(crate) const DROP: u8 = 1;
    pub(crate) const REJECT: u8 = 2;
}

/// What becomes of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on to the router.
    Keep,
    /// It ends here, as if it had never been.
    Drop,
    /// It is set aside as a dead letter, with the reason.
    Reject(String),
}

/// The lists of an outcome: see `wit/policy.wit` for what each holds.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    pub(crate) verdicts: Vec<u8>,
    pub(crate) reasons: Vec<u64>,
    pub(crate) masked_changes: Vec<u32>,
    pub(crate) masked_columns: Vec<u64>,
    pub(crate) arena: Vec<u8>,
}

impl Verdicts {
    pub(crate) fn for_batch(changes: usize) -> Self {
        Self { verdicts: Vec::with_capacity(changes), ..Self::default() }
    }

    /// The masks of the change whose verdict is pushed next.
    pub(crate) fn masks(&mut self) -> Masks<'_> {
        Masks { verdicts: self }
    }

    pub(crate) fn push(&mut self, verdict: &Verdict) {
        let number = match verdict {
            Verdict::Keep => number::KEEP,
            Verdict::Drop => number::DROP,
            Verdict::Reject(reason) => {
                let reason = self.span(reason);
                self.reasons.push(reason);
                number::REJECT
            }
        };
        self.verdicts.push(number);
    }

    fn span(&mut self, text: &str) -> u64 {
        let start = self.arena.len();
        self.arena.extend_from_slice(text.as_bytes());
        span_since(start, &self.arena)
    }
}

/// Columns of one change that no later stage and no payload will have.
#[derive(Debug)]
pub struct Masks<'a> {
    verdicts: &'a mut Verdicts,
}

impl Masks<'_> {
    /// Hides a column, in the new row and in the old one, whether or not the plugin asked to see it. A column of the key
    /// and a virtual one cannot be hidden: the host refuses that.
    pub fn hide(&mut self, column: &str) {
        let change = self.verdicts.verdicts.len() as u32;
        let column = self.verdicts.span(column);
        self.verdicts.masked_changes.push(change);
        self.verdicts.masked_columns.push(column);
    }
}
