//! The active gate, for those who ask it: an instance of its own, beside the pipeline's.
//!
//! In: the registry. Out: the gate that is active now, and each one that is active after it.
//!
//! Invariants: a generation comes out once. What cannot be loaded, or is quarantined, comes out as an error, so that
//! whoever asks denies; a registry that cannot be read is asked again.

use std::sync::Arc;

use tokio::sync::broadcast;

use super::{DeployError, Deployer, blocking, prepared};
use crate::backoff::Backoff;
use crate::pipeline::PrepareError;
use crate::policy::{Gate, PluginError, Stage};
use crate::registry::{Action, Entry, Member, RegistryError, Standing};

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// It failed too often.
    #[error("the plugin `{0}`, which is the gate, is quarantined")]
    Quarantined(Arc<str>),
    /// It cannot be loaded.
    #[error("the plugin `{plugin}`, which is the gate, cannot be loaded: {problem}")]
    Load {
        /// The plugin.
        plugin: Arc<str>,
        /// What is wrong.
        problem: PrepareError,
    },
    /// It is none.
    #[error("the plugin `{plugin}` cannot be the gate: {problem}")]
    Plugin {
        /// The plugin.
        plugin: Arc<str>,
        /// What is wrong.
        problem: PluginError,
    },
    /// What is active is not known.
    #[error(transparent)]
    Deploy(#[from] DeployError),
}

impl From<RegistryError> for GateError {
    fn from(error: RegistryError) -> Self {
        Self::Deploy(error.into())
    }
}

/// The gates, one after the other.
pub struct Gates {
    deployer: Deployer,
    events: broadcast::Receiver<Arc<Entry>>,
    /// What came out last; nothing did before the first.
    last: Option<Option<Member>>,
    /// Since the registry could not be read.
    backoff: Option<Backoff>,
}

impl Deployer {
    /// Follows the gates, from the one that is active now.
    #[must_use]
    pub fn gates(&self) -> Gates {
        Gates { deployer: self.clone(), events: self.events(), last: None, backoff: None }
    }

    /// Which plugin is the gate.
    async fn guard(&self) -> Result<Option<Member>, GateError> {
        for member in self.set().await?.members() {
            let active = self.generation(&member.plugin, member.generation).await?;
            let component = self.registry().component(active.activation.digest).await?;
            let gate = Stage::Gate.to_string();
            if component.is_some_and(|component| component.stages.contains(&gate)) {
                return Ok(Some(member.clone()));
            }
        }
        Ok(None)
    }

    async fn open(&self, member: &Member) -> Result<Gate, GateError> {
        let plugin = member.plugin.clone();
        if member.standing == Standing::Quarantined {
            return Err(GateError::Quarantined(plugin));
        }
        let active = self.generation(&plugin, member.generation).await?.activation;
        let loaded = prepared(self.registry(), &self.0.neighbours.loader, active).await?;
        let loaded = loaded.map_err(|problem| GateError::Load { plugin: plugin.clone(), problem })?;
        let gate = blocking(move || Gate::new(loaded)).await?;
        gate.map_err(|problem| GateError::Plugin { plugin, problem })
    }
}

impl Gates {
    /// Waits for the next: the first is there at once. Cancelling loses nothing.
    ///
    /// # Errors
    /// If it cannot be asked; the next one may.
    pub async fn next(&mut self) -> Result<Option<Gate>, GateError> {
        loop {
            if let Some(backoff) = &mut self.backoff {
                backoff.wait().await;
            } else if self.last.is_some() {
                self.changed().await;
            }
            let guard = match self.deployer.guard().await {
                Ok(guard) => guard,
                Err(error) => {
                    let is_first = self.backoff.is_none();
                    self.backoff.get_or_insert_default();
                    if is_first {
                        // Whatever was there, nobody knows whether it still counts.
                        self.last = None;
                        return Err(error);
                    }
                    continue;
                }
            };
            self.backoff = None;
            if self.last.as_ref() == Some(&guard) {
                continue;
            }
            let gate = match &guard {
                Some(member) => self.deployer.open(member).await.map(Some),
                None => Ok(None),
            };
            self.last = Some(guard);
            return gate;
        }
    }

    /// Waits until another plugin may be the gate.
    async fn changed(&mut self) {
        loop {
            match self.events.recv().await {
                Ok(entry) => match entry.note.action {
                    Action::Activated | Action::RolledBack | Action::Deactivated | Action::Quarantined => {
                        return;
                    }
                    _ => {}
                },
                Err(broadcast::error::RecvError::Lagged(_)) => return,
                // Nobody is left who could change anything.
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }
}
