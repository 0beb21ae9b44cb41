//! From a generation in the registry to a plugin that can judge.

use crate::policy::{Activation, Loader, Plugin, PluginError};
use crate::registry::{Registry, RegistryError};

/// Why a generation cannot judge.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// Its component cannot be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// It cannot be loaded, though it could be once.
    #[error(transparent)]
    Plugin(#[from] PluginError),
}

/// Loads and configures a generation, whose component is in the registry. Blocks while it compiles.
///
/// # Errors
/// If its component is missing or damaged, or is no plugin of this host.
pub fn prepare(registry: &Registry, loader: &Loader, activation: Activation) -> Result<Plugin, PrepareError> {
    let wasm = registry.wasm(activation.digest)?;
    Ok(loader.load(&wasm, activation)?)
}
