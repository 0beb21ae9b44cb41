//! After the source has connected: waiting for those of whom it is not known whether the stream has brought them.
//!
//! In: a connection. Out: that every transaction which was in progress is over.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::super::connect::{Control, Target};
use super::super::error::SourceError;
use super::chunk::look;
use super::open;
use super::visible::{Unsettled, Visible, lower};
use super::{DOING, Done};

const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How long it may take before we say what it waits for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Waits. Those that begin meanwhile are not waited for, and where the stream has brought nothing, only those that the
/// kept snapshot saw as over: their commit was in the server's log, so the stream will not bring it.
pub(super) async fn settle(
    target: Target,
    control: Option<Control>,
    source: Arc<str>,
    only: Option<Visible>,
) -> Result<Done, SourceError> {
    let control = open::control(&target, control, &source).await?;
    let begun_at = Instant::now();
    let mut is_said = false;
    let mut unsettled = Unsettled::default();
    // A snapshot lists who runs only up to the last that is over: one that begins now sees to it that this is all of them.
    control.query(DOING, "SELECT pg_current_xact_id()::text", &[]).await?;
    let now = look(&control).await?;
    let is_awaited = |transaction: &u64| only.as_ref().is_none_or(|kept| kept.sees(*transaction));
    now.running().filter(is_awaited).for_each(|transaction| unsettled.note(lower(transaction)));
    while !unsettled.settle(&look(&control).await?) {
        if begun_at.elapsed() > PATIENCE && !std::mem::replace(&mut is_said, true) {
            warn!(
                source = &*source,
                "the snapshot goes on once every transaction that was open at the start has ended; to see them: SELECT \
                 pid, xact_start, query FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start"
            );
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(Done::Settled { control })
}
