//! What every bus must do, as tests that take any implementation.
//!
//! In: a [`Home`], where a bus can be opened again and again. To run them on an implementation, call [`contract!`] in
//! its tests with an expression that makes a home.
//!
//! Absent on purpose: what only one implementation can do or suffer (a full disk, a torn page, a failover).

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

pub(crate) use super::local::LocalBus as Local;
pub(crate) use super::local::tests::local;
use super::{Batch, Bus, BusError, DeadLetter, Kept, Stage};
use crate::event::{Channel, Form, Message, Offset, Partition, Retention, Sequence};

/// Where one bus lives.
pub(crate) trait Home {
    /// Opens the bus, new or as it was left; keeps about `count_max` messages.
    async fn open(&self, count_max: u64) -> Box<dyn Bus>;
}

/// Makes a test of each function of this file.
macro_rules! contract {
    ($home:expr) => {
        $crate::bus::contract::contract!($home;
            a_batch_is_applied_once
            a_batch_that_does_not_begin_at_the_committed_offset_is_refused
            partitions_have_offsets_of_their_own
            sequences_have_no_gaps_and_follow_the_order_of_batches
            a_resume_reads_its_channels_in_order_and_page_by_page
            a_restart_keeps_epoch_sequences_and_offsets
            two_homes_have_different_epochs
            who_stands_at_or_above_the_floor_misses_nothing
            sequences_go_on_after_all_was_removed
            a_follower_misses_nothing_while_batches_are_applied
            batches_of_many_partitions_at_once_are_published_in_order
            a_cancelled_apply_is_done_wholly_or_not_at_all
            messages_that_are_not_kept_reach_who_listens_and_nobody_else
            what_is_told_reaches_all_who_listen_and_has_no_place
            channels_are_listed_by_prefix_and_page_by_page
            a_value_is_the_last_that_was_set_until_it_is_forgotten
            a_value_outlives_its_message_and_a_restart
            a_value_is_seen_with_its_message_and_by_nobody_before
        );
        #[test]
        fn a_bus_behaves_as_a_list_would() {
            $crate::bus::contract::a_bus_behaves_as_a_list_would(|| $home);
        }
    };
    ($home:expr; $($name:ident)*) => {
        $(#[tokio::test]
        async fn $name() {
            $crate::bus::contract::$name(&|| $home).await;
        })*
    };
}
pub(crate) use contract;

const MANY: u64 = 1_000_000;
const P: Partition = Partition(0);

fn channel(name: &str) -> Channel {
    Channel::new(name).unwrap()
}

