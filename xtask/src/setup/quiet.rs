//! Debian's servers without the service that their packages start.
//!
//! Always: `policy-rc.d` is as it was after an installation, and after the next one if one was killed with `kill -9`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::apt::{self, PutBack, Root};
use crate::interrupt::HeldBack;

const POLICY: &str = "/usr/sbin/policy-rc.d";
/// Marks what we wrote, should `kill -9` keep us from putting a file back.
pub(super) const MARK: &str = "# twohop's xtask, until its installation is over";

/// Installs the package of a server, whose service of that name is not started.
pub(super) fn install(package: &str, service: &str, why: &str) -> Result<()> {
    let Some(root) = Root::find().filter(|_| apt::is_here()) else { return apt::install(&[package], why) };
    let _held = HeldBack::new().context("could not hold signals back")?;
    heal(root)?;
    let _policy = forbid_service_starts(root, service)?;
    apt::install(&[package], why)
}

/// Removes the policy of an installation of ours that was killed.
pub(super) fn heal(root: Root) -> Result<()> {
    let is_ours = fs::read_to_string(POLICY).is_ok_and(|policy| policy.contains(MARK));
    if is_ours { root.remove(Path::new(POLICY)) } else { Ok(()) }
}

/// A policy for `invoke-rc.d` that denies every action (exit code 101), unless the one that is here does so.
pub(super) fn forbid_service_starts(root: Root, service: &str) -> Result<Option<PutBack>> {
    let policy = Path::new(POLICY);
    let denies = Command::new(policy).args([service, "start"]).stdin(Stdio::null()).status();
    if denies.is_ok_and(|status| status.code() == Some(101)) {
        return Ok(None);
    }
    let script = format!("#!/bin/sh\n{MARK}\nexit 101\n");
    PutBack::replace(root, policy, 0o755, |_| script.clone().into_bytes()).map(Some)
}
