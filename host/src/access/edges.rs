//! Edges of the graph that came or went, and whose streams a gate has let in by them.
//!
//! In: who follows whom from now on, or no more. Out: doubts about the streams of that subject which are on a channel of
//! whom it is about: nobody else is looked at.
//!
//! What a channel is of is in its name: see [`followee`].

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::doubts::Doubts;

/// The graph, as far as a gate is told of it.
#[async_trait]
pub trait Graph: Send + Sync + 'static {
    /// Whether a subject follows each of these. It has in it all that [`Edges::turned`] told of.
    async fn follows(&self, subject: &str, followees: &[&str]) -> Result<Vec<bool>, GraphError>;
}

/// Why nobody knows.
pub type GraphError = Box<dyn std::error::Error + Send + Sync>;

struct NoGraph;

#[async_trait]
impl Graph for NoGraph {
    async fn follows(&self, _: &str, followees: &[&str]) -> Result<Vec<bool>, GraphError> {
        Ok(vec![false; followees.len()])
    }
}

/// Nobody follows anything.
#[must_use]
pub fn no_graph() -> Arc<dyn Graph> {
    Arc::new(NoGraph)
}

/// Whom one follows who follows a channel: what stands after the first `:` of its name, or all of it.
pub(super) fn followee(channel: &str) -> &str {
    channel.split_once(':').map_or(channel, |(_, followee)| followee)
}

/// See the head of this file. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Edges(Arc<Mutex<Watches>>);

/// By subject, then by where they are in memory.
type Watches = HashMap<Box<str>, BTreeMap<usize, Arc<Interest>>>;

#[derive(Debug)]
struct Interest {
    /// Sorted.
    followees: Box<[Box<str>]>,
    turns: AtomicU64,
    doubts: Arc<Doubts>,
}

impl Interest {
    fn is_of(&self, followee: &str) -> bool {
        self.followees.binary_search_by(|its| (**its).cmp(followee)).is_ok()
    }
}

impl Edges {
    /// A subject follows somebody from now on, or no more, and whoever asks the graph sees it. Short, and never waits for
    /// anybody.
    pub fn turned(&self, subject: &str, followee: &str) {
        let watches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_subject = watches.get(subject).into_iter().flat_map(BTreeMap::values);
        let turned: Vec<_> = of_subject.filter(|interest| interest.is_of(followee)).cloned().collect();
        drop(watches);
        for interest in turned {
            interest.turns.fetch_add(1, Ordering::Release);
            interest.doubts.raise();
        }
    }

    /// Doubts that what a subject was granted of these channels still holds, whenever an edge to one of them turns.
    pub(super) fn watch<'c>(
        &self,
        subject: &str,
        channels: impl Iterator<Item = &'c str>,
        doubts: Arc<Doubts>,
    ) -> Watch {
        let mut followees: Vec<Box<str>> = channels.map(|channel| followee(channel).into()).collect();
        followees.sort_unstable();
        let interest = Arc::new(Interest { followees: followees.into(), turns: AtomicU64::new(0), doubts });
        let watch = Watch { edges: self.clone(), subject: subject.into(), interest };
        let mut watches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watches.entry(subject.into()).or_default().insert(watch.place(), Arc::clone(&watch.interest));
        drop(watches);
        watch
    }

    /// Whose edges are watched.
    #[cfg(test)]
    pub(super) fn subjects_count(&self) -> usize {
        self.0.lock().expect("nobody panicked").len()
    }
}

/// Ends by dropping.
#[derive(Debug)]
pub(super) struct Watch {
    edges: Edges,
    subject: Box<str>,
    interest: Arc<Interest>,
}

impl Watch {
    /// How often such an edge has turned.
    pub(super) fn turns(&self) -> u64 {
        self.interest.turns.load(Ordering::Acquire)
    }

    fn place(&self) -> usize {
        Arc::as_ptr(&self.interest).addr()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watches = self.edges.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = watches.get_mut(&self.subject) {
            own.remove(&self.place());
            if own.is_empty() {
                watches.remove(&self.subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::doubts::Common;
    use super::*;

    #[test]
    fn a_channel_is_of_what_stands_after_its_first_colon() {
        for (channel, expected) in
            [("posts:bob", "bob"), ("posts:a:b", "a:b"), ("bob", "bob"), ("posts:", ""), (":bob", "bob")]
        {
            assert_eq!(followee(channel), expected, "{channel}");
        }
    }

    #[test]
    fn only_the_streams_of_the_subject_on_a_channel_of_the_followee_are_doubted() {
        let (common, edges) = (Common::new(), Edges::default());
        let streams: Vec<_> = (0..4).map(|_| Arc::new(common.of_stream())).collect();
        let watch = |nth: usize, subject: &str, channels: &[&str]| {
            edges.watch(subject, channels.iter().copied(), Arc::clone(&streams[nth]))
        };
        let watches = [
            watch(0, "ann", &["posts:eve", "posts:bob"]),
            watch(1, "ann", &["posts:eve"]),
            watch(2, "cat", &["posts:bob"]),
            watch(3, "ann", &["bob"]),
        ];
        let counts = || streams.iter().map(|doubts| doubts.count()).collect::<Vec<_>>();
        edges.turned("ann", "bob");
        edges.turned("dan", "bob");
        assert_eq!(counts(), [2, 1, 1, 2]);
        assert_eq!(watches.each_ref().map(Watch::turns), [1, 0, 0, 1]);
        common.raise();
        assert_eq!(counts(), [3, 2, 2, 3]);
        drop(watches);
        edges.turned("ann", "eve");
        assert_eq!(counts(), [3, 2, 2, 3]);
        assert_eq!(edges.subjects_count(), 0);
    }
}
