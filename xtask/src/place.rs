//! Where things are: the repository, the target folder, what was built, programs.
//!
//! In: the environment that cargo gives. Out: absolute paths.
//! Always: the target folder is the one that cargo itself uses, whatever sets it (variable, configuration, default).

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Result, bail};
use twohop_build::Workspace;

pub use twohop_build::process::{find_program, is_executable};

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

/// The workspace as cargo sees it; asked once a process.
///
/// # Errors
/// Cargo is not there, or refuses the workspace.
pub fn workspace() -> Result<&'static Workspace> {
    static WORKSPACE: OnceLock<Workspace> = OnceLock::new();
    if let Some(known) = WORKSPACE.get() {
        return Ok(known);
    }
    let found = Workspace::of(&root())?;
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
    twohop_build::cargo(&root())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_holds_this_package() {
        assert!(root().join("xtask/src/place.rs").is_file());
    }
}
