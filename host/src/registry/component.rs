//! Components: what is known of them, and their bytes on disk.
//!
//! In: bytes and their digest. Out: the same bytes, checked, or an error that names the file.
//!
//! Invariant: a file is there whole or not at all, under the digest of its bytes; what is read has been checked.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::RegistryError;
use crate::event::Micros;
use crate::failpoint::failpoint;
use crate::policy::{Digest, Profile};

/// What is known of an uploaded component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Its name that cannot lie.
    pub digest: Digest,
    /// Its size.
    pub bytes_count: u64,
    /// The name that its own metadata gives it.
    pub name: Option<String>,
    /// The version, likewise.
    pub version: Option<String>,
    /// What it says of itself, likewise.
    pub description: Option<String>,
    /// What it exports: `filter`, `router`, `fanout`, `gate`.
    pub stages: Vec<String>,
    /// The limits under which it was accepted.
    pub profile: Profile,
    /// Who uploaded it first.
    pub by: String,
    /// When.
    pub at: Micros,
}

/// The folder of the bytes.
#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Made if it is not there, for this user alone.
    pub(super) fn open(path: &Path) -> Result<Self, RegistryError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|source| RegistryError::Io { path: path.into(), source })?;
        Ok(Self(path.into()))
    }

    pub(super) fn path(&self, digest: Digest) -> PathBuf {
        self.0.join(format!("{digest}.wasm"))
    }

    /// Durable when it returns.
    pub(super) fn write(&self, digest: Digest, wasm: &[u8]) -> Result<(), RegistryError> {
        let path = self.path(digest);
        let new = path.with_extension("new");
        let written = (|| {
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(wasm)?;
            file.sync_all()?;
            failpoint!("component-before-rename");
            fs::rename(&new, &path)?;
            fs::File::open(&self.0)?.sync_all()
        })();
        written.map_err(|source| RegistryError::Io { path, source })
    }

    pub(super) fn read(&self, digest: Digest) -> Result<Vec<u8>, RegistryError> {
        let path = self.path(digest);
        let wasm = match fs::read(&path) {
            Ok(wasm) => wasm,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(RegistryError::Missing { path, digest });
            }
            Err(source) => return Err(RegistryError::Io { path, source }),
        };
        if Digest::of(&wasm) == digest { Ok(wasm) } else { Err(RegistryError::Damaged { path, digest }) }
    }

    /// What is left over there would be in nobody's way.
    pub(super) fn remove(&self, digest: Digest) {
        let path = self.path(digest);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "a component that is not used any more stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let home = tempfile::tempdir().expect("there is a temporary folder");
        let folder = Folder::open(&home.path().join("a/b")).expect("it can be made");
        (home, folder)
    }

    #[test]
    fn a_component_is_read_as_it_was_written() {
        let (_home, folder) = folder();
        let digest = Digest::of(b"component");
        folder.write(digest, b"component").expect("there is space");
        folder.write(digest, b"component").expect("once more changes nothing");
        assert_eq!(folder.read(digest).expect("it is there"), b"component");
    }

    #[test]
    fn a_missing_or_damaged_file_is_an_error_that_names_it_and_says_what_to_do() {
        let (_home, folder) = folder();
        let digest = Digest::of(b"component");
        let message = folder.read(digest).expect_err("it is not there").to_string();
        assert!(message.contains(&folder.path(digest).display().to_string()), "{message}");
        assert!(message.contains("put it back"), "{message}");
        folder.write(digest, b"other").expect("there is space");
        let message = folder.read(digest).expect_err("it is damaged").to_string();
        assert!(message.contains("is damaged") && message.contains(&digest.to_string()), "{message}");
    }
}
