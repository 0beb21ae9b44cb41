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

mod error;
mod report;
mod request;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::broadcast;

pub use error::{Blame, DeployError};
pub use report::{Comparison, Example, ShadowReport};
pub use request::Request;

use crate::event::Offset;
use crate::pipeline::Flow;
use crate::policy::{Digest, Profile};
use crate::registry::{Component, Entry, Generation, Standing};

/// Deploys plugins. Cheap to clone.
#[derive(Clone)]
pub struct Deployer(Arc<Inner>);

struct Inner;

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
    /// Takes a component: compiles it, looks at its world, keeps it. One that is there already is left as it is.
    ///
    /// # Errors
    /// If it is no plugin of this host, too large for its profile, or cannot be kept.
    pub async fn upload(&self, _by: &str, _wasm: Bytes, _profile: Profile) -> Result<Component, DeployError> {
        Err(DeployError::Stopping)
    }

    /// What was uploaded, newest first.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub async fn components(&self) -> Result<Vec<Component>, DeployError> {
        Err(DeployError::Stopping)
    }

    /// The plugins that were ever active and are remembered, by name.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub async fn plugins(&self) -> Result<Vec<PluginStatus>, DeployError> {
        Err(DeployError::Stopping)
    }

    /// The generations of a plugin, newest first.
    ///
    /// # Errors
    /// If it has none, or the registry cannot be read.
    pub async fn generations(&self, _plugin: &str) -> Result<Vec<Generation>, DeployError> {
        Err(DeployError::Stopping)
    }

    /// Entries of the audit list with an id above `after`, oldest first, at most `count_max`.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub async fn audit(&self, _after: u64, _count_max: usize) -> Result<Vec<Entry>, DeployError> {
        Err(DeployError::Stopping)
    }

    /// Makes a generation that judges from the next batch on, in place of the plugin's active one.
    ///
    /// # Errors
    /// If it cannot run or may not have its grants, or is active already; then nothing has changed.
    pub async fn activate(&self, _by: &str, _request: Request) -> Result<Activated, DeployError> {
        Err(DeployError::Stopping)
    }

    /// As [`Deployer::activate`], with component, settings and grants of an earlier generation.
    ///
    /// # Errors
    /// If that generation is not remembered, or as [`Deployer::activate`].
    pub async fn roll_back(&self, _by: &str, _plugin: &str, _to: u64) -> Result<Activated, DeployError> {
        Err(DeployError::Stopping)
    }

    /// Takes a plugin out; gives the first offset that it does not judge.
    ///
    /// # Errors
    /// If it is not active.
    pub async fn deactivate(&self, _by: &str, _plugin: &str) -> Result<Offset, DeployError> {
        Err(DeployError::Stopping)
    }

    /// Asks a candidate, and what is active, about the newest changes of the log, at most `count_max`, without
    /// effects. If the plugin is not active, every effect of the candidate is one that only it has.
    ///
    /// # Errors
    /// If the candidate cannot run, or there is no change.
    pub async fn check(&self, _request: Request, _count_max: usize) -> Result<Comparison, DeployError> {
        Err(DeployError::Stopping)
    }

    /// Lets a candidate run beside what is active, without effects, in place of the plugin's shadow if it has one.
    /// It survives restarts; its report begins anew then.
    ///
    /// # Errors
    /// If it cannot run, or too many do.
    pub async fn shadow(&self, _by: &str, _request: Request) -> Result<(), DeployError> {
        Err(DeployError::Stopping)
    }

    /// Ends a shadow; gives its last report.
    ///
    /// # Errors
    /// If there is none.
    pub async fn stop_shadow(&self, _by: &str, _plugin: &str) -> Result<ShadowReport, DeployError> {
        Err(DeployError::Stopping)
    }

    /// What a shadow has found.
    ///
    /// # Errors
    /// If there is none.
    pub async fn shadow_report(&self, _plugin: &str) -> Result<ShadowReport, DeployError> {
        Err(DeployError::Stopping)
    }

    /// Lets a paused pipeline go on: what the plugin failed on is set aside, this once.
    ///
    /// # Errors
    /// If it is not paused.
    pub async fn resume(&self, _by: &str) -> Result<(), DeployError> {
        Err(DeployError::Stopping)
    }

    /// Whether the pipeline runs, or what stopped it.
    #[must_use]
    pub fn flow(&self) -> Flow {
        Flow::Running
    }

    /// Entries of the audit list as they come; a receiver that lags loses the oldest, and finds them in the list.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Arc<Entry>> {
        broadcast::channel(1).1
    }
}
