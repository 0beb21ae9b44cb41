//! How often somebody may say something: a bucket of tokens for each subject, or for each address of those without one.
//!
//! In: who is about to say something, and when. Out: that it may, or how long to wait.
//!
//! Invariants: over any time nobody may more often than the burst, and the rate times that time; what is held is bounded:
//! a bucket that is full again is like none, and goes when there is no room. Where there is none then, who is new waits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::access::Visitor;
use crate::limits::CLIENT_RATES_COUNT_MAX;

/// Between two looks for buckets that are full again, each at all of them.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Who is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    Subject(Box<str>),
    Address(IpAddr),
}

impl Who {
    fn of(visitor: &Visitor) -> Self {
        match visitor.identity.subject() {
            Some(subject) => Self::Subject(subject.into()),
            None => Self::Address(network_of(visitor.address)),
        }
    }
}

/// An address; of IPv6 its network of 64 bits, all of which one machine may have.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        address => address,
    }
}

/// What somebody may still say, as of a moment.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Rates {
    per_second: f64,
    burst: f64,
    buckets: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    all: HashMap<Who, Bucket>,
    swept_at: Option<Instant>,
}

impl Rates {
    /// Both are at least 1.
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second: f64::from(per_second), burst: f64::from(burst), buckets: Mutex::default() }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// If there is none: the time until there is one.
    pub(super) fn take(&self, visitor: &Visitor, now: Instant) -> Result<(), Duration> {
        let who = Who::of(visitor);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let before = buckets.all.get(&who).map(|bucket| self.tokens(*bucket, now));
        if before.is_none() {
            self.make_room(&mut buckets, now)?;
        }
        let tokens = before.unwrap_or(self.burst);
        if tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - tokens) / self.per_second));
        }
        buckets.all.insert(who, Bucket { tokens: tokens - 1.0, at: now });
        Ok(())
    }

    fn tokens(&self, bucket: Bucket, now: Instant) -> f64 {
        let since = now.saturating_duration_since(bucket.at);
        (bucket.tokens + since.as_secs_f64() * self.per_second).min(self.burst)
    }

    fn make_room(&self, buckets: &mut Buckets, now: Instant) -> Result<(), Duration> {
        if buckets.all.len() < CLIENT_RATES_COUNT_MAX {
            return Ok(());
        }
        if buckets.swept_at.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP_INTERVAL) {
            buckets.swept_at = Some(now);
            buckets.all.retain(|_, bucket| self.tokens(*bucket, now) < self.burst);
        }
        if buckets.all.len() < CLIENT_RATES_COUNT_MAX { Ok(()) } else { Err(SWEEP_INTERVAL) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Identity;

    fn from(address: &str) -> Visitor {
        Visitor { identity: Identity::anonymous(), address: address.parse().expect("it is an address") }
    }

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_is_free_and_then_the_rate_counts() {
        let (rates, visitor, start) = (Rates::new(10, 3), from("192.0.2.1"), Instant::now());
        for _ in 0..3 {
            assert_eq!(rates.take(&visitor, start), Ok(()));
        }
        assert_eq!(rates.take(&visitor, at(start, 0)), Err(Duration::from_millis(100)));
        assert_eq!(
            rates.take(&visitor, at(start, 40)),
            Err(Duration::from_millis(60)),
            "to be refused costs nothing"
        );
        assert_eq!(rates.take(&visitor, at(start, 101)), Ok(()));
        assert!(rates.take(&visitor, at(start, 102)).is_err());
        for _ in 0..3 {
            assert_eq!(rates.take(&visitor, at(start, 60_000)), Ok(()));
        }
        assert!(rates.take(&visitor, at(start, 60_000)).is_err(), "a long pause saves no more than a burst");
    }

    #[test]
    fn addresses_are_counted_apart_and_those_of_one_network_of_ipv6_together() {
        let (rates, now) = (Rates::new(1, 1), Instant::now());
        for (address, may) in [
            ("192.0.2.1", true),
            ("192.0.2.2", true),
            ("::ffff:192.0.2.1", false),
            ("2001:db8::1", true),
            ("2001:db8::ffff:0:2", false),
            ("2001:db8:0:1::1", true),
        ] {
            assert_eq!(rates.take(&from(address), now).is_ok(), may, "{address}");
        }
    }

    #[test]
    fn what_is_held_is_bounded_and_goes_when_it_is_full_again() {
        let (rates, start) = (Rates::new(1, 1), Instant::now());
        let nth = |nth: usize| Visitor {
            identity: Identity::anonymous(),
            address: std::net::Ipv4Addr::from_bits(u32::try_from(nth).expect("it is small")).into(),
        };
        for number in 0..CLIENT_RATES_COUNT_MAX {
            assert_eq!(rates.take(&nth(number), start), Ok(()));
        }
        assert_eq!(rates.take(&from("198.51.100.1"), at(start, 500)), Err(SWEEP_INTERVAL));
        assert_eq!(rates.take(&from("198.51.100.1"), at(start, 1_500)), Ok(()));
        let held = rates.buckets.lock().expect("no test panics with the lock").all.len();
        assert_eq!(held, 1);
    }
}
