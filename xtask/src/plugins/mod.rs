//! `cargo xtask build-plugins`: every plugin becomes a component in the target folder's `plugins/NAME.wasm`.
//!
//! In: the workspace's members `plugins/*` (but the SDK) and `examples/*/plugin`, which are ordinary libraries;
//! where it is asked for, also `examples/plugins`, see `languages`.
//! Out: components, and a line for each: name, size, digest, whether it was built or fresh.
//! Always: guests are built in a target folder of their own (another toolchain may build them); a component appears
//! whole or not at all; none imports anything of WASI.

mod component;
mod languages;
mod toolchain;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::place::{self, Package};
use crate::process;

pub use languages::build_all as build_other_languages;
pub use toolchain::Retry;
use toolchain::Toolchain;

/// A component that has been built.
#[derive(Debug)]
pub struct Built {
    /// The plugin's name.
    pub name: String,
    /// Where the component is.
    pub file: PathBuf,
}

/// Builds every plugin.
///
/// # Errors
/// There is no way to build for WebAssembly here (the message says what to install), a plugin does not compile, or
/// is no component that the host takes.
pub fn build_all(retry: Retry) -> Result<Vec<Built>> {
    let workspace = place::workspace()?;
    let root = place::root().canonicalize().context("the repository's root is gone")?;
    let plugins: Vec<&Package> =
        workspace.packages.iter().filter(|package| is_plugin(package, &root)).collect();
    ensure!(!plugins.is_empty(), "there is no plugin under {}/plugins or examples/*/plugin", root.display());
    let guests = workspace.target_directory.join("guests");
    let toolchain = Toolchain::find(&guests, retry)?;
    println!("  for wasm32-unknown-unknown, with {}", toolchain.name());
    plugins.into_iter().map(|plugin| build(plugin, &toolchain, &workspace.target_directory)).collect()
}

fn is_plugin(package: &Package, root: &Path) -> bool {
    let Ok(folder) = package.manifest_path.strip_prefix(root) else { return false };
    let parts: Vec<&str> = folder.iter().filter_map(|part| part.to_str()).collect();
    match parts[..] {
        ["plugins", "sdk", ..] => false,
        ["plugins", _, "Cargo.toml"] | ["examples", _, "plugin", "Cargo.toml"] => true,
        _ => false,
    }
}

fn build(plugin: &Package, toolchain: &Toolchain, target: &Path) -> Result<Built> {
    let is_library = |kinds: &[String]| kinds.iter().any(|kind| kind.ends_with("lib"));
    let library = plugin.targets.iter().find(|target| is_library(&target.kind));
    let library = library.with_context(|| format!("plugin {} has no library (src/lib.rs)", plugin.name))?;
    let guests = target.join("guests");
    process::run(&mut toolchain.build(&plugin.name, &guests))?;
    let core = guests.join("wasm32-unknown-unknown/release").join(&library.name).with_extension("wasm");
    let file = target.join("plugins").join(&plugin.name).with_extension("wasm");
    let line = component::publish(&core, &file, &guests.join("encoded").join(&plugin.name))
        .with_context(|| format!("plugin {} is not a component that the host takes", plugin.name))?;
    println!("  {:<24} {line}", plugin.name);
    Ok(Built { name: plugin.name.clone(), file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_the_members_beside_the_sdk_and_those_of_examples() {
        let package = |manifest: &str| {
            let name = "p".to_owned();
            Package { name, rust_version: None, manifest_path: manifest.into(), targets: vec![] }
        };
        let is = |manifest: &str| is_plugin(&package(manifest), Path::new("/repo"));
        assert!(is("/repo/plugins/row-router/Cargo.toml"));
        assert!(is("/repo/examples/orders/plugin/Cargo.toml"));
        assert!(!is("/repo/plugins/sdk/Cargo.toml"));
        assert!(!is("/repo/host/Cargo.toml"));
        assert!(!is("/repo/examples/orders/server/Cargo.toml"));
        assert!(!is("/elsewhere/plugins/row-router/Cargo.toml"));
    }
}
