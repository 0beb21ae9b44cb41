//! Which transactions a snapshot of the server sees, and so whether a row is for the snapshot or for the stream.
//!
//! In: `pg_current_snapshot()`, as text; a row's `xmin`. Out: an [`Age`].
//!
//! Invariants:
//! - a row is left to the stream only where that surely brings it;
//! - a snapshot that a slot exported lists every transaction of its range that had not committed, subtransactions too,
//!   so a row's `xmin` needs no look at whose subtransaction it is.
//!
//! A row's `xmin` has the lower half of a transaction's number, and a row that was frozen keeps it: once numbers have
//! come round, an old row may bear one of today. So may all rows of a table that `ALTER TABLE` wrote anew.

use std::collections::HashSet;

/// Up to two that are reserved, and belong to rows that are older than everything.
const FIRST_TRANSACTION: u32 = 3;
/// As many numbers as an `xmin` can have.
const ROUND: u64 = 1 << 32;

/// A snapshot: all below `min` are over, none from `max` on has begun, and of those between them `running` are not over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Visible {
    min: u64,
    max: u64,
    /// In order.
    running: Vec<u64>,
}

/// What a row of a table is to the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// It is as it was at the kept snapshot.
    Kept,
    /// It was written since, so the stream has brought it or will.
    Streamed,
    /// One of the two.
    Unsure,
}

/// Whether a table's rows bear the number of whoever wrote them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    /// Since the kept snapshot nobody else has written them.
    Same,
    /// They may have been written anew.
    Replaced,
}

impl Visible {
    /// Reads `min:max:running,running,…`. All below `min` are over, also where `max` is below it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let mut bound = || parts.next()?.parse().ok();
        let (min, max) = (bound()?, bound()?);
        let list = parts.next().filter(|list| !list.is_empty());
        let mut running = list
            .map(|list| list.split(',').map(str::parse).collect::<Result<Vec<u64>, _>>())
            .transpose()
            .ok()?
            .unwrap_or_default();
        running.sort_unstable();
        // One that a slot exports may begin past its end, where whoever came last was rolled back.
        Some(Self { min, max: max.max(min), running })
    }

    /// As the server writes it.
    pub(super) fn text(&self) -> String {
        let running: Vec<_> = self.running.iter().map(u64::to_string).collect();
        format!("{}:{}:{}", self.min, self.max, running.join(","))
    }

    /// Transactions, not their parts, that are not over.
    pub(super) fn running(&self) -> impl Iterator<Item = u64> {
        self.running.iter().copied()
    }

    /// Whether it takes a transaction for over.
    pub(super) fn sees(&self, transaction: u64) -> bool {
        transaction < self.min || transaction < self.max && self.running.binary_search(&transaction).is_err()
    }

    /// Whether a transaction that has begun, and not half a round ago, is over.
    fn is_over(&self, transaction: u32) -> bool {
        let below = self.max.saturating_sub(1);
        let behind = lower(below).wrapping_sub(transaction);
        // One that has begun since the snapshot was taken lies ahead, which is a long way behind.
        behind < 1 << 31 && self.sees(below - u64::from(behind))
    }

    /// What a row is to whoever kept this snapshot, if it is read now.
    pub(super) fn age(&self, now: &Self, files: Files, xmin: u32) -> Age {
        if xmin < FIRST_TRANSACTION {
            return Age::Kept;
        }
        let ahead = u64::from(xmin.wrapping_sub(lower(self.min)));
        let since = now.max.saturating_sub(self.min);
        if since >= ROUND {
            return Age::Unsure;
        }
        if ahead >= since || self.sees(self.min + ahead) {
            return Age::Kept;
        }
        if files == Files::Same && now.max <= ROUND { Age::Streamed } else { Age::Unsure }
    }
}

/// What the stream and `xmin` name a transaction by.
pub(super) fn lower(transaction: u64) -> u32 {
    transaction as u32
}

