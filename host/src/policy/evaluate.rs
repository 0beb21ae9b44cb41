//! The judgment: changes in, routes out, and what hurts is found and set aside.
//!
//! A batch that fails is tried once more in a fresh instance, then halved until the change that hurts is alone; that
//! one is rejected on behalf of its plugin. Everything else stands. A filter and a router are asked the same way.
//!
//! Invariant: routes are ordered by change, then plugin, then as the plugin gave them. The same changes, plugins and
//! settings give the same evaluation. Whatever plugins do, an evaluation ends and is no error: a plugin whose calls
//! fail more than `PLUGIN_FAULTS_MAX` times ends it early.

use std::sync::Arc;

use super::activation::{Activation, OnFault};
use super::answer::{self, Asked, Routes, Verdicts};
use super::batch::{Batch, Filled};
use super::digest::Digest;
use super::error::{Cause, Fault};
use super::instance::Stage;
use super::matches::{Matches, Member};
use super::plugin::Plugin;
use crate::event::Change;
use crate::limits::PLUGIN_FAULTS_MAX;

/// What all plugins answered to some changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Evaluation {
    /// By change, then plugin, then in the plugin's order.
    pub routes: Routes,
    /// By change, then plugin.
    pub rejected: Vec<Rejection>,
    /// How many changes filters dropped.
    pub dropped_count: usize,
    /// What plugins did wrong, one for each that did.
    pub troubles: Vec<Trouble>,
    /// The index of the plugin that failed too often. The evaluation stopped there and must be discarded: put that
    /// plugin into quarantine or another in its place, and evaluate anew.
    pub failing: Option<usize>,
    /// The index, in `rejected`, of the first change whose plugin wants the pipeline to pause instead: nothing of it
    /// or after it may have an effect until somebody decides.
    pub pause: Option<usize>,
}

/// A change that one plugin does not handle: a dead letter of that plugin.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The index of the change in what was evaluated.
    pub change: usize,
    /// The index of the plugin in [`Policy::plugins`](super::Policy::plugins).
    pub plugin: usize,
    /// The plugin's name.
    pub name: Arc<str>,
    /// Which activation of it.
    pub generation: u64,
    /// Which component it was.
    pub digest: Digest,
    /// What it was asked.
    pub stage: Stage,
    /// Why.
    pub cause: Cause,
}

/// What one plugin did wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The index of the plugin in [`Policy::plugins`](super::Policy::plugins).
    pub plugin: usize,
    /// How many calls failed, also those that a second try mended.
    pub faults_count: usize,
    /// What the first was.
    pub first_fault: Option<Fault>,
    /// How many routes were dropped because they were not granted.
    pub refused_count: usize,
}

impl Trouble {
    pub(super) fn new(plugin: usize) -> Self {
        Self { plugin, faults_count: 0, first_fault: None, refused_count: 0 }
    }

    pub(super) fn add(&mut self, fault: &Fault) {
        self.faults_count += 1;
        self.first_fault.get_or_insert_with(|| fault.clone());
    }
}

impl Evaluation {
    /// How many calls of a plugin failed.
    #[must_use]
    pub fn faults_count(&self, plugin: usize) -> usize {
        self.troubles
            .iter()
            .find(|trouble| trouble.plugin == plugin)
            .map_or(0, |trouble| trouble.faults_count)
    }

    /// The trouble with a plugin, to add to.
    pub(super) fn trouble(&mut self, plugin: usize) -> &mut Trouble {
        let place = self.troubles.iter().position(|trouble| trouble.plugin == plugin);
        let place = place.unwrap_or_else(|| {
            self.troubles.push(Trouble::new(plugin));
            self.troubles.len() - 1
        });
        &mut self.troubles[place]
    }

    /// Brings what the plugins added one after the other into order, and looks whether one wants a pause.
    pub(super) fn settle(mut self, plugins: &[Plugin]) -> Self {
        // Stable: for one change the plugins' order stays. Each plugin's part is in order already.
        if plugins.len() > 1 {
            self.routes.sort();
        }
        self.rejected.sort_by_key(|rejection| rejection.change);
        self.pause = self.rejected.iter().position(|rejection| {
            !matches!(rejection.cause, Cause::Rejected(_))
                && plugins[rejection.plugin].activation().on_fault == OnFault::Pause
        });
        self
    }
}

/// What a plugin is asked about changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// Which go on, and with what hidden.
    Filter,
    /// Where they go.
    Router,
}

impl Question {
    /// Which stage answers it.
    pub(super) fn stage(self) -> Stage {
        match self {
            Self::Filter => Stage::Filter,
            Self::Router => Stage::Router,
        }
    }
}

