//! One plugin: its component, its subscriptions, and the instance that is kept warm.
//!
//! Invariant: `configure` was called in each instance before anything else, and answered the same each time. An
//! instance with any error behind it is gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::PluginError;
use super::activation::Activation;
use super::batch::{Batch, Member};
use super::bindings::exports::twohop::policy::router::Outcome;
use super::bindings::twohop::policy::types::{self, Setting};
use super::error::{Fault, reason};
use super::instance::{Exports, Instance};
use super::plugin_log::PluginLog;
use super::subscription::{Matches, Subscription};
use crate::event::Change;
use crate::limits::SUBSCRIPTIONS_COUNT_MAX;

/// A plugin that was loaded and configured.
pub struct Plugin {
    activation: Activation,
    exports: Exports,
    log: Arc<Mutex<PluginLog>>,
    pub(super) matches: Matches,
    instance: Option<Instance>,
}

impl Plugin {
    /// # Errors
    /// If it does not start, refuses its settings, or asks for what cannot be.
    pub(super) fn configure(activation: Activation, exports: Exports) -> Result<Self, PluginError> {
        let log = Arc::new(Mutex::new(PluginLog::new(activation.plugin.clone())));
        let mut instance = Instance::new(&exports, log.clone()).map_err(|fault| match fault {
            Fault::Instance(why) => PluginError::Shape(why),
            fault => PluginError::Configure(fault),
        })?;
        let answer =
            instance.configure(&wit_settings(&activation.settings)).map_err(PluginError::Configure)?;
        let asked = answer.map_err(|refusal| PluginError::Refused(reason(&refusal)))?;
        let matches = Matches::new(subscriptions(asked)?);
        Ok(Self { activation, exports, log, matches, instance: Some(instance) })
    }

    /// As what it was activated.
    #[must_use]
    pub fn activation(&self) -> &Activation {
        &self.activation
    }

    /// Puts the changes it subscribed to into `members`, in their order.
    pub(super) fn select(&mut self, changes: &[Change], members: &mut Vec<Member>) {
        members.clear();
        self.matches.bound();
        for (change, subject) in changes.iter().enumerate() {
            if let Some(found) = self.matches.find(subject, &self.activation.plugin) {
                members.push(Member { change, found });
            }
        }
    }

    /// Calls the router.
    ///
    /// # Errors
    /// If the call fails; the next one is made in a new instance.
    pub(super) fn direct(&mut self, batch: &Batch) -> Result<Outcome, Fault> {
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => self.instantiate()?,
        };
        let outcome = instance.direct(batch.changes())?;
        self.instance = Some(instance);
        Ok(outcome)
    }

    /// Whatever it has in mind is forgotten.
    pub(super) fn drop_instance(&mut self) {
        self.instance = None;
    }

    fn instantiate(&self) -> Result<Instance, Fault> {
        let mut instance = Instance::new(&self.exports, self.log.clone())?;
        let asked = instance.configure(&wit_settings(&self.activation.settings))?;
        match asked.ok().and_then(|asked| subscriptions(asked).ok()) {
            Some(asked) if *asked == *self.matches.subscriptions() => Ok(instance),
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

fn subscriptions(asked: Vec<types::Subscription>) -> Result<Box<[Subscription]>, PluginError> {
    if asked.len() > SUBSCRIPTIONS_COUNT_MAX {
        return Err(PluginError::Subscriptions(asked.len()));
    }
    let checked = asked.into_iter().enumerate().map(|(index, asked)| {
        let table = reason(&asked.table);
        Subscription::new(asked).map_err(|problem| PluginError::Subscription { index, table, problem })
    });
    checked.collect()
}
