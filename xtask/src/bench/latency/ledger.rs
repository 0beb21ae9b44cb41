//! When each transaction was sent, and when it arrived by each way.
//!
//! In: the numbers of transactions, from 0, and payloads as they arrive. Out: delays, and whether all arrived once.
//! Always: one clock, and no lock, so that to note an instant delays nothing.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::sync::Notify;

/// What every payload begins with; the transaction's number follows.
const MARK: &str = "transaction-";
const NUMBER_DIGITS: usize = 9;
/// Of a payload: what a small row has.
const PAYLOAD_BYTES: usize = 200;

/// A transaction's payload. It is the same for both ways, and needs no escape in SQL, JSON or a line of text.
pub(super) fn payload(number: usize) -> String {
    format!("{:.<PAYLOAD_BYTES$}", format!("{MARK}{number:0NUMBER_DIGITS$}"))
}

/// The number in whatever holds a payload.
fn number(text: &str) -> Option<usize> {
    let (_, after) = text.split_once(MARK)?;
    after.get(..NUMBER_DIGITS)?.parse().ok()
}

/// How a transaction reaches a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// What is measured.
    Host,
    /// What it is measured by.
    Floor,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Host => "the host",
            Way::Floor => "the floor",
        }
    }
}

/// All instants of a run.
#[derive(Debug)]
pub(super) struct Ledger {
    begun: Instant,
    /// Nanoseconds since `begun`; 0 for what has not been sent.
    sent: Vec<AtomicU64>,
    host: Arrivals,
    floor: Arrivals,
    changed: Notify,
}

#[derive(Debug)]
struct Arrivals {
    /// Nanoseconds since the ledger's begin; 0 for what has not arrived.
    first: Vec<AtomicU64>,
    count: AtomicU64,
    doubled_count: AtomicU64,
    strange_count: AtomicU64,
}

impl Arrivals {
    fn new(count: usize) -> Arrivals {
        let first = (0..count).map(|_| AtomicU64::new(0)).collect();
        Arrivals { first, count: 0.into(), doubled_count: 0.into(), strange_count: 0.into() }
    }
}

impl Ledger {
    /// A ledger for so many transactions.
    pub(super) fn new(count: usize) -> Ledger {
        Ledger {
            begun: Instant::now(),
            sent: (0..count).map(|_| AtomicU64::new(0)).collect(),
            host: Arrivals::new(count),
            floor: Arrivals::new(count),
            changed: Notify::new(),
        }
    }

    fn arrivals(&self, way: Way) -> &Arrivals {
        match way {
            Way::Host => &self.host,
            Way::Floor => &self.floor,
        }
    }

    fn nanoseconds(&self, instant: Instant) -> u64 {
        let since = instant.saturating_duration_since(self.begun).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX).max(1)
    }

    /// The request to commit is sent now.
    pub(super) fn sent(&self, number: usize) {
        self.sent[number].store(self.nanoseconds(Instant::now()), Ordering::Relaxed);
    }

    /// Something arrived that holds a payload, or should.
    pub(super) fn arrived(&self, way: Way, text: &str, received: Instant) {
        let arrivals = self.arrivals(way);
        let place = number(text).and_then(|number| arrivals.first.get(number));
        let counter = match place.map(|place| place.swap(self.nanoseconds(received), Ordering::Relaxed)) {
            Some(0) => &arrivals.count,
            Some(_) => &arrivals.doubled_count,
            None => &arrivals.strange_count,
        };
        // Release, so that who sees the count sees the instants.
        counter.fetch_add(1, Ordering::Release);
        self.changed.notify_one();
    }

    /// How many have not arrived.
    pub(super) fn missing(&self, way: Way) -> u64 {
        self.sent.len() as u64 - self.arrivals(way).count.load(Ordering::Acquire)
    }

    /// Waits until all have arrived by one way.
    pub(super) async fn all_arrived(&self, way: Way) {
        while self.missing(way) > 0 {
            self.changed.notified().await;
        }
    }

    /// Waits until all have arrived by both ways.
    pub(super) async fn settled(&self) {
        self.all_arrived(Way::Floor).await;
        self.all_arrived(Way::Host).await;
    }

    /// Fails if anything was lost, came twice, or was never sent.
    pub(super) fn is_whole(&self, way: Way) -> Result<()> {
        let arrivals = self.arrivals(way);
        let [lost, doubled, strange] = [
            self.missing(way),
            arrivals.doubled_count.load(Ordering::Acquire),
            arrivals.strange_count.load(Ordering::Acquire),
        ];
        let name = way.name();
        ensure!(
            [lost, doubled, strange] == [0; 3],
            "{name} lost {lost} of {} transactions, delivered {doubled} twice, and {strange} that were none",
            self.sent.len()
        );
        Ok(())
    }

    /// Of those that arrived, from the request to commit, sorted.
    pub(super) fn delays(&self, way: Way, numbers: Range<usize>) -> Vec<Duration> {
        let pairs = self.sent[numbers.clone()].iter().zip(&self.arrivals(way).first[numbers]);
        let mut delays: Vec<Duration> = pairs
            .map(|(sent, first)| (sent.load(Ordering::Relaxed), first.load(Ordering::Relaxed)))
            .filter(|(sent, first)| *sent > 0 && *first > 0)
            .map(|(sent, first)| Duration::from_nanos(first.saturating_sub(sent)))
            .collect();
        delays.sort_unstable();
        delays
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_its_size_and_its_number_is_found_in_what_holds_it() {
        let payload = payload(1_234);
        assert_eq!(payload.len(), PAYLOAD_BYTES);
        assert_eq!(number(&format!("{{\"id\":9,\"payload\":\"{payload}\"}}")), Some(1_234));
        assert_eq!(number("nothing"), None);
        assert_eq!(number("transaction-12"), None);
        assert_eq!(number("transaction-12345678é"), None);
    }

    #[test]
    fn what_is_lost_doubled_or_strange_is_told() {
        let ledger = Ledger::new(3);
        for number in 0..3 {
            ledger.sent(number);
        }
        for text in [payload(0), payload(0), payload(2), payload(7), "x".to_owned()] {
            ledger.arrived(Way::Host, &text, Instant::now());
        }
        let error = ledger.is_whole(Way::Host).unwrap_err().to_string();
        assert_eq!(error, "the host lost 1 of 3 transactions, delivered 1 twice, and 2 that were none");
        assert_eq!(ledger.missing(Way::Floor), 3);
    }

    #[test]
    fn delays_are_from_sent_to_arrived_sorted_and_only_of_the_range() {
        let ledger = Ledger::new(3);
        for (number, delay) in [(0, 900), (1, 7), (2, 5)] {
            ledger.sent(number);
            let sent = Duration::from_nanos(ledger.sent[number].load(Ordering::Relaxed));
            ledger.arrived(Way::Floor, &payload(number), ledger.begun + sent + Duration::from_millis(delay));
        }
        assert_eq!(ledger.delays(Way::Floor, 1..3), [Duration::from_millis(5), Duration::from_millis(7)]);
        assert!(ledger.delays(Way::Host, 0..3).is_empty());
        ledger.is_whole(Way::Floor).unwrap();
    }
}
