//! How much of something each one has, and the most that one may.
//!
//! In: who takes, and who gives back by dropping. Out: whether one more may be.
//!
//! Invariant: who has nothing is in no table.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What each one has.
#[derive(Debug)]
pub(crate) struct Shares<K> {
    max: usize,
    counts: Mutex<HashMap<K, usize>>,
}

/// One of what somebody has.
#[derive(Debug)]
pub(crate) struct Share<K: Eq + Hash> {
    of: Arc<Shares<K>>,
    who: K,
}

impl<K: Eq + Hash + Clone> Shares<K> {
    /// Nobody has anything; nobody may have more than `max`.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, counts: Mutex::new(HashMap::new()) })
    }

    /// One more for somebody, unless that is too much.
    pub(crate) fn take(self: &Arc<Self>, who: K) -> Option<Share<K>> {
        let mut counts = self.lock();
        let before = counts.get(&who).copied().unwrap_or(0);
        (before < self.max).then(|| {
            counts.insert(who.clone(), before + 1);
            Share { of: Arc::clone(self), who }
        })
    }
}

impl<K> Shares<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Share<K> {
    /// Whose it is.
    pub(crate) fn who(&self) -> &K {
        &self.who
    }
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut counts = self.of.lock();
        if let Some(count) = counts.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_taken_again_and_leaves_nothing() {
        let shares = Shares::new(2);
        let (one, two) = (shares.take("a"), shares.take("a"));
        assert!(one.is_some() && two.is_some());
        assert!(shares.take("a").is_none());
        assert!(shares.take("b").is_some(), "others have their own");
        drop(one);
        let three = shares.take("a");
        assert!(three.is_some());
        drop((two, three));
        assert!(shares.lock().is_empty());
    }
}
