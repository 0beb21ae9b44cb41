//! What the program says of itself: lines on the standard error, for people and for log collectors; and figures, for
//! those who watch it (`metrics`).
//!
//! Invariant: no row values and no secrets. The standard output carries results only, such as the address.

mod cache;
mod delays;
mod metrics;
mod snapshot;
mod stores;

use std::io::IsTerminal;

pub use cache::{CacheMetrics, Trouble};
pub use delays::{DELAY_BOUNDS, Delays, DeliveryDelays};
pub use metrics::{
    CutReason, Face, FaceMetrics, GatewayMetrics, Kind, Limit, ListenerMetrics, Metrics, NAMES,
    PluginMetrics, Reasons,
};
pub use snapshot::{SnapshotMetrics, TableProgress};
pub use stores::{HistoryMetrics, TimelineMetrics};
use tracing_subscriber::EnvFilter;

/// The two clients of PostgreSQL log what the source says better, and at times a row.
const FILTER: &str = "info,tokio_postgres=warn";

/// Starts logging. `filter` is in the notation of `tracing_subscriber::EnvFilter`, such as `twohop=debug`.
///
/// # Errors
/// If the filter cannot be understood.
pub fn start(filter: Option<&str>) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().parse(filter.unwrap_or(FILTER))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    Ok(())
}
