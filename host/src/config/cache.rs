//! What is said of the cache that keys are deleted from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::units;
use crate::limits::{CACHE_HOLD, CACHE_HOLD_MAX, CACHE_HOLD_MIN, KEY_BYTES_MAX};

/// The cache.
#[derive(Clone, PartialEq)]
pub struct Cache {
    /// Where it is; may hold a password.
    pub url: String,
    /// What every key there begins with.
    pub prefix: String,
    /// How long nobody may fill a key after it was deleted.
    pub hold: Duration,
    /// Whether there is an index of keys.
    pub index: bool,
}

impl std::fmt::Debug for Cache {
    /// Without the URL: it may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// What the file says about it.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCache {
    url: Option<String>,
    url_file: Option<PathBuf>,
    prefix: Option<String>,
    #[serde(default, deserialize_with = "units::duration")]
    hold: Option<Duration>,
    index: Option<bool>,
}

impl RawCache {
    /// With the defaults; paths begin at `folder`.
    ///
    /// # Errors
    /// The key, and what is wrong with it.
    pub(super) fn check(self, folder: &Path) -> Result<Cache, (&'static str, String)> {
        let url = match (self.url, self.url_file) {
            (Some(url), None) => url,
            (None, Some(file)) => std::fs::read_to_string(folder.join(&file))
                .map_err(|error| ("cache.url_file", format!("{}: {error}", file.display())))?
                .trim()
                .to_owned(),
            (Some(_), Some(_)) => return Err(("cache", "has `url` and `url_file`: keep one".to_owned())),
            (None, None) => return Err(("cache", "needs `url` or `url_file`".to_owned())),
        };
        let prefix = self.prefix.unwrap_or_default();
        if prefix.len() > KEY_BYTES_MAX {
            return Err(("cache.prefix", format!("has more than {KEY_BYTES_MAX} bytes")));
        }
        let hold = self.hold.unwrap_or(CACHE_HOLD);
        if !(CACHE_HOLD_MIN..=CACHE_HOLD_MAX).contains(&hold) {
            return Err(("cache.hold", "is not from 10ms to 10m".to_owned()));
        }
        Ok(Cache { url, prefix, hold, index: self.index.unwrap_or(false) })
    }
}
