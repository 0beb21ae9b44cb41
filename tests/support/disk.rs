//! A disk that can be full.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A file system of 256 MB in memory, unmounted when dropped.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Mounts it.
    ///
    /// # Errors
    /// If that is not allowed.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("twohop-small-").tempdir()?;
        mount(Some("tmpfs"), folder.path(), Some("tmpfs"), MsFlags::empty(), Some("size=256m"))
            .context("cannot mount a tmpfs: this test needs the right to mount, run the suite as root, in a container with CAP_SYS_ADMIN")?;
        Ok(Self(folder))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all of the space that is left, by a file which gives it back when it is removed.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn fill(&self) -> Result<PathBuf> {
        let ballast = self.path().join("ballast");
        let mut file = File::create(&ballast)?;
        for block in [1 << 20, 4096, 1] {
            while file.write_all(&vec![1; block]).is_ok() {}
        }
        Ok(ballast)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Detached even if something still holds a file there: nothing may stay behind.
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
    }
}
