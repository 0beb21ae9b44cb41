//! What the stores count: values of channels, and timelines.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Delays;

/// The counters and gauges of channels' values.
#[derive(Debug, Default)]
pub struct HistoryMetrics {
    /// Channels that have one.
    pub values: AtomicU64,
    /// Their bytes.
    pub values_bytes: AtomicU64,
    /// Those that the bounds did not leave.
    pub values_dropped: AtomicU64,
}

impl HistoryMetrics {
    /// How many there are, and their bytes.
    pub fn set_values(&self, (count, bytes): (u64, u64)) {
        self.values.store(count, Ordering::Relaxed);
        self.values_bytes.store(bytes, Ordering::Relaxed);
    }
}

/// The counters and gauges of feeds.
#[derive(Debug, Default)]
pub struct TimelineMetrics {
    /// Timelines in memory.
    pub active: AtomicU64,
    /// Their bytes.
    pub timelines_bytes: AtomicU64,
    /// Those of authors' posts.
    pub posts_bytes: AtomicU64,
    /// Those of sets of followers.
    pub followers_bytes: AtomicU64,
    /// Posts that are being pushed, or wait for it.
    pub under_way: AtomicU64,
    /// Posts that were pushed.
    pub pushes: AtomicU64,
    /// Entries of pushes.
    pub entries: AtomicU64,
    /// Posts that were left to readers.
    pub pulls: AtomicU64,
    /// Pages that were read.
    pub reads: AtomicU64,
    /// Authors that were merged into them.
    pub merges: AtomicU64,
    /// Those for which the disk was read.
    pub disk_reads: AtomicU64,
    /// Timelines that were forgotten.
    pub evictions: AtomicU64,
    /// How long pushes took.
    pub push_delays: Delays,
}
