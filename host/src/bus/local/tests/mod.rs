//! The contract of a bus, run on the local one, and what only a local one can suffer.

mod feeds;
mod letters;
mod values;

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::bus::contract::{self, Home, payloads, run_of};
use crate::event::Form;
use crate::limits::{VALUES_BYTES_MAX, VALUES_COUNT_MAX};
use crate::state::tests::{leave_as_a_kill_would, zero};

const P: Partition = Partition(0);
const CONFIG: Config = Config {
    count_max: 1_000_000,
    age_max: Duration::from_secs(3_600),
    values_count_max: VALUES_COUNT_MAX,
    values_bytes_max: VALUES_BYTES_MAX,
};

impl Home for TempDir {
    async fn open(&self, count_max: u64) -> Box<dyn Bus> {
        let state = State::open(self.path()).unwrap();
        Box::new(LocalBus::open(state, Config { count_max, ..CONFIG }).await.unwrap())
    }
}

contract::contract!(tempfile::tempdir().unwrap());

async fn open(folder: &Path, config: Config) -> LocalBus {
    LocalBus::open(State::open(folder).unwrap(), config).await.unwrap()
}

/// A bus in a folder, new or as it was left, for tests of who uses one.
pub(crate) async fn local(folder: &Path) -> Arc<LocalBus> {
    Arc::new(open(folder, CONFIG).await)
}

/// A bus that takes what batches write to feeds, for the tests of whoever shows them.
pub(crate) async fn with_feeds(state: State, feeds: Along<[FeedWrite], Vec<Message>>) -> Arc<dyn Bus> {
    Arc::new(LocalBus::open(state, Config { count_max: 10_000, ..CONFIG }).await.unwrap().with_feeds(feeds))
}

#[tokio::test]
async fn a_sweep_removes_what_is_too_old() {
    let home = tempfile::tempdir().unwrap();
    let bus = open(home.path(), CONFIG).await;
    bus.apply(run_of("a", 0, 1_200)).await.unwrap();
    bus.sweep().await.unwrap();
    assert_eq!(bus.floor(), Sequence(0));
    drop(bus);
    let bus = open(home.path(), Config { age_max: Duration::ZERO, ..CONFIG }).await;
    bus.sweep().await.unwrap();
    assert_eq!(bus.floor(), Sequence(1_200));
    assert_eq!(bus.read(None, Sequence(0), 9).await.unwrap(), []);
    assert_eq!(bus.channels("", "", 9).await.unwrap(), []);
}

#[tokio::test]
async fn a_sweep_removes_what_is_too_many() {
    let home = tempfile::tempdir().unwrap();
    let bus = open(home.path(), Config { count_max: 5, ..CONFIG }).await;
    bus.apply(run_of("a", 0, 100)).await.unwrap();
    bus.sweep().await.unwrap();
    assert_eq!(bus.floor(), Sequence(95));
    assert_eq!(payloads(&bus.read(None, Sequence(0), 9).await.unwrap()), ["95", "96", "97", "98", "99"]);
}

