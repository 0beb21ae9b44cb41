//! One plugin, asked by itself about changes: without effects, beside nobody.
//!
//! In: changes. Out: what it answers at a stage, for a shadow or a rehearsal to look at.

use super::answer::Verdicts;
use super::batch::Batch;
use super::evaluate::{Evaluation, Question, Turn};
use super::matches::Matches;
use super::notes::Noted;
use super::plugin::Plugin;
use crate::event::Change;

/// A plugin, and what it takes to ask it.
#[derive(Debug)]
pub(super) struct Single {
    pub(super) plugin: Plugin,
    matches: Matches,
    batch: Batch,
}

/// What it answered at one stage.
pub(super) struct Answer {
    pub(super) evaluation: Evaluation,
    /// A filter's.
    pub(super) verdicts: Verdicts,
}

impl Single {
    pub(super) fn new(plugin: Plugin) -> Self {
        let matches = Matches::new([plugin.subscriber()].into());
        Self { plugin, matches, batch: Batch::default() }
    }

    /// Finds the changes that it subscribed to. `gone`: which went no further before, if any.
    pub(super) fn select(&mut self, changes: &[Change], gone: &[bool]) {
        self.matches.select(changes);
        for missing in self.matches.missing() {
            self.plugin.lacks(&missing.table, &missing.column);
        }
        if !gone.is_empty() {
            self.matches.leave_out(gone);
        }
    }

    /// Asks it about the changes that were found.
    pub(super) fn ask(&mut self, question: Question, changes: &[Change]) -> Answer {
        let mut answer = Answer { evaluation: Evaluation::default(), verdicts: Verdicts::default() };
        let mut turn = Turn {
            question,
            changes,
            matches: &self.matches,
            plugin: &mut self.plugin,
            index: 0,
            batch: &mut self.batch,
            verdicts: &mut answer.verdicts,
            evaluation: &mut answer.evaluation,
        };
        turn.take();
        answer
    }

    /// The answer with what was asked, to be noted.
    pub(super) fn noted<'a>(&'a self, answer: &'a Answer) -> Noted<'a> {
        Noted {
            members: self.matches.members(0),
            verdicts: Some(&answer.verdicts),
            routes: Some((&answer.evaluation.routes, 0)),
            rejected: &answer.evaluation.rejected,
        }
    }
}
