//! A temporary folder for a service, and the account that owns it.
//!
//! Always: as root, the account is an unprivileged one (`initdb` refuses root), and every folder above can be
//! entered by it; else it is ours. Dropped, the folder is gone.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::unistd::{Uid, User, chown};
use tempfile::TempDir;

/// A process that was just killed may still be writing.
const REMOVE_WITHIN: Duration = Duration::from_secs(5);

/// A temporary folder that a service runs in.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// None where we are not root, and everything runs as ourselves.
    account: Option<User>,
}

impl Folder {
    /// Makes one, its name beginning with `twohop-NAME-`.
    ///
    /// # Errors
    /// No folder can be made, or root has no unprivileged account to give it to.
    pub fn new(name: &str) -> Result<Folder> {
        let account = unprivileged_account()?;
        let parent = match account {
            Some(_) => reachable_by_all(&env::temp_dir()),
            None => env::temp_dir(),
        };
        let made = tempfile::Builder::new().prefix(&format!("twohop-{name}-")).tempdir_in(&parent);
        let made: TempDir =
            made.with_context(|| format!("could not make a folder in {}", parent.display()))?;
        if let Some(account) = &account {
            chown(made.path(), Some(account.uid), Some(account.gid))
                .context("could not give the folder away")?;
        }
        Ok(Folder { path: made.keep(), account })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a command run as the folder's account, in the folder.
    pub fn run_inside<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.current_dir(&self.path);
        if let Some(account) = &self.account {
            // The standard library also drops root's further groups.
            command.uid(account.uid.as_raw()).gid(account.gid.as_raw()).env("HOME", &self.path);
        }
        command
    }

    /// Writes a file that the account owns.
    ///
    /// # Errors
    /// It cannot be written or given away.
    pub fn write(&self, name: &str, contents: &str) -> Result<PathBuf> {
        let file = self.path.join(name);
        fs::write(&file, contents).with_context(|| format!("could not write {}", file.display()))?;
        if let Some(account) = &self.account {
            chown(&file, Some(account.uid), Some(account.gid)).context("could not give the file away")?;
        }
        Ok(file)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let until = Instant::now() + REMOVE_WITHIN;
        while let Err(error) = fs::remove_dir_all(&self.path) {
            if error.kind() == std::io::ErrorKind::NotFound {
                return;
            }
            if Instant::now() > until {
                eprintln!("warning: could not remove {}: {error}", self.path.display());
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn unprivileged_account() -> Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    // `postgres` comes with Debian's package and owns nothing else; `nobody` is everywhere.
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(user));
        }
    }
    anyhow::bail!(
        "as root, an account `postgres` or `nobody` is needed to run PostgreSQL under, and there is neither"
    )
}

/// The folder, if everyone may enter it and all above; else the system's.
fn reachable_by_all(wanted: &Path) -> PathBuf {
    let enter = |folder: &Path| folder.metadata().is_ok_and(|its| its.permissions().mode() & 0o001 != 0);
    let reachable = wanted.canonicalize().is_ok_and(|real| real.ancestors().all(enter));
    if reachable { wanted.to_path_buf() } else { PathBuf::from("/tmp") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_gone_with_its_owner() {
        let folder = Folder::new("unit").unwrap();
        folder.write("file", "x").unwrap();
        let path = folder.path().to_path_buf();
        assert!(path.join("file").is_file());
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn what_runs_inside_can_write_there_and_is_not_root() {
        let folder = Folder::new("unit").unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "touch written && test \"$(id -u)\" -ne 0"]);
        let status = folder.run_inside(&mut command).status().unwrap();
        let root = Uid::effective().is_root();
        assert!(!root || status.success());
        assert!(folder.path().join("written").exists());
    }

    #[test]
    fn a_folder_below_a_private_one_is_not_reachable_by_all() {
        let only_us = fs::Permissions::from_mode(0o700);
        let private = tempfile::Builder::new().permissions(only_us).tempdir().unwrap();
        let below = private.path().join("below");
        fs::create_dir(&below).unwrap();
        assert_eq!(reachable_by_all(&below), Path::new("/tmp"));
    }
}
