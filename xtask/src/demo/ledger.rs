//! What was committed against what arrived.
//!
//! In: changes, in the order of their commits, each before its commit is sent; messages as they arrive. Out: counts,
//! delays, and what is wrong.
//! Always: a change counts as delivered once; a message that answers to no expected change is a fault, and so is one
//! that comes before an earlier one's.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::bench::percentile::percentile;

/// How many faults are kept to be shown.
const FAULTS_MAX: usize = 10;
/// How many delays are kept; the oldest give way (a day of the demo has as many).
const DELAYS_MAX: usize = 1_000_000;

/// A change's operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Insert,
    Update,
    Delete,
}

impl Operation {
    /// As the host names its events.
    pub(super) fn name(self) -> &'static str {
        match self {
            Operation::Insert => "insert",
            Operation::Update => "update",
            Operation::Delete => "delete",
        }
    }
}

/// A change that a transaction makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) operation: Operation,
    pub(super) id: i64,
    /// The row's `sent_at`, which no two changes share; a deleted row has none.
    pub(super) sent_at: Option<i64>,
}

/// A message as the client read it.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) event: String,
    pub(super) id: Option<i64>,
    pub(super) sent_at: Option<i64>,
    pub(super) received: Instant,
}

impl Arrival {
    fn answers(&self, change: &Change) -> bool {
        self.event == change.operation.name()
            && self.id == Some(change.id)
            && (change.sent_at.is_none() || self.sent_at == change.sent_at)
    }
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id {
            Some(id) => write!(f, "the {} of order {id}", self.event),
            None => write!(f, "a {} without an id", self.event),
        }
    }
}

#[derive(Debug, Default)]
struct Ledger {
    transactions: u64,
    changes: u64,
    delivered: u64,
    expected: VecDeque<(Change, Instant)>,
    delays: Vec<Duration>,
    next_delay: usize,
    faults: Vec<String>,
    faults_count: u64,
}

impl Ledger {
    fn expect(&mut self, changes: &[Change], commit_sent: Instant) {
        self.transactions += 1;
        self.changes += changes.len() as u64;
        self.expected.extend(changes.iter().map(|change| (*change, commit_sent)));
    }

    fn deliver(&mut self, arrival: &Arrival) {
        let Some(place) = self.expected.iter().position(|(change, _)| arrival.answers(change)) else {
            return self.fault(|| format!("{arrival} answers to no change on its way"));
        };
        if place > 0 {
            self.fault(|| format!("{arrival} came before {place} earlier changes"));
        }
        if let Some((_, commit_sent)) = self.expected.remove(place) {
            self.delivered += 1;
            self.delay(arrival.received.saturating_duration_since(commit_sent));
        }
    }

    fn delay(&mut self, delay: Duration) {
        if self.delays.len() < DELAYS_MAX {
            self.delays.push(delay);
        } else {
            self.delays[self.next_delay] = delay;
            self.next_delay = (self.next_delay + 1) % DELAYS_MAX;
        }
    }

    fn fault(&mut self, words: impl FnOnce() -> String) {
        self.faults_count += 1;
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(words());
        }
    }

    fn closing(&self) -> Closing {
        let mut delays = self.delays.clone();
        delays.sort_unstable();
        let mut faults = self.faults.clone();
        if self.faults_count > self.faults.len() as u64 {
            faults.push(format!("and {} more", self.faults_count - self.faults.len() as u64));
        }
        Closing {
            transactions: self.transactions,
            changes: self.changes,
            delivered: self.delivered,
            lost: self.expected.len() as u64,
            p50: percentile(&delays, 50),
            p99: percentile(&delays, 99),
            faults,
        }
    }
}

/// The figures, as they are now; what is still on its way counts as lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Closing {
    transactions: u64,
    changes: u64,
    delivered: u64,
    lost: u64,
    p50: Option<Duration>,
    p99: Option<Duration>,
    pub(super) faults: Vec<String>,
}

impl Closing {
    /// Whether each change arrived, once and in order, and there was one at all.
    pub(super) fn is_clean(&self) -> bool {
        self.changes > 0 && self.lost == 0 && self.faults.is_empty()
    }
}

impl Closing {
    /// A line for the time in between: what has not arrived is still on its way.
    pub(super) fn so_far(&self) -> String {
        let Closing { transactions, changes, delivered, lost, .. } = self;
        format!(
            "transactions {transactions}, changes {changes}, delivered {delivered}, on their way {lost}, {}",
            self.delays()
        )
    }

