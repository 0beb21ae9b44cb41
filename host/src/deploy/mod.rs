//! The life of plugins: upload → check → shadow → activate → roll back, while the server runs.
//!
//! In: what people ask for, by HTTP or the configuration file. Out: generations in the registry, plugins in the
//! pipeline, and what is to be known of both.
//!
//! Invariants:
//! - a plugin is loaded and configured before anything is recorded: what cannot run never becomes a generation;
//! - one step at a time, so that a generation's number is one more than the last one's;
//! - what judges from which offset is decided by the pipeline alone, between two batches, and is durable before its
//!   first effect.
//!
//! Absent on purpose: HTTP (`admin`), the command line (`cli`), the choice of an offset (`pipeline`).

mod candidates;
mod error;
mod file;
mod gate;
mod mirror;
mod report;
mod request;
mod starting;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Mutex, broadcast, mpsc};

pub use error::{Blame, DeployError};
pub use gate::{GateError, Gates};
pub use mirror::Mirror;
pub use report::ShadowReport;
pub use request::Request;
pub use starting::{CONFIGURATION, FilePlugin, StartError, start};

pub use crate::policy::{Comparison, Example, Side};

use mirror::MirrorHandle;

use crate::event::{Offset, Partition};
use crate::failpoint::failpoint;
use crate::limits::COMPONENT_TEXT_BYTES_MAX;
use crate::log::ChangeLog;
pub use crate::pipeline::Flow;
use crate::pipeline::{Beside, Judged, Orders, PrepareError, prepare};
use crate::policy::{Activation, Digest, Loader, Plugin, Profile};
use crate::registry::{
    self, Action, Component, Entry, Generation, PluginSet, Registry, RegistryError, Standing, is_same,
};

/// Deploys plugins. Cheap to clone.
#[derive(Clone)]
pub struct Deployer(Arc<Inner>);

struct Inner {
    neighbours: Neighbours,
    mirror: MirrorHandle,
    /// Held through a step, so that numbers are given once.
    turn: Mutex<()>,
}

/// Whom a deployer stands between.
pub struct Neighbours {
    /// What is known of plugins.
    pub registry: Registry,
    /// What compiles and configures them.
    pub loader: Arc<Loader>,
    /// What a candidate is checked against.
    pub log: Arc<dyn ChangeLog>,
    /// Which part of it.
    pub partition: Partition,
    /// What the pipeline is told.
    pub orders: Orders,
    /// What shadows look on at.
    pub beside: Beside,
}

/// What became of an activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activated {
    /// The new generation.
    pub generation: u64,
    /// The first offset that it judges.
    pub from: Offset,
}

/// A plugin as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginStatus {
    /// Its name.
    pub plugin: Arc<str>,
    /// What judges now, if anything does.
    pub active: Option<Active>,
    /// How many generations are remembered.
    pub generations_count: u64,
    /// Whether the configuration file named it at the last start.
    pub in_file: bool,
    /// What runs beside it, if anything does.
    pub shadow: Option<Request>,
}

/// The active generation of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Active {
    /// Which it is.
    pub generation: Generation,
    /// Whether it is called.
    pub standing: Standing,
}

impl Deployer {
    /// Deploys to a pipeline. Candidates run in the mirror, which gets what was judged.
    #[must_use]
    pub fn new(neighbours: Neighbours, judged: mpsc::Receiver<Judged>) -> (Self, Mirror) {
        let (registry, loader) = (neighbours.registry.clone(), neighbours.loader.clone());
        let (mirror, handle) = Mirror::new(registry, loader, neighbours.beside.clone(), judged);
        (Self(Arc::new(Inner { neighbours, mirror: handle, turn: Mutex::new(()) })), mirror)
    }

    /// Takes a component: compiles it, looks at its world, keeps it. One that is there already is left as it is.
    ///
    /// # Errors
    /// If it is no plugin of this host, too large for its profile, or cannot be kept.
    pub async fn upload(&self, by: &str, wasm: Bytes, profile: Profile) -> Result<Component, DeployError> {
        let _turn = self.0.turn.lock().await;
        let Neighbours { registry, loader, .. } = &self.0.neighbours;
        accept(registry, loader, by, wasm, profile).await
    }

