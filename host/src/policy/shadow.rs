//! A candidate that runs beside the active generation of its plugin, without effects.
//!
//! In: what the active one was handed, at each stage, and what it answered. Out: a [`Comparison`].
//!
//! Each stage is compared on what the active one was handed there: a candidate's router sees the masks of the active
//! filter, not its own. A candidate of a plugin that is not active sees what all plugins of the stage left.
//! An evaluation that is discarded and made again is compared twice.
//!
//! Invariant: nothing a candidate answers has an effect, and one that fails more than `PLUGIN_FAULTS_MAX` times is not
//! asked any more. Absent on purpose: gates, which live elsewhere.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::answer::{Plan, Verdicts};
use super::batch::Batch;
use super::compare::{Comparison, Effect, Example};
use super::evaluate::{Evaluation, Question, Rejection, Turn};
use super::fanout::{Fanout, Post};
use super::instance::Stage;
use super::matches::{Matches, Member};
use super::plugin::Plugin;
use super::route::Directed;
use crate::event::Change;
use crate::limits::PLUGIN_FAULTS_MAX;

/// A candidate, and what it has been compared on so far.
#[derive(Debug)]
pub struct Shadow {
    candidate: Plugin,
    matches: Matches,
    batch: Batch,
    /// Of the evaluation under way.
    active: Notes,
    /// As `active`.
    candidates: Notes,
    comparison: Comparison,
}

/// What one of both was handed and asked for in an evaluation, by the indexes of its changes.
#[derive(Debug, Default)]
struct Notes {
    handed: Vec<usize>,
    effects: Vec<(usize, Effect)>,
}

/// What an active plugin was handed and answered in one turn.
#[derive(Default)]
pub(super) struct Seen<'a> {
    pub(super) members: &'a [Member],
    pub(super) verdicts: Option<&'a Verdicts>,
    pub(super) routes: &'a [Directed],
    pub(super) rejected: &'a [Rejection],
    pub(super) faults_count: usize,
    pub(super) time: Duration,
}

impl Shadow {
    /// Compares a candidate with the plugin of its name.
    #[must_use]
    pub fn new(candidate: Plugin) -> Self {
        let matches = Matches::new([candidate.subscriber()].into());
        Self {
            candidate,
            matches,
            batch: Batch::default(),
            active: Notes::default(),
            candidates: Notes::default(),
            comparison: Comparison::default(),
        }
    }

    /// The candidate.
    #[must_use]
    pub fn candidate(&self) -> &Plugin {
        &self.candidate
    }

    /// The candidate, to be activated.
    #[must_use]
    pub fn into_candidate(self) -> Plugin {
        self.candidate
    }

    /// How the two compare so far.
    #[must_use]
    pub fn report(&self) -> &Comparison {
        &self.comparison
    }

    pub(super) fn is_beside(&self, plugin: &Plugin) -> bool {
        self.candidate.activation().plugin == plugin.activation().plugin
    }

    /// Asks the candidate what the active plugin was asked. `gone`: which changes went no further before, if any.
    pub(super) fn observe(&mut self, question: Question, changes: &[Change], gone: &[bool], seen: &Seen<'_>) {
        self.active.add(changes, seen);
        self.comparison.active.faults_count += seen.faults_count as u64;
        self.comparison.active.time += seen.time;
        if self.comparison.stopped || !self.candidate.has(question.stage()) {
            return;
        }
        self.matches.select(changes);
        if !gone.is_empty() {
            self.matches.leave_out(gone);
        }
        let (mut evaluation, mut verdicts) = (Evaluation::default(), Verdicts::default());
        let clock = Stopwatch::start();
        let mut turn = Turn {
            question,
            changes,
            matches: &self.matches,
            plugin: &mut self.candidate,
            index: 0,
            batch: &mut self.batch,
            verdicts: &mut verdicts,
            evaluation: &mut evaluation,
        };
        turn.take();
        self.comparison.candidate.time += clock.stop();
        let faults_count = evaluation.faults_count(0);
        self.count_faults(faults_count);
        let answered = Seen {
            members: self.matches.members(0),
            verdicts: Some(&verdicts),
            routes: &evaluation.routes,
            rejected: &evaluation.rejected,
            ..Seen::default()
        };
        self.candidates.add(changes, &answered);
    }

