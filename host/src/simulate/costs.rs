//! What the store of timelines costs on this machine, found by running it.
//!
//! In: timelines that are empty and have the budget for all of it, and how much to try. Out: seconds of processor time,
//! and bytes. What is measured is what `pipeline` and `gateway` call.

use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::time::{ClockId, clock_gettime};

use crate::event::{Delivery, FeedPost, FeedWrite, Micros, Plan};
use crate::limits::{TIMELINE_OUTBOXES_COUNT_MAX, TIMELINE_SLOTS_COUNT_MAX};
use crate::timeline::{Asked, TimelineError, Timelines};

const PAGE_COUNT: usize = 100;
/// Authors whom each reader follows, and who are pulled in the end. They come in groups that one reading may fetch.
const AUTHORS_COUNT: usize = 4 * TIMELINE_OUTBOXES_COUNT_MAX;
/// Posts of each of them before anybody reads.
const POSTS_BEFORE_COUNT: usize = 4;
const READ_ROUNDS_COUNT: usize = 11;
/// Posts that come together, as in a busy pipeline.
const BATCH_COUNT: usize = 64;
/// How often a push is looked at.
const LOOK_EVERY: Duration = Duration::from_micros(200);
const PAYLOAD: &str =
    r#"{"id":123456,"author":"somebody","body":"what there is to say in a post, about as long as most are"}"#;
const STAR: &str = "star";

/// What is paid for what: seconds of processor time, but for the wall's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Costs {
    /// A post, planned and durable, without its way into timelines.
    pub post: f64,
    /// An entry pushed into one timeline.
    pub push: f64,
    /// The same, by the clock on the wall.
    pub push_wall: f64,
    /// A page of a timeline in memory with nothing to merge.
    pub read: f64,
    /// One author more to merge, whose posts are in memory.
    pub merge: f64,
    /// The posts of one author more to fetch from the disk.
    pub fetch: f64,
    /// A timeline built from the disk.
    pub build: f64,
    /// A full timeline.
    pub timeline_bytes: f64,
    /// The newest posts of an author, as many as are kept.
    pub outbox_bytes: f64,
}

/// How much is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// Active timelines that are pushed to. The more, the less the processor's caches help.
    pub crowd_count: usize,
    /// Posts pushed to all of them.
    pub pushes_count: usize,
    /// Posts that are only written.
    pub posts_count: usize,
    /// Users who read pages.
    pub readers_count: usize,
}

impl Trial {
    /// Some ten seconds.
    pub const FULL: Self =
        Self { crowd_count: 50_000, pushes_count: 40, posts_count: 2_048, readers_count: 50 };
}

impl Costs {
    /// Runs a store, in which nothing is yet.
    ///
    /// # Errors
    /// If the store refuses.
    pub async fn measure(timelines: Timelines, trial: Trial) -> Result<Self, TimelineError> {
        let mut stage = Stage { timelines, items_count: 0 };
        stage.populate(trial).await?;
        let post = stage.post(trial).await?;
        let (push, push_wall, timeline_bytes, outbox_bytes) = stage.push(trial).await?;
        let (read, merge, fetch, build) = stage.read(trial).await?;
        Ok(Self { post, push, push_wall, read, merge, fetch, build, timeline_bytes, outbox_bytes })
    }
}

struct Stage {
    timelines: Timelines,
    items_count: i64,
}

impl Stage {
    /// Everybody follows whom they follow, and is active.
    async fn populate(&mut self, trial: Trial) -> Result<(), TimelineError> {
        let follow = |follower: &str, followee: &str| FeedWrite::Follow {
            follower: follower.into(),
            followee: followee.into(),
        };
        let crowd: Vec<_> = (0..trial.crowd_count).map(|at| follow(&member(at), STAR)).collect();
        for some in crowd.chunks(1_000) {
            self.timelines.apply(some.to_vec()).await?;
        }
        for at in 0..trial.readers_count {
            let edges = (0..AUTHORS_COUNT).map(|other| follow(&reader(at), &author(other)));
            self.timelines.apply(edges.collect()).await?;
        }
        for _ in 0..POSTS_BEFORE_COUNT {
            let posts = (0..AUTHORS_COUNT).map(|at| self.new_post(&author(at), Delivery::Pull)).collect();
            self.timelines.apply(posts).await?;
        }
        for at in 0..trial.crowd_count {
            self.timelines.read(&member(at), None, 1).await?;
        }
        self.read_all(trial).await
    }

    /// Seconds a post.
    async fn post(&mut self, trial: Trial) -> Result<f64, TimelineError> {
        // Who posts for the first time is made known by it: the first round is not the rule.
        self.post_round(trial).await?;
        let before = processor_seconds();
        self.post_round(trial).await?;
        Ok((processor_seconds() - before) / trial.posts_count as f64)
    }

    async fn post_round(&mut self, trial: Trial) -> Result<(), TimelineError> {
        let names: Vec<String> = (0..trial.posts_count).map(|at| format!("stranger {at}")).collect();
        for names in names.chunks(BATCH_COUNT) {
            let asked: Vec<_> = names.iter().map(|author| self.asked(author)).collect();
            self.timelines.facts(&asked).await?;
            let posts = names.iter().map(|author| self.new_post(author, Delivery::Pull)).collect();
            self.timelines.apply(posts).await?;
        }
        Ok(())
    }

