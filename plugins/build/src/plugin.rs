//! A plugin's crate becomes a component in the target folder's `plugins/NAME.wasm`.
//!
//! In: a package with a library, and a Rust for WebAssembly. Out: the component, which says the package's name, version
//! and description of itself. Always: guests are built in a target folder of their own, `guests/` in cargo's (another
//! Rust may build them); a component appears whole or not at all; none imports anything of WASI.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::component::{self, Origin};
use crate::description::Description;
use crate::toolchain::TARGET;
use crate::{Package, Retry, Search, Toolchain, Workspace, debian, process};

/// Small, since the host compiles it to machine code; and the same bytes wherever the same Rust builds it.
const SMALL: [(&str, &str); 7] = [
    ("OPT_LEVEL", "3"),
    ("LTO", "fat"),
    ("PANIC", "abort"),
    ("STRIP", "symbols"),
    ("CODEGEN_UNITS", "1"),
    ("DEBUG", "false"),
    ("INCREMENTAL", "false"),
];

/// How a plugin is optimized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// As its own `Cargo.toml` says for releases.
    OfItsCrate,
    /// Small and reproducible, in a workspace whose releases are made for something else.
    Small,
}

/// What is built, and where.
#[derive(Debug)]
pub struct Order<'a> {
    /// The plugin.
    pub package: &'a Package,
    /// Where cargo runs.
    pub folder: &'a Path,
    /// Cargo's target folder.
    pub target: &'a Path,
    /// How it is optimized.
    pub profile: Profile,
}

/// A component that has been built.
#[derive(Debug)]
pub struct Built {
    /// The plugin's name.
    pub name: String,
    /// Where the component is.
    pub file: PathBuf,
    /// Its size.
    pub bytes: usize,
    /// Its SHA-256, in hexadecimal.
    pub digest: String,
    /// Whether it was made just now.
    pub origin: Origin,
}

/// Builds one plugin.
///
/// # Errors
/// It does not compile, or is no component that the host takes.
pub fn build(order: &Order<'_>, toolchain: &Toolchain) -> Result<Built> {
    let Order { package, target, .. } = order;
    let name = &package.name;
    let core = build_module(order, toolchain)?;
    let guests = target.join("guests");
    let file = target.join("plugins").join(name).with_extension("wasm");
    let said = Description {
        name: Some(name.clone()),
        version: Some(package.version.clone()),
        description: package.description.clone(),
    };
    let published = component::publish(&core, &said, &file, &guests.join("encoded").join(name))
        .with_context(|| format!("plugin {name} is not a component that the host takes"))?;
    let component::Published { bytes, digest, origin } = published;
    Ok(Built { name: name.clone(), file, bytes, digest, origin })
}

/// Builds a library, a plugin's or another, as a core module, and says where it is.
///
/// # Errors
/// It has no library, or does not compile.
pub fn build_module(order: &Order<'_>, toolchain: &Toolchain) -> Result<PathBuf> {
    let Order { package, folder, target, profile } = order;
    let name = &package.name;
    let is_library = |kinds: &[String]| kinds.iter().any(|kind| kind.ends_with("lib"));
    let library = package.targets.iter().find(|target| is_library(&target.kind));
    let library = library.with_context(|| format!("plugin {name} has no library (src/lib.rs)"))?;
    let guests = target.join("guests");
    let mut cargo = toolchain.build(name, folder, &guests);
    if *profile == Profile::Small {
        cargo.envs(SMALL.map(|(key, value)| (format!("CARGO_PROFILE_RELEASE_{key}"), value)));
    }
    process::run(&mut cargo)?;
    Ok(guests.join(TARGET).join("release").join(&library.name).with_extension("wasm"))
}

/// Builds the plugin whose crate is in `folder`, and says on the way with which Rust. Installs nothing but rustup's
/// target.
///
/// # Errors
/// There is no such crate, no Rust for WebAssembly (the message says what to install), or as [`build`].
pub fn build_crate(folder: &Path, retry: Retry) -> Result<Built> {
    let manifest = folder.join("Cargo.toml");
    ensure!(
        manifest.is_file(),
        "{} is not there: name the folder of a plugin's crate, or make one with `twohop plugin new NAME`",
        manifest.display()
    );
    let folder = folder.canonicalize().with_context(|| format!("could not read {}", folder.display()))?;
    let workspace = Workspace::of(&folder)?;
    let package =
        workspace.packages.iter().find(|package| package.manifest_path == folder.join("Cargo.toml"));
    let package = package.with_context(|| {
        format!("{} has no `[package]`: name the folder of a plugin's crate", manifest.display())
    })?;
    let target = &workspace.target_directory;
    let toolchain = Toolchain::find(&Search {
        folder: &folder,
        guests: &target.join("guests"),
        rust_version: workspace.rust_version(),
        retry,
        install: debian::only_say,
    })?;
    println!("for {TARGET}, with {}", toolchain.name());
    build(&Order { package, folder: &folder, target, profile: Profile::OfItsCrate }, &toolchain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(folder: &Path) -> String {
        build_crate(folder, Retry::WhatMayHelp).unwrap_err().to_string()
    }

    #[test]
    fn a_folder_without_a_crate_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        assert!(refusal(folder.path()).contains("make one with `twohop plugin new NAME`"));
        std::fs::write(folder.path().join("Cargo.toml"), "[workspace]\nmembers = []\n").unwrap();
        assert!(refusal(folder.path()).contains("has no `[package]`"));
    }

    #[test]
    fn the_profile_of_new_crates_is_the_small_one() {
        let manifest: toml::Table = include_str!("../templates/manifest.toml").parse().unwrap();
        let release = manifest["profile"]["release"].as_table().unwrap();
        let text = |value: &toml::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let written: Vec<(String, String)> =
            release.iter().map(|(key, value)| (key.to_uppercase().replace('-', "_"), text(value))).collect();
        // What is left out of it is cargo's own for releases.
        for (key, value) in
            SMALL.iter().filter(|(key, _)| !matches!(*key, "OPT_LEVEL" | "DEBUG" | "INCREMENTAL"))
        {
            assert!(written.contains(&((*key).to_owned(), (*value).to_owned())), "{key} in {written:?}");
        }
        assert_eq!(written.len(), 4);
    }
}
