//! How long things took, counted where they end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The upper bounds of the delay's buckets, in seconds.
pub const DELAY_BOUNDS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0];

/// How often a delay was within each of [`DELAY_BOUNDS`].
#[derive(Debug, Default)]
pub struct Delays {
    /// Those that are within a bound and not within the one before; the last are beyond all.
    buckets: [AtomicU64; DELAY_BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Delays {
    /// Counts a delay.
    pub fn observe(&self, delay: Duration) {
        self.observe_many(delay, 1);
    }

    /// Counts as many that were at most so long.
    pub fn observe_many(&self, delay: Duration, count: u64) {
        let seconds = delay.as_secs_f64();
        let within = DELAY_BOUNDS.partition_point(|bound| *bound < seconds);
        self.buckets[within].fetch_add(count, Ordering::Relaxed);
        let micros = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros.saturating_mul(count), Ordering::Relaxed);
    }

    /// Counts as many that began at this time, which is since the Unix epoch and on a clock that may be another machine's:
    /// what would be below nothing is nothing.
    pub fn observe_since(&self, began: Duration, count: u64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.observe_many(now.saturating_sub(began), count);
    }

    /// For each bound how many were within it; how many there were; their sum.
    #[must_use]
    pub fn read(&self) -> ([u64; DELAY_BOUNDS.len()], u64, Duration) {
        let mut count = 0;
        let mut within = [0; DELAY_BOUNDS.len()];
        for (nth, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            if let Some(within) = within.get_mut(nth) {
                *within = count;
            }
        }
        (within, count, Duration::from_micros(self.micros.load(Ordering::Relaxed)))
    }
}

/// How long messages are on their way to clients.
#[derive(Debug, Default)]
pub struct DeliveryDelays {
    /// Of it, how long they waited for a connection that takes them.
    pub waits: Delays,
    /// Since the commit in their database, as far as that is known.
    pub whole: Delays,
}

impl DeliveryDelays {
    /// Counts as many as took the same message: how long it waited, and when it was committed.
    pub fn observe(&self, wait: Duration, committed_at: Option<Duration>, count: u64) {
        self.waits.observe_many(wait, count);
        self.committed(committed_at, count);
    }

    /// Counts as many as took the same message, since it was committed.
    pub fn committed(&self, committed_at: Option<Duration>, count: u64) {
        if let Some(at) = committed_at {
            self.whole.observe_since(at, count);
        }
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
    fn what_began_on_a_clock_that_is_ahead_took_nothing() {
        let delays = DeliveryDelays::default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        delays.observe(Duration::ZERO, Some(now + Duration::from_secs(60)), 2);
        delays.observe(Duration::ZERO, Some(now - Duration::from_secs(2)), 1);
        delays.observe(Duration::ZERO, None, 4);
        let (within, count, sum) = delays.whole.read();
        assert_eq!((within[0], count, delays.waits.read().1), (2, 3, 7));
        assert!((2..60).contains(&sum.as_secs()), "{sum:?}");
    }
}