    /// Seconds an entry, of the processor and on the wall, and the bytes of a full timeline and a full outbox.
    async fn push(&mut self, trial: Trial) -> Result<(f64, f64, f64, f64), TimelineError> {
        let before = self.timelines.activity();
        self.timelines.facts(&[self.asked(STAR)]).await?;
        let (began, used) = (Instant::now(), processor_seconds());
        for _ in 0..trial.pushes_count {
            let post = self.new_post(STAR, Delivery::Push);
            self.timelines.apply(vec![post]).await?;
        }
        while self.timelines.flights_count() > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let (took, used) = (began.elapsed().as_secs_f64(), processor_seconds() - used);
        let after = self.timelines.activity();
        let entries = (after.entries_count - before.entries_count) as f64;
        let slot = (after.bytes - before.bytes) as f64 / entries;
        let empty = (before.bytes as f64 - slot * before.entries_count as f64) / before.active_count as f64;
        let full = slot * TIMELINE_SLOTS_COUNT_MAX as f64;
        Ok((used / entries, took / entries, empty + full, full))
    }

    /// Seconds a page, an author to merge, an author to fetch, and a timeline to build.
    async fn read(&mut self, trial: Trial) -> Result<(f64, f64, f64, f64), TimelineError> {
        let readers = trial.readers_count as f64;
        for at in 0..trial.readers_count {
            self.timelines.release(&reader(at)).await?;
        }
        let before = processor_seconds();
        self.read_all(trial).await?;
        let built = (processor_seconds() - before) / readers;
        let read = self.read_rounds(trial).await?;
        let (mut fetched, mut merged) = (0.0, read);
        for first in (0..AUTHORS_COUNT).step_by(TIMELINE_OUTBOXES_COUNT_MAX) {
            let group = first..first + TIMELINE_OUTBOXES_COUNT_MAX;
            let posts = group.map(|at| self.new_post(&author(at), Delivery::Pull)).collect();
            self.timelines.apply(posts).await?;
            let before = processor_seconds();
            self.timelines.read(&reader(0), None, PAGE_COUNT).await?;
            let first = processor_seconds() - before;
            merged = self.read_rounds(trial).await?;
            fetched += (first - merged).max(0.0);
        }
        let authors = AUTHORS_COUNT as f64;
        Ok((read, ((merged - read) / authors).max(0.0), fetched / authors, (built - read).max(0.0)))
    }

    /// Seconds a page, when all that it needs is in memory: of the best round, which nobody else disturbed.
    async fn read_rounds(&self, trial: Trial) -> Result<f64, TimelineError> {
        let mut best = f64::INFINITY;
        for _ in 0..READ_ROUNDS_COUNT {
            let before = processor_seconds();
            self.read_all(trial).await?;
            best = best.min((processor_seconds() - before) / trial.readers_count as f64);
        }
        Ok(best)
    }

    async fn read_all(&self, trial: Trial) -> Result<(), TimelineError> {
        for at in 0..trial.readers_count {
            self.timelines.read(&reader(at), None, PAGE_COUNT).await?;
        }
        Ok(())
    }

    fn asked<'a>(&self, author: &'a str) -> Asked<'a> {
        Asked { author, item: "the next", committed_at: Micros(self.items_count) }
    }

    /// The next post, newer than all before.
    fn new_post(&mut self, author: &str, delivery: Delivery) -> FeedWrite {
        self.items_count += 1;
        let post = FeedPost {
            author: author.into(),
            item: self.items_count.to_string().into(),
            payload: Bytes::from_static(PAYLOAD.as_bytes()),
            time: Micros(self.items_count),
            committed_at: Micros(self.items_count),
        };
        FeedWrite::Post { post, plan: Plan { delivery, notify: false } }
    }
}

fn member(at: usize) -> String {
    format!("member {at}")
}

fn reader(at: usize) -> String {
    format!("reader {at}")
}

fn author(at: usize) -> String {
    format!("author {at}")
}

/// Of this process.
fn processor_seconds() -> f64 {
    // Linux knows this clock in every process.
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)
        .map_or(0.0, |time| time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::in_folder;

    #[tokio::test]
    async fn costs_are_found_by_running_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let trial = Trial { crowd_count: 100, pushes_count: 3, posts_count: 70, readers_count: 2 };
        let costs = Costs::measure(in_folder(folder.path()).await, trial).await.unwrap();
        for cost in [costs.post, costs.push, costs.push_wall, costs.read, costs.build] {
            assert!(cost > 0.0 && cost < 1.0, "{costs:?}");
        }
        // 800 entries of 20 bytes; the array of a timeline with few has some room to spare.
        assert!((16_000.0..40_000.0).contains(&costs.outbox_bytes), "{costs:?}");
        assert!(costs.timeline_bytes > costs.outbox_bytes, "{costs:?}");
    }
}
