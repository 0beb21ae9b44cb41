//! A workspace as cargo sees it, and the cargo that is asked.
//!
//! In: a folder in it. Out: its members and target folder, as `cargo metadata --no-deps` says. Always: the target
//! folder is the one that cargo itself uses, whatever sets it (variable, configuration, default).

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// What `cargo metadata --no-deps` says, as far as it is needed here.
#[derive(Debug, Deserialize)]
pub struct Workspace {
    /// The folder that cargo builds into.
    pub target_directory: PathBuf,
    /// The members.
    pub packages: Vec<Package>,
}

/// A member of the workspace.
#[derive(Debug, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it is, in a sentence.
    pub description: Option<String>,
    /// The oldest Rust that it is for, `1.95` or `1.95.0`.
    pub rust_version: Option<String>,
    /// Its `Cargo.toml`.
    pub manifest_path: PathBuf,
    /// What it builds.
    pub targets: Vec<Target>,
}

/// Something that a package builds.
#[derive(Debug, Deserialize)]
pub struct Target {
    /// Its name: of a library, with underscores.
    pub name: String,
    /// Its crate types: `lib`, `bin`, `test`, …
    pub kind: Vec<String>,
}

impl Workspace {
    /// The workspace of a folder.
    ///
    /// # Errors
    /// Cargo is not there, or refuses the workspace; cargo's own words are on stderr.
    pub fn of(folder: &Path) -> Result<Workspace> {
        let output = cargo(folder)
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .stderr(Stdio::inherit())
            .output()
            .context("could not run cargo: install Rust, by https://rustup.rs or your system's packages")?;
        ensure!(output.status.success(), "cargo metadata failed in {}", folder.display());
        serde_json::from_slice(&output.stdout).context("could not read what cargo metadata printed")
    }

    /// The oldest Rust that every member is for.
    #[must_use]
    pub fn rust_version(&self) -> Option<&str> {
        let versions = self.packages.iter().filter_map(|package| package.rust_version.as_deref());
        versions.max_by_key(|version| numbers(version))
    }
}

/// The first two numbers of a version.
pub(crate) fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// The cargo that runs this program, else the one in `PATH`, to run in `folder` and to build where it would here.
#[must_use]
pub fn cargo(folder: &Path) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder);
    // Cargo resolves a relative folder against the working directory, which has just been changed.
    if let Some(absolute) =
        env::var_os("CARGO_TARGET_DIR").and_then(|folder| std::path::absolute(folder).ok())
    {
        command.env("CARGO_TARGET_DIR", absolute);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(numbers("1.96.0"), Some((1, 96)));
        assert!(numbers("1.100") > numbers("1.95"));
        assert_eq!(numbers("nightly"), None);
    }

    #[test]
    fn this_crate_is_a_member_of_its_workspace() {
        let workspace = Workspace::of(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        let this = workspace.packages.iter().find(|package| package.name == "twohop-build").unwrap();
        assert_eq!(this.version, env!("CARGO_PKG_VERSION"));
        assert!(workspace.rust_version().and_then(numbers) >= this.rust_version.as_deref().and_then(numbers));
    }
}
