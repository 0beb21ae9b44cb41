//! Plugins where there is no server: compiled under the same limits, configured, and looked at.
//!
//! In: a component's file, settings. Out: a plugin that can be asked, or the error that a server would give.
//!
//! Invariant: nothing is left behind. Compiled code is kept for as long as the command runs, in a folder of its own.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde_json::json;
use twohop::config;
use twohop::policy::{self, Activation, Digest, Engine, Grants, Loader, OnFault, Plugin, Profile, Stage};
use twohop_build::describe;

use super::candidate::Alone;
use super::table::{columns, plain};

/// What loads plugins, for as long as it is there.
pub(super) struct Workshop {
    loader: Loader,
    /// Goes last.
    _folder: tempfile::TempDir,
}

impl Workshop {
    /// # Errors
    /// If there is no place for compiled code.
    pub(super) fn new(engine: Engine) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("twohop-").tempdir();
        let folder = folder.context("cannot make a folder for compiled code")?;
        let program = config::program().context("cannot find this program's own file")?;
        Ok(Self { loader: Loader::new(engine, folder.path(), &program)?, _folder: folder })
    }

    /// Loads a component that may do everything, and configures it.
    ///
    /// # Errors
    /// If a server would not take it, or could not activate it.
    pub(super) fn load(
        &self,
        name: &str,
        file: &Path,
        settings: BTreeMap<String, String>,
        profile: Profile,
    ) -> Result<Loaded> {
        let refused = |error| anyhow!("{}: the plugin {error}", file.display());
        let wasm = policy::read_component(file, profile).map_err(refused)?;
        let activation = Activation {
            plugin: name.into(),
            generation: 1,
            digest: Digest::of(&wasm),
            order: 0,
            settings,
            grants: Grants::everything(),
            profile,
            on_fault: OnFault::SetAside,
        };
        let plugin = self.loader.load(&wasm, activation).map_err(refused)?;
        Ok(Loaded { plugin, wasm })
    }
}

/// A plugin, and what it was made of.
pub(super) struct Loaded {
    pub(super) plugin: Plugin,
    pub(super) wasm: Vec<u8>,
}

/// `twohop plugin check FILE`: what an upload and an activation would say.
pub(super) fn check(asked: &Alone, as_json: bool) -> Result<()> {
    let Alone { file, settings, profile } = asked;
    let Loaded { plugin, wasm } =
        Workshop::new(Engine::new()?)?.load("checked", file, settings.clone(), *profile)?;
    // What it says of itself is for people: that it says nothing readable is no fault.
    let said = describe(&wasm).unwrap_or_default();
    let stages: Vec<_> = Stage::ALL.into_iter().filter(|stage| plugin.has(*stage)).map(Stage::name).collect();
    let subscriptions: Vec<_> = plugin.subscriptions().map(|subscription| plain(&subscription)).collect();
    let digest = plugin.activation().digest.to_string();
    if as_json {
        let answer = json!({
            "name": said.name, "version": said.version, "description": said.description,
            "stages": stages, "bytes": wasm.len(), "digest": digest, "profile": profile.as_str(),
            "settings": settings, "subscriptions": subscriptions,
        });
        println!("{answer}");
        return Ok(());
    }
    let text = |said: Option<String>| said.map_or_else(|| "-".to_owned(), |said| plain(&said));
    let settings: Vec<_> = settings.iter().map(|(key, value)| format!("{key}={}", plain(value))).collect();
    let mut facts = vec![
        ("name", text(said.name)),
        ("version", text(said.version)),
        ("description", text(said.description)),
        ("stages", stages.join(", ")),
        ("size", format!("{} bytes", wasm.len())),
        ("digest", digest),
        ("profile", profile.to_string()),
        ("settings", if settings.is_empty() { "-".to_owned() } else { settings.join(" ") }),
    ];
    facts.extend(subscriptions.into_iter().map(|subscription| ("subscribes to", subscription)));
    let rows: Vec<_> = facts.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    print!("{}", columns(&rows));
    println!("a server takes it: twohop plugin upload {}", file.display());
    Ok(())
}
