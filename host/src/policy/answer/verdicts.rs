//! A filter's answer: which changes go on, and what of them is hidden.
//!
//! To add a verdict, change `verdicts` and [`Verdicts`].

use super::super::bindings::exports::twohop::policy::filter::Outcome;
use super::super::error::reason;
use super::{Arena, Asked, Rejected, VerdictError};
use crate::event::Change;

const KEEP: u8 = 0;
const DROP: u8 = 1;
const REJECT: u8 = 2;

/// What one filter answered, by the indexes of what is evaluated. What it rejects is elsewhere, as for routers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::policy) struct Verdicts {
    /// Changes that go no further, ascending.
    pub(in crate::policy) dropped: Vec<usize>,
    /// By change.
    pub(in crate::policy) masks: Vec<Mask>,
}

/// A column that is hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) struct Mask {
    pub(in crate::policy) change: usize,
    /// Its index in the change's table.
    pub(in crate::policy) column: usize,
}

impl Verdicts {
    pub(in crate::policy) fn clear(&mut self) {
        self.dropped.clear();
        self.masks.clear();
    }
}

/// Checks an outcome, appends what it says, and gives the changes that it rejects, in their order. Appends nothing if
/// it breaks a rule.
pub(in crate::policy) fn verdicts(
    outcome: &Outcome,
    asked: Asked<'_>,
    changes: &[Change],
    verdicts: &mut Verdicts,
) -> Result<Vec<Rejected>, VerdictError> {
    let before = (verdicts.dropped.len(), verdicts.masks.len());
    let reader = Reader { arena: Arena::new(&outcome.arena), asked, changes };
    let rejected = reader.read_verdicts(outcome, verdicts).and_then(|rejected| {
        reader.read_masks(outcome, verdicts)?;
        Ok(rejected)
    });
    if rejected.is_err() {
        verdicts.dropped.truncate(before.0);
        verdicts.masks.truncate(before.1);
    }
    rejected
}

struct Reader<'a> {
    arena: Arena<'a>,
    asked: Asked<'a>,
    changes: &'a [Change],
}

impl Reader<'_> {
    fn read_verdicts(&self, outcome: &Outcome, into: &mut Verdicts) -> Result<Vec<Rejected>, VerdictError> {
        let members = self.asked.members;
        length("verdicts", outcome.verdicts.len(), members.len())?;
        let mut rejected = Vec::new();
        for (index, (verdict, member)) in outcome.verdicts.iter().zip(members).enumerate() {
            match *verdict {
                KEEP => {}
                DROP => into.dropped.push(member.change),
                REJECT => rejected.push((index, outcome.reasons.get(rejected.len()).copied())),
                verdict => return Err(VerdictError::Verdict { change: index, verdict }),
            }
        }
        length("reasons", outcome.reasons.len(), rejected.len())?;
        rejected.into_iter().map(|(change, span)| self.rejected(change, span.unwrap_or(0))).collect()
    }

    fn rejected(&self, change: usize, span: u64) -> Result<Rejected, VerdictError> {
        let text = self.arena.text(span).map_err(|problem| VerdictError::ReasonSpan { change, problem })?;
        if text.is_empty() {
            return Err(VerdictError::Reason(change));
        }
        Ok((u32::try_from(change).expect("a batch is bounded"), reason(text).into()))
    }

    fn read_masks(&self, outcome: &Outcome, into: &mut Verdicts) -> Result<(), VerdictError> {
        let changes = self.asked.members.len();
        length("masked-columns", outcome.masked_columns.len(), outcome.masked_changes.len())?;
        let mut before = 0;
        for (mask, (change, column)) in outcome.masked_changes.iter().zip(&outcome.masked_columns).enumerate()
        {
            let change = *change;
            if change as usize >= changes {
                return Err(VerdictError::Change { mask, change, changes });
            }
            if change < before {
                return Err(VerdictError::Descending(mask));
            }
            before = change;
            let name =
                self.arena.text(*column).map_err(|problem| VerdictError::ColumnSpan { mask, problem })?;
            if name.starts_with('$') {
                return Err(VerdictError::Virtual(mask));
            }
            let change = self.asked.members[change as usize].change;
            let table = &self.changes[change].table;
            let Some(column) = table.column(name) else { continue };
            if table.columns[column].key {
                return Err(VerdictError::Key { mask, column: reason(name) });
            }
            into.masks.push(Mask { change, column });
        }
        Ok(())
    }
}

