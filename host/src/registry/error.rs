//! Why the registry could not do what was asked.

use std::path::PathBuf;

use crate::policy::Digest;
use crate::state::StateError;

/// Why the registry could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The embedded database refuses.
    #[error(transparent)]
    State(#[from] StateError),
    /// A component's bytes are gone.
    #[error("the component {} is missing: put it back, the file with the SHA-256 {digest}", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
        /// Which it is.
        digest: Digest,
    },
    /// A component's bytes are others.
    #[error("the component {} is damaged: put back the file with the SHA-256 {digest}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What its digest should be.
        digest: Digest,
    },
    /// The disk refuses.
    #[error("the folder of components cannot use {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A job of the registry ended before its time.
    #[error("a job of the registry panicked: the lines above say why")]
    Panic,
}

impl RegistryError {
    /// Whether it heals once the disk has space.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::State(StateError::DiskFull { .. }) => true,
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            _ => false,
        }
    }
}
