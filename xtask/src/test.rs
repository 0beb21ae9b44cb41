//! `cargo xtask test`: the whole suite, with everything that it needs set up first.
//!
//! In: how long it may take, arguments for the test binaries. Out: cargo's own output, and its exit code.
//! Always: what the tests leave behind when they are interrupted is removed: they make their folders in one of ours.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, ExitCode};
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};

use crate::plugins::{self, Retry};
use crate::process::{self, pid_of};
use crate::services::Folder;
use crate::{interrupt, place, setup};

/// Tells the tests that what is slow is to run too.
pub const LONG_VARIABLE: &str = "XTASK_TEST_LONG";

/// Tells the model of timelines how many sequences to try.
const TIMELINE_CASES_VARIABLE: &str = "TWOHOP_TIMELINE_CASES";
const TIMELINE_CASES_LONG: &str = "10000";

/// How long the suite may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// What is run all day.
    Short,
    /// Also what is run before a release.
    Long,
}

impl Length {
    /// What a test was told.
    #[must_use]
    pub fn of_environment() -> Length {
        if std::env::var_os(LONG_VARIABLE).is_some() { Length::Long } else { Length::Short }
    }
}

/// Sets up, builds and runs the suite.
///
/// # Errors
/// Something cannot be set up or built. A failing test is an exit code.
pub fn run(length: Length, arguments: &[OsString]) -> Result<ExitCode> {
    println!("[1/4] PostgreSQL, Redis, curl, Chromium and Node.js");
    setup::postgres()?;
    setup::postgres_versions(length)?;
    setup::redis()?;
    setup::curl()?;
    let browser_tests = place::root().join("tests/browser");
    let chromium = if browser_tests.join("package.json").is_file() {
        setup::node()?;
        Some(setup::chromium()?)
    } else {
        None
    };
    println!("[2/4] plugins");
    plugins::build_all(Retry::WhatMayHelp)?;
    plugins::build_other_languages()?;
    let kosoku = setup::kosoku()?;
    println!("[3/4] the host, and the application of an example");
    process::run(place::cargo().args(["build", "--package", "twohop", "--package", "social-feed"]))?;
    if chromium.is_some() {
        install_node_packages(&browser_tests)?;
    }
    println!("[4/4] the suite");
    let folder = Folder::new("test")?;
    // A test's PostgreSQL runs under another account, which must reach its own folder in this one.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let mut command = place::cargo();
    command.args(["test", "--workspace"]).env("TMPDIR", folder.path());
    command.env("CARGO_TARGET_DIR", place::target()?);
    command.env("XTASK_KOSOKU", kosoku);
    if let Some(chromium) = chromium {
        command.env("XTASK_CHROMIUM", chromium);
    }
    if length == Length::Long {
        command.env(LONG_VARIABLE, "1").env(TIMELINE_CASES_VARIABLE, TIMELINE_CASES_LONG);
    }
    if !arguments.is_empty() {
        command.arg("--").args(arguments);
    }
    run_until_asked_to_end(&mut command)
}

/// As locked, where there is a lock; only when it changed since.
fn install_node_packages(folder: &std::path::Path) -> Result<()> {
    let lock = folder.join("package-lock.json");
    let (verb, wanted) = if lock.is_file() { ("ci", lock) } else { ("install", folder.join("package.json")) };
    let mark = folder.join("node_modules/.twohop-installed");
    let wanted = fs::read_to_string(wanted)?;
    if fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!("  npm {verb} in tests/browser");
    let options = ["--no-audit", "--no-fund", "--no-progress"];
    let mut command = Command::new("npm");
    // Debian's browser is used; a package that would download one of its own must not.
    command.arg(verb).args(options).env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1").current_dir(folder);
    process::run(&mut command).context("could not install what tests/browser needs from npm")?;
    fs::write(mark, wanted).context("could not mark the packages as installed")
}

/// Runs cargo; when we are asked to end, everything below it is, so that the caller can clean up.
fn run_until_asked_to_end(command: &mut Command) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ended, mut cargo_ended) = tokio::sync::oneshot::channel();
    let mut child = command.spawn().context("could not run cargo test")?;
    let pid = pid_of(&child);
    thread::spawn(move || ended.send(child.wait()));
    runtime.block_on(async {
        tokio::select! {
            status = &mut cargo_ended => return exit_code(status??),
            end = interrupt::asked_to_end() => end?,
        }
        for process in process::descendants(pid) {
            // One that ended meanwhile is what we want.
            let _ = kill(process, Signal::SIGTERM);
        }
        let _ = tokio::time::timeout(Duration::from_secs(10), cargo_ended).await;
        Ok(ExitCode::from(130))
    })
}

fn exit_code(status: std::process::ExitStatus) -> Result<ExitCode> {
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_passed_on() {
        let run =
            |script: &str| run_until_asked_to_end(Command::new("/bin/sh").args(["-c", script])).unwrap();
        assert_eq!(run("exit 0"), ExitCode::SUCCESS);
        assert_eq!(run("exit 101"), ExitCode::from(101));
        assert_eq!(run("kill -9 $$"), ExitCode::FAILURE);
    }
}