    /// What was uploaded, newest first.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub async fn components(&self) -> Result<Vec<Component>, DeployError> {
        Ok(self.registry().components().await?)
    }

    /// The plugins that were ever active and are remembered, by name.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub async fn plugins(&self) -> Result<Vec<PluginStatus>, DeployError> {
        let registry = self.registry();
        let (set, file, shadows) = (self.set().await?, registry.file().await?, registry.shadows().await?);
        let mut plugins = Vec::new();
        for (plugin, generations_count) in registry.plugins().await? {
            let mut active = None;
            if let Some(member) = set.member(&plugin) {
                let found = self.generation(&plugin, member.generation).await?;
                active = Some(Active { generation: found, standing: member.standing });
            }
            let shadow = shadows.iter().find(|shadow| *shadow.candidate.plugin == *plugin);
            plugins.push(PluginStatus {
                active,
                generations_count,
                in_file: file.iter().any(|said| *said.plugin == *plugin),
                shadow: shadow.map(|shadow| Request::of(&shadow.candidate)),
                plugin: plugin.into(),
            });
        }
        Ok(plugins)
    }

    /// The generations of a plugin, newest first.
    ///
    /// # Errors
    /// If it has none, or the registry cannot be read.
    pub async fn generations(&self, plugin: &str) -> Result<Vec<Generation>, DeployError> {
        let generations = self.registry().generations(plugin).await?;
        if generations.is_empty() {
            return Err(DeployError::UnknownPlugin(plugin.to_owned()));
        }
        Ok(generations)
    }

    /// Entries of the audit list with an id above `after`, oldest first, at most `count_max`.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub async fn audit(&self, after: u64, count_max: usize) -> Result<Vec<Entry>, DeployError> {
        Ok(self.registry().audit(after, count_max).await?)
    }

    /// Makes a generation that judges from the next batch on, in place of the plugin's active one.
    ///
    /// # Errors
    /// If it cannot run or may not have its grants, or is active already; then nothing has changed.
    pub async fn activate(&self, by: &str, request: Request) -> Result<Activated, DeployError> {
        let _turn = self.0.turn.lock().await;
        self.put(by, request, Action::Activated).await
    }

    /// As [`Deployer::activate`], with component, settings and grants of an earlier generation.
    ///
    /// # Errors
    /// If that generation is not remembered, or as [`Deployer::activate`].
    pub async fn roll_back(&self, by: &str, plugin: &str, to: u64) -> Result<Activated, DeployError> {
        let _turn = self.0.turn.lock().await;
        self.generations(plugin).await?;
        let earlier = self.generation(plugin, to).await?;
        self.put(by, Request::of(&earlier.activation), Action::RolledBack).await
    }

    /// Takes a plugin out; gives the first offset that it does not judge.
    ///
    /// # Errors
    /// If it is not active.
    pub async fn deactivate(&self, by: &str, plugin: &str) -> Result<Offset, DeployError> {
        let _turn = self.0.turn.lock().await;
        let removed = self.0.neighbours.orders.remove(by, plugin).await;
        removed.map_err(|error| DeployError::of_order(plugin, error))
    }

    /// Lets a paused pipeline go on: what the plugin failed on is set aside, this once.
    ///
    /// # Errors
    /// If it is not paused.
    pub async fn resume(&self, by: &str) -> Result<(), DeployError> {
        let resumed = self.0.neighbours.orders.resume(by).await;
        resumed.map(drop).map_err(|error| DeployError::of_order("", error))
    }

    /// Whether the pipeline runs, or what stopped it.
    #[must_use]
    pub fn flow(&self) -> Flow {
        self.0.neighbours.orders.flow().borrow().clone()
    }

    /// Entries of the audit list as they come; a receiver that lags loses the oldest, and finds them in the list.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Arc<Entry>> {
        self.registry().events()
    }

    fn registry(&self) -> &Registry {
        &self.0.neighbours.registry
    }

    async fn put(&self, by: &str, request: Request, action: Action) -> Result<Activated, DeployError> {
        let Neighbours { registry, loader, orders, .. } = &self.0.neighbours;
        request.check()?;
        self.check_that_it_is_new(&request).await?;
        if registry.component(request.digest).await?.is_none() {
            return Err(DeployError::UnknownComponent(request.digest));
        }
        let generation = starting::next_number(registry, &request.plugin).await?;
        let plugin = prepared(registry, loader, request.activation(generation)).await??;
        failpoint!("activate-before-order");
        let put = orders.put(by, plugin, action).await;
        let from = put.map_err(|error| DeployError::of_order(&request.plugin, error))?;
        Ok(Activated { generation, from })
    }

    async fn check_that_it_is_new(&self, request: &Request) -> Result<(), DeployError> {
        let set = self.set().await?;
        let Some(member) = set.member(&request.plugin) else { return Ok(()) };
        let active = self.generation(&request.plugin, member.generation).await?.activation;
        if member.standing == Standing::Running && is_same(&active, &request.activation(active.generation)) {
            let (plugin, generation) = (request.plugin.to_string(), active.generation);
            return Err(DeployError::Unchanged { plugin, generation });
        }
        Ok(())
    }

    /// What judges what comes next.
    async fn set(&self) -> Result<PluginSet, RegistryError> {
        let newest = self.registry().owner(self.0.neighbours.partition, Offset(u64::MAX)).await?;
        Ok(newest.map(|record| record.set).unwrap_or_default())
    }

    async fn generation(&self, plugin: &str, generation: u64) -> Result<Generation, DeployError> {
        let generations = self.registry().generations(plugin).await?;
        let found = generations.into_iter().find(|one| one.activation.generation == generation);
        found.ok_or_else(|| DeployError::UnknownGeneration { plugin: plugin.to_owned(), generation })
    }
}