    /// Asks the candidate how it would plan what was planned.
    pub(super) fn observe_plans(
        &mut self,
        posts: &[Post<'_>],
        active: &[Plan],
        faults_count: usize,
        time: Duration,
    ) {
        self.comparison.active.faults_count += faults_count as u64;
        self.comparison.active.time += time;
        self.comparison.active.seen_count += posts.len() as u64;
        if self.comparison.stopped || !self.candidate.has(Stage::Fanout) {
            return;
        }
        let clock = Stopwatch::start();
        let planned = Fanout::default().plan(&mut self.candidate, 0, posts);
        self.comparison.candidate.time += clock.stop();
        self.comparison.candidate.seen_count += posts.len() as u64;
        self.count_faults(planned.trouble.as_ref().map_or(0, |trouble| trouble.faults_count));
        for ((post, active), candidate) in posts.iter().zip(active).zip(&planned.plans) {
            self.comparison.add(&[Effect::Planned(*active)], &[Effect::Planned(*candidate)], || Example {
                of: post.author.into(),
                key: post.item.into(),
                position: None,
                active: Vec::new(),
                candidate: Vec::new(),
            });
        }
    }

    /// Ends an evaluation: all stages have been observed.
    pub(super) fn conclude(&mut self, changes: &[Change]) {
        let [mut active, mut candidate] =
            [&mut self.active, &mut self.candidates].map(|notes| std::mem::take(notes).in_order());
        let mut handed = [&active.handed[..], &candidate.handed[..]].concat();
        handed.sort_unstable();
        handed.dedup();
        self.comparison.active.seen_count += active.handed.len() as u64;
        if self.comparison.stopped {
            return;
        }
        self.comparison.candidate.seen_count += candidate.handed.len() as u64;
        for change in handed {
            let effects = [active.take(change), candidate.take(change)];
            self.comparison.add(&effects[0], &effects[1], || about(&changes[change]));
        }
    }

    fn count_faults(&mut self, faults_count: usize) {
        let count = &mut self.comparison.candidate.faults_count;
        *count += faults_count as u64;
        self.comparison.stopped |= *count > PLUGIN_FAULTS_MAX as u64;
    }
}

impl Notes {
    fn add(&mut self, changes: &[Change], seen: &Seen<'_>) {
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
        let routes = seen.routes.iter();
        self.effects.extend(routes.map(|directed| (directed.change, Effect::Route(directed.route.clone()))));
    }

    /// By change, the last first, and each change that was handed over once, however many stages it met.
    fn in_order(mut self) -> Self {
        self.handed.sort_unstable();
        self.handed.dedup();
        self.effects.sort_by_key(|(change, _)| *change);
        self.effects.reverse();
        self
    }

    /// Takes the effects of a change, if there are none of an earlier one left.
    fn take(&mut self, change: usize) -> Vec<Effect> {
        let mut taken = Vec::new();
        while let Some((_, effect)) = self.effects.pop_if(|(of, _)| *of == change) {
            taken.push(effect);
        }
        taken
    }
}

fn about(change: &Change) -> Example {
    let mut key = String::new();
    change.write_key(&mut key);
    let table = &change.table;
    let of = if table.schema.is_empty() {
        table.name.to_string()
    } else {
        format!("{}.{}", table.schema, table.name)
    };
    Example { of, key, position: Some(change.position), active: Vec::new(), candidate: Vec::new() }
}

/// Measures the processor's time of this thread. It decides what people read, never what a policy answers.
pub(super) struct Stopwatch(Duration);

impl Stopwatch {
    pub(super) fn start() -> Self {
        Self(processor_time())
    }

    pub(super) fn stop(self) -> Duration {
        processor_time().saturating_sub(self.0)
    }
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
