//! A message of our own in the database's log, now and then, where a person wants that.
//!
//! In: an interval. Out: `pg_logical_emit_message` with the prefix [`PREFIX`], outside of any transaction.
//!
//! A slot whose tables are quiet follows the server's log without it, by what the server says on the connection. What it
//! adds: the whole way from the database to the slot is walked, also where nobody writes anything, so that a slot that
//! stands still is a fault.
//!
//! Invariant: one message an interval at most, and none is waited for by the stream.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::connect::Control;
use super::error::SourceError;
use super::wire::place;

const DOING: &str = "`pg_logical_emit_message`";

/// The prefix of these messages, which never become changes.
pub const PREFIX: &str = "twohop.heartbeat";

/// When the next one is due.
#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Option<Duration>,
    due: Instant,
}

impl Heartbeat {
    /// The first one is due at once; without an interval, none ever is.
    pub(super) fn new(interval: Option<Duration>) -> Self {
        Self { interval, due: Instant::now() }
    }

    /// Writes the next one when it is due. Cancelled, it may be written or not; another is due an interval later.
    pub(super) async fn next(&mut self, control: &Control) -> Result<(), SourceError> {
        let Some(interval) = self.interval else { return std::future::pending().await };
        sleep_until(self.due).await;
        self.due = Instant::now() + interval;
        let emit = format!("SELECT pg_logical_emit_message(false, '{PREFIX}', '')");
        control.execute(DOING, &emit).await
    }
}

/// Writes one in a transaction, which is on the server's disk then, and gives its place: everything that was over before
/// is before it.
pub(super) async fn emit(control: &Control) -> Result<u64, SourceError> {
    const EMIT: &str = "SELECT pg_logical_emit_message(true, $1, '')::text";
    let rows = control.query(DOING, EMIT, &[&PREFIX]).await?;
    Ok(rows.first().and_then(|row| place(row.get(0))).unwrap_or(u64::MAX))
}
