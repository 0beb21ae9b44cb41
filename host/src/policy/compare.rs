//! What two generations of a plugin answered to the same, and where they differ.
//!
//! In: the effects that each asked for, a change or a post at a time. Out: counts, costs, and some differences in full,
//! as text.
//!
//! Invariant: pure, and bounded: the first `COMPARISON_EXAMPLES_MAX` differences are kept, further ones are counted.

use std::fmt;
use std::time::Duration;

use super::answer::Plan;
use super::error::Cause;
use super::fanout::Post;
use super::route::Route;
use crate::event::{Change, Position};
use crate::limits::{COMPARISON_EFFECTS_MAX, COMPARISON_EXAMPLES_MAX};

/// An active generation beside a candidate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// How many changes and posts either was asked about.
    pub seen_count: u64,
    /// Of those, for how many both asked for the same effects in the same order, or both for none.
    pub equal_count: u64,
    /// For how many both asked for effects, but not for the same.
    pub different_count: u64,
    /// For how many only the active one asked for effects.
    pub only_active_count: u64,
    /// For how many only the candidate did.
    pub only_candidate_count: u64,
    /// The active generation; all 0 if there is none.
    pub active: Side,
    /// The candidate.
    pub candidate: Side,
    /// The first differences.
    pub examples: Vec<Example>,
    /// Whether the candidate failed more than `PLUGIN_FAULTS_MAX` times: it was not asked any more since.
    pub stopped: bool,
}

/// One of the two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Side {
    /// How many changes and posts it was asked about.
    pub seen_count: u64,
    /// The effects it asked for.
    pub effects_count: u64,
    /// Of those, how many the other one did not ask for.
    pub only_here_count: u64,
    /// How many of its calls failed.
    pub faults_count: u64,
    /// The processor's time that it took.
    pub time: Duration,
}

impl Side {
    /// The processor's time for one change or post; nothing before the first.
    #[must_use]
    pub fn time_each(&self) -> Option<Duration> {
        let nanoseconds = self.time.as_nanos().checked_div(u128::from(self.seen_count))?;
        u64::try_from(nanoseconds).ok().map(Duration::from_nanos)
    }
}

/// A change or a post for which they differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The table, with its schema where it has one; for a post its author.
    pub of: String,
    /// The key of the row; for a post its item.
    pub key: String,
    /// Where the source has the change.
    pub position: Option<Position>,
    /// What only the active one asked for, as text. If both asked for the same in another order, all of it.
    pub active: Vec<String>,
    /// What only the candidate asked for.
    pub candidate: Vec<String>,
}

/// One thing that a plugin asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    Dropped,
    Masked(Box<str>),
    Rejected(Cause),
    Route(Route),
    Planned(Plan),
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dropped => f.write_str("drop"),
            Self::Masked(column) => write!(f, "mask {column}"),
            Self::Rejected(cause) => write!(f, "dead letter: {cause}"),
            Self::Route(route) => route.fmt(f),
            Self::Planned(plan) => plan.fmt(f),
        }
    }
}

impl Comparison {
    /// Adds one change or post. `about` says which, if it is needed: an example without effects.
    pub(super) fn add(&mut self, active: &[Effect], candidate: &[Effect], about: impl FnOnce() -> Example) {
        self.seen_count += 1;
        self.active.effects_count += active.len() as u64;
        self.candidate.effects_count += candidate.len() as u64;
        if active == candidate {
            self.equal_count += 1;
            return;
        }
        self.active.only_here_count += without(active, candidate).len() as u64;
        self.candidate.only_here_count += without(candidate, active).len() as u64;
        *match (active.is_empty(), candidate.is_empty()) {
            (false, true) => &mut self.only_active_count,
            (true, false) => &mut self.only_candidate_count,
            _ => &mut self.different_count,
        } += 1;
        if self.examples.len() >= COMPARISON_EXAMPLES_MAX {
            return;
        }
        let [active, candidate] = differing(active, candidate).map(|effects| texts(&effects));
        self.examples.push(Example { active, candidate, ..about() });
    }
}

impl Example {
    /// Of this change, without effects.
    pub(super) fn about(change: &Change) -> Self {
        let mut key = String::new();
        change.write_key(&mut key);
        Self {
            of: change.table.full_name(),
            key,
            position: Some(change.position),
            active: Vec::new(),
            candidate: Vec::new(),
        }
    }

