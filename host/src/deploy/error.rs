//! What can go wrong in a deployment: each message says what to do.

use super::StartError;
use crate::event::Offset;
use crate::limits::{NAME_BYTES_MAX, PATTERNS_COUNT_MAX, SETTINGS_BYTES_MAX, SHADOWS_COUNT_MAX};
use crate::log::LogError;
use crate::pipeline::{OrderError, PrepareError};
use crate::policy::{Digest, PluginError, PolicyError};
use crate::registry::RegistryError;

/// Why a deployment was refused, or failed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// Nobody uploaded it, or it is forgotten.
    #[error("no component has the digest {0}: upload it first")]
    UnknownComponent(Digest),
    /// Never activated, or forgotten.
    #[error("no plugin is named `{0}`: the list of plugins has their names")]
    UnknownPlugin(String),
    /// Never there, or forgotten.
    #[error("`{plugin}` has no generation {generation}: the list of its generations has their numbers")]
    UnknownGeneration {
        /// The plugin.
        plugin: String,
        /// The number.
        generation: u64,
    },
    /// It judges nothing.
    #[error("`{0}` is not active: activate it first")]
    NotActive(String),
    /// There is nothing to do.
    #[error("`{plugin}` is active with exactly that, as generation {generation}: nothing was changed")]
    Unchanged {
        /// The plugin.
        plugin: String,
        /// Its active generation.
        generation: u64,
    },
    /// The name cannot be one.
    #[error("`{0}` is no name for a plugin: it has 1 to {NAME_BYTES_MAX} of a-z, 0-9, - and _")]
    Name(String),
    /// It would do nothing here.
    #[error("this host has no {has_no} yet: leave `{grant}` out of the grants")]
    Grant {
        /// The grant, as it is written in the configuration.
        grant: &'static str,
        /// What it would be for.
        has_no: &'static str,
    },
    /// They are too long.
    #[error("the settings have {0} bytes, at most {SETTINGS_BYTES_MAX} are allowed")]
    Settings(usize),
    /// They are too many.
    #[error("a grant has {0} patterns, at most {PATTERNS_COUNT_MAX} are allowed")]
    Patterns(usize),
    /// The component is at fault, or its settings are.
    #[error("the plugin {0}")]
    Plugin(#[from] PluginError),
    /// The plugins together are.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// There is none.
    #[error("`{0}` has no shadow: start one first")]
    NoShadow(String),
    /// Each shadow costs as much as what it stands beside.
    #[error("{SHADOWS_COUNT_MAX} shadows run already: stop one first")]
    TooManyShadows,
    /// It runs.
    #[error("the pipeline is not paused: nothing was changed")]
    NotPaused,
    /// Retention has removed it, or nothing came yet.
    #[error("the change log holds no change to check against: let some come first")]
    NothingToCheck,
    /// What is kept cannot be read or written.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// What is active is not known any more.
    #[error(transparent)]
    Start(Box<StartError>),
    /// The change log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A change cannot be read.
    #[error("cannot decode the change at offset {0}")]
    Decode(Offset),
    /// The pipeline has ended.
    #[error("the server is stopping: ask again once it runs; whether it was done, the list of plugins says")]
    Stopping,
}

/// What an error says of who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// What was asked for is not there.
    NotFound,
    /// It does not fit what is there.
    Conflict,
    /// It can never be.
    Invalid,
    /// It may work later, or the server's log says more.
    Server,
}

impl DeployError {
    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::UnknownComponent(_)
            | Self::UnknownPlugin(_)
            | Self::UnknownGeneration { .. }
            | Self::NotActive(_)
            | Self::NoShadow(_) => Blame::NotFound,
            Self::Unchanged { .. } | Self::TooManyShadows | Self::NotPaused | Self::NothingToCheck => {
                Blame::Conflict
            }
            Self::Plugin(PluginError::Compiler(_)) => Blame::Server,
            Self::Name(_)
            | Self::Grant { .. }
            | Self::Settings(_)
            | Self::Patterns(_)
            | Self::Plugin(_)
            | Self::Policy(_) => Blame::Invalid,
            Self::Registry(_) | Self::Start(_) | Self::Log(_) | Self::Decode(_) | Self::Stopping => {
                Blame::Server
            }
        }
    }
}

impl From<PrepareError> for DeployError {
    fn from(error: PrepareError) -> Self {
        match error {
            PrepareError::Registry(error) => Self::Registry(error),
            PrepareError::Plugin(error) => Self::Plugin(error),
        }
    }
}

impl From<StartError> for DeployError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Registry(error) => Self::Registry(error),
            error => Self::Start(Box::new(error)),
        }
    }
}

impl DeployError {
    /// What an order about this plugin was refused for.
    pub(super) fn of_order(plugin: &str, error: OrderError) -> Self {
        match error {
            OrderError::Ended => Self::Stopping,
            OrderError::NotActive => Self::NotActive(plugin.to_owned()),
            OrderError::NotPaused => Self::NotPaused,
            OrderError::Policy(error) => Self::Policy(error),
            OrderError::Registry(error) => Self::Registry(error),
        }
    }
}