    fn delays(&self) -> String {
        let milliseconds = |delay: Option<Duration>| delay.unwrap_or_default().as_secs_f64() * 1e3;
        format!("p50 {:.2} ms, p99 {:.2} ms", milliseconds(self.p50), milliseconds(self.p99))
    }
}

impl fmt::Display for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Closing { transactions, changes, delivered, lost, .. } = self;
        write!(
            f,
            "transactions {transactions}, changes {changes}, delivered {delivered}, lost {lost}, {}",
            self.delays()
        )
    }
}

/// A ledger that writer and reader share.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedLedger {
    ledger: Arc<Mutex<Ledger>>,
    /// Told at every arrival.
    pub(super) arrived: Arc<Notify>,
}

impl SharedLedger {
    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A transaction is about to be committed.
    pub(super) fn expect(&self, changes: &[Change]) {
        self.lock().expect(changes, Instant::now());
    }

    pub(super) fn deliver(&self, arrival: &Arrival) {
        self.lock().deliver(arrival);
        self.arrived.notify_one();
    }

    /// Whether nothing is on its way.
    pub(super) fn is_settled(&self) -> bool {
        self.lock().expected.is_empty()
    }

    pub(super) fn closing(&self) -> Closing {
        self.lock().closing()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(operation: Operation, id: i64, sent_at: i64) -> Change {
        let sent_at = (operation != Operation::Delete).then_some(sent_at);
        Change { operation, id, sent_at }
    }

    fn arrival(change: Change) -> Arrival {
        let received = Instant::now();
        Arrival {
            event: change.operation.name().into(),
            id: Some(change.id),
            sent_at: change.sent_at,
            received,
        }
    }

    fn two() -> [Change; 2] {
        [change(Operation::Insert, 1, 10), change(Operation::Update, 1, 11)]
    }

    #[test]
    fn what_arrives_once_and_in_order_is_clean() {
        let mut ledger = Ledger::default();
        ledger.expect(&two(), Instant::now());
        ledger.expect(&[change(Operation::Delete, 1, 0)], Instant::now());
        for change in [two()[0], two()[1], change(Operation::Delete, 1, 0)] {
            ledger.deliver(&arrival(change));
        }
        let closing = ledger.closing();
        assert!(closing.is_clean(), "{closing:?}");
        assert!(closing.to_string().starts_with("transactions 2, changes 3, delivered 3, lost 0, p50 "));
    }

    #[test]
    fn what_does_not_arrive_is_lost() {
        let mut ledger = Ledger::default();
        ledger.expect(&two(), Instant::now());
        ledger.deliver(&arrival(two()[0]));
        assert_eq!(ledger.closing().lost, 1);
        assert!(!ledger.closing().is_clean());
    }

    #[test]
    fn what_arrives_twice_or_was_never_committed_is_a_fault() {
        let mut ledger = Ledger::default();
        ledger.expect(&two(), Instant::now());
        for change in [two()[0], two()[1], two()[1], change(Operation::Insert, 9, 90)] {
            ledger.deliver(&arrival(change));
        }
        assert_eq!((ledger.closing().lost, ledger.closing().faults.len()), (0, 2));
        assert!(!ledger.closing().is_clean());
    }

    #[test]
    fn what_arrives_out_of_order_is_a_fault_but_not_lost() {
        let mut ledger = Ledger::default();
        ledger.expect(&two(), Instant::now());
        ledger.deliver(&arrival(two()[1]));
        ledger.deliver(&arrival(two()[0]));
        let closing = ledger.closing();
        assert_eq!((closing.delivered, closing.lost), (2, 0));
        assert_eq!(closing.faults, ["the update of order 1 came before 1 earlier changes"]);
    }

    #[test]
    fn nothing_at_all_is_not_clean() {
        assert!(!Ledger::default().closing().is_clean());
    }

    #[test]
    fn many_faults_are_counted_and_few_are_kept() {
        let mut ledger = Ledger::default();
        for id in 0..25 {
            ledger.deliver(&arrival(change(Operation::Insert, id, id)));
        }
        let faults = ledger.closing().faults;
        assert_eq!((faults.len(), faults[FAULTS_MAX].as_str()), (FAULTS_MAX + 1, "and 15 more"));
    }
}
