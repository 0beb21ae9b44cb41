//! Dead letters on the stores of one machine: what is refused and shown, and a random walk with kills against the
//! one sentence that must hold.
//!
//! The judge here is a few lines: a filter `f`, then the routers `a` and `b`, each of which fails or does not.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::bus::contract::Local;
use crate::bus::{Batch, Bus, DeadLetter, LetterState, Replayed};
use crate::event::{
    Change, Channel, Column, Form, Message, Micros, Operation, Origin, Partition, Position, Retention,
    RowBuilder, Rows, Sequence, Table, Value,
};

const P: Partition = Partition(0);
const ROUTERS: [&str; 2] = ["a", "b"];

/// An update of a row of `orders`, known by its number.
fn update(key: Value<'_>, number: u64) -> Change {
    let column = |name: &str, key| Column { name: name.into(), type_name: "int8".into(), key };
    let table = Table {
        source: "shop".into(),
        schema: "public".into(),
        name: "orders".into(),
        columns: [column("id", true), column("number", false)].into(),
    };
    with_rows(table, Operation::Update, Rows::New, number, &[key, Value::Integer(number.cast_signed())])
}

fn with_rows(table: Table, operation: Operation, rows: Rows, number: u64, values: &[Value<'_>]) -> Change {
    let mut builder = RowBuilder::default();
    values.iter().for_each(|value| builder.push(*value));
    let origin = Origin {
        table: Arc::new(table),
        operation,
        position: Position { commit: number + 16, index: 0 },
        last: true,
        transaction: 7,
        committed_at: Micros(0),
    };
    builder.finish(origin, rows)
}

fn number(change: &Change) -> u64 {
    match change.row().map(|row| row.value(1)) {
        Some(Value::Integer(number)) => number.cast_unsigned(),
        other => panic!("{other:?} is no number"),
    }
}

/// Both stores, new or as they were left.
struct Stand {
    bus: Arc<Local>,
    log: Arc<dyn ChangeLog>,
    letters: DeadLetters,
}

impl Stand {
    async fn open(folder: &Path) -> Self {
        let bus = crate::bus::contract::local(folder).await;
        let log = crate::log::contract::local(folder);
        let letters = DeadLetters::new(bus.clone(), log.clone());
        Self { bus, log, letters }
    }

    async fn append(&self, change: &Change) -> Offset {
        self.log.append(P, vec![encode(change)]).await.unwrap().start
    }

    /// What the pipeline does with all that is there, three changes a batch.
    async fn judge(&self, failing: &[&str]) {
        while self.bus.committed(P) < self.log.bounds(P).end {
            let mut left_out = HashSet::new();
            loop {
                let batch = self.batch(failing, &left_out).await;
                match self.bus.apply(batch).await {
                    Err(BusError::NotDue { offsets }) => left_out.extend(offsets),
                    applied => break applied.unwrap(),
                }
            }
        }
    }

    async fn batch(&self, failing: &[&str], left_out: &HashSet<Offset>) -> Batch {
        let from = self.bus.committed(P);
        let records = self.log.read(P, from, 3, 1 << 20).await.unwrap();
        let mut batch = Batch {
            partition: P,
            offsets: from..from.plus(records.len() as u64),
            messages: vec![],
            feed: [].into(),
            dead_letters: vec![],
            replayed: vec![],
            committed_at: None,
        };
        for record in records.iter().filter(|record| !left_out.contains(&record.offset)) {
            let change = Decoder::default().decode(&record.payload).unwrap();
            let replay = change.replay.as_ref();
            let replayed = replay.map(|replay| Replayed { offset: record.offset, letter: replay.letter });
            batch.replayed.extend(replayed);
            let letter = |plugin: &str, stage| DeadLetter {
                offset: record.offset,
                plugin: plugin.into(),
                generation: 2,
                digest: "0a1b".into(),
                stage,
                fault: "it trapped".into(),
                record: record.payload.clone(),
            };
            if failing.contains(&"f") {
                batch.dead_letters.push(letter("f", Stage::Filter));
                continue;
            }
            let only = replay.and_then(|replay| replay.router.as_deref());
            for router in ROUTERS.into_iter().filter(|router| only.is_none_or(|only| only == *router)) {
                if failing.contains(&router) {
                    batch.dead_letters.push(letter(router, Stage::Router));
                } else {
                    batch.messages.push(message(router, number(&change)));
                }
            }
        }
        batch
    }

    /// What routers did: the change's number and the router.
    async fn effects(&self) -> Vec<(u64, String)> {
        let kept = self.bus.read(None, Sequence(0), 99_999).await.unwrap();
        let effect = |message: &Message| {
            let number = std::str::from_utf8(&message.payload).unwrap().parse().unwrap();
            (number, message.channel.as_str().to_owned())
        };
        kept.iter().map(|kept| effect(&kept.message)).collect()
    }

    /// All letters, the oldest first.
    async fn kept(&self) -> Vec<KeptLetter> {
        let mut shown = self.letters.list(None, None, 99_999).await.unwrap();
        shown.reverse();
        shown.into_iter().map(|shown| shown.kept).collect()
    }

    async fn only(&self) -> LetterId {
        let kept = self.kept().await;
        let [letter] = &kept[..] else { panic!("{kept:?}") };
        letter.id
    }
}

fn message(router: &str, number: u64) -> Message {
    Message {
        channel: Channel::new(router).unwrap(),
        event: "e".into(),
        payload: number.to_string().into(),
        form: Form::Text,
        retention: Retention::Kept,
    }
}

/// What is missing as long as a letter is there: the change's number and the routers.
fn missing(kept: &KeptLetter) -> Vec<(u64, String)> {
    let change = Decoder::default().decode(&kept.letter.record).unwrap();
    let only = match kept.letter.stage {
        Stage::Router => Some(kept.letter.plugin.clone()),
        Stage::Filter => {
            change.replay.as_ref().and_then(|replay| replay.router.as_deref().map(str::to_owned))
        }
    };
    let routers = ROUTERS.into_iter().filter(|router| only.as_deref().is_none_or(|only| only == *router));
    routers.map(|router| (number(&change), router.to_owned())).collect()
}

async fn stand() -> (TempDir, Stand) {
    let folder = tempfile::tempdir().unwrap();
    let stand = Stand::open(folder.path()).await;
    (folder, stand)
}

#[tokio::test]
async fn a_letter_says_everything_of_its_change_and_the_rows_only_when_it_is_asked_for() {
    let (_folder, stand) = stand().await;
    stand.append(&update(Value::Text("x"), 5)).await;
    stand.judge(&["a"]).await;
    let listed = stand.letters.list(Some("a"), None, 9).await.unwrap();
    let [shown] = &listed[..] else { panic!("{listed:?}") };
    let about = About {
        source: "shop".into(),
        schema: "public".into(),
        table: "orders".into(),
        operation: Operation::Update,
        key: Some("x".into()),
        position: Position { commit: 21, index: 0 },
        transaction: 7,
    };
    assert_eq!(shown.about.as_ref(), Some(&about));
    let KeptLetter { id, letter, .. } = &shown.kept;
    assert_eq!((letter.plugin.as_str(), letter.generation, letter.offset), ("a", 2, Offset(0)));
    let whole = stand.letters.get(*id).await.unwrap();
    assert_eq!(&whole.shown, shown);
    assert_eq!((whole.row.as_deref(), whole.old), (Some(r#"{"id":"x","number":5}"#), None));
    assert_eq!(stand.letters.list(Some("b"), None, 9).await.unwrap(), []);
    let gone = stand.letters.get(LetterId(9)).await.unwrap_err();
    assert!(gone.to_string().starts_with("there is no dead letter 9"), "{gone}");
}

#[tokio::test]
async fn a_letter_that_cannot_be_read_is_shown_and_discarded_but_not_replayed() {
    let (_folder, stand) = stand().await;
    let letter = DeadLetter {
        offset: Offset(0),
        plugin: "a".into(),
        generation: 1,
        digest: "00".into(),
        stage: Stage::Router,
        fault: "it trapped".into(),
        record: bytes::Bytes::from_static(&[9, 9]),
    };
    let offsets = Offset(0)..Offset(1);
    let dead_letters = vec![letter];
    let (messages, replayed) = (vec![], vec![]);
    let (feed, committed_at) = ([].into(), None);
    let batch = Batch { partition: P, offsets, messages, feed, dead_letters, replayed, committed_at };
    stand.bus.apply(batch).await.unwrap();
    let id = stand.only().await;
    let whole = stand.letters.get(id).await.unwrap();
    assert_eq!((whole.shown.about, whole.row), (None, None));
    let refused = stand.letters.replay(id, Force::Yes).await.unwrap_err();
    assert!(matches!(refused, LetterError::Unreadable { .. }), "{refused}");
    assert_eq!(stand.letters.discard(Discard::One(id)).await.unwrap(), 1);
}

#[tokio::test]
async fn a_replay_goes_to_the_router_that_failed_alone_and_then_its_letter_is_gone() {
    let (_folder, stand) = stand().await;
    stand.append(&update(Value::Integer(1), 5)).await;
    stand.judge(&["a"]).await;
    let id = stand.only().await;
    assert_eq!(stand.letters.replay(id, Force::No).await.unwrap(), Offset(1));
    assert_eq!(stand.kept().await[0].state, LetterState::Replaying);
    stand.judge(&[]).await;
    assert_eq!(stand.effects().await, [(5, "b".into()), (5, "a".into())]);
    assert_eq!(stand.kept().await, []);
    let gone = stand.letters.replay(id, Force::Yes).await.unwrap_err();
    assert!(matches!(gone, LetterError::Gone(_)), "{gone}");
}

#[tokio::test]
async fn a_filters_letter_goes_to_all_routers_unless_it_was_a_replay_for_one() {
    let (_folder, stand) = stand().await;
    stand.append(&update(Value::Integer(1), 5)).await;
    stand.judge(&["f"]).await;
    stand.letters.replay(stand.only().await, Force::No).await.unwrap();
    stand.judge(&["b"]).await;
    assert_eq!(stand.effects().await, [(5, "a".into())]);
    // The letter is b's now; again the filter fails, and a must not get it twice.
    stand.letters.replay(stand.only().await, Force::No).await.unwrap();
    stand.judge(&["f"]).await;
    stand.letters.replay(stand.only().await, Force::No).await.unwrap();
    stand.judge(&[]).await;
    assert_eq!(stand.effects().await, [(5, "a".into()), (5, "b".into())]);
}

#[tokio::test]
async fn a_replay_is_refused_if_a_later_change_has_the_key_in_either_row_or_the_table_was_emptied() {
    let column = |name: &str, key| Column { name: name.into(), type_name: "int8".into(), key };
    let orders = || update(Value::Null, 0).table.as_ref().clone();
    let row = |key: i64| [Value::Integer(key), Value::Integer(0)];
    let both = |new: i64, old: i64| [row(new), row(old)].concat();
    let items =
        Table { name: "items".into(), columns: [column("id", true), column("n", false)].into(), ..orders() };
    let later = [
        (with_rows(orders(), Operation::Update, Rows::New, 9, &row(2)), false),
        (with_rows(items.clone(), Operation::Update, Rows::New, 9, &row(1)), false),
        (with_rows(items, Operation::Truncate, Rows::Neither, 9, &[]), false),
        (with_rows(orders(), Operation::Update, Rows::New, 9, &row(1)), true),
        (with_rows(orders(), Operation::Delete, Rows::Old, 9, &row(1)), true),
        (with_rows(orders(), Operation::Update, Rows::NewThenOld, 9, &both(3, 1)), true),
        (with_rows(orders(), Operation::Update, Rows::NewThenOld, 9, &both(1, 3)), true),
        (with_rows(orders(), Operation::Truncate, Rows::Neither, 9, &[]), true),
    ];
    for (later, is_outdated) in later {
        let (_folder, stand) = stand().await;
        stand.append(&update(Value::Integer(1), 5)).await;
        stand.judge(&["a"]).await;
        stand.append(&later).await;
        let id = stand.only().await;
        match stand.letters.replay(id, Force::No).await {
            Ok(offset) => assert!(!is_outdated && offset == Offset(2), "{later:?}"),
            Err(refused) => {
                assert!(is_outdated && matches!(refused, LetterError::Outdated { later: Offset(1), .. }));
                assert_eq!(stand.kept().await[0].state, LetterState::Waiting);
                assert_eq!(stand.letters.replay(id, Force::Yes).await.unwrap(), Offset(2));
            }
        }
    }
}

#[tokio::test]
async fn what_was_outdated_when_it_was_forced_is_outdated_when_it_fails_again() {
    let (_folder, stand) = stand().await;
    stand.append(&update(Value::Integer(1), 5)).await;
    stand.judge(&["a"]).await;
    stand.append(&update(Value::Integer(1), 6)).await;
    stand.letters.replay(stand.only().await, Force::Yes).await.unwrap();
    stand.judge(&["a"]).await;
    let [six, five] = &stand.kept().await[..] else { panic!("two letters") };
    assert_eq!((six.letter.offset, five.letter.offset), (Offset(1), Offset(2)));
    let refused = stand.letters.replay(five.id, Force::No).await.unwrap_err();
    assert!(matches!(refused, LetterError::Outdated { later: Offset(1), .. }), "{refused}");
    // The replay of the older one is no change of the key.
    stand.letters.replay(six.id, Force::No).await.unwrap();
}

#[tokio::test]
async fn a_change_without_a_key_is_replayed_by_force_only() {
    let keyless = |key| {
        let mut table = update(Value::Null, 0).table.as_ref().clone();
        table.columns[0].key = key;
        table
    };
    let values = [Value::Integer(1), Value::Integer(5)];
    let unchanged = [Value::Unchanged, Value::Integer(5)];
    for (table, values) in [(keyless(false), values), (keyless(true), unchanged)] {
        let (_folder, stand) = stand().await;
        stand.append(&with_rows(table, Operation::Update, Rows::New, 5, &values)).await;
        stand.judge(&["a"]).await;
        let id = stand.only().await;
        let refused = stand.letters.replay(id, Force::No).await.unwrap_err();
        assert!(
            matches!(&refused, LetterError::Keyless { table, .. } if table == "public.orders"),
            "{refused}"
        );
        stand.letters.replay(id, Force::Yes).await.unwrap();
        stand.judge(&[]).await;
        assert_eq!(stand.effects().await, [(5, "b".into()), (5, "a".into())]);
    }
}

/// A log that is full, and holds nothing between its bounds.
struct Refusing(std::ops::Range<u64>);

#[async_trait::async_trait]
impl ChangeLog for Refusing {
    fn partition_count(&self) -> u32 {
        1
    }

    async fn append(&self, _: Partition, _: Vec<bytes::Bytes>) -> Result<std::ops::Range<Offset>, LogError> {
        Err(LogError::Full { bytes: 9, consumer: "pipeline".into() })
    }

    async fn read(
        &self,
        _: Partition,
        asked: Offset,
        _: usize,
        _: usize,
    ) -> Result<Vec<crate::log::Record>, LogError> {
        Err(LogError::Removed { asked, first: Offset(self.0.start) })
    }

    fn bounds(&self, _: Partition) -> std::ops::Range<Offset> {
        Offset(self.0.start)..Offset(self.0.end)
    }

    fn last_position(&self, _: &str) -> Option<Position> {
        None
    }

    fn commit(&self, _: &str, _: Partition, _: Offset) {}
}

#[tokio::test]
async fn what_the_log_cannot_tell_is_refused_and_what_it_does_not_take_is_as_before() {
    let (_folder, stand) = stand().await;
    stand.append(&update(Value::Integer(1), 5)).await;
    stand.judge(&["a"]).await;
    let id = stand.only().await;
    let on = |bounds| DeadLetters::new(stand.bus.clone(), Arc::new(Refusing(bounds)));
    let forgotten = on(7..9).replay(id, Force::No).await.unwrap_err();
    let expected = (Offset(0), Offset(7));
    assert!(
        matches!(forgotten, LetterError::Forgotten { offset, first, .. } if (offset, first) == expected),
        "{forgotten}"
    );
    let far = on(0..REPLAY_SCAN_COUNT_MAX + 2).replay(id, Force::No).await.unwrap_err();
    assert!(matches!(far, LetterError::TooFar(_)), "{far}");
    let full = on(0..1).replay(id, Force::No).await.unwrap_err();
    assert!(matches!(full, LetterError::Log(LogError::Full { .. })), "{full}");
    assert_eq!(stand.kept().await[0].state, LetterState::Waiting);
}

#[derive(Debug, Clone)]
enum Step {
    /// Of this key.
    Change(u8),
    /// Which of the filter and the routers fail, in bits.
    Judge(u8),
    /// A letter, in 256ths of those that are there.
    Replay(u8, Force),
    /// Killed before the replay was appended.
    Begin(u8),
    Discard(u8),
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let force = prop_oneof![Just(Force::No), Just(Force::Yes)];
    let step = prop_oneof![
        4 => (0..3_u8).prop_map(Step::Change),
        4 => (0..8_u8).prop_map(Step::Judge),
        6 => (any::<u8>(), force).prop_map(|(letter, force)| Step::Replay(letter, force)),
        1 => any::<u8>().prop_map(Step::Begin),
        1 => any::<u8>().prop_map(Step::Discard),
        1 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 1..40)
}

async fn nth(stand: &Stand, part: u8) -> Option<KeptLetter> {
    let kept = stand.kept().await;
    let at = kept.len() * usize::from(part) / 256;
    kept.into_iter().nth(at)
}

/// Each change has, for each router, one of three: its effect, once; a letter; or a letter that was discarded.
async fn walk(folder: &Path, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut stand = Stand::open(folder).await;
    // By number.
    let mut keys: Vec<u8> = vec![];
    let mut discarded = vec![];
    for step in steps.into_iter().chain([Step::Judge(0), Step::Kill]) {
        match step {
            Step::Change(key) => {
                stand.append(&update(Value::Integer(key.into()), keys.len() as u64)).await;
                keys.push(key);
            }
            Step::Judge(failing) => {
                let names = ["f", ROUTERS[0], ROUTERS[1]].into_iter().enumerate();
                let failing: Vec<_> =
                    names.filter(|(bit, _)| failing >> bit & 1 == 1).map(|(_, name)| name).collect();
                stand.judge(&failing).await;
                let mut all = [stand.effects().await, discarded.clone()].concat();
                all.extend(stand.kept().await.iter().flat_map(missing));
                all.sort();
                let once = (0..keys.len() as u64)
                    .flat_map(|number| ROUTERS.map(|router| (number, router.to_owned())));
                prop_assert_eq!(all, once.collect::<Vec<_>>());
            }
            Step::Replay(part, force) => {
                let Some(kept) = nth(&stand, part).await else { continue };
                let number = usize::try_from(missing(&kept)[0].0).unwrap();
                let is_outdated = keys[number + 1..].contains(&keys[number]);
                match stand.letters.replay(kept.id, force).await {
                    Ok(_) => prop_assert!(force == Force::Yes || !is_outdated),
                    Err(LetterError::Outdated { .. }) => prop_assert!(force == Force::No && is_outdated),
                    Err(other) => panic!("{other}"),
                }
            }
            Step::Begin(part) => {
                if let Some(kept) = nth(&stand, part).await {
                    prop_assert_eq!(stand.bus.begin_replay(kept.id).await.unwrap(), Begun::Noted);
                }
            }
            Step::Discard(part) => {
                if let Some(kept) = nth(&stand, part).await {
                    prop_assert_eq!(stand.letters.discard(Discard::One(kept.id)).await.unwrap(), 1);
                    discarded.extend(missing(&kept));
                }
            }
            Step::Kill => {
                drop(stand);
                stand = Stand::open(folder).await;
            }
        }
    }
    Ok(())
}

#[test]
fn whatever_is_replayed_discarded_and_killed_nothing_is_lost_and_nothing_happens_twice() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in steps())| {
        let folder = tempfile::tempdir().unwrap();
        runtime.block_on(walk(folder.path(), steps))?;
    });
}
