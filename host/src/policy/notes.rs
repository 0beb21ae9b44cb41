//! What one plugin was handed and asked for in an evaluation, by the indexes of its changes.
//!
//! In: its answers, stage by stage. Out: for each change its effects, in the order of the stages.

use super::answer::{Routes, Verdicts};
use super::compare::Effect;
use super::evaluate::Rejection;
use super::matches::Member;
use crate::event::Change;

/// Notes of an evaluation.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) handed: Vec<usize>,
    effects: Vec<(usize, Effect)>,
}

/// What a plugin was handed and answered at one stage.
#[derive(Default)]
pub(super) struct Noted<'a> {
    pub(super) members: &'a [Member],
    pub(super) verdicts: Option<&'a Verdicts>,
    /// A router's routes, which begin at that one.
    pub(super) routes: Option<(&'a Routes, usize)>,
    pub(super) rejected: &'a [Rejection],
}

impl Notes {
    pub(super) fn add(&mut self, changes: &[Change], seen: &Noted<'_>) {
        self.handed.extend(seen.members.iter().map(|member| member.change));
        if let Some(verdicts) = seen.verdicts {
            self.effects.extend(verdicts.masks.iter().map(|mask| {
                let column = &changes[mask.change].table.columns[mask.column].name;
                (mask.change, Effect::Masked(column.clone()))
            }));
            self.effects.extend(verdicts.dropped.iter().map(|change| (*change, Effect::Dropped)));
        }
        let rejected = seen.rejected.iter();
        self.effects
            .extend(rejected.map(|rejection| (rejection.change, Effect::Rejected(rejection.cause.clone()))));
        if let Some((routes, first)) = seen.routes {
            let routes = routes.from(first);
            self.effects.extend(routes.map(|directed| (directed.change(), Effect::Route(directed.route()))));
        }
    }

    /// By change, the last first, and each change that was handed over once, however many stages it met.
    pub(super) fn in_order(mut self) -> Self {
        self.handed.sort_unstable();
        self.handed.dedup();
        self.effects.sort_by_key(|(change, _)| *change);
        self.effects.reverse();
        self
    }

    /// Takes the effects of a change, if there are none of an earlier one left.
    pub(super) fn take(&mut self, change: usize) -> Vec<Effect> {
        let mut taken = Vec::new();
        while let Some((_, effect)) = self.effects.pop_if(|(of, _)| *of == change) {
            taken.push(effect);
        }
        taken
    }
}