/// Keeps a component, unless it is there already.
async fn accept(
    registry: &Registry,
    loader: &Arc<Loader>,
    by: &str,
    wasm: Bytes,
    profile: Profile,
) -> Result<Component, DeployError> {
    let (own_registry, own_loader) = (registry.clone(), loader.clone());
    let looked = blocking(move || {
        let digest = Digest::of(&wasm);
        let is_there = own_registry.wasm(digest).is_ok();
        // What it says of itself is for people: that it says nothing readable is no fault.
        let said = twohop_build::describe(&wasm).unwrap_or_default();
        own_loader.stages(&wasm, profile).map(|stages| (digest, is_there, stages, said, wasm))
    });
    let (digest, is_there, stages, said, wasm) = looked.await??;
    if let Some(component) = registry.component(digest).await?.filter(|_| is_there) {
        return Ok(component);
    }
    let component = Component {
        digest,
        bytes_count: wasm.len() as u64,
        name: said.name.as_deref().map(one_line),
        version: said.version.as_deref().map(one_line),
        description: said.description.as_deref().map(one_line),
        stages: stages.iter().map(ToString::to_string).collect(),
        profile,
        by: by.to_owned(),
        at: registry::now(),
    };
    registry.keep_component(component.clone(), wasm).await?;
    Ok(component)
}

/// What a component says of itself, bounded and without what would break a line.
fn one_line(text: &str) -> String {
    let cut = &text[..text.floor_char_boundary(COMPONENT_TEXT_BYTES_MAX)];
    cut.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// A generation whose component is kept, loaded where that may block.
async fn prepared(
    registry: &Registry,
    loader: &Arc<Loader>,
    activation: Activation,
) -> Result<Result<Plugin, PrepareError>, RegistryError> {
    let (registry, loader) = (registry.clone(), loader.clone());
    blocking(move || prepare(&registry, &loader, activation)).await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, RegistryError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| RegistryError::Panic)
}
