//! The judge: plugins say where changes go. The sole owner of wasmtime and of the bindings of `wit/policy.wit`.
//!
//! In: components, settings, changes, posts, who wants to listen. Out: routes, plans and grants, checked, and the
//! changes that a plugin cannot handle.
//!
//! ```text
//! Engine::new ─► Loader::load(component, activation) ─► Plugin ─► Policy::evaluate(&changes) ─► Evaluation
//!                     │ compiles in a child process:       │  filters, then routers
//!                     │                                    ├────► Policy::plan(&posts) ─► Plans
//!                     │                                    ├────► Policy::compare(Shadow) ─► Comparison
//!                     │                                    ├────► Rehearsal::new ─► Rehearsal::changes, Rehearsal::posts
//!                     │                                    └────► Gate::new ─► Gate::admit, Gate::receive
//!                     └─► program compile-plugin PROFILE METER IN OUT ─► compile_plugin(PROFILE, METER, IN, OUT)
//! ```
//! All of these are synchronous and block for as long as plugins run, up to `PLUGIN_CALL_TIME_MAX` a call (more in
//! the large profile): call them on a thread that may block, with a stack of at least 1 MiB.
//!
//! Invariant: an evaluation is a pure function of changes, components and settings, and never an error. A plugin can
//! reach nothing but its log; every number it answers is checked, every route against its grants; what it does wrong
//! sets aside single changes, on its own behalf. What a filter masked no later stage sees. All numbers and sizes are
//! bounded by `limits`.
//! Absent on purpose: WASI, which plugin is active when, effects. Why wasmtime, and set up how:
//! `docs/decisions/wasmtime.md`.

mod activation;
mod answer;
mod batch;
mod bindings;
mod cache;
mod compare;
mod compile;
mod digest;
mod engine;
mod error;
mod evaluate;
mod fanout;
mod gate;
mod grants;
mod inspect;
mod instance;
mod loader;
mod matches;
mod meter;
mod notes;
mod plugin;
mod plugin_lines;
mod plugin_log;
mod profile;
mod rehearsal;
mod route;
mod shadow;
mod single;
mod subscription;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod guest;
#[cfg(test)]
pub(crate) mod tests;

pub use activation::{Activation, Grants, OnFault, Pattern, PatternError, Profile, UnknownWord};
#[cfg(test)]
pub(crate) use answer::routes_of;
pub use answer::{
    AnswerError, Delivery, Directed, Plan, PlanError, Routes, SpanError, ToChannel, VerdictError,
};
pub use compare::{Comparison, Example, Side};
pub use compile::{COMPILE_SUBCOMMAND, compile_in_child, compile_plugin, read_component};
pub use digest::{Digest, NoDigest};
pub use engine::Engine;
pub use error::{Cause, Fault, PluginError, PolicyError};
pub use evaluate::{Evaluation, Rejection, Trouble};
pub use fanout::{Plans, Post};
pub use gate::{Connection, Gate, Grant, Reception, Refusal, Request, Scope};
pub use instance::Stage;
pub use loader::Loader;
pub use meter::Meter;
pub use plugin::{Plugin, Work};
pub use plugin_lines::{LineLevel, PluginLine, PluginLines};
pub use rehearsal::{Facts, Found, Only, Rehearsal, Tally};
pub use route::{CacheKeys, Entry, Kind, Payload, Route};
pub use shadow::Shadow;
pub use subscription::SubscriptionError;

use std::sync::Arc;
use std::time::Instant;

use answer::Verdicts;
use batch::Batch;
use evaluate::{Question, Turn};
use fanout::Fanout;
use matches::Matches;
use notes::Noted;
use shadow::{Seen, Stopwatch};

use crate::event::Change;
use crate::limits::PLUGINS_COUNT_MAX;

