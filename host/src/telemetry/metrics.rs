//! Figures: their names, and the counters that are counted where things happen.
//!
//! Invariant: to count never waits and never fails. Counters begin at 0 with the program and only grow.
//!
//! To add a metric: a row in [`NAMES`], a value in `admin/metrics.rs`, a line in `docs/metrics.md` by the test that
//! compares it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{CacheMetrics, Delays, DeliveryDelays, HistoryMetrics, SnapshotMetrics, TimelineMetrics};
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
    ("twohop_values", Kind::Gauge, "Channels that have a value for those who come new."),
    ("twohop_values_bytes", Kind::Gauge, "Memory of these values (bounded by `history.values_bytes_max`)."),
    (
        "twohop_values_dropped_total",
        Kind::Counter,
        "Values that were dropped because there were too many, or that were too large to be one.",
    ),
    (
        "twohop_access_refusals_total",
        Kind::Counter,
        "Requests and streams that were refused because of who may listen; the label `reason` says why.",
    ),
    (
        "twohop_gate_calls_total",
        Kind::Counter,
        "Times that the gate was asked what somebody may listen to, for all channels of a stream at once, or what becomes of a message.",
    ),
    (
        "twohop_client_messages_total",
        Kind::Counter,
        "Messages that clients sent, by `outcome`: `kept`, `repeated` (kept before), `ephemeral`, or the reason of the refusal, such as `messages_too_many`.",
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
        "twohop_resumes_total",
        Kind::Counter,
        "Times that a client came back with an id after which the history is whole, by `face`; a long-poll with an id is one.",
    ),
    (
        "twohop_delivery_seconds",
        Kind::Histogram,
        "From a message being durable and known to the gateway until a client's connection took it, of the oldest of those that it took together. What comes before is `twohop_delay_seconds`.",
    ),
    (
        "twohop_end_to_end_seconds",
        Kind::Histogram,
        "From the commit in the database until a client's connection took the message, of the oldest change of its batch: kept messages as they come live, not those of snapshots and replays, and not what is read from the history.",
    ),
    (
        "twohop_connections",
        Kind::Gauge,
        "Connections of clients, whatever is spoken on them, and if nothing is.",
    ),
    (
        "twohop_cuts_total",
        Kind::Counter,
        "Connections that were ended because their client took nothing (`reason` is `stalled`), gave no sign of life (`silent`), did not ask in time (`late`), had nothing going on (`idle`), did not shake hands (`handshake`), sent what is no HTTP (`invalid`), or did not end within `gateway.grace` (`stopped`).",
    ),
    (
        "twohop_limited_total",
        Kind::Counter,
        "Connections, requests and streams that were refused because there were too many, by the `limit`: `connections`, `connections_per_address`, `requests_per_address`, `streams`, `streams_per_address`, `streams_per_subject`.",
    ),
    ("twohop_presence_channels", Kind::Gauge, "Channels in which somebody is seen or sees."),
    ("twohop_presence_members", Kind::Gauge, "Members of all these channels."),
    (
        "twohop_presence_frames_total",
        Kind::Counter,
        "Times that a client was told who is here, came or went.",
    ),
    (
        "twohop_presence_refused_total",
        Kind::Counter,
        "Times that a client had to do without presence on a channel, since it is kept of too many.",
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
    (
        "twohop_cache_deletions_total",
        Kind::Counter,
        "Keys that were deleted from the cache, whether or not they were there; with a prefix, those of the index.",
    ),
    (
        "twohop_cache_delay_seconds",
        Kind::Histogram,
        "From the commit in the database until its keys are deleted, of the oldest change of each batch that deletes any, snapshots and replays left out.",
    ),
    (
        "twohop_cache_errors_total",
        Kind::Counter,
        "Times that keys could not be deleted and it was tried again, by `reason`: `unreachable`, `silent`, `password`, `replica`, `forbidden`, `refused`, `foreign`, `cluster`.",
    ),
    (
        "twohop_cache_waiting",
        Kind::Gauge,
        "1 while the pipeline waits for the Redis of the cache, or a write that is tried there each second fails; then `/readyz` is red. Else 0.",
    ),
    (
        "twohop_cache_dropped_total",
        Kind::Counter,
        "Keys and prefixes that a plugin would have deleted, but there is no `[cache]`, or no index for the prefix.",
    ),
    (
        "twohop_source_gaps_total",
        Kind::Counter,
        "Times at which changes of the `source` were lost and everything was read again.",
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
    /// What is kept for who comes new.
    pub history: Arc<HistoryMetrics>,
    /// What became of messages of clients.
    pub client_messages: Reasons,
    /// What clients got.
    pub gateway: GatewayMetrics,
    /// What feeds cost.
    pub timelines: Arc<TimelineMetrics>,
    /// What was deleted from the cache.
    pub cache: CacheMetrics,
    plugins: Mutex<BTreeMap<Arc<str>, Arc<PluginMetrics>>>,
    snapshots: Mutex<BTreeMap<Arc<str>, Arc<SnapshotMetrics>>>,
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

/// Why a connection was ended by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutReason {
    /// Its client took nothing.
    Stalled,
    /// It gave no sign of life.
    Silent,
    /// It did not ask in time.
    Late,
    /// Nothing went on.
    Idle,
    /// There was no handshake of TLS.
    Handshake,
    /// What came is no HTTP, or too much of it.
    Invalid,
    /// It did not end when the server did.
    Stopped,
}

impl CutReason {
    /// All there are, as they are counted.
    pub const ALL: [Self; 7] =
        [Self::Stalled, Self::Silent, Self::Late, Self::Idle, Self::Handshake, Self::Invalid, Self::Stopped];

    /// Its label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stalled => "stalled",
            Self::Silent => "silent",
            Self::Late => "late",
            Self::Idle => "idle",
            Self::Handshake => "handshake",
            Self::Invalid => "invalid",
            Self::Stopped => "stopped",
        }
    }
}

