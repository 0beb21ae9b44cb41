//! A Rust that builds for `wasm32-unknown-unknown`: which one, and how it is called.
//!
//! Ways, the first that there is:
//! 1. the Rust that runs us, where it has the target;
//! 2. Debian's packages for browsers' builds, whose cargo builds `std` from source;
//! 3. `rustup target add`, bounded in time since it can hang on a closed network, its failure remembered;
//! 4. an error that says what to install.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::place::{self, find_program, is_executable};
use crate::process::{self, pid_of, wait_within};
use crate::setup::apt;

const TARGET: &str = "wasm32-unknown-unknown";
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

/// A Rust that builds for the guests' target.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Toolchain {
    /// The Rust that runs us.
    Ours,
    /// Debian's own, `std` from source.
    Debian { cargo: PathBuf, rustc: PathBuf },
}

impl Toolchain {
    /// Finds one, or installs what is missing.
    pub(super) fn find(guests: &Path, retry: Retry) -> Result<Toolchain> {
        if ours_has_the_target()? {
            return Ok(Toolchain::Ours);
        }
        let mut tried = Vec::new();
        if apt::is_here() {
            match debian() {
                Ok(toolchain) => return Ok(toolchain),
                Err(error) => tried.push(format!("{error:#}")),
            }
        }
        match add_target(guests, retry) {
            Ok(()) => return Ok(Toolchain::Ours),
            Err(error) => tried.push(format!("{error:#}")),
        }
        bail!(
            "no Rust here builds for {TARGET}. Run `rustup target add {TARGET}`, or on Debian `apt-get install {}`, \
             then this again. Tried:\n  - {}",
            DEBIAN_PACKAGES.join(" "),
            tried.join("\n  - ")
        )
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Toolchain::Ours => "the installed target",
            Toolchain::Debian { .. } => {
                "Debian's rustc-web (std from source: the first time takes half a minute)"
            }
        }
    }

    /// The build of one plugin, as a core module.
    pub(super) fn build(&self, plugin: &str, guests: &Path) -> Command {
        let mut command = match self {
            Toolchain::Ours => place::cargo(),
            Toolchain::Debian { cargo, rustc } => debian_cargo(cargo, rustc),
        };
        command.args([
            "rustc",
            "--package",
            plugin,
            "--lib",
            "--crate-type",
            "cdylib",
            "--release",
            "--target",
            TARGET,
        ]);
        if matches!(self, Toolchain::Debian { .. }) {
            command.arg("-Zbuild-std=std,panic_abort");
        }
        command.env("CARGO_TARGET_DIR", guests).stdin(Stdio::null());
        // Small, since the host compiles it to machine code; and the same bytes wherever the same Rust builds it.
        for (key, value) in [
            ("OPT_LEVEL", "3"),
            ("LTO", "fat"),
            ("PANIC", "abort"),
            ("STRIP", "symbols"),
            ("CODEGEN_UNITS", "1"),
            ("DEBUG", "false"),
            ("INCREMENTAL", "false"),
        ] {
            command.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
        }
        // Flags meant for the native build (`-C target-cpu=native`) would be wrong here.
        command.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", without_paths());
        command
    }
}

/// Flags that keep this machine's folders out of panic messages.
fn without_paths() -> String {
    let mut folders = vec![(place::root(), ".")];
    if let Some(home) =
        env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")))
    {
        folders.push((home, "cargo"));
    }
    let flags =
        folders.iter().map(|(folder, name)| format!("--remap-path-prefix={}={name}", folder.display()));
    flags.collect::<Vec<_>>().join("\x1f")
}

fn ours_has_the_target() -> Result<bool> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let sysroot =
        process::capture(Command::new(rustc).current_dir(place::root()).args(["--print", "sysroot"]))?;
    let libraries = Path::new(sysroot.trim_end()).join("lib/rustlib").join(TARGET).join("lib");
    Ok(libraries.read_dir().is_ok_and(|mut files| files.next().is_some()))
}