#[tokio::test]
async fn a_follower_that_keeps_up_never_touches_the_disk() {
    let home = tempfile::tempdir().unwrap();
    let state = State::open(home.path()).unwrap();
    let bus = LocalBus::open(state.clone(), CONFIG).await.unwrap();
    bus.apply(run_of("a", 0, 5)).await.unwrap();
    // Every reader of the state is busy until its sender is dropped, at the end or by a failure.
    let mut releases = Vec::new();
    for _ in 0..crate::limits::STATE_READERS_COUNT_MAX {
        let (release, released) = std::sync::mpsc::channel::<()>();
        let (began, begun) = tokio::sync::oneshot::channel();
        let state = state.clone();
        tokio::spawn(async move {
            let wait = move |_: &_| {
                began.send(()).unwrap();
                Ok(released.recv().is_err())
            };
            state.read(wait).await.unwrap();
        });
        begun.await.unwrap();
        releases.push(release);
    }
    bus.apply(run_of("a", 5, 5)).await.unwrap();
    assert_eq!(bus.read(None, Sequence(5), 99).await.unwrap().len(), 5);
    assert_eq!(bus.read(None, Sequence(10), 99).await.unwrap().len(), 0);
    let a = Channel::new("a").unwrap();
    assert_eq!(bus.read(Some(&[a]), Sequence(7), 99).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_history_of_before_messages_had_forms_is_taken_over_as_text_and_goes_on_with_forms() {
    let home = tempfile::tempdir().unwrap();
    let bus = open(home.path(), CONFIG).await;
    bus.apply(run_of("a", 0, 2)).await.unwrap();
    drop(bus);
    let state = State::open(home.path()).unwrap();
    let as_before =
        |connection: &Connection| connection.execute_batch("ALTER TABLE messages DROP COLUMN form");
    state.commit(as_before).await.unwrap();
    drop(state);
    let bus = open(home.path(), CONFIG).await;
    let mut further = run_of("a", 2, 3);
    for (message, form) in further.messages.iter_mut().zip([Form::Json, Form::Text, Form::Base64]) {
        message.form = form;
    }
    bus.apply(further).await.unwrap();
    drop(bus);
    let bus = open(home.path(), CONFIG).await;
    let kept = bus.read(None, Sequence(0), 9).await.unwrap();
    let forms: Vec<_> = kept.iter().map(|kept| kept.message.form).collect();
    assert_eq!(forms, [Form::Text, Form::Text, Form::Json, Form::Text, Form::Base64]);
}

async fn from_disk(bus: &LocalBus, after: u64) -> u64 {
    let up_to = *bus.head().borrow();
    let read = bus.read_state(move |connection| tables::read_all(connection, Sequence(after), up_to, 99_999));
    read.await.unwrap().len() as u64
}

#[tokio::test]
async fn a_full_disk_applies_nothing_and_heals_without_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let state = State::open(home.path()).unwrap();
    let bus = LocalBus::open(state.clone(), CONFIG).await.unwrap();
    let allow = async |pages: i64| {
        let set = state.commit(move |connection| {
            connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))
        });
        set.await.unwrap();
    };
    allow(20).await;
    let (mut from, mut refused) = (0, None);
    while refused.is_none() {
        assert!(from < 100_000, "twenty pages hold fewer messages");
        match bus.apply(run_of("a", from, 100)).await {
            Ok(()) => from += 100,
            Err(error) => refused = Some(error),
        }
    }
    assert!(matches!(refused, Some(BusError::DiskFull { .. })), "{refused:?}");
    assert_eq!(bus.committed(P), Offset(from));
    assert_eq!(*bus.head().borrow(), Sequence(from));
    assert_eq!(from_disk(&bus, 0).await, from);
    allow(1_000_000).await;
    bus.apply(run_of("a", from, 100)).await.unwrap();
    assert_eq!(from_disk(&bus, from).await, 100);
}

#[tokio::test]
async fn after_a_kill_everything_confirmed_is_there_under_the_same_epoch() {
    let (home, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bus = open(home.path(), CONFIG).await;
    for from in 0..40 {
        bus.apply(run_of("a", from, 1)).await.unwrap();
    }
    leave_as_a_kill_would(home.path(), after.path());
    let again = open(after.path(), CONFIG).await;
    assert_eq!(again.epoch(), bus.epoch());
    assert_eq!(again.committed(P), Offset(40));
    assert_eq!(
        again.read(None, Sequence(0), 99).await.unwrap(),
        bus.read(None, Sequence(0), 99).await.unwrap()
    );
}

#[tokio::test]
async fn after_a_torn_journal_the_epoch_is_another_and_the_batches_can_be_applied_again() {
    let (home, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bus = open(home.path(), CONFIG).await;
    for from in 0..40 {
        bus.apply(run_of("a", from, 1)).await.unwrap();
    }
    leave_as_a_kill_would(home.path(), after.path());
    let wal = after.path().join("state.db-wal");
    let pages = std::fs::metadata(&wal).unwrap().len() / 4_096;
    zero(&wal, pages * 3 / 4 * 4_096);
    let again = open(after.path(), CONFIG).await;
    assert_ne!(again.epoch(), bus.epoch());
    let committed = again.committed(P).0;
    assert!((1..40).contains(&committed), "committed {committed}");
    for from in committed..40 {
        again.apply(run_of("a", from, 1)).await.unwrap();
    }
    assert_eq!(
        again.read(None, Sequence(0), 99).await.unwrap(),
        bus.read(None, Sequence(0), 99).await.unwrap()
    );
}