    /// Of this post, without effects.
    pub(super) fn about_post(post: &Post<'_>) -> Self {
        let (of, key) = (post.author.into(), post.item.into());
        Self { of, key, position: None, active: Vec::new(), candidate: Vec::new() }
    }
}

/// What to show of two lists that differ: what only the one and what only the other has. If both have the same in
/// another order, all of both.
pub(super) fn differing<'a>(active: &'a [Effect], candidate: &'a [Effect]) -> [Vec<&'a Effect>; 2] {
    let only = [without(active, candidate), without(candidate, active)];
    if only.iter().all(Vec::is_empty) { [active, candidate].map(|all| all.iter().collect()) } else { only }
}

/// What stands in `effects` and not, or not as often, in `others`.
fn without<'a>(effects: &'a [Effect], others: &[Effect]) -> Vec<&'a Effect> {
    let mut others: Vec<_> = others.iter().collect();
    let mut rest = Vec::new();
    for effect in effects {
        match others.iter().position(|other| *other == effect) {
            Some(place) => drop(others.swap_remove(place)),
            None => rest.push(effect),
        }
    }
    rest
}

fn texts(effects: &[&Effect]) -> Vec<String> {
    let mut texts: Vec<_> =
        effects.iter().take(COMPARISON_EFFECTS_MAX).map(|effect| effect.to_string()).collect();
    if let Some(more @ 1..) = effects.len().checked_sub(COMPARISON_EFFECTS_MAX) {
        texts.push(format!("and {more} more"));
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> Example {
        Example { of: "s.t".into(), key: "1".into(), position: None, active: vec![], candidate: vec![] }
    }

    fn masked(columns: &[&str]) -> Vec<Effect> {
        columns.iter().map(|column| Effect::Masked((*column).into())).collect()
    }

    fn compared(pairs: &[(&[&str], &[&str])]) -> Comparison {
        let mut comparison = Comparison::default();
        for (active, candidate) in pairs {
            comparison.add(&masked(active), &masked(candidate), about);
        }
        comparison
    }

    #[test]
    fn what_differs_is_counted_effect_by_effect_and_shown() {
        let comparison = compared(&[
            (&["a", "b"], &["a", "b"]),
            (&[], &[]),
            (&["a", "b", "b"], &["b", "c"]),
            (&["a"], &[]),
            (&[], &["b", "a"]),
        ]);
        let Comparison { active, candidate, examples, .. } = &comparison;
        assert_eq!((comparison.seen_count, comparison.equal_count), (5, 2));
        assert_eq!(
            (comparison.different_count, comparison.only_active_count, comparison.only_candidate_count),
            (1, 1, 1)
        );
        assert_eq!((active.effects_count, active.only_here_count), (6, 3));
        assert_eq!((candidate.effects_count, candidate.only_here_count), (6, 3));
        assert_eq!(examples[0].active, ["mask a", "mask b"]);
        assert_eq!(examples[0].candidate, ["mask c"]);
        assert_eq!((examples[2].active.len(), examples[2].candidate.len()), (0, 2));
    }

    #[test]
    fn another_order_is_a_difference() {
        let comparison = compared(&[(&["a", "b"], &["b", "a"])]);
        assert_eq!((comparison.different_count, comparison.active.only_here_count), (1, 0));
        assert_eq!(comparison.examples[0].active, ["mask a", "mask b"]);
        assert_eq!(comparison.examples[0].candidate, ["mask b", "mask a"]);
    }

    #[test]
    fn examples_are_bounded_in_number_and_length() {
        let many = vec!["a"; COMPARISON_EFFECTS_MAX + 3];
        let pair: (&[&str], &[&str]) = (&many, &[]);
        let comparison = compared(&vec![pair; COMPARISON_EXAMPLES_MAX + 5]);
        assert_eq!(comparison.only_active_count, COMPARISON_EXAMPLES_MAX as u64 + 5);
        assert_eq!(comparison.examples.len(), COMPARISON_EXAMPLES_MAX);
        assert_eq!(comparison.examples[0].active.len(), COMPARISON_EFFECTS_MAX + 1);
        assert_eq!(comparison.examples[0].active[COMPARISON_EFFECTS_MAX], "and 3 more");
    }

    #[test]
    fn the_cost_of_each_is_the_time_by_the_count() {
        let side = Side { seen_count: 4, time: Duration::from_micros(10), ..Side::default() };
        assert_eq!(side.time_each(), Some(Duration::from_nanos(2_500)));
        assert_eq!(Side::default().time_each(), None);
    }
}
