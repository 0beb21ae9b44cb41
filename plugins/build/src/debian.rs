//! Debian's packages: whether they are here, and what a person runs to get them.
//!
//! Absent on purpose: their installation. Whoever builds a plugin may not be whoever looks after the machine.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::process::find_program;

/// Whether this is a system of Debian's kind: with apt and dpkg.
#[must_use]
pub fn is_here() -> bool {
    find_program("apt-get").is_some() && find_program("dpkg-query").is_some()
}

/// Whether a package is installed.
#[must_use]
pub fn has(package: &str) -> bool {
    let query =
        Command::new("dpkg-query").args(["-W", "-f", "${Status}", package]).stderr(Stdio::null()).output();
    query.is_ok_and(|output| output.stdout == b"install ok installed")
}

/// What root runs to install packages.
#[must_use]
pub fn by_hand(packages: &[&str]) -> String {
    format!("apt-get install --no-install-recommends {}", packages.join(" "))
}

/// Installs nothing: says what is missing.
pub(crate) fn only_say(packages: &[&str]) -> Result<()> {
    bail!("Debian's Rust for WebAssembly is not installed: as root, run `{}`", by_hand(packages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_does_not_exist_is_not_installed() {
        assert!(!has("no-such-package-anywhere"));
    }
}
