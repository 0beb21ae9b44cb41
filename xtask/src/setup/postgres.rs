//! PostgreSQL's server programs: where they are, and their installation without the cluster that Debian adds.
//!
//! Always: an installation by us leaves no `main` cluster and no running server, and leaves
//! `createcluster.conf` and `policy-rc.d` as they were.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::apt::{self, PutBack, Root};
use super::quiet::{self, MARK};
use crate::interrupt::HeldBack;
use crate::place::{find_program, is_executable};

/// Names the folder of PostgreSQL's programs where the usual places are not wanted.
const BINARIES_VARIABLE: &str = "XTASK_PG_BIN";
const CREATE_CLUSTER: &str = "/etc/postgresql-common/createcluster.conf";

/// The folder with `initdb` and `postgres`, if there is one: `XTASK_PG_BIN`, else the newest of Debian's, else
/// where `postgres` in `PATH` really is.
///
/// # Errors
/// The variable names a folder without them.
pub fn binaries() -> Result<Option<PathBuf>> {
    if let Some(named) = env::var_os(BINARIES_VARIABLE).map(PathBuf::from) {
        if !is_complete(&named) {
            bail!("{BINARIES_VARIABLE} names {}, which has no `initdb` and `postgres`", named.display());
        }
        return Ok(Some(named));
    }
    let in_path = || Some(find_program("postgres")?.canonicalize().ok()?.parent()?.to_path_buf());
    Ok(newest_in(Path::new("/usr/lib/postgresql")).or_else(in_path).filter(|folder| is_complete(folder)))
}

/// Of folders named by major version, the `bin` of the greatest that is complete.
fn newest_in(versions: &Path) -> Option<PathBuf> {
    let folders = versions.read_dir().ok()?.flatten();
    let numbered = folders.filter_map(|folder| {
        let version: u32 = folder.file_name().to_str()?.parse().ok()?;
        Some((version, folder.path().join("bin")))
    });
    numbered.filter(|(_, bin)| is_complete(bin)).max().map(|(_, bin)| bin)
}

fn is_complete(bin: &Path) -> bool {
    is_executable(&bin.join("initdb")) && is_executable(&bin.join("postgres"))
}

/// Installs the distribution's PostgreSQL server.
pub(super) fn install() -> Result<()> {
    let why = "a private PostgreSQL";
    // Depends on the distribution's own version: 15 in Debian 12.
    let server = "postgresql";
    let Some(root) = Root::find().filter(|_| apt::is_here()) else { return apt::install(&[server], why) };
    let _held = HeldBack::new().context("could not hold signals back")?;
    heal(root)?;
    let _policy = quiet::forbid_service_starts(root, "postgresql")?;
    // First, since it brings the file that keeps the server's package from making and starting a cluster.
    apt::install(&["postgresql-common"], why)?;
    let _no_cluster = PutBack::replace(root, Path::new(CREATE_CLUSTER), 0o644, without_main_cluster)?;
    apt::install(&[server], why)
}

/// Undoes what an installation of ours that was killed left behind.
fn heal(root: Root) -> Result<()> {
    quiet::heal(root)?;
    let settings = fs::read_to_string(CREATE_CLUSTER).unwrap_or_default();
    if let Some((users, _)) = settings.split_once(&format!("\n{MARK}")) {
        root.write(Path::new(CREATE_CLUSTER), users.as_bytes(), 0o644)?;
    }
    Ok(())
}

/// The last setting counts, so that what the user wrote above need not be touched.
fn without_main_cluster(before: &[u8]) -> Vec<u8> {
    [before, format!("\n{MARK}\ncreate_main_cluster = false\n").as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn program(file: &Path) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "").unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn the_newest_complete_version_is_chosen() {
        let folder = tempfile::tempdir().unwrap();
        for version in ["9", "15"] {
            program(&folder.path().join(version).join("bin/initdb"));
            program(&folder.path().join(version).join("bin/postgres"));
        }
        // A client alone, and a folder that is no version.
        program(&folder.path().join("17/bin/psql"));
        program(&folder.path().join("old/bin/initdb"));
        assert_eq!(newest_in(folder.path()), Some(folder.path().join("15/bin")));
    }

    #[test]
    fn what_the_user_set_stays_above_our_line() {
        let changed = String::from_utf8(without_main_cluster(b"start_conf = 'manual'")).unwrap();
        assert!(changed.starts_with("start_conf = 'manual'\n"));
        assert!(changed.ends_with("\ncreate_main_cluster = false\n"));
    }
}
