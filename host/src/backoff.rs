//! How long to wait before what may heal by itself is tried again.

use std::time::Duration;

use crate::limits::{RETRY_DELAY_MAX, RETRY_DELAY_MIN};

/// A delay that doubles up to a limit.
#[derive(Debug)]
pub struct Backoff {
    delay: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { delay: RETRY_DELAY_MIN }
    }
}

impl Backoff {
    /// Waits, each time twice as long, up to the limit.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.advance()).await;
    }

    fn advance(&mut self) -> Duration {
        let delay = self.delay;
        self.delay = (delay * 2).min(RETRY_DELAY_MAX);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_doubles_up_to_its_limit() {
        let mut backoff = Backoff::default();
        let delays: Vec<_> = (0..8).map(|_| backoff.advance()).collect();
        assert_eq!(delays[..3], [RETRY_DELAY_MIN, RETRY_DELAY_MIN * 2, RETRY_DELAY_MIN * 4]);
        assert_eq!(delays[6..], [RETRY_DELAY_MAX, RETRY_DELAY_MAX]);
    }
}