/// Debian's Rust, installed if it is not here.
fn debian() -> Result<Toolchain> {
    let missing: Vec<&str> = DEBIAN_PACKAGES.into_iter().filter(|package| !apt::has(package)).collect();
    if !missing.is_empty() {
        apt::install(&missing, "building plugins for WebAssembly")?;
    }
    let program = |package: &str, name: &str| -> Result<PathBuf> {
        let files = process::capture(Command::new("dpkg").args(["-L", package]))?;
        program_among(&files, name)
            .with_context(|| format!("package {package} has no {name} that can be executed"))
    };
    let (cargo, rustc) = (program("cargo-web", "cargo")?, program("rustc-web", "rustc")?);
    // What rustup wants of a program that it runs does not concern this one.
    let said = process::capture(Command::new(&rustc).arg("--version").env_remove("RUSTUP_TOOLCHAIN"))?;
    let wanted = place::workspace()?
        .packages
        .iter()
        .filter_map(|package| numbers(package.rust_version.as_deref()?))
        .max();
    let version = said.split_whitespace().nth(1).and_then(numbers);
    if version < wanted {
        bail!("Debian's rustc-web is too old ({}); its security updates bring newer ones", said.trim_end());
    }
    Ok(Toolchain::Debian { cargo, rustc })
}

/// The first two numbers of a version.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

fn program_among(files: &str, name: &str) -> Option<PathBuf> {
    let programs = files.lines().map(Path::new).filter(|file| file.ends_with(Path::new("bin").join(name)));
    programs.filter(|file| is_executable(file)).min_by_key(|file| file.iter().count()).map(Path::to_path_buf)
}

fn debian_cargo(cargo: &Path, rustc: &Path) -> Command {
    let mut command = Command::new(cargo);
    command.current_dir(place::root());
    // Set by rustup and cargo for the programs that they run: they would bring back the Rust without the target.
    for variable in ["RUSTUP_TOOLCHAIN", "RUSTUP_HOME", "CARGO", "RUSTDOC", "LD_LIBRARY_PATH"] {
        command.env_remove(variable);
    }
    command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
    command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-ld");
    command
}

/// `rustup target add`, once: a failure is remembered beside the guests until someone asks to try again.
fn add_target(guests: &Path, retry: Retry) -> Result<()> {
    let rustup = find_program("rustup").context("there is no rustup in PATH")?;
    let memory = guests.join("rustup-target-add-failed");
    if retry == Retry::WhatMayHelp
        && let Ok(remembered) = fs::read_to_string(&memory)
    {
        bail!("{} (remembered; `cargo xtask build-plugins --retry` tries again)", remembered.trim_end());
    }
    println!("  rustup target add {TARGET} (at most {} s)", RUSTUP_WITHIN.as_secs());
    match rustup_within(&rustup, RUSTUP_WITHIN) {
        Ok(()) => {
            // Nothing to forget is no failure.
            let _ = fs::remove_file(&memory);
            Ok(())
        }
        Err(error) => {
            fs::create_dir_all(guests)?;
            fs::write(&memory, format!("{error:#}\n"))?;
            Err(error)
        }
    }
}

fn rustup_within(rustup: &Path, within: Duration) -> Result<()> {
    let mut command = Command::new(rustup);
    command.args(["target", "add", TARGET]).current_dir(place::root()).stdin(Stdio::null());
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
        let error = rustup_within(&rustup, Duration::from_millis(20)).unwrap_err();
        assert!(error.to_string().contains("did not end within"), "{error}");
    }

    #[test]
    fn a_rustup_that_fails_is_reported_with_its_exit_code() {
        let folder = tempfile::tempdir().unwrap();
        let error = rustup_within(&script(folder.path(), "exit 7"), Duration::from_secs(30)).unwrap_err();
        assert!(error.to_string().ends_with("failed: exit code 7"), "{error}");
    }

    #[test]
    fn debian_builds_use_debians_programs_whatever_rustup_says() {
        let toolchain = Toolchain::Debian { cargo: "/usr/bin/cargo".into(), rustc: "/usr/bin/rustc".into() };
        let command = toolchain.build("row-router", Path::new("/t/guests"));
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
    fn versions_are_compared_as_numbers() {
        assert_eq!(numbers("1.96.0"), Some((1, 96)));
        assert!(numbers("1.100") > numbers("1.95"));
        assert_eq!(numbers("nightly"), None);
    }

    #[test]
    fn the_program_with_the_shortest_path_is_the_packages_own() {
        let files = "/.\n/usr\n/usr/share/sh/bin/sh\n/bin/sh\n/usr/share/doc/bin\n";
        assert_eq!(program_among(files, "sh"), Some("/bin/sh".into()));
        assert_eq!(program_among(files, "rustc"), None);
    }
}