/// Plugins in their order, ready to judge.
#[derive(Debug, Default)]
pub struct Policy {
    plugins: Vec<Plugin>,
    /// Beside the plugins of their names, without effects.
    shadows: Vec<Shadow>,
    matches: Matches,
    batch: Batch,
    fanout: Fanout,
    verdicts: Verdicts,
    /// For each change whether a filter let it go no further; empty while there is none.
    gone: Vec<bool>,
}

impl Policy {
    /// Puts plugins in their order.
    ///
    /// # Errors
    /// If there are too many, two have one name, or two have a stage of which there is one.
    pub fn new(plugins: impl IntoIterator<Item = Plugin>) -> Result<Self, PolicyError> {
        let mut policy = Self::default();
        for plugin in plugins {
            if let Some(twice) = policy.put(plugin)? {
                return Err(PolicyError::NameTwice(twice.activation().plugin.to_string()));
            }
        }
        Ok(policy)
    }

    /// Adds a plugin, in place of the one with its name, which it gives back.
    ///
    /// # Errors
    /// If there would be too many, or two with a stage of which there is one. Nothing has changed then.
    pub fn put(&mut self, plugin: Plugin) -> Result<Option<Plugin>, PolicyError> {
        let name = &plugin.activation().plugin;
        let others = || self.plugins.iter().filter(|other| other.activation().plugin != *name);
        if others().count() >= PLUGINS_COUNT_MAX {
            return Err(PolicyError::TooMany(self.plugins.len() + 1));
        }
        for stage in [Stage::Fanout, Stage::Gate] {
            if let Some(other) = others().find(|other| other.has(stage) && plugin.has(stage)) {
                let [first, second] = [other, &plugin].map(|plugin| plugin.activation().plugin.to_string());
                return Err(PolicyError::StageTwice { stage, first, second });
            }
        }
        let before = self.take_out(&plugin.activation().plugin);
        let rank = |plugin: &Plugin| (plugin.activation().order, plugin.activation().plugin.clone());
        let place = self.plugins.partition_point(|other| rank(other) < rank(&plugin));
        self.plugins.insert(place, plugin);
        self.match_anew();
        Ok(before)
    }

    /// Takes a plugin out, if there is one of that name.
    pub fn remove(&mut self, name: &str) -> Option<Plugin> {
        let plugin = self.take_out(name)?;
        self.match_anew();
        Some(plugin)
    }

    /// From now on the plugin of that name is not called: its changes are rejected, its posts planned by the host.
    /// Says whether there is one.
    pub fn quarantine(&mut self, name: &str) -> bool {
        let plugin = self.plugins.iter_mut().find(|plugin| &*plugin.activation().plugin == name);
        plugin.map(Plugin::quarantine).is_some()
    }

    /// In their order, which is also that of their routes for one change.
    #[must_use]
    pub fn plugins(&self) -> &[Plugin] {
        &self.plugins
    }

    /// What plugins did since this was asked last, those that did something.
    pub fn take_work(&mut self, mut each: impl FnMut(&Arc<str>, Work)) {
        for plugin in &mut self.plugins {
            let work = plugin.take_work();
            if work != Work::default() {
                each(&plugin.activation().plugin, work);
            }
        }
    }

    /// Lets a candidate run beside the plugin of its name, instead of the one that did so before, which it gives back.
    pub fn compare(&mut self, shadow: Shadow) -> Option<Shadow> {
        let before = self.stop_comparing(&shadow.candidate().activation().plugin);
        self.shadows.push(shadow);
        before
    }

    /// Stops the candidate of that name, if there is one.
    pub fn stop_comparing(&mut self, name: &str) -> Option<Shadow> {
        let place =
            self.shadows.iter().position(|shadow| &*shadow.candidate().activation().plugin == name)?;
        Some(self.shadows.swap_remove(place))
    }

    /// The candidates that run beside plugins.
    #[must_use]
    pub fn shadows(&self) -> &[Shadow] {
        &self.shadows
    }

