//! Servers of other major versions of PostgreSQL than the system's: from npm, exactly as locked by
//! `tests/postgres/package-lock.json`, which has the digest of each.
//!
//! Always: no script of a package is run. What a package's own script would do, its symbolic links, is done here.
//! Absent on purpose: `psql`, which the packages do not have; the system's is used.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::test::Length;
use crate::{place, process};

/// The oldest and the newest that a source reads from.
const ENDS: [u32; 2] = [14, 18];
/// All of them.
const ALL: [u32; 5] = [14, 15, 16, 17, 18];

/// The major versions that the suite meets beside the system's.
#[must_use]
pub fn majors(length: Length) -> &'static [u32] {
    match length {
        Length::Short => &ENDS,
        Length::Long => &ALL,
    }
}

/// The folder with `initdb` and `postgres` of a major version.
///
/// # Errors
/// It is not installed.
pub fn binaries(major: u32) -> Result<PathBuf> {
    let bin = package(&folder()?, major).join("native/bin");
    if place::is_executable(&bin.join("initdb")) && place::is_executable(&bin.join("postgres")) {
        return Ok(bin);
    }
    bail!("PostgreSQL {major} is not in {}: `cargo xtask test` installs it", bin.display())
}

/// Installs what the suite of this length needs, unless it is there.
///
/// # Errors
/// npm fails, or the packages are not for this machine.
pub(super) fn install(length: Length) -> Result<()> {
    let (from, to) = (place::root().join("tests/postgres"), folder()?);
    let mark = to.join("installed");
    let lock =
        fs::read_to_string(from.join("package-lock.json")).context("no lock of PostgreSQL's versions")?;
    let is_current = fs::read_to_string(&mark).is_ok_and(|installed| installed == lock);
    if is_current && majors(length).iter().all(|major| binaries(*major).is_ok()) {
        return Ok(());
    }
    if cfg!(not(all(target_os = "linux", target_arch = "x86_64"))) {
        bail!("the versions of PostgreSQL that the suite meets are packaged for Linux on x86-64 alone");
    }
    fs::create_dir_all(&to).with_context(|| format!("could not make {}", to.display()))?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(from.join(file), to.join(file)).with_context(|| format!("could not copy {file}"))?;
    }
    println!("  npm ci for PostgreSQL {:?}", majors(length));
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-progress"]).current_dir(&to);
    if length == Length::Short {
        npm.arg("--omit=optional");
    }
    process::run(npm.stdin(Stdio::null())).context("could not install versions of PostgreSQL from npm")?;
    for major in majors(length) {
        link(&package(&to, *major))?;
        binaries(*major)?;
    }
    fs::write(mark, lock).context("could not mark the versions of PostgreSQL as installed")
}

fn folder() -> Result<PathBuf> {
    Ok(place::target()?.join("postgres"))
}

fn package(folder: &Path, major: u32) -> PathBuf {
    folder.join(format!("node_modules/postgres-{major}"))
}

/// A symbolic link that npm's archives cannot hold: paths from the package's root.
#[derive(Deserialize)]
struct Link {
    source: PathBuf,
    target: PathBuf,
}

/// Makes the links of the shared libraries' names, all of which lead to their neighbors.
fn link(package: &Path) -> Result<()> {
    let file = package.join("native/pg-symlinks.json");
    let list = fs::read(&file).with_context(|| format!("could not read {}", file.display()))?;
    let links: Vec<Link> = serde_json::from_slice(&list).with_context(|| file.display().to_string())?;
    for Link { source, target } in links {
        let name = source.file_name().filter(|_| source.parent() == target.parent());
        let name =
            name.with_context(|| format!("{} is no neighbor of {}", source.display(), target.display()))?;
        let link = package.join(&target);
        match symlink(name, &link) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("could not make {}", link.display()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_linked_under_their_other_names() {
        let package = tempfile::tempdir().unwrap();
        let lib = package.path().join("native/lib");
        fs::create_dir_all(&lib).unwrap();
        fs::write(lib.join("libpq.so.5.14"), "pq").unwrap();
        let list = r#"[{"source":"native/lib/libpq.so.5.14","target":"native/lib/libpq.so.5"}]"#;
        fs::write(package.path().join("native/pg-symlinks.json"), list).unwrap();
        link(package.path()).unwrap();
        link(package.path()).unwrap();
        assert_eq!(fs::read_to_string(lib.join("libpq.so.5")).unwrap(), "pq");
        let list = r#"[{"source":"native/lib/libpq.so.5.14","target":"elsewhere/libpq.so.5"}]"#;
        fs::write(package.path().join("native/pg-symlinks.json"), list).unwrap();
        assert!(link(package.path()).is_err());
    }

    #[test]
    fn every_version_is_locked_with_its_digest() {
        let lock = fs::read_to_string(place::root().join("tests/postgres/package-lock.json")).unwrap();
        let lock: serde_json::Value = serde_json::from_str(&lock).unwrap();
        for major in ALL {
            let package = &lock["packages"][format!("node_modules/postgres-{major}")];
            assert!(package["version"].as_str().unwrap().starts_with(&format!("{major}.")), "{package}");
            assert!(package["integrity"].as_str().unwrap().starts_with("sha512-"), "{package}");
        }
    }
}
