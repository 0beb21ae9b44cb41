//! Removal of old segments: by age, and by size.
//!
//! Invariants: only whole segments, from the front, never a partition's last one, and never one that holds what a
//! known consumer has not committed; if no consumer is known, none.

use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::SystemTime;

use super::Store;
use super::partition::Partition;
use crate::limits::LOG_RETENTION_INTERVAL;

/// Removes what is due, now and then and whenever woken, until nobody is left who could wake it.
pub(super) fn run(store: &Store, woken: &Receiver<()>) {
    while !matches!(woken.recv_timeout(LOG_RETENTION_INTERVAL), Err(RecvTimeoutError::Disconnected)) {
        remove_due(store, SystemTime::now());
    }
}

/// Removes segments, the oldest first, while they are too old or the whole log is too large.
pub(super) fn remove_due(store: &Store, now: SystemTime) {
    let _one_at_a_time = store.removing.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let removable = store.partitions.iter().filter_map(|partition| newest_record(store, partition));
        let Some((partition, newest)) = removable.min_by_key(|(_, newest)| *newest) else { return };
        // A clock that was set back makes nothing old.
        let old = now.duration_since(newest).is_ok_and(|age| age >= store.config.age_max);
        if !old && store.bytes() < store.config.bytes_max {
            return;
        }
        let removed = store.consumers.secure().and_then(|()| partition.remove_oldest(&*store.disk));
        if let Err(error) = removed {
            tracing::warn!(%error, "cannot remove an old segment of the change log; trying again later");
            return;
        }
    }
}

/// When the newest record of a partition's first segment was written, at the latest, if it may be removed.
fn newest_record<'a>(store: &Store, partition: &'a Partition) -> Option<(&'a Partition, SystemTime)> {
    let (_, next) = partition.oldest()?;
    let slowest = store.consumers.slowest(partition.number)?;
    (slowest.next >= next.first()).then_some((partition, next.header.created_at))
}