fn message(channel_name: &str, payload: &str) -> Message {
    Message {
        channel: channel(channel_name),
        event: "update".into(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        form: Form::Text,
        retention: Retention::Kept,
    }
}

/// A batch of one change for each message.
pub(crate) fn batch(partition: Partition, from: u64, messages: Vec<Message>) -> Batch {
    let offsets = Offset(from)..Offset(from + messages.len() as u64);
    let (feed, dead_letters, replayed) = ([].into(), vec![], vec![]);
    Batch { partition, offsets, messages, feed, dead_letters, replayed, committed_at: None }
}

/// A batch of so many messages of one channel, with the offset as payload.
pub(crate) fn run_of(channel_name: &str, from: u64, count: u64) -> Batch {
    batch(P, from, (from..from + count).map(|offset| message(channel_name, &offset.to_string())).collect())
}

pub(crate) fn payloads(kept: &[Arc<Kept>]) -> Vec<&str> {
    kept.iter().map(|kept| std::str::from_utf8(&kept.message.payload).unwrap()).collect()
}

fn sequences(kept: &[Arc<Kept>]) -> Vec<u64> {
    kept.iter().map(|kept| kept.sequence.0).collect()
}

async fn all(bus: &dyn Bus) -> Vec<Arc<Kept>> {
    bus.read(None, bus.floor(), usize::MAX >> 1).await.unwrap()
}

pub(crate) async fn a_batch_is_applied_once<H: Home>(home: &impl Fn() -> H) {
    let home = home();
    let bus = home.open(MANY).await;
    bus.apply(run_of("a", 0, 3)).await.unwrap();
    bus.apply(run_of("a", 0, 3)).await.unwrap();
    bus.apply(run_of("a", 1, 2)).await.unwrap();
    assert_eq!(payloads(&all(&*bus).await), ["0", "1", "2"]);
    drop(bus);
    let bus = home.open(MANY).await;
    bus.apply(run_of("a", 0, 3)).await.unwrap();
    assert_eq!(payloads(&all(&*bus).await), ["0", "1", "2"]);
    assert_eq!(bus.committed(P), Offset(3));
}

pub(crate) async fn a_batch_that_does_not_begin_at_the_committed_offset_is_refused<H: Home>(
    home: &impl Fn() -> H,
) {
    let home = home();
    let bus = home.open(MANY).await;
    bus.apply(run_of("a", 0, 3)).await.unwrap();
    for from in [2, 4] {
        let refused = bus.apply(run_of("a", from, 5)).await.unwrap_err();
        assert!(
            matches!(refused, BusError::Gap { partition: P, committed: Offset(3), from: Offset(f) } if f == from),
            "{refused}"
        );
    }
    assert_eq!(bus.committed(P), Offset(3));
    assert_eq!(payloads(&all(&*bus).await), ["0", "1", "2"]);
}

pub(crate) async fn partitions_have_offsets_of_their_own<H: Home>(home: &impl Fn() -> H) {
    let home = home();
    let bus = home.open(MANY).await;
    bus.apply(batch(Partition(1), 0, vec![message("a", "one")])).await.unwrap();
    bus.apply(batch(Partition(7), 0, vec![message("a", "seven")])).await.unwrap();
    assert_eq!(bus.committed(Partition(0)), Offset(0));
    assert_eq!(bus.committed(Partition(1)), Offset(1));
    assert_eq!(bus.committed(Partition(7)), Offset(1));
    assert_eq!(payloads(&all(&*bus).await), ["one", "seven"]);
}

pub(crate) async fn sequences_have_no_gaps_and_follow_the_order_of_batches<H: Home>(home: &impl Fn() -> H) {
    let home = home();
    let bus = home.open(MANY).await;
    assert_eq!(*bus.head().borrow(), Sequence(0));
    for from in [0, 5, 10] {
        bus.apply(run_of("a", from, 5)).await.unwrap();
    }
    let kept = all(&*bus).await;
    assert_eq!(sequences(&kept), (1..=15).collect::<Vec<_>>());
    assert_eq!(payloads(&kept), (0..15).map(|offset: u64| offset.to_string()).collect::<Vec<_>>());
    assert_eq!(*bus.head().borrow(), Sequence(15));
}

pub(crate) async fn a_resume_reads_its_channels_in_order_and_page_by_page<H: Home>(home: &impl Fn() -> H) {
    let home = home();
    for reopened in [false, true] {
        let bus = home.open(MANY).await;
        if !reopened {
            let messages = (0..30)
                .map(|nth: u64| message(["a", "b", "c"][nth as usize % 3], &nth.to_string()))
                .collect();
            bus.apply(batch(P, 0, messages)).await.unwrap();
        }
        let channels = [channel("c"), channel("a"), channel("never")];
        let mut cursor = Sequence(4);
        let mut read = Vec::new();
        loop {
            let page = bus.read(Some(&channels), cursor, 7).await.unwrap();
            read.extend(page.iter().map(|kept| kept.sequence.0));
            if page.len() < 7 {
                break;
            }
            cursor = page.last().unwrap().sequence;
        }
        let expected: Vec<u64> = (5..=30).filter(|sequence| (sequence - 1) % 3 != 1).collect();
        assert_eq!(read, expected, "reopened: {reopened}");
        assert_eq!(bus.read(Some(&[]), Sequence(0), 7).await.unwrap(), []);
    }
}

pub(crate) async fn a_restart_keeps_epoch_sequences_and_offsets<H: Home>(home: &impl Fn() -> H) {
    let home = home();
    let bus = home.open(MANY).await;
    bus.apply(run_of("a", 0, 3)).await.unwrap();
    let (epoch, kept) = (bus.epoch(), all(&*bus).await);
    drop(bus);
    let bus = home.open(MANY).await;
    assert_eq!(bus.epoch(), epoch);
    assert_eq!(all(&*bus).await, kept);
    assert_eq!(bus.committed(P), Offset(3));
    assert_eq!(*bus.head().borrow(), Sequence(3));
    bus.apply(run_of("a", 3, 1)).await.unwrap();
    assert_eq!(sequences(&bus.read(None, Sequence(2), 9).await.unwrap()), [3, 4]);
}

pub(crate) async fn two_homes_have_different_epochs<H: Home>(home: &impl Fn() -> H) {
    let (one, other) = (home(), home());
    assert_ne!(one.open(MANY).await.epoch(), other.open(MANY).await.epoch());
}

pub(crate) async fn who_stands_at_or_above_the_floor_misses_nothing<H: Home>(home: &impl Fn() -> H) {
    let home = home();
    let bus = home.open(100).await;
    for from in (0..3_000).step_by(50) {
        bus.apply(run_of("a", from, 50)).await.unwrap();
        let floor = bus.floor();
        let kept = bus.read(Some(&[channel("a")]), floor, 9_999).await.unwrap();
        assert_eq!(sequences(&kept), (floor.0 + 1..=from + 50).collect::<Vec<_>>());
    }
    assert!(bus.floor() > Sequence(0), "retention has begun");
    assert!(bus.floor() <= Sequence(2_900), "what may be kept is kept");
    let floor = bus.floor();
    drop(bus);
    assert_eq!(home.open(100).await.floor(), floor);
}

pub(crate) async fn sequences_go_on_after_all_was_removed<H: Home>(home: &impl Fn() -> H) {
    let home = home();
    let bus = home.open(0).await;
    bus.apply(run_of("a", 0, 2_000)).await.unwrap();
    drop(bus);
    let bus = home.open(0).await;
    bus.apply(run_of("a", 2_000, 1)).await.unwrap();
    assert_eq!(*bus.head().borrow(), Sequence(2_001));
}

pub(crate) async fn a_follower_misses_nothing_while_batches_are_applied<H: Home>(home: &impl Fn() -> H) {
    let home = home();
    let bus = home.open(MANY).await;
    let mut head = bus.head();
    let follow = async {
        let mut seen = Vec::new();
        while seen.len() < 600 {
            head.changed().await.unwrap();
            let after = Sequence(seen.len() as u64);
            let kept = bus.read(None, after, 9_999).await.unwrap();
            assert!(*bus.head().borrow() >= kept.last().map_or(after, |kept| kept.sequence));
            seen.extend(sequences(&kept));
        }
        assert_eq!(seen, (1..=600).collect::<Vec<_>>());
    };
    let apply = async {
        for from in (0..600).step_by(6) {
            bus.apply(run_of("a", from, 6)).await.unwrap();
        }
    };
    tokio::join!(follow, apply);
}

pub(crate) async fn batches_of_many_partitions_at_once_are_published_in_order<H: Home>(
    home: &impl Fn() -> H,
) {
    let home = home();
    let bus = home.open(MANY).await;
    for round in 0..10 {
        let batches = (0..20).map(|partition| {
            let payload = format!("{partition}/{round}");
            bus.apply(batch(Partition(partition), round, vec![message("a", &payload)]))
        });
        for applied in futures_util::future::join_all(batches).await {
            applied.unwrap();
        }
    }
    let kept = all(&*bus).await;
    assert_eq!(sequences(&kept), (1..=200).collect::<Vec<_>>());
    drop(bus);
    assert_eq!(all(&*home.open(MANY).await).await, kept, "what followers saw is what is kept");
}

pub(crate) async fn a_cancelled_apply_is_done_wholly_or_not_at_all<H: Home>(home: &impl Fn() -> H) {
    let home = home();
    let bus = home.open(MANY).await;
    let mut from = 0;
    for _ in 0..20 {
        tokio::select! {
            biased;
            applied = bus.apply(run_of("a", from, 10)) => applied.unwrap(),
            () = tokio::task::yield_now() => {}
        }
        // Whatever became of it, the same batch again leads to the same place.
        bus.apply(run_of("a", from, 10)).await.unwrap();
        from += 10;
        assert_eq!(bus.committed(P), Offset(from));
        assert_eq!(*bus.head().borrow(), Sequence(from));
    }
    assert_eq!(sequences(&all(&*bus).await), (1..=200).collect::<Vec<_>>());
}

pub(crate) async fn messages_that_are_not_kept_reach_who_listens_and_nobody_else<H: Home>(
    home: &impl Fn() -> H,
) {
    let home = home();
    let bus = home.open(MANY).await;
    let mut live = bus.live();
    let passing = Message { retention: Retention::LiveOnly, ..message("typing", "now") };
    bus.apply(batch(P, 0, vec![passing.clone(), message("a", "kept")])).await.unwrap();
    bus.apply(batch(P, 0, vec![passing.clone(), message("a", "kept")])).await.unwrap();
    assert_eq!(*live.recv().await.unwrap(), passing);
    assert!(live.try_recv().is_err(), "a batch that was applied before says nothing again");
    assert_eq!(payloads(&all(&*bus).await), ["kept"]);
    assert_eq!(*bus.head().borrow(), Sequence(1));
}

pub(crate) async fn what_is_told_reaches_all_who_listen_and_has_no_place<H: Home>(home: &impl Fn() -> H) {
    let home = home();
    let bus = home.open(MANY).await;
    let told = Message { retention: Retention::LiveOnly, ..message("typing", "now") };
    bus.tell(told.clone()).await.unwrap();
    let (mut one, mut other) = (bus.live(), bus.live());
    bus.apply(run_of("a", 0, 1)).await.unwrap();
    let later = Message { payload: Bytes::from_static(b"later"), ..told };
    bus.tell(later.clone()).await.unwrap();
    for live in [&mut one, &mut other] {
        assert_eq!(*live.recv().await.unwrap(), later, "what was told before is for nobody");
    }
    assert_eq!(payloads(&all(&*bus).await), ["0"]);
    assert_eq!((*bus.head().borrow(), bus.committed(P)), (Sequence(1), Offset(1)));
}

pub(crate) async fn channels_are_listed_by_prefix_and_page_by_page<H: Home>(home: &impl Fn() -> H) {
    let home = home();
    let bus = home.open(MANY).await;
    let names = ["users", "orders:2", "orders", "orders:1", "orders:2", "ordinary", "é"];
    bus.apply(batch(P, 0, names.map(|name| message(name, "")).into())).await.unwrap();
    let list = async |prefix: &str, after: &str, count_max| {
        let names = bus.channels(prefix, after, count_max).await.unwrap();
        names.iter().map(Channel::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(list("", "", 99).await, "orders orders:1 orders:2 ordinary users é");
    assert_eq!(list("orders", "", 2).await, "orders orders:1");
    assert_eq!(list("orders", "orders:1", 2).await, "orders:2");
    assert_eq!(list("orders", "zebra", 2).await, "");
    assert_eq!(list("", "users", 2).await, "é");
    assert_eq!(list("x", "", 2).await, "");
}

fn saying(word: Retention, channel_name: &str, payload: &str) -> Message {
    Message { retention: word, ..message(channel_name, payload) }
}

async fn values(bus: &dyn Bus, names: &[&str]) -> Vec<(u64, String)> {
    let names: Vec<_> = names.iter().map(|name| channel(name)).collect();
    let values = bus.values(&names).await.unwrap();
    values.iter().map(|kept| kept.sequence.0).zip(payloads(&values).into_iter().map(str::to_owned)).collect()
}

pub(crate) async fn a_value_is_the_last_that_was_set_until_it_is_forgotten<H: Home>(home: &impl Fn() -> H) {
    use Retention::{Forget, Kept, LiveOnly, Value};
    let home = home();
    let bus = home.open(MANY).await;
    let said = [
        (Value, "a", "1"),
        (Value, "b", "2"),
        (Kept, "a", "3"),
        (Value, "a", "4"),
        (LiveOnly, "a", "live"),
        (Value, "c", "5"),
        (Forget, "c", "6"),
        (Forget, "never", "7"),
    ];
    let said = said.map(|(word, name, payload)| saying(word, name, payload));
    bus.apply(batch(P, 0, said.to_vec())).await.unwrap();
    bus.apply(batch(P, 0, said.to_vec())).await.unwrap();
    let all = ["c", "a", "never", "b"];
    let expected = [(2, "2".to_owned()), (4, "4".to_owned())];
    assert_eq!(values(&*bus, &all).await, expected, "by sequence, of those that have one");
    assert_eq!(values(&*bus, &[]).await, []);
    let kept = bus.read(None, Sequence(0), 99).await.unwrap();
    assert!(kept.iter().all(|kept| kept.message.retention == Retention::Kept));
    assert_eq!(payloads(&kept), ["1", "2", "3", "4", "5", "6", "7"], "what is a value is a message as well");
    bus.apply(batch(P, 8, vec![saying(Forget, "a", "8"), saying(Value, "c", "9")])).await.unwrap();
    assert_eq!(values(&*bus, &all).await, [(2, "2".to_owned()), (9, "9".to_owned())]);
}

pub(crate) async fn a_value_outlives_its_message_and_a_restart<H: Home>(home: &impl Fn() -> H) {
    let home = home();
    let bus = home.open(0).await;
    let said = [(Retention::Value, "a"), (Retention::Value, "b"), (Retention::Kept, "a")];
    bus.apply(batch(P, 0, said.map(|(word, name)| saying(word, name, name)).to_vec())).await.unwrap();
    bus.apply(run_of("c", 3, 2_000)).await.unwrap();
    let (floor, ab) = (bus.floor(), ["a", "b"]);
    assert!(floor > Sequence(3), "retention has begun");
    let left = bus.read(None, Sequence(0), 9_999).await.unwrap();
    assert_eq!(sequences(&left), (floor.0 + 1..=2_003).collect::<Vec<_>>(), "a value is read as no message");
    let expected = [(1, "a".to_owned()), (2, "b".to_owned())];
    assert_eq!(values(&*bus, &ab).await, expected);
    drop(bus);
    let bus = home.open(0).await;
    assert_eq!(values(&*bus, &ab).await, expected);
    assert_eq!((bus.floor(), *bus.head().borrow()), (floor, Sequence(2_003)));
    assert_eq!(bus.read(Some(&[channel("a")]), Sequence(0), 9).await.unwrap(), [], "no message any more");
    let said = [saying(Retention::Forget, "a", "gone"), saying(Retention::Value, "b", "new")];
    bus.apply(batch(P, 2_003, said.to_vec())).await.unwrap();
    bus.apply(run_of("c", 2_005, 2_000)).await.unwrap();
    drop(bus);
    let bus = home.open(0).await;
    assert_eq!(values(&*bus, &ab).await, [(2_005, "new".to_owned())]);
    assert_eq!(*bus.head().borrow(), Sequence(4_005));
}

pub(crate) async fn a_value_is_seen_with_its_message_and_by_nobody_before<H: Home>(home: &impl Fn() -> H) {
    let home = home();
    let bus = home.open(MANY).await;
    let mut head = bus.head();
    let follow = async {
        let mut seen = 0;
        while seen < 300 {
            head.changed().await.unwrap();
            let at = head.borrow_and_update().0;
            let value = values(&*bus, &["a"]).await.pop().expect("it was set").0;
            assert!(value >= at && value <= bus.head().borrow().0, "{value} at {at}");
            seen = at;
        }
    };
    let apply = async {
        for from in 0..300 {
            bus.apply(batch(P, from, vec![saying(Retention::Value, "a", "")])).await.unwrap();
        }
    };
    tokio::join!(follow, apply);
}

#[derive(Debug, Clone)]
enum Step {
    Apply(Vec<(u8, Retention)>),
    Values,
    Again,
    Skip,
    Read { channels: Option<Vec<u8>>, after: u64, count_max: usize },
    Reopen,
}

fn word() -> impl Strategy<Value = Retention> {
    use Retention::{Forget, Kept, LiveOnly, Value};
    prop_oneof![4 => Just(Kept), 1 => Just(LiveOnly), 2 => Just(Value), 1 => Just(Forget)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => proptest::collection::vec((0..5_u8, word()), 1..12).prop_map(Step::Apply),
        2 => Just(Step::Values),
        1 => Just(Step::Again),
        1 => Just(Step::Skip),
        4 => (proptest::option::of(proptest::collection::vec(0..6_u8, 0..4)), 0..80_u64, 0..20_usize)
            .prop_map(|(channels, after, count_max)| Step::Read { channels, after, count_max }),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..24)
}

/// The slow, obvious bus.
#[derive(Default)]
struct Model {
    kept: Vec<(u64, Message)>,
    values: std::collections::BTreeMap<Channel, (u64, Message)>,
    committed: u64,
    last: Option<Batch>,
}

impl Model {
    fn apply(&mut self, batch: &Batch) {
        for message in &batch.messages {
            if message.retention == Retention::LiveOnly {
                continue;
            }
            let kept = Message { retention: Retention::Kept, ..message.clone() };
            let kept = (self.kept.len() as u64 + 1, kept);
            match message.retention {
                Retention::Value => drop(self.values.insert(message.channel.clone(), kept.clone())),
                Retention::Forget => drop(self.values.remove(&message.channel)),
                Retention::Kept | Retention::LiveOnly => {}
            }
            self.kept.push(kept);
        }
        self.committed = batch.offsets.end.0;
        self.last = Some(batch.clone());
    }

    fn read(&self, channels: Option<&[Channel]>, after: u64, count_max: usize) -> Vec<(u64, Message)> {
        let of_channels = |message: &Message| channels.is_none_or(|names| names.contains(&message.channel));
        let after = self.kept.iter().filter(|(sequence, message)| *sequence > after && of_channels(message));
        after.take(count_max).cloned().collect()
    }
}

async fn walk<H: Home>(home: H, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut bus = home.open(MANY).await;
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Apply(messages) => {
                let messages =
                    messages.into_iter().map(|(name, word)| saying(word, &format!("channel {name}"), "text"));
                let mut batch = batch(P, model.committed, messages.collect());
                batch.dead_letters.push(DeadLetter {
                    offset: batch.offsets.start,
                    plugin: "router".into(),
                    generation: 1,
                    digest: "00".into(),
                    stage: Stage::Router,
                    fault: "it trapped".into(),
                    record: Bytes::from_static(b"record"),
                });
                bus.apply(batch.clone()).await.unwrap();
                model.apply(&batch);
            }
            Step::Again => {
                if let Some(batch) = model.last.clone() {
                    bus.apply(batch).await.unwrap();
                }
            }
            Step::Skip => {
                let refused = bus.apply(run_of("a", model.committed + 1, 1)).await;
                prop_assert!(matches!(refused, Err(BusError::Gap { .. })), "a gap is refused");
            }
            Step::Read { channels, after, count_max } => {
                let channels: Option<Vec<Channel>> = channels
                    .map(|names| names.iter().map(|name| channel(&format!("channel {name}"))).collect());
                let read = bus.read(channels.as_deref(), Sequence(after), count_max).await.unwrap();
                let read: Vec<_> = read.iter().map(|kept| (kept.sequence.0, kept.message.clone())).collect();
                prop_assert_eq!(read, model.read(channels.as_deref(), after, count_max));
            }
            Step::Values => {
                let all: Vec<_> = (0..6).map(|name| channel(&format!("channel {name}"))).collect();
                let read = bus.values(&all).await.unwrap();
                let read: Vec<_> = read.iter().map(|kept| (kept.sequence.0, kept.message.clone())).collect();
                let mut expected: Vec<_> = model.values.values().cloned().collect();
                expected.sort_by_key(|(sequence, _)| *sequence);
                prop_assert_eq!(read, expected);
            }
            Step::Reopen => {
                drop(bus);
                bus = home.open(MANY).await;
            }
        }
        prop_assert_eq!(bus.committed(P), Offset(model.committed));
        prop_assert_eq!(bus.head().borrow().0, model.kept.len() as u64);
    }
    Ok(())
}

pub(crate) fn a_bus_behaves_as_a_list_would<H: Home>(home: impl Fn() -> H) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    proptest!(ProptestConfig::with_cases(48), |(steps in steps())| {
        runtime.block_on(walk(home(), steps))?;
    });
}
