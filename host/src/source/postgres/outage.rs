//! What may heal by itself: what to say of it.
//!
//! In: that something failed, or works again. Out: one line in the program's log for each change of state, not for
//! each try.

use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{info, warn};

use super::error::{SourceError, with_causes};

/// Whether a source reads.
#[derive(Debug)]
pub(super) struct Outage {
    source: Box<str>,
    log_full: AtomicBool,
    server_lost: AtomicBool,
}

impl Outage {
    pub(super) fn new(source: &str) -> Self {
        Self { source: source.into(), log_full: AtomicBool::new(false), server_lost: AtomicBool::new(false) }
    }

    pub(super) fn log_is_full(&self, error: &SourceError) {
        self.begin(&self.log_full, error);
    }

    pub(super) fn log_is_well(&self) {
        self.end(&self.log_full);
    }

    pub(super) fn server_is_lost(&self, error: &SourceError) {
        self.begin(&self.server_lost, error);
    }

    pub(super) fn server_is_back(&self) {
        self.end(&self.server_lost);
    }

    fn begin(&self, state: &AtomicBool, error: &SourceError) {
        if !state.swap(true, Ordering::Relaxed) {
            warn!(source = &*self.source, "reading stopped: {}", with_causes(error));
        }
    }

    fn end(&self, state: &AtomicBool) {
        if state.swap(false, Ordering::Relaxed) {
            info!(source = &*self.source, "reading again");
        }
    }
}
