//! A Rust that builds for `wasm32-unknown-unknown`: which one, and how it is called.
//!
//! Ways, the first that there is:
//! 1. the Rust of the folder, where it has the target;
//! 2. Debian's packages for browsers' builds, whose cargo builds `std` from source;
//! 3. `rustup target add`, bounded in time since it can hang on a closed network, its failure remembered;
//! 4. an error that says what to install.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::debian;
use crate::process::{self, find_program, is_executable, pid_of, wait_within};
use crate::workspace::{self, numbers};

/// What guests are built for.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld"];
const RUSTUP_WITHIN: Duration = Duration::from_secs(20);

/// Whether to try again what failed earlier and is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Only what may help; a remembered failure stands.
    WhatMayHelp,
    /// Everything.
    Everything,
}

/// For whom a Rust is looked for, and what may be done to have one.
#[derive(Debug)]
pub struct Search<'a> {
    /// Where cargo will run: rustup chooses a Rust by the folder.
    pub folder: &'a Path,
    /// The guests' target folder, where a failure is remembered.
    pub guests: &'a Path,
    /// The oldest Rust that will do, `1.95`.
    pub rust_version: Option<&'a str>,
    /// Whether to try again what failed.
    pub retry: Retry,
    /// Installs these of Debian's packages, or says why it does not.
    pub install: fn(&[&str]) -> Result<()>,
}

/// A Rust that builds for the guests' target.
#[derive(Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The Rust of the folder.
    Ours,
    /// Debian's own, `std` from source.
    Debian {
        /// Its cargo.
        cargo: PathBuf,
        /// Its compiler.
        rustc: PathBuf,
    },
}

impl Toolchain {
    /// Finds one, or installs what is missing where that may be done.
    ///
    /// # Errors
    /// There is none: the message says what to install, and what was tried.
    pub fn find(search: &Search<'_>) -> Result<Toolchain> {
        if ours_has_the_target(search.folder)? {
            return Ok(Toolchain::Ours);
        }
        let mut tried = Vec::new();
        if debian::is_here() {
            match debian(search) {
                Ok(toolchain) => return Ok(toolchain),
                Err(error) => tried.push(format!("{error:#}")),
            }
        }
        match add_target(search) {
            Ok(()) => return Ok(Toolchain::Ours),
            Err(error) => tried.push(format!("{error:#}")),
        }
        bail!(
            "no Rust here builds for {TARGET}. Run `rustup target add {TARGET}`, or on Debian `{}`, \
             then this again. Tried:\n  - {}",
            debian::by_hand(&DEBIAN_PACKAGES),
            tried.join("\n  - ")
        )
    }

    /// What a person calls it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Toolchain::Ours => "the installed target",
            Toolchain::Debian { .. } => {
                "Debian's rustc-web (std from source: the first time takes half a minute)"
            }
        }
    }

    /// The build of one package of the workspace in `folder`, as a core module.
    pub(crate) fn build(&self, package: &str, folder: &Path, guests: &Path) -> Command {
        let mut command = match self {
            Toolchain::Ours => workspace::cargo(folder),
            Toolchain::Debian { cargo, rustc } => debian_cargo(cargo, rustc, folder),
        };
        command.args(["rustc", "--package", package, "--lib", "--crate-type", "cdylib", "--release"]);
        command.args(["--target", TARGET]);
        if matches!(self, Toolchain::Debian { .. }) {
            command.arg("-Zbuild-std=std,panic_abort");
        }
        command.env("CARGO_TARGET_DIR", guests).stdin(Stdio::null());
        // Flags meant for the native build (`-C target-cpu=native`) would be wrong here.
        command.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", without_paths());
        command
    }
}

/// Flags that keep this machine's folders out of panic messages. Those of the workspace are relative anyway.
fn without_paths() -> String {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(env::home_dir()?.join(".cargo")));
    home.map_or_else(String::new, |home| format!("--remap-path-prefix={}=cargo", home.display()))
}

fn ours_has_the_target(folder: &Path) -> Result<bool> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let sysroot = process::capture(Command::new(rustc).current_dir(folder).args(["--print", "sysroot"]))?;
    let libraries = Path::new(sysroot.trim_end()).join("lib/rustlib").join(TARGET).join("lib");
    Ok(libraries.read_dir().is_ok_and(|mut files| files.next().is_some()))
}

/// Debian's Rust, installed if it is not here.
fn debian(search: &Search<'_>) -> Result<Toolchain> {
    let missing: Vec<&str> = DEBIAN_PACKAGES.into_iter().filter(|package| !debian::has(package)).collect();
    if !missing.is_empty() {
        (search.install)(&missing)?;
    }
    let program = |package: &str, name: &str| -> Result<PathBuf> {
        let files = process::capture(Command::new("dpkg").args(["-L", package]))?;
        program_among(&files, name)
            .with_context(|| format!("package {package} has no {name} that can be executed"))
    };
    let (cargo, rustc) = (program("cargo-web", "cargo")?, program("rustc-web", "rustc")?);
    // What rustup wants of a program that it runs does not concern this one.
    let said = process::capture(Command::new(&rustc).arg("--version").env_remove("RUSTUP_TOOLCHAIN"))?;
    let wanted = search.rust_version.and_then(numbers);
    let version = said.split_whitespace().nth(1).and_then(numbers);
    if version < wanted {
        bail!("Debian's rustc-web is too old ({}); its security updates bring newer ones", said.trim_end());
    }
    Ok(Toolchain::Debian { cargo, rustc })
}

