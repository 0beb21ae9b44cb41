//! Where things are: the repository, the target folder, programs.
//!
//! In: the environment that cargo gives. Out: absolute paths.
//! Always: the target folder is the one that cargo itself uses, whatever sets it (variable, configuration, default).

use std::env;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// The repository's root.
#[must_use]
pub fn root() -> PathBuf {
    // At run time, cargo names the package that runs; the path of the build would outlive a moved checkout.
    let package =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    let is_root = |folder: &&Path| folder.join("xtask/Cargo.toml").is_file();
    let root = package.ancestors().find(is_root).map(Path::to_path_buf);
    root.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
}

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

/// The workspace as cargo sees it; asked once a process.
///
/// # Errors
/// Cargo is not there, or refuses the workspace.
pub fn workspace() -> Result<&'static Workspace> {
    static WORKSPACE: OnceLock<Workspace> = OnceLock::new();
    if let Some(known) = WORKSPACE.get() {
        return Ok(known);
    }
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .stderr(Stdio::inherit())
        .output()
        .context("could not run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed in {}", root().display());
    let found =
        serde_json::from_slice(&output.stdout).context("could not read what cargo metadata printed")?;
    Ok(WORKSPACE.get_or_init(|| found))
}

/// The folder that cargo builds into.
///
/// # Errors
/// As [`workspace`].
pub fn target() -> Result<PathBuf> {
    Ok(workspace()?.target_directory.clone())
}

/// The host's binary as `cargo build -p twohop` leaves it.
///
/// # Errors
/// As [`workspace`], and when it has not been built.
pub fn host_binary() -> Result<PathBuf> {
    let binary = target()?.join("debug/twohop");
    if !binary.is_file() {
        bail!("{} is not there: run `cargo build -p twohop` first, or `cargo xtask test`", binary.display());
    }
    Ok(binary)
}

/// The component of a plugin as `cargo xtask build-plugins` leaves it.
///
/// # Errors
/// As [`workspace`], and when it has not been built.
pub fn plugin(name: &str) -> Result<PathBuf> {
    let component = target()?.join("plugins").join(name).with_extension("wasm");
    if !component.is_file() {
        bail!("{} is not there: run `cargo xtask build-plugins` first", component.display());
    }
    Ok(component)
}

/// The cargo that runs this program, in the repository's root, with the target folder of this program.
#[must_use]
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // Cargo resolves a relative folder against the working directory, which has just been changed.
    if let Some(absolute) =
        env::var_os("CARGO_TARGET_DIR").and_then(|folder| std::path::absolute(folder).ok())
    {
        command.env("CARGO_TARGET_DIR", absolute);
    }
    command
}

/// Where an executable of this name is in `PATH`.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    find_in(name, &env::var_os("PATH").unwrap_or_default())
}

fn find_in(name: &str, path: &OsStr) -> Option<PathBuf> {
    env::split_paths(path).map(|folder| folder.join(name)).find(|file| is_executable(file))
}

/// Whether the path is a file that someone may execute.
#[must_use]
pub fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_holds_this_package() {
        assert!(root().join("xtask/src/place.rs").is_file());
    }

    #[test]
    fn a_program_is_found_in_the_first_folder_where_it_can_be_executed() {
        let [first, second] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let path = env::join_paths([first.path(), second.path()]).unwrap();
        for folder in [&first, &second] {
            std::fs::write(folder.path().join("tool"), "").unwrap();
        }
        assert_eq!(find_in("tool", &path), None);
        let executable = second.path().join("tool");
        std::fs::set_permissions(&executable, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find_in("tool", &path), Some(executable));
    }
}