/// Of what there may be only so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Connections in all.
    Connections,
    /// Of one address.
    ConnectionsPerAddress,
    /// Requests of one address in some time.
    RequestsPerAddress,
    /// Streams in all.
    Streams,
    /// Of one address.
    StreamsPerAddress,
    /// Of one subject.
    StreamsPerSubject,
}

impl Limit {
    /// All there are, as they are counted.
    pub const ALL: [Self; 6] = [
        Self::Connections,
        Self::ConnectionsPerAddress,
        Self::RequestsPerAddress,
        Self::Streams,
        Self::StreamsPerAddress,
        Self::StreamsPerSubject,
    ];

    /// Its label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsPerAddress => "connections_per_address",
            Self::RequestsPerAddress => "requests_per_address",
            Self::Streams => "streams",
            Self::StreamsPerAddress => "streams_per_address",
            Self::StreamsPerSubject => "streams_per_subject",
        }
    }
}

/// The counters of a listener.
#[derive(Debug, Default)]
pub struct ListenerMetrics {
    /// How many connections are there now.
    pub connections: AtomicU64,
    cuts: [AtomicU64; CutReason::ALL.len()],
    limited: [AtomicU64; Limit::ALL.len()],
}

impl ListenerMetrics {
    /// How often a connection was cut for a reason.
    #[must_use]
    pub fn cuts(&self, reason: CutReason) -> &AtomicU64 {
        &self.cuts[reason as usize]
    }

    /// How often a limit was reached.
    #[must_use]
    pub fn limited(&self, limit: Limit) -> &AtomicU64 {
        &self.limited[limit as usize]
    }

    /// Counts one that was cut.
    pub fn count_cut(&self, reason: CutReason) {
        self.cuts(reason).fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one that was too many.
    pub fn count_limited(&self, limit: Limit) {
        self.limited(limit).fetch_add(1, Ordering::Relaxed);
    }
}

/// The counters of the gateway.
#[derive(Debug, Default)]
pub struct GatewayMetrics {
    faces: [FaceMetrics; Face::ALL.len()],
    /// Of its listener.
    pub listener: Arc<ListenerMetrics>,
    /// How long messages took to clients.
    pub deliveries: Arc<DeliveryDelays>,
    /// Channels in which somebody is seen or sees.
    pub presence_channels: AtomicU64,
    /// Their members.
    pub presence_members: AtomicU64,
    /// Times that a client was told of them.
    pub presence_frames: AtomicU64,
    /// Times that a client had to do without.
    pub presence_refused: AtomicU64,
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
    /// Times that one came back to a history that is whole.
    pub resumes: AtomicU64,
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
    fn the_plugins_that_are_counted_are_bounded() {
        let metrics = Metrics::default();
        for nth in 0..=2 * PLUGINS_COUNT_MAX {
            metrics.plugin(&format!("p{nth}").into()).routes.fetch_add(1, Ordering::Relaxed);
        }
        assert_eq!(metrics.plugins().len(), 1);
    }
}
