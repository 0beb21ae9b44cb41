//! Doubts: that something has changed which may end what a stream was permitted.
//!
//! In: other keys, another gate, an edge. Out: at once a count, by which whoever writes to the stream sees that somebody
//! has to look first; and a call for who looks.
//!
//! Invariant: a doubt counts before whoever raised it goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{Notify, watch};

/// What is doubted of everybody: keys and the gate.
#[derive(Debug, Clone)]
pub(super) struct Common {
    count: Arc<AtomicU64>,
    told: watch::Sender<()>,
}

impl Common {
    pub(super) fn new() -> Self {
        // Not 0: a count that somebody has settled is told from none.
        Self { count: Arc::new(AtomicU64::new(1)), told: watch::Sender::new(()) }
    }

    pub(super) fn raise(&self) {
        self.count.fetch_add(1, Ordering::Release);
        self.told.send_replace(());
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.told.subscribe()
    }

    /// Those of one stream.
    pub(super) fn of_stream(&self) -> Doubts {
        Doubts { common: Arc::clone(&self.count), own: AtomicU64::new(0), told: Notify::new() }
    }
}

/// What is doubted of one stream.
#[derive(Debug)]
pub struct Doubts {
    common: Arc<AtomicU64>,
    own: AtomicU64,
    told: Notify,
}

impl Doubts {
    /// How many there were so far. It grows only, and is never 0.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.common.load(Ordering::Acquire) + self.own.load(Ordering::Acquire)
    }

    pub(super) fn raise(&self) {
        self.own.fetch_add(1, Ordering::Release);
        self.told.notify_waiters();
    }

    /// Waits for one that is raised after this future was enabled, or polled.
    pub(super) fn raised(&self) -> tokio::sync::futures::Notified<'_> {
        self.told.notified()
    }
}
