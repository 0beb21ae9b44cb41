//! Debian's package manager, and the little that is done as root around it.
//!
//! In: names of packages and why. Out: they are installed, or an error that says which command a person must run.
//! Always: nothing is ever removed to make room (`--no-remove`), nothing asks a question, and a file that is
//! replaced for the time of an installation is put back ([`PutBack`]), whatever happens short of `kill -9`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;

use anyhow::{Context, Result, bail};
use twohop_build::debian;

pub use twohop_build::debian::is_here;

use crate::interrupt::HeldBack;
use crate::place::find_program;
use crate::process;

/// How we may act as root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// We are root.
    Ourselves,
    /// `sudo` lets us without a question.
    Sudo,
}

impl Root {
    /// How we may act as root, if at all.
    #[must_use]
    pub fn find() -> Option<Root> {
        if nix::unistd::geteuid().is_root() {
            return Some(Root::Ourselves);
        }
        let sudo = find_program("sudo")?;
        let quiet =
            Command::new(sudo).args(["-n", "true"]).stdin(Stdio::null()).stderr(Stdio::null()).status();
        quiet.is_ok_and(|status| status.success()).then_some(Root::Sudo)
    }

    fn command(self, program: &str) -> Command {
        match self {
            Root::Ourselves => Command::new(program),
            Root::Sudo => {
                let mut command = Command::new("sudo");
                command.args(["-n", program]);
                command
            }
        }
    }

    /// Puts a file in place as root, whole or not at all.
    pub(super) fn write(self, file: &Path, contents: &[u8], mode: u32) -> Result<()> {
        let mut draft = tempfile::NamedTempFile::new().context("could not make a temporary file")?;
        draft.write_all(contents)?;
        process::run(self.command("install").arg("-m").arg(format!("{mode:o}")).args([draft.path(), file]))
    }

    /// Makes a folder as root, and those above it.
    pub(super) fn make_folder(self, folder: &Path) -> Result<()> {
        process::run(self.command("install").arg("-d").arg(folder))
    }

    /// Removes a file as root.
    pub(super) fn remove(self, file: &Path) -> Result<()> {
        process::run(self.command("rm").arg("-f").arg(file))
    }
}

/// Installs packages, saying so.
///
/// # Errors
/// We may not, or apt fails; the message says which command a person must run.
pub fn install(packages: &[&str], why: &str) -> Result<()> {
    let by_hand = debian::by_hand(packages);
    if !is_here() {
        bail!("{why} needs what Debian calls {}: install it and run this again", packages.join(", "));
    }
    let Some(root) = Root::find() else {
        bail!("{why} needs packages that only root can install: run `sudo {by_hand}`, then this again");
    };
    println!("  installing {} for {why}: {by_hand}", packages.join(", "));
    // Apt ends in order when it is interrupted; we then still have to say so, or to put files back.
    let _held = HeldBack::new().context("could not hold signals back")?;
    static UPDATED: Once = Once::new();
    UPDATED.call_once(|| {
        // One unreachable source among several must not stop us: the installation says what is really missing.
        if let Err(error) = process::run(apt_get(root).args(["-qq", "update"])) {
            eprintln!("  warning: {error:#}; going on with the package lists that are here");
        }
    });
    let options = ["-qq", "install", "--yes", "--no-install-recommends", "--no-remove"];
    process::run(apt_get(root).args(options).args(packages))
        .with_context(|| format!("could not install what {why} needs; try `{by_hand}`, then this again"))
}

fn apt_get(root: Root) -> Command {
    let mut command = root.command("env");
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).stdin(Stdio::null());
    // Another apt may hold the lock for a while (a fresh machine updates itself); a dead mirror may not hold us.
    for option in
        ["DPkg::Lock::Timeout=180", "Dpkg::Use-Pty=0", "Acquire::http::Timeout=30", "Acquire::Retries=2"]
    {
        command.args(["-o", option]);
    }
    command
}

/// A file of the system that is replaced for a while; dropped, it is as it was.
#[derive(Debug)]
pub struct PutBack {
    root: Root,
    file: PathBuf,
    before: Option<(Vec<u8>, u32)>,
}

impl PutBack {
    /// Replaces `file` by what `change` makes of it (nothing, where there is none).
    ///
    /// # Errors
    /// The file cannot be read, or not be written as root.
    pub fn replace(root: Root, file: &Path, mode: u32, change: impl Fn(&[u8]) -> Vec<u8>) -> Result<PutBack> {
        let before = match fs::read(file) {
            Ok(contents) => Some((contents, fs::metadata(file)?.permissions().mode() & 0o7777)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("could not read {}", file.display())),
        };
        let (contents, mode) = match &before {
            Some((contents, mode)) => (change(contents), *mode),
            None => (change(b""), mode),
        };
        let put_back = PutBack { root, file: file.to_path_buf(), before };
        root.write(file, &contents, mode)?;
        Ok(put_back)
    }
}

impl Drop for PutBack {
    fn drop(&mut self) {
        let result = match &self.before {
            Some((contents, mode)) => self.root.write(&self.file, contents, *mode),
            None => self.root.remove(&self.file),
        };
        if let Err(error) = result {
            eprintln!("  warning: could not put {} back as it was: {error:#}", self.file.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("conf");
        fs::write(&file, "mine\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let put_back =
            PutBack::replace(Root::Ourselves, &file, 0o644, |old| [old, b"more\n"].concat()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine\nmore\n");
        drop(put_back);
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine\n");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_file_that_was_not_there_goes_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy");
        let put_back = PutBack::replace(Root::Ourselves, &file, 0o755, |_| b"#!/bin/sh\n".to_vec()).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o755);
        drop(put_back);
        assert!(!file.exists());
    }
}
