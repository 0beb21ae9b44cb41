//! What a pipeline counts, for those who watch it.
//!
//! In: evaluations and batches. Out: counters.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::bus::DeadLetter;
use crate::cache;
use crate::event::{Change, Micros, Operation};
use crate::policy::{Evaluation, Policy, Trouble};
use crate::telemetry::Metrics;

/// The counters, and what waits to be counted.
pub(super) struct Measure {
    metrics: Arc<Metrics>,
    /// When the oldest change of the batch was committed in its database.
    oldest: Option<Micros>,
    changes_count: u64,
}

impl Measure {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, oldest: None, changes_count: 0 }
    }

    /// Plugins were asked, whatever becomes of what they answered.
    pub(super) fn asked(&self, policy: &mut Policy, evaluation: &Evaluation) {
        for trouble in &evaluation.troubles {
            self.trouble(policy, trouble);
        }
        policy.take_work(|plugin, work| {
            let counters = self.metrics.plugin(plugin);
            counters.changes.fetch_add(work.changes_count, Ordering::Relaxed);
            let nanoseconds = u64::try_from(work.time.as_nanos()).unwrap_or(u64::MAX);
            counters.missing_columns.fetch_add(work.missing_columns_count, Ordering::Relaxed);
            counters.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        });
    }

    /// A fan-out plugin was asked, unless the host planned alone.
    pub(super) fn planned(&self, policy: &Policy, trouble: Option<&Trouble>) {
        if let Some(trouble) = trouble {
            self.trouble(policy, trouble);
        }
    }

    fn trouble(&self, policy: &Policy, trouble: &Trouble) {
        let plugin = &policy.plugins()[trouble.plugin].activation().plugin;
        let counters = self.metrics.plugin(plugin);
        counters.faults.fetch_add(trouble.faults_count as u64, Ordering::Relaxed);
        counters.refused_routes.fetch_add(trouble.refused_count as u64, Ordering::Relaxed);
    }

    /// What they answered becomes a batch. When the oldest of its changes was committed in its database, of those that come
    /// live.
    pub(super) fn judged(
        &mut self,
        policy: &Policy,
        changes: &[Change],
        evaluation: &Evaluation,
        letters: &[DeadLetter],
    ) -> Option<Micros> {
        let is_live = |change: &&Change| change.operation != Operation::Snapshot && change.replay.is_none();
        self.oldest = changes.iter().filter(is_live).map(|change| change.committed_at).min();
        self.changes_count = changes.len() as u64;
        let mut routes = vec![0_u64; policy.plugins().len()];
        for directed in evaluation.routes.iter() {
            routes[directed.plugin()] += 1;
        }
        for (plugin, count) in policy.plugins().iter().zip(routes).filter(|(_, count)| *count > 0) {
            self.metrics.plugin(&plugin.activation().plugin).routes.fetch_add(count, Ordering::Relaxed);
        }
        for letter in letters {
            let counters = self.metrics.plugin(&letter.plugin.as_str().into());
            counters.dead_letters.fetch_add(1, Ordering::Relaxed);
        }
        self.oldest
    }

    /// What the batch makes stale is deleted from the cache.
    pub(super) fn deleted(&self) {
        if let Some(oldest) = self.oldest {
            self.metrics.cache.delays.observe_since(oldest.since_epoch(), 1);
        }
    }

    /// There is no cache that it could be deleted from.
    pub(super) fn dropped(&self, count: usize) {
        cache::drop_unheard(
            &self.metrics,
            count,
            "a plugin deletes keys of the cache, but `[cache]` names no Redis",
        );
    }

    /// The batch is durable.
    pub(super) fn applied(&mut self) {
        self.metrics.changes.fetch_add(self.changes_count, Ordering::Relaxed);
        if let Some(oldest) = self.oldest.take() {
            self.metrics.delays.observe_since(oldest.since_epoch(), 1);
        }
    }
}
