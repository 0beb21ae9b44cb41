//! Who looks on: what a pipeline has judged, for one that compares.
//!
//! In: records, and the set that judged them, after they are applied. Out: the same through a bounded queue.
//!
//! Invariant: the pipeline never waits. What does not fit is left out and counted; while nobody looks on, nothing is
//! copied.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::mpsc;

use crate::limits::SHADOW_QUEUE_COUNT_MAX;
use crate::log::Record;
use crate::registry::PluginSet;

/// Records that were judged, and by whom.
#[derive(Debug)]
pub struct Judged {
    /// In their order, without gaps.
    pub records: Vec<Record>,
    /// What judged them.
    pub set: PluginSet,
}

/// The pipeline's end, and the switch. Clones share it.
#[derive(Debug, Clone)]
pub struct Beside(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: mpsc::Sender<Judged>,
    is_watched: AtomicBool,
    left_out: AtomicU64,
}

impl Beside {
    /// With nobody who looks on.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Judged>) {
        let (queue, judged) = mpsc::channel(SHADOW_QUEUE_COUNT_MAX);
        let inner = Inner { queue, is_watched: AtomicBool::new(false), left_out: AtomicU64::new(0) };
        (Self(Arc::new(inner)), judged)
    }

    /// From now on somebody looks on.
    pub fn watch(&self) {
        self.0.is_watched.store(true, Ordering::Relaxed);
    }

    /// Nobody does any more.
    pub fn unwatch(&self) {
        self.0.is_watched.store(false, Ordering::Relaxed);
    }

    /// Changes that were left out so far.
    #[must_use]
    pub fn left_out_count(&self) -> u64 {
        self.0.left_out.load(Ordering::Relaxed)
    }

    /// Changes that could not be compared.
    pub fn leave_out(&self, count: usize) {
        self.0.left_out.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(super) fn tell(&self, records: Vec<Record>, set: &PluginSet) {
        if !self.0.is_watched.load(Ordering::Relaxed) {
            return;
        }
        let count = records.len();
        if self.0.queue.try_send(Judged { records, set: set.clone() }).is_err() {
            self.leave_out(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Offset;

    fn record() -> Vec<Record> {
        vec![Record { offset: Offset(0), payload: bytes::Bytes::new() }]
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_counted_and_nothing_is_while_nobody_looks_on() {
        let (beside, mut judged) = Beside::new();
        beside.tell(record(), &PluginSet::default());
        assert!(judged.try_recv().is_err());
        beside.watch();
        for _ in 0..SHADOW_QUEUE_COUNT_MAX + 3 {
            beside.tell(record(), &PluginSet::default());
        }
        assert_eq!((judged.len(), beside.left_out_count()), (SHADOW_QUEUE_COUNT_MAX, 3));
        beside.unwatch();
        beside.tell(record(), &PluginSet::default());
        assert_eq!(beside.left_out_count(), 3);
    }
}
