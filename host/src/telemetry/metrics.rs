//! Figures: their names, and the counters that are counted where things happen.
//!
//! Invariant: to count never waits and never fails. Counters begin at 0 with the program and only grow.
//!
//! To add a metric: a row in [`NAMES`], a value in `admin/metrics.rs`, a line in `docs/metrics.md` by the test that
//! compares it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::SnapshotMetrics;
use crate::limits::PLUGINS_COUNT_MAX;

/// What a metric does over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It counts what was at most so large.
    Histogram,
}

impl Kind {
    /// As Prometheus names it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One row a metric: its name, what it does over time, what it is. Those of plugins have the label `plugin`.
pub const NAMES: &[(&str, Kind, &str)] = &[
    ("twohop_changes_total", Kind::Counter, "Changes that were judged and whose effects are durable."),
    (
        "twohop_delay_seconds",
        Kind::Histogram,
        "From the commit in the database until the effects are durable, of the oldest change of each batch, snapshots and replays left out.",
    ),
    ("twohop_pipeline_offset", Kind::Gauge, "The first offset of the change log that is not judged."),
    ("twohop_log_first_offset", Kind::Gauge, "The first offset that the change log holds."),
    (
        "twohop_log_end_offset",
        Kind::Gauge,
        "The offset that the next change will get. Less the pipeline's offset, it is how far the pipeline is behind.",
    ),
    ("twohop_pipeline_paused", Kind::Gauge, "1 while a fault has paused the pipeline, else 0."),
    ("twohop_history_head", Kind::Gauge, "The sequence of the newest kept message."),
    (
        "twohop_access_refusals_total",
        Kind::Counter,
        "Requests and streams that were refused because of who may listen; the label `reason` says why.",
    ),
    (
        "twohop_gate_calls_total",
        Kind::Counter,
        "Times that the gate was asked what somebody may listen to, for all channels of a stream at once.",
    ),
    (
        "twohop_streams",
        Kind::Gauge,
        "Event streams, WebSockets and waiting long-polls of clients, by `face`.",
    ),
    ("twohop_sent_messages_total", Kind::Counter, "Messages that were handed to clients, by `face`."),
    (
        "twohop_resets_total",
        Kind::Counter,
        "Times that a client was told that it may have missed messages, by `face`.",
    ),
    (
        "twohop_cuts_total",
        Kind::Counter,
        "Connections that were ended because their client took nothing (`reason` is `stalled`) or gave no sign of life (`silent`).",
    ),
    ("twohop_timelines_active", Kind::Gauge, "Timelines in memory."),
    (
        "twohop_timelines_bytes",
        Kind::Gauge,
        "Memory of feeds, by `part`: `timelines` (bounded by `timeline.bytes_max`), `posts` of authors who are merged, `followers`.",
    ),
    (
        "twohop_timelines_pushes_under_way",
        Kind::Gauge,
        "Posts that are being pushed into timelines, or wait for it.",
    ),
    (
        "twohop_timelines_pushes_total",
        Kind::Counter,
        "Posts that were pushed into the timelines of all active followers.",
    ),
    ("twohop_timelines_entries_total", Kind::Counter, "Entries that were written into timelines by pushes."),
    ("twohop_timelines_pulls_total", Kind::Counter, "Posts that were left to readers."),
    ("twohop_timelines_reads_total", Kind::Counter, "Pages that were read."),
    (
        "twohop_timelines_merges_total",
        Kind::Counter,
        "Authors whose posts had to be merged into a page that was read.",
    ),
    ("twohop_timelines_disk_reads_total", Kind::Counter, "Pages whose end, or all, was read from the disk."),
    (
        "twohop_timelines_evictions_total",
        Kind::Counter,
        "Timelines that were forgotten because memory was short.",
    ),
    (
        "twohop_timelines_push_seconds",
        Kind::Histogram,
        "From a post being durable until the last active follower has it, of posts that were pushed.",
    ),
    ("twohop_snapshot_rows_total", Kind::Counter, "Rows that the snapshots of the `source` have appended."),
    (
        "twohop_snapshot_tables_left",
        Kind::Gauge,
        "Tables of the `source` that are not read to their end; 0 once its snapshots are complete.",
    ),
    (
        "twohop_snapshot_progress",
        Kind::Gauge,
        "The part of the rows of the snapshot under way that the `source` has read, from 0 to 1, by the server's estimate; absent without one.",
    ),
    (
        "twohop_snapshot_seconds_left",
        Kind::Gauge,
        "What is left of the snapshot under way at its rate so far; absent while that is not known.",
    ),
    ("twohop_plugin_generation", Kind::Gauge, "The active generation of the plugin."),
    ("twohop_plugin_quarantined", Kind::Gauge, "1 if the plugin failed too often and is not called, else 0."),
    (
        "twohop_plugin_changes_total",
        Kind::Counter,
        "Changes that the plugin was asked about, once for each of its stages.",
    ),
    ("twohop_plugin_routes_total", Kind::Counter, "Routes that the plugin asked for and was granted."),
    (
        "twohop_plugin_refused_routes_total",
        Kind::Counter,
        "Routes that were dropped because the plugin has no grant for them.",
    ),
    (
        "twohop_plugin_faults_total",
        Kind::Counter,
        "Calls of the plugin that failed, also those that a second try mended.",
    ),
    (
        "twohop_plugin_missing_columns_total",
        Kind::Counter,
        "Columns that the plugin subscribed to and a table lacked, once for each version of the table.",
    ),
    ("twohop_plugin_dead_letters_total", Kind::Counter, "Changes that were set aside for the plugin."),
    (
        "twohop_plugin_seconds_total",
        Kind::Counter,
        "Time that the plugin took, on the wall clock, the host's work around it included.",
    ),
];

/// The upper bounds of the delay's buckets, in seconds.
pub const DELAY_BOUNDS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0];

