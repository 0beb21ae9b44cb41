//! Quarantine: when a plugin has failed too often.
//!
//! In: how many changes each plugin failed on, and when. Out: which plugin must go. Pure: time is an argument.
//!
//! Invariants:
//! - faults older than the window do not count;
//! - what one plugin does never counts for another;
//! - a plugin that is put anew begins without faults.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::limits::{QUARANTINE_FAULTS_MAX, QUARANTINE_WINDOW};
use crate::policy::{Cause, Evaluation};

/// The faults of all plugins within the window.
#[derive(Debug, Default)]
pub(super) struct Faults {
    plugins: HashMap<Arc<str>, VecDeque<Instant>>,
}

impl Faults {
    /// Gives the first plugin that has failed more often than it may, if there is one; else notes what went wrong. What
    /// is not noted comes again, since its batch is judged again.
    pub(super) fn note(&mut self, faults: &[(Arc<str>, usize)], now: Instant) -> Option<Arc<str>> {
        self.plugins.retain(|_, times| {
            let old = |time: &Instant| now.saturating_duration_since(*time) >= QUARANTINE_WINDOW;
            while times.front().is_some_and(old) {
                times.pop_front();
            }
            !times.is_empty()
        });
        let before = |plugin: &Arc<str>| self.plugins.get(plugin).map_or(0, VecDeque::len);
        let over = faults.iter().find(|(plugin, count)| before(plugin) + count > QUARANTINE_FAULTS_MAX);
        if let Some((plugin, _)) = over {
            return Some(plugin.clone());
        }
        for (plugin, count) in faults {
            let times = self.plugins.entry(plugin.clone()).or_default();
            times.extend(std::iter::repeat_n(now, *count));
        }
        None
    }

    /// The plugin begins anew.
    pub(super) fn forget(&mut self, plugin: &str) {
        self.plugins.remove(plugin);
    }
}

/// How many changes each plugin failed on. What it rejected is no fault.
pub(super) fn faults(evaluation: &Evaluation) -> Vec<(Arc<str>, usize)> {
    let mut faults: Vec<(Arc<str>, usize)> = Vec::new();
    for rejection in &evaluation.rejected {
        if !matches!(rejection.cause, Cause::Fault(_)) {
            continue;
        }
        match faults.iter_mut().find(|(plugin, _)| *plugin == rejection.name) {
            Some((_, count)) => *count += 1,
            None => faults.push((rejection.name.clone(), 1)),
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn note(faults: &mut Faults, plugin: &str, count: usize, now: Instant) -> Option<String> {
        faults.note(&[(plugin.into(), count)], now).map(|plugin| plugin.to_string())
    }

    #[test]
    fn one_fault_more_than_may_be_within_the_window_is_too_much() {
        let (mut faults, now) = (Faults::default(), Instant::now());
        assert_eq!(note(&mut faults, "p", QUARANTINE_FAULTS_MAX - 1, now), None);
        assert_eq!(note(&mut faults, "p", 1, now + QUARANTINE_WINDOW / 2), None);
        assert_eq!(note(&mut faults, "p", 1, now + QUARANTINE_WINDOW / 2), Some("p".into()));
    }

    #[test]
    fn faults_older_than_the_window_do_not_count() {
        let (mut faults, now) = (Faults::default(), Instant::now());
        assert_eq!(note(&mut faults, "p", QUARANTINE_FAULTS_MAX, now), None);
        assert_eq!(note(&mut faults, "p", QUARANTINE_FAULTS_MAX, now + QUARANTINE_WINDOW), None);
        let later = now + QUARANTINE_WINDOW * 2 - Duration::from_millis(1);
        assert_eq!(note(&mut faults, "p", 1, later), Some("p".into()));
    }

    #[test]
    fn a_plugin_that_begins_anew_has_no_faults_and_neither_has_its_neighbour() {
        let (mut faults, now) = (Faults::default(), Instant::now());
        assert_eq!(note(&mut faults, "p", QUARANTINE_FAULTS_MAX, now), None);
        assert_eq!(note(&mut faults, "neighbour", QUARANTINE_FAULTS_MAX, now), None);
        assert_eq!(note(&mut faults, "p", 1, now), Some("p".into()));
        faults.forget("p");
        assert_eq!(note(&mut faults, "p", QUARANTINE_FAULTS_MAX, now), None);
    }

    #[test]
    fn what_comes_again_because_another_plugin_must_go_counts_once() {
        let (mut faults, now) = (Faults::default(), Instant::now());
        let (both, one) = ([("p".into(), QUARANTINE_FAULTS_MAX + 1), ("q".into(), QUARANTINE_FAULTS_MAX)], 1);
        assert_eq!(faults.note(&both, now), Some("p".into()));
        assert_eq!(faults.note(&both[one..], now), None);
    }
}
