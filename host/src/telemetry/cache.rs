//! What the cache's part counts, and whether it can do its work.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use super::{Delays, Reasons};

/// The counters of deletions from the cache.
#[derive(Debug, Default)]
pub struct CacheMetrics {
    /// Keys that were deleted, whether or not they were there.
    pub deletions: AtomicU64,
    /// Keys and prefixes that nobody could delete, since there is no cache, or no index.
    pub dropped: AtomicU64,
    /// Tries that failed, by reason.
    pub errors: Reasons,
    /// From the commit in the database until the keys were gone.
    pub delays: Delays,
    /// What keeps deletions, and the pipeline with them.
    pub deleting: Trouble,
    /// What keeps the write that is tried all the time.
    pub trying: Trouble,
}

impl CacheMetrics {
    /// What is wrong now.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.deleting.now().or_else(|| self.trying.now())
    }
}

/// What is wrong with something, as long as it is.
#[derive(Debug, Default)]
pub struct Trouble(Mutex<Option<String>>);

impl Trouble {
    /// Says what is wrong, or that nothing is any more, and gives what was before.
    pub fn set(&self, trouble: Option<String>) -> Option<String> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), trouble)
    }

    /// What is wrong now.
    #[must_use]
    pub fn now(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