/// Whether the router of a plugin gets a change: a replay may be for one plugin alone.
fn is_for(change: &Change, plugin: &str) -> bool {
    change.replay.as_ref().and_then(|replay| replay.router.as_deref()).is_none_or(|router| router == plugin)
}

/// One plugin's turn.
pub(super) struct Turn<'a> {
    pub(super) question: Question,
    pub(super) changes: &'a [Change],
    pub(super) matches: &'a Matches,
    pub(super) plugin: &'a mut Plugin,
    /// The plugin's index.
    pub(super) index: usize,
    pub(super) batch: &'a mut Batch,
    /// Where a filter's answer goes; a router's goes into the evaluation, and so does what either rejects.
    pub(super) verdicts: &'a mut Verdicts,
    pub(super) evaluation: &'a mut Evaluation,
}

impl Turn<'_> {
    /// Hands over all changes that the plugin subscribed to, in as many calls as it takes.
    pub(super) fn take(&mut self) {
        let matches = self.matches;
        let own;
        let mut members = matches.members(self.index);
        if self.question == Question::Router
            && members.iter().any(|member| self.changes[member.change].replay.is_some())
        {
            let name = &self.plugin.activation().plugin;
            let is_own = |member: &&Member| is_for(&self.changes[member.change], name);
            own = members.iter().filter(is_own).copied().collect::<Vec<_>>();
            members = &own;
        }
        if self.plugin.is_quarantined() {
            self.reject_all(members, &Cause::Quarantined);
            return;
        }
        while !members.is_empty() && self.evaluation.failing.is_none() {
            match self.batch.fill(self.changes, members, matches) {
                Filled::TooLarge(bytes) => {
                    self.reject(members[0], Cause::Fault(Fault::ChangeTooLarge(bytes)));
                    members = &members[1..];
                }
                Filled::Changes(count) => {
                    let (now, later) = members.split_at(count);
                    if self.attempt(now).is_err()
                        && let Err(fault) = self.attempt(now)
                    {
                        self.halve(now, fault);
                    }
                    members = later;
                }
            }
        }
    }

    /// Members that failed together, with the fault of the last try.
    fn halve(&mut self, members: &[Member], fault: Fault) {
        if members.len() == 1 || fault.is_of_instance() {
            self.reject_all(members, &Cause::Fault(fault));
            return;
        }
        let (first, second) = members.split_at(members.len() / 2);
        for half in [first, second] {
            if self.evaluation.failing.is_some() {
                return;
            }
            // A part of what has fitted fits.
            self.batch.fill(self.changes, half, self.matches);
            if let Err(fault) = self.attempt(half) {
                self.halve(half, fault);
            }
        }
    }

    /// Calls the plugin with the batch, which holds the members.
    fn attempt(&mut self, members: &[Member]) -> Result<(), Fault> {
        let rejected = self.ask(members).inspect_err(|fault| {
            self.plugin.drop_instance();
            let trouble = self.evaluation.trouble(self.index);
            trouble.add(fault);
            if trouble.faults_count > PLUGIN_FAULTS_MAX {
                self.evaluation.failing = Some(self.index);
            }
        })?;
        for (at, reason) in rejected {
            self.reject(members[at as usize], Cause::Rejected(reason));
        }
        Ok(())
    }

    fn ask(&mut self, members: &[Member]) -> Result<Vec<answer::Rejected>, Fault> {
        let asked = Asked { plugin: self.index, members };
        let changes = self.batch.changes();
        match self.question {
            Question::Filter => {
                let outcome = self.plugin.call(|instance| instance.filter(changes))?;
                Ok(answer::verdicts(&outcome, asked, self.changes, self.verdicts)?)
            }
            Question::Router => {
                let routes = &mut self.evaluation.routes;
                let from = routes.len();
                let outcome = self.plugin.call(|instance| instance.direct(changes))?;
                let rejected = answer::routes(outcome, asked, routes)?;
                let refused = self.plugin.activation().grants.drop_uncovered(routes, from);
                if refused > 0 {
                    self.evaluation.trouble(self.index).refused_count += refused;
                }
                Ok(rejected)
            }
        }
    }

    fn reject_all(&mut self, members: &[Member], cause: &Cause) {
        for member in members {
            self.reject(*member, cause.clone());
        }
    }

    fn reject(&mut self, member: Member, cause: Cause) {
        let Activation { plugin: name, generation, digest, .. } = self.plugin.activation();
        let (name, generation, digest) = (name.clone(), *generation, *digest);
        let Member { change, .. } = member;
        let stage = self.question.stage();
        let rejection = Rejection { change, plugin: self.index, name, generation, digest, stage, cause };
        self.evaluation.rejected.push(rejection);
    }
}
