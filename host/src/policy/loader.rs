//! From a component's bytes to a plugin that runs.
//!
//! In: components and activations. Out: plugins, configured, or an error that says what to do.
//!
//! Invariant: code runs only if this program compiled it from bytes whose digest is known.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::activation::{Activation, Profile};
use super::cache::Cache;
use super::digest::Digest;
use super::engine::Engine;
use super::instance::Stage;
use super::plugin::Plugin;
use super::plugin_lines::PluginLines;
use super::{PluginError, PolicyError, inspect};

/// Loads plugins.
#[derive(Debug)]
pub struct Loader {
    engine: Engine,
    /// Started when the first plugin of that profile comes.
    large: Mutex<Option<Engine>>,
    cache: Cache,
    program: PathBuf,
    lines: PluginLines,
}

impl Loader {
    /// Measures plugins as the engine does, which is that of the small profile. Keeps what it compiles in the folder
    /// `cache`, made if it is not there, for this user alone. `program` must be
    /// this program, see [`COMPILE_SUBCOMMAND`](super::COMPILE_SUBCOMMAND).
    ///
    /// # Errors
    /// If the folder cannot be used.
    pub fn new(engine: Engine, cache: &Path, program: &Path) -> Result<Self, PolicyError> {
        Ok(Self {
            engine,
            large: Mutex::default(),
            cache: Cache::open(cache)?,
            program: program.to_owned(),
            lines: PluginLines::default(),
        })
    }

    /// The stages that a component exports; blocks while it compiles, if it is not in the cache.
    ///
    /// # Errors
    /// If it is no plugin of this host.
    pub fn stages(&self, wasm: &[u8], profile: Profile) -> Result<Vec<Stage>, PluginError> {
        let engine = self.engine(profile)?;
        let component = self.cache.component(&engine, &self.program, wasm, Digest::of(wasm))?;
        let exports = inspect::exports(&engine, &component)?;
        Ok(Stage::ALL.into_iter().filter(|stage| exports.stages.has(*stage)).collect())
    }

    /// Loads and configures a plugin; blocks while it compiles, if it is not in the cache. The digest of the
    /// activation is that of the component.
    ///
    /// # Errors
    /// If it is no plugin of this host, or refuses its settings.
    ///
    /// # Panics
    /// If the digest is another one.
    pub fn load(&self, wasm: &[u8], activation: Activation) -> Result<Plugin, PluginError> {
        assert_eq!(activation.digest, Digest::of(wasm), "who activates has read the component");
        let engine = self.engine(activation.profile)?;
        let component = self.cache.component(&engine, &self.program, wasm, activation.digest)?;
        Plugin::configure(activation, inspect::exports(&engine, &component)?, self.lines.clone())
    }

    /// What the plugins that it has loaded write to their logs.
    #[must_use]
    pub fn lines(&self) -> PluginLines {
        self.lines.clone()
    }

    fn engine(&self, profile: Profile) -> Result<Engine, PluginError> {
        match profile {
            Profile::Small => Ok(self.engine.clone()),
            Profile::Large => {
                let mut large = self.large.lock().unwrap_or_else(PoisonError::into_inner);
                let engine = match large.take() {
                    Some(engine) => engine,
                    None => Engine::of(profile, self.engine.meter())
                        .map_err(|error| PluginError::Engine(error.into()))?,
                };
                *large = Some(engine.clone());
                Ok(engine)
            }
        }
    }
}