fn length(list: &'static str, length: usize, expected: usize) -> Result<(), VerdictError> {
    if length == expected { Ok(()) } else { Err(VerdictError::Length { list, length, expected }) }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::SpanError;
    use super::*;
    use crate::policy::fixtures::{insert, table};
    use crate::policy::matches::Member;

    fn span(start: u64, length: u64) -> u64 {
        start | length << 32
    }

    /// For three changes of `(id key, email, name)`: keep with two columns hidden, drop, reject.
    pub(in crate::policy) fn outcome() -> Outcome {
        Outcome {
            verdicts: vec![KEEP, DROP, REJECT],
            reasons: vec![span(0, 6)],
            masked_changes: vec![0, 0, 1],
            masked_columns: vec![span(6, 5), span(11, 4), span(6, 5)],
            arena: b"no wayemailname\xFF".to_vec(),
        }
    }

    fn check(outcome: &Outcome) -> Result<(Verdicts, Vec<Rejected>), VerdictError> {
        let table = table("s", "users", &[("id", true), ("email", false), ("name", false)]);
        // Handed over as the first, third and fourth of what is evaluated.
        let changes: Vec<_> = (0..4).map(|number| insert(&table, number)).collect();
        let members = [0, 2, 3].map(Member::without_match);
        let mut read = Verdicts::default();
        let rejected = verdicts(outcome, Asked { plugin: 0, members: &members }, &changes, &mut read);
        assert!(rejected.is_ok() || read == Verdicts::default(), "a wrong answer leaves nothing");
        rejected.map(|rejected| (read, rejected))
    }

    fn spoiled(spoil: impl FnOnce(&mut Outcome)) -> VerdictError {
        let mut outcome = outcome();
        spoil(&mut outcome);
        check(&outcome).expect_err("it is spoiled")
    }

    #[test]
    fn every_part_of_an_answer_is_read() {
        let (verdicts, rejected) = check(&outcome()).expect("it is right");
        let mask = |change, column| Mask { change, column };
        assert_eq!(verdicts.dropped, [2]);
        assert_eq!(verdicts.masks, [mask(0, 1), mask(0, 2), mask(2, 1)]);
        assert_eq!(rejected, [(2, Arc::from("no way"))]);
    }

    #[test]
    fn a_column_that_the_table_does_not_have_is_nothing_to_hide() {
        let mut outcome = outcome();
        outcome.masked_columns = vec![span(6, 4), span(0, 0), span(0, 2)];
        assert_eq!(check(&outcome).expect("it is right").0.masks, []);
    }

    #[test]
    fn lists_that_do_not_fit_each_other_are_refused() {
        let length = |list, length, expected| VerdictError::Length { list, length, expected };
        assert_eq!(spoiled(|o| o.verdicts.push(KEEP)), length("verdicts", 4, 3));
        assert_eq!(spoiled(|o| o.verdicts.truncate(2)), length("verdicts", 2, 3));
        assert_eq!(spoiled(|o| o.reasons.push(0)), length("reasons", 2, 1));
        assert_eq!(spoiled(|o| o.reasons.clear()), length("reasons", 0, 1));
        assert_eq!(spoiled(|o| o.masked_columns.push(0)), length("masked-columns", 4, 3));
        assert_eq!(spoiled(|o| o.masked_changes.clear()), length("masked-columns", 3, 0));
    }

    #[test]
    fn a_verdict_is_one_of_three_and_a_rejection_has_a_reason() {
        assert_eq!(spoiled(|o| o.verdicts[1] = 3), VerdictError::Verdict { change: 1, verdict: 3 });
        assert_eq!(spoiled(|o| o.reasons[0] = 0), VerdictError::Reason(2));
        let reason = |problem| VerdictError::ReasonSpan { change: 2, problem };
        assert_eq!(spoiled(|o| o.reasons[0] = span(16, 1)), reason(SpanError::Leaves));
        assert_eq!(spoiled(|o| o.reasons[0] = span(15, 1)), reason(SpanError::Text));
    }

    #[test]
    fn masks_for_changes_that_are_not_there_or_out_of_order_are_refused() {
        let change = VerdictError::Change { mask: 2, change: 3, changes: 3 };
        assert_eq!(spoiled(|o| o.masked_changes[2] = 3), change);
        assert_eq!(spoiled(|o| o.masked_changes[0] = 1), VerdictError::Descending(1));
        let column = |problem| VerdictError::ColumnSpan { mask: 1, problem };
        assert_eq!(spoiled(|o| o.masked_columns[1] = u64::MAX), column(SpanError::Leaves));
        assert_eq!(spoiled(|o| o.masked_columns[1] = span(15, 1)), column(SpanError::Text));
    }

    #[test]
    fn neither_the_key_nor_what_the_host_says_can_be_hidden() {
        let key = |o: &mut Outcome| {
            o.arena.extend(b"id");
            o.masked_columns[2] = span(16, 2);
        };
        assert_eq!(spoiled(key), VerdictError::Key { mask: 2, column: "id".into() });
        let name = |o: &mut Outcome| {
            o.arena.extend(b"$row");
            o.masked_columns[0] = span(16, 4);
        };
        assert_eq!(spoiled(name), VerdictError::Virtual(0));
    }

    prop_compose! {
        fn lies()(
            verdicts in prop::collection::vec(prop_oneof![8 => 0..3_u8, 1 => any::<u8>()], 2..5),
            reasons in prop::collection::vec(prop_oneof![Just(span(0, 6)), any::<u64>()], 0..3),
            masked_changes in prop::collection::vec(0..4_u32, 0..4),
            masked_columns in prop::collection::vec(
                prop_oneof![Just(span(6, 5)), (0..20_u64, 0..20_u64).prop_map(|(s, l)| span(s, l)), any::<u64>()],
                0..4,
            ),
            arena in prop_oneof![Just(outcome().arena), prop::collection::vec(any::<u8>(), 0..30)],
        ) -> Outcome {
            Outcome { verdicts, reasons, masked_changes, masked_columns, arena }
        }
    }

    proptest! {
        #[test]
        fn random_answers_are_errors_or_verdicts_but_never_panics(outcome in lies()) {
            if let Ok((verdicts, rejected)) = check(&outcome) {
                prop_assert!(verdicts.dropped.len() + rejected.len() <= 3);
                prop_assert!(verdicts.masks.iter().all(|mask| matches!(mask.column, 1 | 2) && mask.change != 1));
            }
        }
    }
}
