//! Filters' answers: whatever lists a plugin gives, they are verdicts or an error, whole, and no mask hides a key.

use std::sync::Arc;

use libfuzzer_sys::arbitrary::{self, Arbitrary};

use super::answer::{self, Asked, Verdicts};
use super::bindings::exports::twohop::policy::filter::Outcome;
use super::handed::Handed;
use super::spans::{Arena, Span};
use crate::made::MadeTable;

const COUNT_MAX: u8 = 16;

/// Lists that fit each other, mostly.
#[derive(Debug, Arbitrary)]
pub struct Input {
    table: MadeTable,
    changes: Vec<MadeVerdict>,
    arena: Arena,
    spoiled: Option<Spoiled>,
}

/// On one change.
#[derive(Debug, Arbitrary)]
struct MadeVerdict {
    number: u8,
    reason: Span,
    masks: Vec<MadeColumn>,
}

#[derive(Debug, Arbitrary)]
enum MadeColumn {
    /// One of the table, if it has so many.
    Of(u8),
    Named(Span),
}

/// What is wrong with the lists as a whole.
#[derive(Debug, Arbitrary)]
enum Spoiled {
    Lengths([u8; 4]),
    FarChange(u32),
    Unsorted,
}

/// Reads the answer.
///
/// # Panics
/// If an invariant does not hold.
pub fn check(input: &Input) {
    let table = Arc::new(input.table.table());
    let handed = Handed::new(&table, input.changes.len().min(COUNT_MAX.into()));
    // Of a virtual table nothing is.
    let count = handed.members().len();
    let outcome = outcome(input, count, &table);
    let mut verdicts = Verdicts::default();
    let asked = Asked { plugin: 5, members: handed.members() };
    let Ok(rejected) = answer::verdicts(&outcome, asked, &handed.changes, &mut verdicts) else {
        assert_eq!(verdicts, Verdicts::default(), "a wrong answer leaves nothing");
        return;
    };
    let with =
        |number: u8| -> Vec<_> { (0..count).filter(|index| outcome.verdicts[*index] == number).collect() };
    assert!(outcome.verdicts.iter().all(|verdict| *verdict < 3));
    assert_eq!(verdicts.dropped, with(1).into_iter().map(Handed::nth).collect::<Vec<_>>());
    assert_eq!(rejected.iter().map(|(change, _)| *change as usize).collect::<Vec<_>>(), with(2));
    assert!(rejected.iter().all(|(_, why)| !why.is_empty() && !why.contains(char::is_control)));
    assert!(verdicts.masks.len() <= outcome.masked_changes.len());
    assert!(verdicts.masks.is_sorted_by_key(|mask| mask.change));
    for mask in &verdicts.masks {
        assert!(outcome.masked_changes.iter().any(|change| Handed::nth(*change as usize) == mask.change));
        let column = &table.columns[mask.column];
        assert!(!column.key && !column.name.starts_with('$'));
    }
}

fn outcome(input: &Input, count: usize, table: &crate::event::Table) -> Outcome {
    let mut arena = input.arena.bytes();
    let mut outcome = Outcome {
        verdicts: vec![],
        reasons: vec![],
        masked_changes: vec![],
        masked_columns: vec![],
        arena: vec![],
    };
    for (index, made) in (0_u32..).zip(&input.changes[..count]) {
        let number = made.number % 4;
        outcome.verdicts.push(number);
        if number == 2 {
            outcome.reasons.push(made.reason.number(arena.len()));
        }
        for column in &made.masks {
            let span = match column {
                MadeColumn::Named(span) => span.number(arena.len()),
                MadeColumn::Of(nth) => {
                    let Some(column) = table.columns.get(usize::from(*nth)) else { continue };
                    let start = arena.len() as u64;
                    arena.extend_from_slice(column.name.as_bytes());
                    start | (column.name.len() as u64) << 32
                }
            };
            outcome.masked_changes.push(index);
            outcome.masked_columns.push(span);
        }
    }
    outcome.arena = arena;
    match &input.spoiled {
        None => {}
        Some(Spoiled::Lengths([verdicts, reasons, changes, columns])) => {
            outcome.verdicts.resize((*verdicts).into(), 0);
            outcome.reasons.resize((*reasons).into(), 0);
            outcome.masked_changes.resize((*changes).into(), 0);
            outcome.masked_columns.resize((*columns).into(), 0);
        }
        Some(Spoiled::FarChange(change)) => {
            if let Some(last) = outcome.masked_changes.last_mut() {
                *last = *change;
            }
        }
        Some(Spoiled::Unsorted) => outcome.masked_changes.reverse(),
    }
    outcome
}
