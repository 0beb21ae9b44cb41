//! Waiting for what tells nobody when it comes.

use std::time::Duration;

use anyhow::{Context, Result};

const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Looks until it is so.
///
/// # Errors
/// If a look fails, or it is not so in time.
pub async fn until(what: &str, within: Duration, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    let seen = async {
        while !is_so()? {
            looks.tick().await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(within, seen).await.with_context(|| format!("not within {within:?}: {what}"))?
}
