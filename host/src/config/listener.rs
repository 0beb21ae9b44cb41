//! How the public listener speaks: its certificate.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate's file.
    pub certificate_file: PathBuf,
    /// The key's.
    pub key_file: PathBuf,
}

/// What the file says about TLS.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTls {
    certificate_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

impl RawTls {
    /// Sees that it is whole; none if it says nothing.
    ///
    /// # Errors
    /// The key that is missing.
    pub(super) fn check(self, folder: &Path) -> Result<Option<Tls>, &'static str> {
        match (self.certificate_file, self.key_file) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => {
                Ok(Some(Tls { certificate_file: folder.join(certificate), key_file: folder.join(key) }))
            }
            (Some(_), None) => Err("key_file"),
            (None, Some(_)) => Err("certificate_file"),
        }
    }
}
