//! Timelines in a folder of their own, and what the measurements do with them.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use roaring::RoaringBitmap;
use tempfile::TempDir;
use twohop::event::{Delivery, FeedPost, FeedWrite, Micros, Plan};
use twohop::state::State;
use twohop::state::sql::{Connection, Result, params};
use twohop::timeline::embedded::Config;
use twohop::timeline::{Asked, Connected, Facts, Timelines};

/// Users who become active at once.
const CONNECTING_COUNT: usize = 8;
/// How often a push is looked at.
const LOOK_EVERY: Duration = Duration::from_micros(200);

pub(crate) struct Stage {
    pub(crate) timelines: Timelines,
    state: State,
    items_count: i64,
    _folder: TempDir,
}

impl Stage {
    /// Nothing is evicted, and nothing is pulled that a plan pushes.
    pub(crate) async fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let state = State::open(folder.path())?;
        let config = Config::new(usize::MAX / 2, u64::MAX);
        let timelines = Timelines::open(state.clone(), config).await?;
        Ok(Self { timelines, state, items_count: 0, _folder: folder })
    }

    /// Makes users known, by their numbers.
    pub(crate) async fn users(&self, users: Vec<u32>) -> anyhow::Result<()> {
        let write = move |connection: &Connection| -> Result<()> {
            let mut insert = connection.prepare("INSERT INTO users (id, name) VALUES (?1, ?2)")?;
            for user in users {
                insert.execute(params![user, name(user)])?;
            }
            Ok(())
        };
        Ok(self.state.commit(write).await?)
    }

    /// Who follows an author.
    pub(crate) async fn followers(&self, author: u32, followers: &RoaringBitmap) -> anyhow::Result<()> {
        let stretches = stretches(followers);
        let write = move |connection: &Connection| -> Result<()> {
            let mut insert = connection.prepare("INSERT INTO followers VALUES (?1, ?2, ?3)")?;
            for (stretch, users) in stretches {
                insert.execute(params![author, stretch, users])?;
            }
            Ok(())
        };
        Ok(self.state.commit(write).await?)
    }

    /// Whom users follow: all of them the same authors.
    pub(crate) async fn followed(&self, users: Vec<u32>, authors: &RoaringBitmap) -> anyhow::Result<()> {
        let stretches = stretches(authors);
        let write = move |connection: &Connection| -> Result<()> {
            let mut insert = connection.prepare("INSERT INTO followed VALUES (?1, ?2, ?3)")?;
            for user in users {
                for (stretch, authors) in &stretches {
                    insert.execute(params![user, stretch, authors])?;
                }
            }
            Ok(())
        };
        Ok(self.state.commit(write).await?)
    }

    /// Connects users, whose timelines are active then.
    pub(crate) async fn connect(&self, users: &[u32]) -> anyhow::Result<Vec<Connected>> {
        let mut tasks = tokio::task::JoinSet::new();
        for users in users.chunks(users.len().div_ceil(CONNECTING_COUNT).max(1)) {
            let (users, timelines) = (users.to_vec(), self.timelines.clone());
            tasks.spawn(async move {
                let mut connected = Vec::with_capacity(users.len());
                for user in users {
                    connected.push(timelines.connect(&name(user)).await?);
                }
                anyhow::Ok(connected)
            });
        }
        let mut all = Vec::with_capacity(users.len());
        while let Some(connected) = tasks.join_next().await {
            all.extend(connected??);
        }
        Ok(all)
    }

    /// What is known of an author's audience, as it is asked for before each post.
    pub(crate) async fn facts(&self, author: u32) -> anyhow::Result<Facts> {
        let author = name(author);
        let asked = [Asked { author: &author, item: "the next one", committed_at: Micros(self.items_count) }];
        let facts = self.timelines.facts(&asked).await?;
        facts.first().copied().flatten().context("a new post has facts")
    }

    /// The next post, newer than all before.
    pub(crate) fn post(&mut self, author: u32, delivery: Delivery) -> FeedWrite {
        self.items_count += 1;
        let payload = format!("{{\"id\":{},\"body\":\"what there is to say in a post\"}}", self.items_count);
        let post = FeedPost {
            author: name(author).into(),
            item: self.items_count.to_string().into(),
            payload: Bytes::from(payload),
            time: Micros(self.items_count),
            committed_at: Micros(self.items_count),
        };
        FeedWrite::Post { post, plan: Plan { delivery, notify: true } }
    }

    /// Waits until nothing is on its way.
    pub(crate) async fn landed(&self) {
        while self.timelines.flights_count() > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

pub(crate) fn name(user: u32) -> String {
    format!("u{user}")
}

/// As the tables have a set: a bitmap for each stretch of 65,536 numbers that has members.
fn stretches(users: &RoaringBitmap) -> Vec<(u32, Vec<u8>)> {
    let mut stretches = Vec::new();
    let mut next = users.min();
    while let Some(first) = next {
        let (stretch, last) = (first >> 16, first | 0xFFFF);
        let mut part = RoaringBitmap::new();
        part.insert_range(stretch << 16..=last);
        part &= users;
        let mut bytes = Vec::with_capacity(part.serialized_size());
        part.serialize_into(&mut bytes).expect("memory takes all that is written to it");
        stretches.push((stretch, bytes));
        next = last.checked_add(1).and_then(|above| users.range(above..).next());
    }
    stretches
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
