//! A filter's outcome read back, and everything that a host checks about it.

use super::sample::Sample;
use crate::cells::bounds;
use crate::verdict::{Verdict, Verdicts, number};

/// What a filter said about a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Whether it goes on.
    pub verdict: Verdict,
    /// The columns that are hidden, in the order in which the filter named them.
    pub masked: Vec<String>,
}

/// One for each change, or why a host would refuse them.
pub(super) fn read(outcome: &Verdicts, changes: &[&Sample]) -> Result<Vec<Judged>, String> {
    let rejected = outcome.verdicts.iter().filter(|verdict| **verdict == number::REJECT).count();
    if outcome.verdicts.len() != changes.len() || outcome.reasons.len() != rejected {
        return Err("there is not one verdict a change and one reason a rejected one".to_owned());
    }
    if outcome.masked_changes.len() != outcome.masked_columns.len() || !outcome.masked_changes.is_sorted() {
        return Err("its masks have lists of different lengths, or go back to an earlier change".to_owned());
    }
    let mut reasons = outcome.reasons.iter();
    let mut judged = Vec::with_capacity(changes.len());
    for verdict in &outcome.verdicts {
        let verdict = match (*verdict, reasons.as_slice()) {
            (number::KEEP, _) => Verdict::Keep,
            (number::DROP, _) => Verdict::Drop,
            (number::REJECT, [reason, ..]) => {
                reasons.next();
                Verdict::Reject(text(&outcome.arena, *reason)?)
            }
            (unknown, _) => return Err(format!("there is no verdict {unknown}")),
        };
        judged.push(Judged { verdict, masked: Vec::new() });
    }
    for (change, column) in outcome.masked_changes.iter().zip(&outcome.masked_columns) {
        let (index, column) = (*change as usize, text(&outcome.arena, *column)?);
        let Some(sample) = changes.get(index) else {
            return Err(format!("a mask is for the change {index} of {}", changes.len()));
        };
        if column.is_empty() || column.starts_with('$') || sample.key.contains(&column) {
            return Err(format!(
                "the change {index}: the column `{column}` is virtual or of the key, and cannot be hidden"
            ));
        }
        judged[index].masked.push(column);
    }
    Ok(judged)
}

fn text(arena: &[u8], span: u64) -> Result<String, String> {
    let (start, length) = bounds(span);
    let bytes = arena.get(start..).and_then(|rest| rest.get(..length));
    let bytes = bytes.ok_or_else(|| "a span is outside of the arena".to_owned())?;
    String::from_utf8(bytes.to_owned()).map_err(|_| "a span is not UTF-8".to_owned())
}
