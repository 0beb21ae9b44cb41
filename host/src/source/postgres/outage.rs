//! What may heal by itself: how long to wait, and what to say.
//!
//! In: that something failed, or works again. Out: one line in the program's log for each change of state, not for
//! each try.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::{info, warn};

use super::error::{SourceError, with_causes};
use crate::limits::{RETRY_DELAY_MAX, RETRY_DELAY_MIN};

/// A delay that doubles.
#[derive(Debug)]
pub(super) struct Backoff {
    delay: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { delay: RETRY_DELAY_MIN }
    }
}

impl Backoff {
    /// Waits, each time twice as long, up to the limit.
    pub(super) async fn wait(&mut self) {
        tokio::time::sleep(self.advance()).await;
    }

    fn advance(&mut self) -> Duration {
        let delay = self.delay;
        self.delay = (delay * 2).min(RETRY_DELAY_MAX);
        delay
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_doubles_up_to_its_limit() {
        let mut backoff = Backoff::default();
        let delays: Vec<_> = (0..8).map(|_| backoff.advance()).collect();
        assert_eq!(delays[..3], [RETRY_DELAY_MIN, RETRY_DELAY_MIN * 2, RETRY_DELAY_MIN * 4]);
        assert_eq!(delays[6..], [RETRY_DELAY_MAX, RETRY_DELAY_MAX]);
    }
}
