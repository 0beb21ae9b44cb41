//! What a stand's change log holds, as changes.

use std::time::Duration;

use anyhow::{Context, Result};
use twohop::event::{Change, change_from_line};

use super::Stand;

const LOOK_INTERVAL: Duration = Duration::from_millis(20);

impl Stand {
    /// All that the change log holds, in its order.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn changes(&self) -> Result<Vec<Change>> {
        let lines = self.said(&["changes", "--last", "100000"])?;
        lines.lines().map(|line| change_from_line(line).context(line.to_owned())).collect()
    }

    /// Waits until there are so many changes of a kind, and gives those.
    ///
    /// # Errors
    /// If there are not within the time, or there are more; with what there is.
    pub async fn wait_for_changes(
        &self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Change) -> bool,
        count: usize,
    ) -> Result<Vec<Change>> {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        let deadline = tokio::time::Instant::now() + within;
        loop {
            looks.tick().await;
            let mut changes = self.changes()?;
            changes.retain(&wanted);
            if changes.len() == count {
                return Ok(changes);
            }
            let is_late = tokio::time::Instant::now() > deadline;
            anyhow::ensure!(
                changes.len() < count && !is_late,
                "{what}: {count} were expected, there are {}: {changes:?}\n{}",
                changes.len(),
                self.host.stderr()
            );
        }
    }
}