/// The counters of a program.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Changes that were judged.
    pub changes: AtomicU64,
    /// How long they took.
    pub delays: Delays,
    /// Refusals because of who may listen, by reason.
    pub access_refusals: Reasons,
    /// Times that the gate was asked.
    pub gate_calls: AtomicU64,
    /// What clients got.
    pub gateway: GatewayMetrics,
    /// What feeds cost.
    pub timelines: Arc<TimelineMetrics>,
    plugins: Mutex<BTreeMap<Arc<str>, Arc<PluginMetrics>>>,
    snapshots: Mutex<BTreeMap<Arc<str>, Arc<SnapshotMetrics>>>,
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

/// How a client gets its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// Server-sent events.
    EventStream,
    /// WebSocket.
    WebSocket,
    /// Requests that wait.
    LongPoll,
}

impl Face {
    /// All there are, as they are counted.
    pub const ALL: [Self; 3] = [Self::EventStream, Self::WebSocket, Self::LongPoll];

    /// Its label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::EventStream => "sse",
            Self::WebSocket => "websocket",
            Self::LongPoll => "poll",
        }
    }
}

/// The counters of the gateway.
#[derive(Debug, Default)]
pub struct GatewayMetrics {
    faces: [FaceMetrics; Face::ALL.len()],
    /// Connections whose client took nothing.
    pub stalled: AtomicU64,
    /// Connections whose client gave no sign of life.
    pub silent: AtomicU64,
}

/// The counters of one face.
#[derive(Debug, Default)]
pub struct FaceMetrics {
    /// How many clients are there now.
    pub open: AtomicU64,
    /// Messages that were handed to them.
    pub messages: AtomicU64,
    /// Times that one was told that it may have missed some.
    pub resets: AtomicU64,
}

impl GatewayMetrics {
    /// The counters of a face.
    #[must_use]
    pub fn face(&self, face: Face) -> &FaceMetrics {
        &self.faces[face as usize]
    }
}