/// Transactions that the stream has brought and that may not be over yet: one leaves the server's list of those that
/// run a moment after its commit is in the log, or much later, where it waits for a standby.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    transactions: HashSet<u32>,
}

impl Unsettled {
    pub(super) fn note(&mut self, transaction: u32) {
        self.transactions.insert(transaction);
    }

    pub(super) fn len(&self) -> usize {
        self.transactions.len()
    }

    /// Forgets those that are over; whether none is left.
    pub(super) fn settle(&mut self, now: &Visible) -> bool {
        self.transactions.retain(|transaction| !now.is_over(*transaction));
        self.transactions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visible(text: &str) -> Visible {
        Visible::parse(text).expect("it is one")
    }

    #[test]
    fn a_snapshot_is_read_as_the_server_writes_it() {
        for text in ["10:20:10,14,15", "3:3:", "4294967290:4294967300:4294967299"] {
            assert_eq!(visible(text).text(), text);
        }
        let reversed = visible("20:10:");
        assert!(reversed.sees(19) && !reversed.sees(20), "{reversed:?}");
        for text in ["", "1", "1:2", "a:2:", "1:2:x", "1:2:1,,2"] {
            assert_eq!(Visible::parse(text).map(|its| its.text()).filter(|its| its == text), None, "{text}");
        }
    }

    #[test]
    fn a_row_is_kept_if_its_writer_had_committed_and_left_to_the_stream_if_not() {
        let (kept, now) = (visible("100:110:103,105"), visible("150:160:155"));
        for (xmin, age) in [
            (1, Age::Kept),
            (2, Age::Kept),
            (99, Age::Kept),
            (100, Age::Kept),
            (103, Age::Streamed),
            (104, Age::Kept),
            (105, Age::Streamed),
            (109, Age::Kept),
            (110, Age::Streamed),
            (159, Age::Streamed),
        ] {
            assert_eq!(kept.age(&now, Files::Same, xmin), age, "{xmin}");
        }
        assert_eq!(kept.age(&now, Files::Replaced, 110), Age::Unsure);
        assert_eq!(kept.age(&now, Files::Replaced, 104), Age::Kept);
    }

    #[test]
    fn where_numbers_have_come_round_a_row_that_could_be_new_is_unsure_and_no_other() {
        let round = ROUND;
        let kept = visible(&format!("{}:{}:", round - 10, round - 5));
        let now = visible(&format!("{}:{}:", round + 20, round + 30));
        let low = |transaction: u64| u32::try_from(transaction % round).expect("it is a lower half");
        assert_eq!(kept.age(&now, Files::Same, low(round - 11)), Age::Kept);
        assert_eq!(kept.age(&now, Files::Same, low(round - 6)), Age::Kept);
        assert_eq!(kept.age(&now, Files::Same, low(round - 5)), Age::Unsure);
        assert_eq!(kept.age(&now, Files::Same, low(round + 29)), Age::Unsure);
        assert_eq!(kept.age(&now, Files::Same, low(round + 30)), Age::Kept);
        let much_later = visible(&format!("{}:{}:", 2 * round, 2 * round + 1));
        assert_eq!(kept.age(&much_later, Files::Same, 77), Age::Unsure);
    }

    #[test]
    fn a_transaction_is_settled_once_it_runs_no_more() {
        let mut unsettled = Unsettled::default();
        for transaction in [90, 103, 120] {
            unsettled.note(transaction);
        }
        assert!(!unsettled.settle(&visible("100:110:103")), "one runs, and one has begun since");
        assert_eq!(unsettled.len(), 2);
        assert!(!unsettled.settle(&visible("120:121:120")));
        assert!(unsettled.settle(&visible("121:121:")));
        let round = ROUND;
        unsettled.note(u32::MAX);
        unsettled.note(4);
        assert!(!unsettled.settle(&visible(&format!("{}:{}:{}", round + 4, round + 5, round + 4))));
        assert_eq!(unsettled.len(), 1);
    }
}
