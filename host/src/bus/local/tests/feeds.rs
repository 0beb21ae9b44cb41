//! What batches write to feeds: in the commit of the batch, once.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// A store of feeds that notes how many writes it made, on the disk and in memory, and fails on a retraction.
struct Feeds {
    state: State,
    told: Arc<AtomicU64>,
}

impl Feeds {
    async fn open(folder: &Path) -> (Self, LocalBus) {
        let state = State::open(folder).unwrap();
        let create = |connection: &Connection| {
            connection.execute_batch("CREATE TABLE IF NOT EXISTS feeds (follower TEXT NOT NULL) STRICT;")
        };
        state.commit(create).await.unwrap();
        let told = Arc::new(AtomicU64::new(0));
        let tell = told.clone();
        let along = Along::new(move |connection: &Connection, writes: &[FeedWrite]| {
            for write in writes {
                let FeedWrite::Follow { follower, .. } = write else { return Err(sql::Error::InvalidQuery) };
                connection.execute("INSERT INTO feeds VALUES (?1)", [&**follower])?;
            }
            let (tell, count) = (tell.clone(), writes.len() as u64);
            let then = move || {
                tell.fetch_add(count, Ordering::Relaxed);
            };
            Ok((Vec::new(), Box::new(then)))
        });
        let bus = LocalBus::open(state.clone(), CONFIG).await.unwrap().with_feeds(along);
        (Self { state, told }, bus)
    }

    async fn counts(&self) -> (u64, u64) {
        let count = |connection: &Connection| {
            connection.query_row("SELECT count(*) FROM feeds", [], |row| row.get::<_, i64>(0))
        };
        (self.state.read(count).await.unwrap().cast_unsigned(), self.told.load(Ordering::Relaxed))
    }
}

fn follow(follower: &str) -> FeedWrite {
    FeedWrite::Follow { follower: follower.into(), followee: "ann".into() }
}

fn retract() -> FeedWrite {
    FeedWrite::Retract { author: "ann".into(), item: "1".into() }
}

fn writing(from: u64, feed: &[FeedWrite]) -> Batch {
    Batch { feed: feed.into(), ..run_of("a", from, 2) }
}

#[tokio::test]
async fn what_a_batch_writes_to_feeds_is_there_once_with_its_offset() {
    let home = tempfile::tempdir().unwrap();
    let (feeds, bus) = Feeds::open(home.path()).await;
    bus.apply(writing(0, &[follow("bob"), follow("carol")])).await.unwrap();
    assert_eq!((feeds.counts().await, bus.committed(P)), ((2, 2), Offset(2)));
    bus.apply(writing(0, &[follow("bob"), follow("carol")])).await.unwrap();
    bus.apply(writing(3, &[follow("dora")])).await.unwrap_err();
    assert_eq!(feeds.counts().await, (2, 2));
    drop((feeds, bus));
    let (feeds, bus) = Feeds::open(home.path()).await;
    bus.apply(writing(0, &[follow("bob"), follow("carol")])).await.unwrap();
    assert_eq!((feeds.counts().await, bus.committed(P)), ((2, 0), Offset(2)));
}

#[tokio::test]
async fn nothing_of_a_batch_is_there_if_its_feeds_cannot_be_written() {
    let home = tempfile::tempdir().unwrap();
    let (feeds, bus) = Feeds::open(home.path()).await;
    bus.apply(writing(0, &[follow("bob"), retract()])).await.unwrap_err();
    assert_eq!((feeds.counts().await, bus.committed(P)), ((0, 0), Offset(0)));
    assert_eq!(bus.read(None, Sequence(0), 9).await.unwrap(), []);
}

#[tokio::test]
async fn a_bus_without_feeds_refuses_what_is_for_them() {
    let home = tempfile::tempdir().unwrap();
    let bus = open(home.path(), CONFIG).await;
    let refused = bus.apply(writing(0, &[follow("bob")])).await;
    assert!(matches!(refused, Err(BusError::NoFeeds)), "{refused:?}");
    assert_eq!(bus.committed(P), Offset(0));
}
