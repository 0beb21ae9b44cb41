//! One plugin: its component, its subscriptions, and the instance that is kept warm.
//!
//! Invariant: `configure` was called in each instance before anything else, and answered the same each time. An
//! instance with any error behind it is gone. A plugin in quarantine is not called.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::PluginError;
use super::activation::Activation;
use super::bindings::twohop::policy::log::Level;
use super::bindings::twohop::policy::types::{self, Setting};
use super::error::{Fault, reason};
use super::instance::{Exports, Instance, Stage};
use super::matches::Subscriber;
use super::plugin_lines::PluginLines;
use super::plugin_log::PluginLog;
use super::subscription::Subscription;
use crate::event::Table;
use crate::limits::SUBSCRIPTIONS_COUNT_MAX;

/// A plugin that was loaded and configured.
pub struct Plugin {
    activation: Activation,
    exports: Exports,
    log: Arc<Mutex<PluginLog>>,
    subscriptions: Arc<[Subscription]>,
    instance: Option<Instance>,
    standing: Standing,
    work: Work,
}

/// What a plugin did: for people, never for a policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Changes that it was asked about, once for each of its stages.
    pub changes_count: u64,
    /// On the wall clock, the host's work around it included.
    pub time: Duration,
    /// What its calls ran, in instructions of WebAssembly; 0 where they are not counted.
    pub instructions: u64,
    /// Columns that it subscribed to and a table lacked, once for each version of the table.
    pub missing_columns_count: u64,
}

#[derive(PartialEq, Eq)]
enum Standing {
    Good,
    Quarantined,
}

impl Plugin {
    /// # Errors
    /// If it does not start, refuses its settings, or asks for what cannot be.
    pub(super) fn configure(
        activation: Activation,
        exports: Exports,
        lines: PluginLines,
    ) -> Result<Self, PluginError> {
        let log = PluginLog::new(activation.plugin.clone(), activation.generation, lines);
        let log = Arc::new(Mutex::new(log));
        let mut instance = Instance::new(&exports, log.clone()).map_err(|fault| {
            PluginError::Start(match fault {
                Fault::Instance(why) => why,
                fault => fault.to_string(),
            })
        })?;
        let answer =
            instance.configure(&wit_settings(&activation.settings)).map_err(PluginError::Configure)?;
        let asked = answer.map_err(|refusal| PluginError::Refused(reason(&refusal)))?;
        let subscriptions = subscriptions(asked)?;
        let (instance, standing) = (Some(instance), Standing::Good);
        Ok(Self { activation, exports, log, subscriptions, instance, standing, work: Work::default() })
    }

    /// As what it was activated.
    #[must_use]
    pub fn activation(&self) -> &Activation {
        &self.activation
    }

    /// Whether it can be asked this.
    #[must_use]
    pub fn has(&self, stage: Stage) -> bool {
        self.exports.stages.has(stage)
    }

    /// What it asked to see, each as a line for people.
    pub fn subscriptions(&self) -> impl Iterator<Item = String> {
        self.subscriptions.iter().map(ToString::to_string)
    }

    /// Whether it failed too often and is not asked any more.
    #[must_use]
    pub fn is_quarantined(&self) -> bool {
        self.standing == Standing::Quarantined
    }

    /// From now on it is not asked: its changes are rejected.
    pub(super) fn quarantine(&mut self) {
        self.standing = Standing::Quarantined;
        self.instance = None;
    }

    /// Which changes it is handed: none, if no stage of it takes any.
    pub(super) fn subscriber(&self) -> Subscriber {
        let takes_changes = self.has(Stage::Filter) || self.has(Stage::Router);
        let subscriptions = if takes_changes { self.subscriptions.clone() } else { [].into() };
        Subscriber { subscriptions }
    }

    /// Asks the instance, or a new one.
    ///
    /// # Errors
    /// If the call fails; the next one is made in a new instance.
    pub(super) fn call<Answer>(
        &mut self,
        ask: impl FnOnce(&mut Instance) -> Result<Answer, Fault>,
    ) -> Result<Answer, Fault> {
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => self.instantiate()?,
        };
        let answer = ask(&mut instance);
        self.work.instructions += instance.instructions();
        let answer = answer?;
        self.instance = Some(instance);
        Ok(answer)
    }

    pub(super) fn worked(&mut self, changes_count: usize, time: Duration) {
        self.work.changes_count += changes_count as u64;
        self.work.time += time;
    }

    /// Tells the operator, among its own lines, that it subscribed to a column that a table lacks.
    pub(super) fn lacks(&mut self, table: &Table, column: &str) {
        self.work.missing_columns_count += 1;
        let said = format!(
            "it subscribed to the column `{column}`, which the table `{}` does not have (any more): it gets it as \
             unchanged",
            table.full_name()
        );
        self.log.lock().unwrap_or_else(PoisonError::into_inner).write(Level::Warn, &said);
    }

    pub(super) fn take_work(&mut self) -> Work {
        std::mem::take(&mut self.work)
    }

    /// Whatever it has in mind is forgotten.
    pub(super) fn drop_instance(&mut self) {
        self.instance = None;
    }

    /// From now on it has subscribed to nothing, as if `configure` had said so.
    #[cfg(test)]
    pub(super) fn forget_subscriptions(&mut self) {
        self.subscriptions = [].into();
    }

    fn instantiate(&self) -> Result<Instance, Fault> {
        let mut instance = Instance::new(&self.exports, self.log.clone())?;
        let asked = instance.configure(&wit_settings(&self.activation.settings))?;
        match asked.ok().and_then(|asked| subscriptions(asked).ok()) {
            Some(asked) if asked == self.subscriptions => Ok(instance),
            Some(_) | None => Err(Fault::Configure),
        }
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin").field("activation", &self.activation).finish_non_exhaustive()
    }
}

fn wit_settings(settings: &BTreeMap<String, String>) -> Vec<Setting<'_>> {
    settings.iter().map(|(key, value)| Setting { key, value }).collect()
}

fn subscriptions(asked: Vec<types::Subscription>) -> Result<Arc<[Subscription]>, PluginError> {
    if asked.len() > SUBSCRIPTIONS_COUNT_MAX {
        return Err(PluginError::Subscriptions(asked.len()));
    }
    let checked = asked.into_iter().enumerate().map(|(index, asked)| {
        let table = reason(&asked.table);
        Subscription::new(asked).map_err(|problem| PluginError::Subscription { index, table, problem })
    });
    checked.collect()
}
