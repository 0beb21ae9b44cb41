//! `cargo xtask build-plugins`: every plugin becomes a component in the target folder's `plugins/NAME.wasm`.
//!
//! In: the workspace's members `plugins/*` (but the SDK and the builder) and `examples/*/plugin`, which are ordinary
//! libraries; where it is asked for, also `examples/plugins`, see `languages`. Out: components, and a line for each:
//! name, size, digest, whether it was built or fresh. How one is built is `twohop-build`'s, which `twohop plugin build`
//! calls too.

mod languages;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use twohop_build::{Built, Order, Origin, Package, Profile, Search, Toolchain, Workspace};

use crate::place;
use crate::setup::apt;

pub use languages::build_all as build_other_languages;
pub use twohop_build::Retry;

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
    let target = &workspace.target_directory;
    let toolchain = toolchain(workspace, &root, retry)?;
    println!("  for wasm32-unknown-unknown, with {}", toolchain.name());
    let build = |package| {
        let order = Order { package, folder: &root, target, profile: Profile::Small };
        let built = twohop_build::build(&order, &toolchain)?;
        println!("  {}", line(&built));
        Ok(built)
    };
    plugins.into_iter().map(build).collect()
}

fn toolchain(workspace: &Workspace, folder: &Path, retry: Retry) -> Result<Toolchain> {
    Toolchain::find(&Search {
        folder,
        guests: &place::target()?.join("guests"),
        rust_version: workspace.rust_version(),
        retry,
        install: |packages| apt::install(packages, "building plugins for WebAssembly"),
    })
}

/// Builds the one crate of a workspace as a core module that is no plugin of Twohop: a comparison's.
///
/// # Errors
/// As [`build_all`].
pub fn build_stranger(folder: &Path, target: &Path) -> Result<PathBuf> {
    let folder = folder.canonicalize().with_context(|| format!("{} is gone", folder.display()))?;
    let workspace = Workspace::of(&folder)?;
    let package = workspace.packages.first().context("the workspace has no crate")?;
    let toolchain = toolchain(&workspace, &folder, Retry::WhatMayHelp)?;
    let order = Order { package, folder: &folder, target, profile: Profile::OfItsCrate };
    twohop_build::build_module(&order, &toolchain)
}

fn is_plugin(package: &Package, root: &Path) -> bool {
    let Ok(folder) = package.manifest_path.strip_prefix(root) else { return false };
    let parts: Vec<&str> = folder.iter().filter_map(|part| part.to_str()).collect();
    match parts[..] {
        ["plugins", "sdk" | "build", ..] => false,
        ["plugins", _, "Cargo.toml"] | ["examples", _, "plugin", "Cargo.toml"] => true,
        _ => false,
    }
}

fn line(built: &Built) -> String {
    let short = built.digest.get(..12).unwrap_or(&built.digest);
    let origin = match built.origin {
        Origin::Fresh => "fresh",
        Origin::Built => "built",
    };
    format!("{:<24} {:>9} B  sha256 {short}  {origin}", built.name, built.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_the_members_beside_the_sdk_and_the_builder_and_those_of_examples() {
        let package = |manifest: &str| Package {
            name: "p".to_owned(),
            version: "1.0.0".to_owned(),
            description: None,
            rust_version: None,
            manifest_path: manifest.into(),
            targets: vec![],
        };
        let is = |manifest: &str| is_plugin(&package(manifest), Path::new("/repo"));
        assert!(is("/repo/plugins/row-router/Cargo.toml"));
        assert!(is("/repo/examples/orders/plugin/Cargo.toml"));
        assert!(!is("/repo/plugins/sdk/Cargo.toml"));
        assert!(!is("/repo/plugins/build/Cargo.toml"));
        assert!(!is("/repo/host/Cargo.toml"));
        assert!(!is("/repo/examples/orders/server/Cargo.toml"));
        assert!(!is("/elsewhere/plugins/row-router/Cargo.toml"));
    }
}