    /// Asks every plugin about the changes it subscribed to: first the filters, then the routers about what is left.
    /// What a filter masks is masked in `changes`.
    pub fn evaluate(&mut self, changes: &mut [Change]) -> Evaluation {
        let mut evaluation = Evaluation::default();
        self.matches.select(changes);
        for missing in self.matches.missing() {
            self.plugins[missing.plugin].lacks(&missing.table, &missing.column);
        }
        self.gone.clear();
        for question in [Question::Filter, Question::Router] {
            self.take_turns(question, changes, &mut evaluation);
        }
        for shadow in &mut self.shadows {
            shadow.conclude(changes);
        }
        evaluation.settle(&self.plugins)
    }

    /// Asks all that the question is for, in their order.
    fn take_turns(&mut self, question: Question, changes: &mut [Change], evaluation: &mut Evaluation) {
        // A candidate may have subscribed to what its plugin did not.
        let count = if self.shadows.is_empty() { self.matches.called().len() } else { self.plugins.len() };
        for nth in 0..count {
            let index = if self.shadows.is_empty() { self.matches.called()[nth] } else { nth };
            if evaluation.failing.is_some() {
                return;
            }
            self.turn(question, index, changes, evaluation);
        }
        for shadow in &mut self.shadows {
            if !self.plugins.iter().any(|plugin| shadow.is_beside(plugin)) {
                shadow.observe(question, changes, &self.gone, &Seen::default());
            }
        }
    }

    fn turn(
        &mut self,
        question: Question,
        index: usize,
        changes: &mut [Change],
        evaluation: &mut Evaluation,
    ) {
        let plugin = &mut self.plugins[index];
        let shadow = self.shadows.iter_mut().find(|shadow| shadow.is_beside(plugin));
        if shadow.is_none() && !plugin.has(question.stage()) {
            return;
        }
        let clock = shadow.is_some().then(Stopwatch::start);
        let (routes, rejected) = (evaluation.routes.len(), evaluation.rejected.len());
        let faults_count = evaluation.faults_count(index);
        self.verdicts.clear();
        if plugin.has(question.stage()) {
            let began = Instant::now();
            let (matches, batch, verdicts) = (&self.matches, &mut self.batch, &mut self.verdicts);
            let mut turn = Turn { question, changes, matches, plugin, index, batch, verdicts, evaluation };
            turn.take();
            self.plugins[index].worked(self.matches.members(index).len(), began.elapsed());
        }
        let rejected = &evaluation.rejected[rejected..];
        if let (Some(shadow), Some(clock)) = (shadow, clock) {
            let seen = Seen {
                time: clock.stop(),
                noted: Noted {
                    members: self.matches.members(index),
                    verdicts: Some(&self.verdicts),
                    routes: Some((&evaluation.routes, routes)),
                    rejected,
                },
                faults_count: evaluation.faults_count(index) - faults_count,
            };
            shadow.observe(question, changes, &self.gone, &seen);
        }
        if question == Question::Filter {
            evaluation.dropped_count += self.verdicts.dropped.len();
            self.apply(changes, rejected);
        }
    }

    /// What a filter answered comes true: what it masks is masked, and what it dropped, rejected or failed on goes no
    /// further.
    fn apply(&mut self, changes: &mut [Change], rejected: &[Rejection]) {
        for mask in &self.verdicts.masks {
            changes[mask.change].mask(mask.column);
        }
        if self.verdicts.dropped.is_empty() && rejected.is_empty() {
            return;
        }
        self.gone.resize(changes.len(), false);
        let rejected = rejected.iter().map(|rejection| rejection.change);
        for change in self.verdicts.dropped.iter().copied().chain(rejected) {
            self.gone[change] = true;
        }
        self.matches.leave_out(&self.gone);
    }

    fn take_out(&mut self, name: &str) -> Option<Plugin> {
        let place = self.plugins.iter().position(|plugin| &*plugin.activation().plugin == name)?;
        Some(self.plugins.remove(place))
    }

    fn match_anew(&mut self) {
        self.matches = Matches::new(self.plugins.iter().map(Plugin::subscriber).collect());
    }
}
