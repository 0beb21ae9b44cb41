//! The judge: plugins say where changes go. The sole owner of wasmtime and of the bindings of `wit/policy.wit`.
//!
//! In: components, settings, changes. Out: routes, checked, and the changes that a plugin cannot handle.
//!
//! ```text
//! Engine::new ─► Policy::load(engine, sources, cache, program) ─► policy.evaluate(&changes) ─► Evaluation
//!                     │ compiles in a child process:
//!                     └─► program compile-plugin IN OUT ─► compile_plugin(IN, OUT)
//! ```
//! `evaluate` is synchronous and blocks for as long as plugins run, up to `PLUGIN_CALL_TIME_MAX` a call: call it on
//! a thread that may block, with a stack of at least 1 MiB.
//!
//! Invariant: an evaluation is a pure function of changes, components and settings, and never an error. A plugin can
//! reach nothing but its log; every number it answers is checked; what it does wrong sets aside single changes, on
//! its own behalf. All numbers and sizes are bounded by `limits`.
//! Absent on purpose: WASI, plugins that come while the host runs, the stages filter, fan-out and gate (refused when
//! a plugin is loaded), effects. Why wasmtime, and set up how: `docs/decisions/wasmtime.md`.

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
mod plugin;
mod plugin_log;
mod subscription;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::Path;

pub use answer::{AnswerError, Directed, Payload, Route};
pub use compile::{COMPILE_SUBCOMMAND, compile_in_child, compile_plugin};
pub use digest::Digest;
pub use engine::Engine;
pub use error::{Cause, Fault, PluginError, PolicyError};
pub use evaluate::{Evaluation, Rejection};
pub use plugin::{Plugin, PluginSource};
pub use subscription::SubscriptionError;

use batch::{Batch, Member};
use cache::Cache;
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
    /// Loads and configures plugins. Blocks while those are compiled that are not in the folder `cache` (made if it
    /// is not there, for this user alone) by `program`, which must be this program: see [`COMPILE_SUBCOMMAND`].
    ///
    /// # Errors
    /// If there are too many, two have one name, one is no plugin of this host, or one refuses its settings.
    pub fn load(
        engine: &Engine,
        sources: Vec<PluginSource>,
        cache: &Path,
        program: &Path,
    ) -> Result<Self, PolicyError> {
        if sources.len() > PLUGINS_COUNT_MAX {
            return Err(PolicyError::TooMany(sources.len()));
        }
        let mut names = HashSet::new();
        if let Some(twice) = sources.iter().find(|source| !names.insert(source.name.as_str())) {
            return Err(PolicyError::NameTwice(twice.name.clone()));
        }
        let cache = Cache::open(cache)?;
        let plugins = sources
            .into_iter()
            .map(|source| Plugin::load(engine, source, &cache, program))
            .collect::<Result<_, _>>()?;
        Ok(Self { plugins, batch: Batch::default(), members: Vec::new() })
    }

    /// In their order, which is also that of their routes for one change.
    #[must_use]
    pub fn plugins(&self) -> &[Plugin] {
        &self.plugins
    }

    /// Asks every plugin about the changes it subscribed to.
    pub fn evaluate(&mut self, changes: &[Change]) -> Evaluation {
        let mut evaluation = Evaluation::default();
        for (index, plugin) in self.plugins.iter_mut().enumerate() {
            plugin.select(changes, &mut self.members);
            let mut turn =
                Turn { changes, plugin, index, batch: &mut self.batch, evaluation: &mut evaluation };
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
