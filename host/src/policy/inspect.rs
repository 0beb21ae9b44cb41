//! Whether a component is a plugin of this host: its imports and exports, by name.
//!
//! In: a compiled component. Out: its exports, looked up, or an error that says what to do.
//!
//! Invariant: nothing that a plugin exports for the host is silently ignored: what this host does not know is refused.
//! To know another stage, change [`Stage`] and [`exports`].

use wasmtime::component::Component;

use super::PluginError;
use super::bindings::exports::twohop::policy::{fanout, filter, gate, plugin, router};
use super::engine::Engine;
use super::instance::{Exports, Stage, Stages};

const PACKAGE: &str = "twohop:policy/";
const MAJOR: &str = "1";

/// # Errors
/// If it imports what is not there, lacks what it must have, or has another major version or other types.
pub(super) fn exports(engine: &Engine, component: &Component) -> Result<Exports, PluginError> {
    let types = component.component_type();
    for (name, _) in types.imports(engine.wasmtime()) {
        check_import(name)?;
    }
    let (mut has_plugin, mut found) = (false, Vec::new());
    for (name, _) in types.exports(engine.wasmtime()) {
        match check_export(name)? {
            Some(Export::Plugin) => has_plugin = true,
            Some(Export::Stage(stage)) => found.push(stage),
            None => {}
        }
    }
    if !has_plugin {
        return Err(PluginError::NoPlugin);
    }
    if found.is_empty() {
        return Err(PluginError::NoStage);
    }
    let shape = |error: wasmtime::Error| PluginError::Shape(format!("{error:#}"));
    let component = engine.linker().instantiate_pre(component).map_err(shape)?;
    let plugin = plugin::GuestIndices::new(&component).map_err(shape)?;
    let has = |stage| found.contains(&stage);
    let stages = Stages {
        filter: has(Stage::Filter)
            .then(|| filter::GuestIndices::new(&component))
            .transpose()
            .map_err(shape)?,
        router: has(Stage::Router)
            .then(|| router::GuestIndices::new(&component))
            .transpose()
            .map_err(shape)?,
        fanout: has(Stage::Fanout)
            .then(|| fanout::GuestIndices::new(&component))
            .transpose()
            .map_err(shape)?,
        gate: has(Stage::Gate).then(|| gate::GuestIndices::new(&component)).transpose().map_err(shape)?,
    };
    Ok(Exports { bounds: engine.profile().bounds(), meter: engine.meter(), component, plugin, stages })
}

enum Export {
    Plugin,
    Stage(Stage),
}

/// The interface's name, of our package and version; nothing for another package.
fn interface(name: &str) -> Result<Option<&str>, PluginError> {
    let Some(rest) = name.strip_prefix(PACKAGE) else { return Ok(None) };
    let (interface, version) = rest.split_once('@').unwrap_or((rest, ""));
    if version.split('.').next() != Some(MAJOR) {
        return Err(PluginError::OtherVersion(name.to_owned()));
    }
    Ok(Some(interface))
}

fn check_import(name: &str) -> Result<(), PluginError> {
    if name.starts_with("wasi:") {
        return Err(PluginError::Wasi(name.to_owned()));
    }
    match interface(name)? {
        Some("log" | "types") => Ok(()),
        Some(_) | None => Err(PluginError::UnknownImport(name.to_owned())),
    }
}

fn check_export(name: &str) -> Result<Option<Export>, PluginError> {
    match interface(name)? {
        Some("plugin") => Ok(Some(Export::Plugin)),
        Some("types") | None => Ok(None),
        Some(interface) => match Stage::ALL.into_iter().find(|stage| stage.name() == interface) {
            Some(stage) => Ok(Some(Export::Stage(stage))),
            None => Err(PluginError::UnknownExport(name.to_owned())),
        },
    }
}
