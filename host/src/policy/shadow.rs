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

use super::answer::Plan;
use super::compare::{Comparison, Effect, Example};
use super::evaluate::Question;
use super::fanout::{Fanout, Post};
use super::instance::Stage;
use super::notes::{Noted, Notes};
use super::plugin::Plugin;
use super::single::Single;
use crate::event::Change;
use crate::limits::PLUGIN_FAULTS_MAX;

/// A candidate, and what it has been compared on so far.
#[derive(Debug)]
pub struct Shadow {
    candidate: Single,
    /// Of the evaluation under way.
    active: Notes,
    /// As `active`.
    candidates: Notes,
    comparison: Comparison,
}

/// What an active plugin was handed and answered in one turn.
#[derive(Default)]
pub(super) struct Seen<'a> {
    pub(super) noted: Noted<'a>,
    pub(super) faults_count: usize,
    pub(super) time: Duration,
}

impl Shadow {
    /// Compares a candidate with the plugin of its name.
    #[must_use]
    pub fn new(candidate: Plugin) -> Self {
        Self {
            candidate: Single::new(candidate),
            active: Notes::default(),
            candidates: Notes::default(),
            comparison: Comparison::default(),
        }
    }

    /// The candidate.
    #[must_use]
    pub fn candidate(&self) -> &Plugin {
        &self.candidate.plugin
    }

    /// The candidate, to be activated.
    #[must_use]
    pub fn into_candidate(self) -> Plugin {
        self.candidate.plugin
    }

    /// How the two compare so far.
    #[must_use]
    pub fn report(&self) -> &Comparison {
        &self.comparison
    }

    pub(super) fn is_beside(&self, plugin: &Plugin) -> bool {
        self.candidate().activation().plugin == plugin.activation().plugin
    }

    /// Asks the candidate what the active plugin was asked. `gone`: which changes went no further before, if any.
    pub(super) fn observe(&mut self, question: Question, changes: &[Change], gone: &[bool], seen: &Seen<'_>) {
        self.active.add(changes, &seen.noted);
        self.comparison.active.faults_count += seen.faults_count as u64;
        self.comparison.active.time += seen.time;
        if self.comparison.stopped || !self.candidate().has(question.stage()) {
            return;
        }
        self.candidate.select(changes, gone);
        let clock = Stopwatch::start();
        let answer = self.candidate.ask(question, changes);
        self.comparison.candidate.time += clock.stop();
        self.count_faults(answer.evaluation.faults_count(0));
        self.candidates.add(changes, &self.candidate.noted(&answer));
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
        if self.comparison.stopped || !self.candidate().has(Stage::Fanout) {
            return;
        }
        let clock = Stopwatch::start();
        let planned = Fanout::default().plan(&mut self.candidate.plugin, 0, posts);
        self.comparison.candidate.time += clock.stop();
        self.comparison.candidate.seen_count += posts.len() as u64;
        self.count_faults(planned.trouble.as_ref().map_or(0, |trouble| trouble.faults_count));
        for ((post, active), candidate) in posts.iter().zip(active).zip(&planned.plans) {
            self.comparison.add(&[Effect::Planned(*active)], &[Effect::Planned(*candidate)], || {
                Example::about_post(post)
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
            self.comparison.add(&effects[0], &effects[1], || Example::about(&changes[change]));
        }
    }

    fn count_faults(&mut self, faults_count: usize) {
        let count = &mut self.comparison.candidate.faults_count;
        *count += faults_count as u64;
        self.comparison.stopped |= *count > PLUGIN_FAULTS_MAX as u64;
    }
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