/// The counters of a plugin, over all its generations.
#[derive(Debug, Default)]
pub struct PluginMetrics {
    /// Changes that it was asked about.
    pub changes: AtomicU64,
    /// Routes that it asked for.
    pub routes: AtomicU64,
    /// Routes that were not granted.
    pub refused_routes: AtomicU64,
    /// Calls that failed.
    pub faults: AtomicU64,
    /// Columns that a table lacked.
    pub missing_columns: AtomicU64,
    /// Changes that were set aside.
    pub dead_letters: AtomicU64,
    /// What it took.
    pub nanoseconds: AtomicU64,
}

/// How often a delay was within each of [`DELAY_BOUNDS`].
#[derive(Debug, Default)]
pub struct Delays {
    buckets: [AtomicU64; DELAY_BOUNDS.len()],
    count: AtomicU64,
    micros: AtomicU64,
}

impl Delays {
    /// Counts a delay.
    pub fn observe(&self, delay: Duration) {
        let seconds = delay.as_secs_f64();
        for (bucket, bound) in self.buckets.iter().zip(DELAY_BOUNDS) {
            if seconds <= bound {
                bucket.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// For each bound how many were within it; how many there were; their sum.
    #[must_use]
    pub fn read(&self) -> ([u64; DELAY_BOUNDS.len()], u64, Duration) {
        let buckets = self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed));
        let micros = self.micros.load(Ordering::Relaxed);
        (buckets, self.count.load(Ordering::Relaxed), Duration::from_micros(micros))
    }
}

/// How often each of some reasons was there. Reasons are names of the program's own, so they are few.
#[derive(Debug, Default)]
pub struct Reasons(Mutex<BTreeMap<&'static str, u64>>);

impl Reasons {
    /// Counts one.
    pub fn add(&self, reason: &'static str) {
        *self.lock().entry(reason).or_default() += 1;
    }

    /// Those that were there, by name.
    #[must_use]
    pub fn read(&self) -> Vec<(&'static str, u64)> {
        self.lock().iter().map(|(reason, count)| (*reason, *count)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Metrics {
    /// The counters of a plugin. Past twice as many plugins as can be active, all are forgotten and begin anew.
    #[must_use]
    pub fn plugin(&self, name: &Arc<str>) -> Arc<PluginMetrics> {
        let mut plugins = self.lock();
        if let Some(found) = plugins.get(name) {
            return found.clone();
        }
        if plugins.len() >= 2 * PLUGINS_COUNT_MAX {
            plugins.clear();
        }
        plugins.entry(name.clone()).or_default().clone()
    }

    /// The counters of all plugins, by name.
    #[must_use]
    pub fn plugins(&self) -> Vec<(Arc<str>, Arc<PluginMetrics>)> {
        self.lock().iter().map(|(name, counters)| (name.clone(), counters.clone())).collect()
    }

    /// The snapshots of a source; there are as many as the configuration has.
    #[must_use]
    pub fn snapshot(&self, source: &str) -> Arc<SnapshotMetrics> {
        let mut snapshots = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        snapshots.entry(source.into()).or_default().clone()
    }

    /// Those of all sources, by name.
    #[must_use]
    pub fn snapshots(&self) -> Vec<(Arc<str>, Arc<SnapshotMetrics>)> {
        let snapshots = self.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        snapshots.iter().map(|(name, snapshot)| (name.clone(), snapshot.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<PluginMetrics>>> {
        self.plugins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_within_each_bound_that_is_not_below_it() {
        let delays = Delays::default();
        delays.observe(Duration::from_millis(7));
        delays.observe(Duration::from_secs(1_000));
        let (buckets, count, sum) = delays.read();
        assert_eq!(buckets, [0, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!((count, sum), (2, Duration::from_millis(1_000_007)));
    }

    #[test]
    fn the_plugins_that_are_counted_are_bounded() {
        let metrics = Metrics::default();
        for nth in 0..=2 * PLUGINS_COUNT_MAX {
            metrics.plugin(&format!("p{nth}").into()).routes.fetch_add(1, Ordering::Relaxed);
        }
        assert_eq!(metrics.plugins().len(), 1);
    }
}
