//! One plugin: its component, its subscriptions, and the instance that is kept warm.
//!
//! Invariant: `configure` was called in each instance before anything else, and answered the same each time. An
//! instance with any error behind it is gone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::batch::{Batch, Member};
use super::bindings::exports::twohop::policy::router::Outcome;
use super::bindings::twohop::policy::types::{self, Setting};
use super::cache::Cache;
use super::compile::read_component;
use super::digest::Digest;
use super::engine::Engine;
use super::error::{Fault, reason};
use super::inspect;
use super::instance::{Exports, Instance};
use super::plugin_log::PluginLog;
use super::subscription::{Matches, Subscription};
use super::{PluginError, PolicyError};
use crate::event::Change;
use crate::limits::SUBSCRIPTIONS_COUNT_MAX;

/// Where a plugin comes from.
#[derive(Debug, Clone)]
pub struct PluginSource {
    /// Its name in the configuration.
    pub name: String,
    /// Its component.
    pub path: PathBuf,
    /// What `configure` gets.
    pub settings: BTreeMap<String, String>,
}

/// A plugin that was loaded and configured.
pub struct Plugin {
    name: Arc<str>,
    digest: Digest,
    settings: BTreeMap<String, String>,
    exports: Exports,
    log: Arc<Mutex<PluginLog>>,
    pub(super) matches: Matches,
    instance: Option<Instance>,
}

impl Plugin {
    /// # Errors
    /// If the file is no plugin of this host, or it refuses its settings.
    pub(super) fn load(
        engine: &Engine,
        source: PluginSource,
        cache: &Cache,
        program: &Path,
    ) -> Result<Self, PolicyError> {
        let PluginSource { name, path, settings } = source;
        let loaded = (|| {
            let wasm = read_component(&path)?;
            let digest = Digest::of(&wasm);
            let component = cache.component(engine, program, &wasm, digest)?;
            let exports = inspect::exports(engine, &component)?;
            Self::configure(name.as_str().into(), digest, settings, exports)
        })();
        loaded.map_err(|problem| PolicyError::Plugin { name, path, problem })
    }

    fn configure(
        name: Arc<str>,
        digest: Digest,
        settings: BTreeMap<String, String>,
        exports: Exports,
    ) -> Result<Self, PluginError> {
        let log = Arc::new(Mutex::new(PluginLog::new(name.clone())));
        let mut instance = Instance::new(&exports, log.clone()).map_err(|fault| match fault {
            Fault::Instance(why) => PluginError::Shape(why),
            fault => PluginError::Configure(fault),
        })?;
        let answer = instance.configure(&wit_settings(&settings)).map_err(PluginError::Configure)?;
        let asked = answer.map_err(|refusal| PluginError::Refused(reason(&refusal)))?;
        let matches = Matches::new(subscriptions(asked)?);
        Ok(Self { name, digest, settings, exports, log, matches, instance: Some(instance) })
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Which component it is.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Puts the changes it subscribed to into `members`, in their order.
    pub(super) fn select(&mut self, changes: &[Change], members: &mut Vec<Member>) {
        members.clear();
        self.matches.bound();
        for (change, subject) in changes.iter().enumerate() {
            if let Some(found) = self.matches.find(subject, &self.name) {
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
        let asked = instance.configure(&wit_settings(&self.settings))?;
        match asked.ok().and_then(|asked| subscriptions(asked).ok()) {
            Some(asked) if *asked == *self.matches.subscriptions() => Ok(instance),
            Some(_) | None => Err(Fault::Configure),
        }
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.name)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
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
