//! The judge: plugins say where changes go. The sole owner of wasmtime and of the bindings of `wit/policy.wit`.
//!
//! In: components, settings, changes. Out: routes, checked, and the changes that a plugin cannot handle.
//!
//! ```text
//! Engine::new ─► Loader::load(component, activation) ─► Plugin ─► Policy::evaluate(&changes) ─► Evaluation
//!                     │ compiles in a child process:
//!                     └─► program compile-plugin PROFILE IN OUT ─► compile_plugin(PROFILE, IN, OUT)
//! ```
//! `evaluate` is synchronous and blocks for as long as plugins run, up to `PLUGIN_CALL_TIME_MAX` a call (more in the
//! large profile): call it on a thread that may block, with a stack of at least 1 MiB.
//!
//! Invariant: an evaluation is a pure function of changes, components and settings, and never an error. A plugin can
//! reach nothing but its log; every number it answers is checked; what it does wrong sets aside single changes, on
//! its own behalf. All numbers and sizes are bounded by `limits`.
//! Absent on purpose: WASI, plugins that come while the host runs, the stages filter, fan-out and gate (refused when
//! a plugin is loaded), effects. Why wasmtime, and set up how: `docs/decisions/wasmtime.md`.

mod activation;
mod answer;
mod batch;
mod bindings;
mod cache;
mod compile;
mod digest;
mod engine;
mod error;
mod evaluate;
mod inspect;
mod instance;
mod loader;
mod plugin;
mod plugin_log;
mod profile;
mod subscription;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

pub use activation::{Activation, Grants, OnFault, Pattern, PatternError, Profile};
pub use answer::{AnswerError, Directed, Payload, Route};
pub use compile::{COMPILE_SUBCOMMAND, compile_in_child, compile_plugin, read_component};
pub use digest::{Digest, NoDigest};
pub use engine::Engine;
pub use error::{Cause, Fault, PluginError, PolicyError};
pub use evaluate::{Evaluation, Rejection};
pub use loader::Loader;
pub use plugin::Plugin;
pub use profile::NoProfile;
pub use subscription::SubscriptionError;

use batch::{Batch, Member};
use evaluate::Turn;

use crate::event::Change;
use crate::limits::PLUGINS_COUNT_MAX;

/// Plugins in their order, ready to judge.
#[derive(Debug)]
pub struct Policy {
    plugins: Vec<Plugin>,
    batch: Batch,
    members: Vec<Member>,
}

impl Policy {
    /// Puts plugins in their order.
    ///
    /// # Errors
    /// If there are too many, or two have one name.
    pub fn new(plugins: impl IntoIterator<Item = Plugin>) -> Result<Self, PolicyError> {
        let mut policy = Self { plugins: Vec::new(), batch: Batch::default(), members: Vec::new() };
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
    /// If there would be too many.
    pub fn put(&mut self, plugin: Plugin) -> Result<Option<Plugin>, PolicyError> {
        let before = self.remove(&plugin.activation().plugin);
        if self.plugins.len() >= PLUGINS_COUNT_MAX {
            return Err(PolicyError::TooMany(self.plugins.len() + 1));
        }
        let rank = |plugin: &Plugin| (plugin.activation().order, plugin.activation().plugin.clone());
        let place = self.plugins.partition_point(|other| rank(other) < rank(&plugin));
        self.plugins.insert(place, plugin);
        Ok(before)
    }

    /// Takes a plugin out, if there is one of that name.
    pub fn remove(&mut self, name: &str) -> Option<Plugin> {
        let place = self.plugins.iter().position(|plugin| &*plugin.activation().plugin == name)?;
        Some(self.plugins.remove(place))
    }

    /// In their order, which is also that of their routes for one change.
    #[must_use]
    pub fn plugins(&self) -> &[Plugin] {
        &self.plugins
    }

    /// Asks every plugin about the changes it subscribed to. What a filter masks is masked in `changes`.
    pub fn evaluate(&mut self, changes: &mut [Change]) -> Evaluation {
        let mut evaluation = Evaluation::default();
        for (index, plugin) in self.plugins.iter_mut().enumerate() {
            plugin.select(changes, &mut self.members);
            let mut turn = Turn {
                changes: &*changes,
                plugin,
                index,
                batch: &mut self.batch,
                evaluation: &mut evaluation,
            };
            turn.take(&self.members);
        }
        if self.plugins.len() > 1 {
            // Stable: for one change the plugins' order stays. Each plugin's part is in order already.
            evaluation.routes.sort_by_key(|directed| directed.change);
            evaluation.rejected.sort_by_key(|rejection| rejection.change);
        }
        evaluation
    }
}
