//! How far the snapshots of a source are.
//!
//! In: the tables that are to be read, and rows as they are appended. Out: figures, an estimate of the time that is left
//! among them.
//!
//! Invariant: nothing here waits. Estimates are the server's: a table may have more rows or fewer.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How far one table is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableProgress {
    /// `schema.table`.
    pub table: String,
    /// Rows that were appended.
    pub rows: u64,
    /// Rows that it should have.
    pub estimate: u64,
    /// Whether it has been read to its end.
    pub is_complete: bool,
}

impl TableProgress {
    /// The part that has been read, from 0 to 1, and below 1 until all has.
    #[must_use]
    pub fn part(&self) -> f64 {
        if self.is_complete { 1.0 } else { part(self.rows, self.estimate) }
    }
}

/// The snapshots of one source.
#[derive(Debug, Default)]
pub struct SnapshotMetrics(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    rows: u64,
    gaps: u64,
    tables: Vec<TableProgress>,
    /// Since when rows are counted for the estimate of time, and how many there were then.
    since: Option<(Instant, u64)>,
}

impl SnapshotMetrics {
    /// Counts rows that were appended.
    pub fn count(&self, rows: u64) {
        self.lock().rows += rows;
    }

    /// Counts a time at which changes were lost, and everything was read again.
    pub fn count_gap(&self) {
        self.lock().gaps += 1;
    }

    /// Those times since the program began.
    #[must_use]
    pub fn gaps(&self) -> u64 {
        self.lock().gaps
    }

    /// The tables as they are now; without any there is no snapshot.
    pub fn set(&self, tables: Vec<TableProgress>) {
        let mut state = self.lock();
        if tables.is_empty() {
            state.since = None;
        } else if state.since.is_none() {
            state.since = Some((Instant::now(), state.rows));
        }
        state.tables = tables;
    }

    /// Rows that were appended since the program began.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.lock().rows
    }

    /// The tables of the snapshots that are not complete.
    #[must_use]
    pub fn tables(&self) -> Vec<TableProgress> {
        self.lock().tables.clone()
    }

    /// The part of all of them that has been read, from 0 to 1; nothing where there is none.
    #[must_use]
    pub fn part(&self) -> Option<f64> {
        let state = self.lock();
        let sum = |of: fn(&TableProgress) -> u64| state.tables.iter().map(of).sum::<u64>();
        let whole = sum(|table| if table.is_complete { table.rows } else { table.estimate.max(table.rows) });
        (!state.tables.is_empty()).then(|| part(sum(|table| table.rows), whole))
    }

    /// What is left of the time, at the rate since this program goes on with it; nothing while that is not known.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        let state = self.lock();
        let (since, before) = state.since?;
        let rate = (state.rows - before) as f64 / since.elapsed().as_secs_f64().max(0.001);
        let open = state.tables.iter().filter(|table| !table.is_complete);
        let left: u64 = open.map(|table| table.estimate.saturating_sub(table.rows)).sum();
        (rate > 0.0).then(|| Duration::from_secs((left as f64 / rate) as u64))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn part(rows: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { (rows as f64 / whole as f64).min(0.999) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_never_whole_before_its_end() {
        let table = |rows, estimate, is_complete| TableProgress {
            table: "public.t".to_owned(),
            rows,
            estimate,
            is_complete,
        };
        let metrics = SnapshotMetrics::default();
        assert_eq!((metrics.part(), metrics.time_left()), (None, None));
        metrics.set(vec![table(0, 100, false), table(0, 100, false)]);
        assert_eq!((metrics.part(), metrics.time_left()), (Some(0.0), None));
        metrics.count(50);
        metrics.set(vec![table(50, 100, false), table(0, 100, false)]);
        assert_eq!(metrics.part(), Some(0.25));
        assert!(metrics.time_left().is_some());
        metrics.count(300);
        metrics.set(vec![table(50, 100, true), table(300, 100, false)]);
        assert_eq!(metrics.part(), Some(0.999), "the table has grown");
        assert_eq!(table(300, 100, false).part().to_bits(), 0.999_f64.to_bits());
        metrics.set(Vec::new());
        assert_eq!((metrics.rows(), metrics.part(), metrics.tables().len()), (350, None, 0));
    }
}
