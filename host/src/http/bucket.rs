//! How often somebody may do something: a bucket of tokens each, and a table of buckets that is bounded.
//!
//! In: who, and when. Out: whether, and if not, how long to wait.
//!
//! A bucket is one number, the moment at which it will be full again (the generic cell rate algorithm). Buckets that
//! nobody touches are full and mean nothing, so they are forgotten: what was not touched while half the table was
//! filled goes. Who is being slowed down touches a bucket, and so stays.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Over a long time, on the average; at least 1.
    pub per_second: u32,
    /// At once, after a time of nothing; at least 1.
    pub burst: u32,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    /// In nanoseconds, as all times here: between two tokens.
    interval: u64,
    /// To fill an empty bucket.
    whole: u64,
    count_max: usize,
    began: Instant,
    full_at: Mutex<FullAt<K>>,
}

#[derive(Debug)]
struct FullAt<K> {
    young: HashMap<K, u64>,
    old: HashMap<K, u64>,
}

impl<K: Eq + Hash> Buckets<K> {
    /// Full ones, at most so many that are not.
    pub(crate) fn new(rate: Rate, count_max: usize) -> Self {
        let interval = 1_000_000_000 / u64::from(rate.per_second.max(1));
        Self {
            interval,
            whole: interval * u64::from(rate.burst.max(1)),
            count_max,
            began: Instant::now(),
            full_at: Mutex::new(FullAt { young: HashMap::new(), old: HashMap::new() }),
        }
    }

    /// Takes a token out of somebody's bucket.
    ///
    /// # Errors
    /// If there is none, how long until there is.
    pub(crate) fn take(&self, who: K) -> Result<(), Duration> {
        self.take_at(who, u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn take_at(&self, who: K, now: u64) -> Result<(), Duration> {
        let mut full_at = self.lock();
        let FullAt { young, old } = &mut *full_at;
        let before = young.get(&who).copied().or_else(|| old.remove(&who)).unwrap_or(0);
        let after = before.max(now) + self.interval;
        let wait = after.saturating_sub(now + self.whole);
        young.insert(who, if wait == 0 { after } else { before });
        if young.len() >= self.count_max / 2 {
            *old = std::mem::take(young);
        }
        if wait == 0 { Ok(()) } else { Err(Duration::from_nanos(wait)) }
    }

    fn lock(&self) -> MutexGuard<'_, FullAt<K>> {
        self.full_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_is_let_through_and_then_the_rate() {
        let buckets = Buckets::new(Rate { per_second: 10, burst: 3 }, 100);
        for _ in 0..3 {
            assert_eq!(buckets.take_at("a", SECOND), Ok(()));
        }
        assert_eq!(buckets.take_at("a", SECOND), Err(Duration::from_millis(100)));
        assert_eq!(buckets.take_at("b", SECOND), Ok(()), "others have their own");
        assert_eq!(buckets.take_at("a", SECOND + SECOND / 20), Err(Duration::from_millis(50)));
        assert_eq!(buckets.take_at("a", SECOND + SECOND / 10), Ok(()));
        assert!(buckets.take_at("a", SECOND + SECOND / 10).is_err());
        for _ in 0..3 {
            assert_eq!(buckets.take_at("a", 9 * SECOND), Ok(()), "it fills again, and no further");
        }
        assert!(buckets.take_at("a", 9 * SECOND).is_err());
    }

    #[test]
    fn the_table_is_bounded_and_does_not_forget_who_goes_on() {
        let buckets = Buckets::new(Rate { per_second: 1, burst: 1 }, 64);
        assert!(buckets.take_at(0, 0).is_ok());
        for other in 1..10_000 {
            buckets.take_at(other, 0).expect("it comes for the first time");
            let full_at = buckets.lock();
            assert!(full_at.young.len() + full_at.old.len() <= 64);
            drop(full_at);
            if other % 20 == 0 {
                assert!(buckets.take_at(0, 0).is_err(), "it is remembered");
            }
        }
    }
}