fn program_among(files: &str, name: &str) -> Option<PathBuf> {
    let programs = files.lines().map(Path::new).filter(|file| file.ends_with(Path::new("bin").join(name)));
    programs.filter(|file| is_executable(file)).min_by_key(|file| file.iter().count()).map(Path::to_path_buf)
}

fn debian_cargo(cargo: &Path, rustc: &Path, folder: &Path) -> Command {
    let mut command = Command::new(cargo);
    command.current_dir(folder);
    // Set by rustup and cargo for the programs that they run: they would bring back the Rust without the target.
    for variable in ["RUSTUP_TOOLCHAIN", "RUSTUP_HOME", "CARGO", "RUSTDOC", "LD_LIBRARY_PATH"] {
        command.env_remove(variable);
    }
    command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
    command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-ld");
    command
}

/// `rustup target add`, once: a failure is remembered beside the guests until someone asks to try again.
fn add_target(search: &Search<'_>) -> Result<()> {
    let rustup = find_program("rustup").context("there is no rustup in PATH")?;
    let memory = search.guests.join("rustup-target-add-failed");
    if search.retry == Retry::WhatMayHelp
        && let Ok(remembered) = fs::read_to_string(&memory)
    {
        bail!("{} (remembered; `--retry` tries again)", remembered.trim_end());
    }
    println!("  rustup target add {TARGET} (at most {} s)", RUSTUP_WITHIN.as_secs());
    match rustup_within(&rustup, search.folder, RUSTUP_WITHIN) {
        Ok(()) => {
            // Nothing to forget is no failure.
            let _ = fs::remove_file(&memory);
            Ok(())
        }
        Err(error) => {
            fs::create_dir_all(search.guests)?;
            fs::write(&memory, format!("{error:#}\n"))?;
            Err(error)
        }
    }
}

fn rustup_within(rustup: &Path, folder: &Path, within: Duration) -> Result<()> {
    let mut command = Command::new(rustup);
    command.args(["target", "add", TARGET]).current_dir(folder).stdin(Stdio::null());
    let mut child = command.spawn().context("could not run rustup")?;
    match wait_within(&mut child, within) {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("`rustup target add {TARGET}` failed: {}", process::describe(status)),
        None => {
            for below in process::descendants(pid_of(&child)) {
                let _ = nix::sys::signal::kill(below, nix::sys::signal::Signal::SIGKILL);
            }
            child.kill()?;
            child.wait()?;
            bail!("`rustup target add {TARGET}` did not end within {} s", within.as_secs())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(folder: &Path, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let file = folder.join("rustup");
        fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        file
    }

    #[test]
    fn a_rustup_that_hangs_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let rustup = script(folder.path(), "sleep 60");
        let error = rustup_within(&rustup, folder.path(), Duration::from_millis(20)).unwrap_err();
        assert!(error.to_string().contains("did not end within"), "{error}");
    }

    #[test]
    fn a_rustup_that_fails_is_reported_with_its_exit_code() {
        let folder = tempfile::tempdir().unwrap();
        let error = rustup_within(&script(folder.path(), "exit 7"), folder.path(), Duration::from_secs(30))
            .unwrap_err();
        assert!(error.to_string().ends_with("failed: exit code 7"), "{error}");
    }

    #[test]
    fn debian_builds_use_debians_programs_whatever_rustup_says() {
        let toolchain = Toolchain::Debian { cargo: "/usr/bin/cargo".into(), rustc: "/usr/bin/rustc".into() };
        let command = toolchain.build("row-router", Path::new("/t"), Path::new("/t/guests"));
        let value = |name: &str| {
            let found = command.get_envs().find(|(key, _)| *key == name).map(|(_, value)| value);
            found.map(|value| value.map(|value| value.to_string_lossy().into_owned()))
        };
        assert_eq!(value("RUSTUP_TOOLCHAIN"), Some(None));
        assert_eq!(value("CARGO"), Some(None));
        assert_eq!(value("RUSTC"), Some(Some("/usr/bin/rustc".into())));
        assert_eq!(value("CARGO_TARGET_DIR"), Some(Some("/t/guests".into())));
        assert!(
            process::show(&command)
                .starts_with("/usr/bin/cargo rustc --package row-router --lib --crate-type cdylib")
        );
    }

    #[test]
    fn the_program_with_the_shortest_path_is_the_packages_own() {
        let files = "/.\n/usr\n/usr/share/sh/bin/sh\n/bin/sh\n/usr/share/doc/bin\n";
        assert_eq!(program_among(files, "sh"), Some("/bin/sh".into()));
        assert_eq!(program_among(files, "rustc"), None);
    }
}
