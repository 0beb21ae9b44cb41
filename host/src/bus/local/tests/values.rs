//! The bounds of values, and that they are of one commit with their messages.

use super::*;
use crate::bus::Batch;
use crate::bus::contract::batch;
use crate::event::Retention;
use crate::limits::VALUE_BYTES_MAX;

fn set(name: &str, payload: &str) -> Message {
    let mut message = run_of(name, 0, 1).messages.remove(0);
    (message.retention, message.payload) = (Retention::Value, payload.to_owned().into());
    message
}

fn sets(from: u64, names: &[&str]) -> Batch {
    batch(P, from, names.iter().map(|name| set(name, name)).collect())
}

async fn opened(folder: &Path, config: Config) -> (LocalBus, Arc<HistoryMetrics>) {
    let metrics = Arc::<HistoryMetrics>::default();
    let state = State::open(folder).unwrap();
    (LocalBus::open_counted(state, config, metrics.clone()).await.unwrap(), metrics)
}

/// The values of one-letter channels, in the order of their sequences.
async fn values(bus: &LocalBus) -> String {
    let names: Vec<_> = ('a'..='z').map(|name| Channel::new(&name.to_string()).unwrap()).collect();
    bus.values(&names).await.unwrap().iter().map(|kept| kept.message.channel.to_string()).collect()
}

fn counted(metrics: &HistoryMetrics) -> (u64, u64) {
    let [values, dropped] = [&metrics.values, &metrics.values_dropped];
    (values.load(Ordering::Relaxed), dropped.load(Ordering::Relaxed))
}

#[tokio::test]
async fn past_a_bound_what_was_set_least_recently_is_dropped_and_counted() {
    let home = tempfile::tempdir().unwrap();
    let (bus, metrics) = opened(home.path(), Config { values_count_max: 3, ..CONFIG }).await;
    bus.apply(sets(0, &["a", "b", "c", "a", "d"])).await.unwrap();
    assert_eq!((values(&bus).await.as_str(), counted(&metrics)), ("cad", (3, 1)));
    bus.apply(sets(5, &["c", "e", "f"])).await.unwrap();
    assert_eq!((values(&bus).await.as_str(), counted(&metrics)), ("cef", (3, 3)));
    drop(bus);
    // What a start finds is held to the bounds of that start.
    let (bus, metrics) = opened(home.path(), Config { values_count_max: 1, ..CONFIG }).await;
    assert_eq!((values(&bus).await.as_str(), counted(&metrics).0), ("f", 1));
    bus.apply(sets(8, &["f"])).await.unwrap();
    assert_eq!((values(&bus).await.as_str(), counted(&metrics)), ("f", (1, 0)));
}

#[tokio::test]
async fn bytes_are_bounded_as_is_each_value() {
    let home = tempfile::tempdir().unwrap();
    let (bus, metrics) = opened(home.path(), Config { values_bytes_max: 100_000, ..CONFIG }).await;
    let large = "x".repeat(40_000);
    for (from, name) in (0..).zip(["a", "b", "c"]) {
        bus.apply(batch(P, from, vec![set(name, &large)])).await.unwrap();
    }
    assert_eq!((values(&bus).await.as_str(), counted(&metrics)), ("bc", (2, 1)));
    let bytes = metrics.values_bytes.load(Ordering::Relaxed);
    assert!((80_000..100_000).contains(&bytes), "{bytes}");
    // The older value would tell what is no longer so.
    bus.apply(batch(P, 3, vec![set("c", &"x".repeat(VALUE_BYTES_MAX))])).await.unwrap();
    assert_eq!((values(&bus).await.as_str(), counted(&metrics)), ("b", (1, 2)));
    assert_eq!(*bus.head().borrow(), Sequence(4), "it is a message all the same");
}

#[tokio::test]
async fn a_value_does_not_keep_the_answer_that_its_name_was_a_part_of() {
    let home = tempfile::tempdir().unwrap();
    let (bus, _) = opened(home.path(), CONFIG).await;
    let answer: Arc<str> = "a,b".into();
    let channel = Channel::part_of(answer.clone(), 0..1);
    bus.apply(batch(P, 0, vec![Message { channel, ..set("a", "") }])).await.unwrap();
    assert_eq!((values(&bus).await.as_str(), Arc::strong_count(&answer)), ("a", 1));
}

#[tokio::test]
async fn after_a_kill_a_value_is_there_exactly_if_its_batch_is() {
    let home = tempfile::tempdir().unwrap();
    let (bus, _) = opened(home.path(), CONFIG).await;
    for from in 0..40 {
        bus.apply(sets(from, &["a"])).await.unwrap();
    }
    // Whatever of the journal is lost: the value is the last message that is left.
    for (part, of) in [(1, 1), (3, 4), (1, 2)] {
        let after = tempfile::tempdir().unwrap();
        leave_as_a_kill_would(home.path(), after.path());
        let wal = after.path().join("state.db-wal");
        let pages = std::fs::metadata(&wal).unwrap().len() / 4_096;
        if part < of {
            zero(&wal, pages * part / of * 4_096);
        }
        let (bus, _) = opened(after.path(), CONFIG).await;
        let value = bus.values(&[Channel::new("a").unwrap()]).await.unwrap().pop().expect("it was set");
        assert_eq!((value.sequence, bus.committed(P)), (*bus.head().borrow(), Offset(value.sequence.0)));
    }
}
