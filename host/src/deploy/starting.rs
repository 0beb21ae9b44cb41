//! What judges when the server starts: what did when it ended, and what is new in the configuration file.
//!
//! In: the registry, the committed offset, the file's plugins with their components. Out: a policy, and the set that
//! it is, durable.
//!
//! Invariant: everything is loaded before anything is recorded, so a start that fails changes nothing.

use std::sync::Arc;

use bytes::Bytes;

use super::file::{Wish, wishes};
use super::{DeployError, Request, accept, prepared};
use crate::event::{Offset, Partition};
use crate::failpoint::failpoint;
use crate::pipeline::PrepareError;
use crate::policy::{Activation, Loader, Plugin, Policy, PolicyError};
use crate::registry::{Action, Member, Note, PluginSet, Registry, RegistryError, SetRecord, Standing, Step};

/// Who activates what the configuration file says.
pub const CONFIGURATION: &str = "configuration";

/// Why there is no policy to start with.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A plugin of the file is at fault.
    #[error("plugin `{plugin}`: {problem}")]
    File {
        /// The plugin.
        plugin: String,
        /// What is wrong with it.
        problem: DeployError,
    },
    /// An active generation cannot be loaded any more.
    #[error("generation {generation} of the plugin `{plugin}`, which is active, cannot be loaded: {problem}")]
    Kept {
        /// The plugin.
        plugin: String,
        /// The generation.
        generation: u64,
        /// What is wrong with it.
        problem: PrepareError,
    },
    /// A set names what is not there.
    #[error(
        "the registry has no generation {generation} of the plugin `{plugin}`, which is active: restore the state"
    )]
    Forgotten {
        /// The plugin.
        plugin: String,
        /// The generation.
        generation: u64,
    },
    /// The plugins together are at fault.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The registry refuses.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// A plugin of the configuration file.
#[derive(Debug, Clone)]
pub struct FilePlugin {
    /// What it is to be.
    pub request: Request,
    /// Its component, whose digest the request has.
    pub wasm: Bytes,
}

/// Makes the policy that goes on at the committed offset.
///
/// # Errors
/// If a plugin cannot be loaded, or the registry refuses.
pub async fn start(
    registry: &Registry,
    loader: &Arc<Loader>,
    partition: Partition,
    committed: Offset,
    file: Vec<FilePlugin>,
) -> Result<(Policy, PluginSet), StartError> {
    let owner = registry.owner(partition, committed).await?;
    let before = owner.map(|record| record.set).unwrap_or_default();
    let active = active(registry, &before).await?;
    let said = registry.file().await?;
    let now: Vec<_> = file.iter().map(|plugin| plugin.request.clone()).collect();
    let mut plan =
        Plan { committed, set: before.clone(), activations: active.clone(), step: Step::default() };
    for wish in wishes(&said, &now, &active) {
        match wish {
            Wish::Remove(plugin) => plan.remove(&plugin),
            Wish::Put(request) => plan.put(request.activation(next_number(registry, &request.plugin).await?)),
        }
    }
    let policy = plan.load(registry, loader, &file).await?;
    let Plan { set, mut step, .. } = plan;
    if set != before {
        step.record = Some(SetRecord { partition, from: committed, set: set.clone() });
    }
    let says: Vec<_> = now.iter().map(|request| request.activation(0)).collect();
    if says != said {
        step.file = Some(says);
    }
    if step.record.is_some() || step.file.is_some() {
        failpoint!("start-before-record");
        registry.record(step).await?;
        failpoint!("start-after-record");
    }
    Ok((policy, set))
}

/// The active generations of a set, also those that are quarantined.
///
/// # Errors
/// If the registry refuses, or has forgotten one.
pub(super) async fn active(registry: &Registry, set: &PluginSet) -> Result<Vec<Activation>, StartError> {
    let mut active = Vec::new();
    for Member { plugin, generation, .. } in set.members() {
        let generations = registry.generations(plugin).await?;
        let found = generations.into_iter().find(|one| one.activation.generation == *generation);
        let (plugin, generation) = (plugin.to_string(), *generation);
        active.push(found.ok_or(StartError::Forgotten { plugin, generation })?.activation);
    }
    Ok(active)
}

/// The number of the next generation.
pub(super) async fn next_number(registry: &Registry, plugin: &str) -> Result<u64, RegistryError> {
    let newest = registry.generations(plugin).await?;
    Ok(newest.first().map_or(0, |newest| newest.activation.generation) + 1)
}

/// What will judge, and what is to be recorded for it.
struct Plan {
    committed: Offset,
    set: PluginSet,
    activations: Vec<Activation>,
    step: Step,
}

impl Plan {
    fn remove(&mut self, plugin: &str) {
        let Some(at) = self.activations.iter().position(|one| *one.plugin == *plugin) else { return };
        let removed = self.activations.remove(at);
        self.note(Action::Deactivated, &removed);
        self.set = std::mem::take(&mut self.set).without(plugin);
    }

    fn put(&mut self, activation: Activation) {
        self.note(Action::Activated, &activation);
        self.activations.retain(|other| other.plugin != activation.plugin);
        let (plugin, generation) = (activation.plugin.clone(), activation.generation);
        let member = Member { plugin, generation, standing: Standing::Running };
        self.set = std::mem::take(&mut self.set).with(member);
        self.step.generations.push((activation.clone(), CONFIGURATION.to_owned()));
        self.activations.push(activation);
    }

    fn note(&mut self, action: Action, activation: &Activation) {
        self.step.notes.push(Note {
            plugin: Some(activation.plugin.to_string()),
            generation: Some(activation.generation),
            digest: Some(activation.digest),
            from: Some(self.committed),
            settings: activation.settings.clone(),
            ..Note::new(CONFIGURATION, action)
        });
    }

    /// Loads everything that will judge; what is new of the file is kept first.
    async fn load(
        &self,
        registry: &Registry,
        loader: &Arc<Loader>,
        file: &[FilePlugin],
    ) -> Result<Policy, StartError> {
        let mut plugins = Vec::new();
        for activation in &self.activations {
            let plugin = activation.plugin.to_string();
            let is_new = self.step.generations.iter().any(|(new, _)| new == activation);
            let Some(from_file) = file.iter().find(|one| is_new && one.request.plugin == activation.plugin)
            else {
                let generation = activation.generation;
                let loaded = prepared(registry, loader, activation.clone()).await?;
                plugins.push(loaded.map_err(|problem| StartError::Kept { plugin, generation, problem })?);
                continue;
            };
            let loaded = load_new(registry, loader, from_file, activation).await;
            plugins.push(loaded.map_err(|problem| StartError::File { plugin, problem })?);
        }
        Ok(Policy::new(plugins)?)
    }
}

async fn load_new(
    registry: &Registry,
    loader: &Arc<Loader>,
    from_file: &FilePlugin,
    activation: &Activation,
) -> Result<Plugin, DeployError> {
    let FilePlugin { request, wasm } = from_file;
    request.check()?;
    accept(registry, loader, CONFIGURATION, wasm.clone(), request.profile).await?;
    Ok(prepared(registry, loader, activation.clone()).await??)
}
