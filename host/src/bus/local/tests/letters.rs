//! Dead letters: with their batch, through replays, over their bound, and out of the first hosts' table.

use std::time::UNIX_EPOCH;

use super::{CONFIG, P, open};
use crate::bus::contract::run_of;
use crate::bus::local::LocalBus;
use crate::bus::{
    Batch, Begun, Bus, BusError, DeadLetter, Discard, KeptLetter, LetterState, Letters, Replayed, Stage,
};
use crate::event::{LetterId, Offset};
use crate::limits::{DEAD_LETTERS_COUNT_MAX, REPLAYS_COUNT_MAX};
use crate::state::State;

fn letter(offset: u64, plugin: &str) -> DeadLetter {
    DeadLetter {
        offset: Offset(offset),
        plugin: plugin.into(),
        generation: 3,
        digest: "0a1b".into(),
        stage: Stage::Router,
        fault: "it trapped".into(),
        record: bytes::Bytes::from_static(b"record"),
    }
}

fn letters_at(from: u64, letters: Vec<DeadLetter>) -> Batch {
    Batch { dead_letters: letters, ..run_of("a", from, 1) }
}

fn replays_at(from: u64, letters: &[u64]) -> Batch {
    let replayed = (from..).zip(letters);
    let replayed =
        replayed.map(|(offset, letter)| Replayed { offset: Offset(offset), letter: LetterId(*letter) });
    Batch { replayed: replayed.collect(), ..run_of("a", from, letters.len() as u64) }
}

async fn list(bus: &LocalBus) -> Vec<KeptLetter> {
    bus.list(None, None, 99_999, 9_999_999).await.unwrap()
}

async fn ids(bus: &LocalBus) -> Vec<u64> {
    list(bus).await.iter().map(|kept| kept.id.0).collect()
}

#[tokio::test]
async fn letters_are_kept_with_their_batch_and_listed_newest_first() {
    let home = tempfile::tempdir().unwrap();
    let bus = open(home.path(), CONFIG).await;
    let filter = DeadLetter { stage: Stage::Filter, ..letter(2, "other") };
    let batch = Batch { dead_letters: vec![letter(0, "router"), filter.clone()], ..run_of("a", 0, 3) };
    bus.apply(batch.clone()).await.unwrap();
    bus.apply(batch).await.unwrap();
    bus.apply(letters_at(9, vec![letter(9, "router")])).await.unwrap_err();
    let kept = list(&bus).await;
    let read: Vec<_> = kept.iter().map(|kept| (kept.id.0, kept.partition, kept.letter.clone())).collect();
    assert_eq!(read, [(2, P, filter), (1, P, letter(0, "router"))]);
    assert!(kept.iter().all(|kept| kept.set_aside_at > UNIX_EPOCH && kept.state == LetterState::Waiting));
    assert_eq!(bus.get(LetterId(2)).await.unwrap().as_ref(), Some(&kept[0]));
    assert_eq!(bus.get(LetterId(3)).await.unwrap(), None);
    assert_eq!(bus.list(None, None, 1, 99).await.unwrap(), kept[..1]);
    assert_eq!(bus.list(None, None, 9, 1).await.unwrap(), kept[..1], "the first is larger than all may be");
    assert_eq!(bus.list(None, Some(LetterId(2)), 9, 99).await.unwrap(), kept[1..]);
    assert_eq!(bus.list(Some("router"), None, 9, 99).await.unwrap(), kept[1..]);
}

#[tokio::test]
async fn a_replay_takes_its_letter_along_and_one_without_a_letter_is_not_applied() {
    let home = tempfile::tempdir().unwrap();
    let bus = open(home.path(), CONFIG).await;
    bus.apply(letters_at(0, vec![letter(0, "a"), letter(0, "b")])).await.unwrap();
    let refused = bus.apply(replays_at(1, &[1, 7, 1])).await;
    let Err(BusError::NotDue { offsets }) = refused else { panic!("{refused:?}") };
    assert_eq!(offsets, [Offset(2), Offset(3)], "no letter, and the same letter again");
    assert_eq!((ids(&bus).await, bus.committed(P)), (vec![2, 1], Offset(1)));
    bus.apply(replays_at(1, &[1])).await.unwrap();
    assert_eq!((ids(&bus).await, bus.committed(P)), (vec![2], Offset(2)));
    // What is applied already is no fault, letters or not.
    bus.apply(replays_at(1, &[1])).await.unwrap();
}

#[tokio::test]
async fn a_number_is_never_given_twice() {
    let home = tempfile::tempdir().unwrap();
    let bus = open(home.path(), CONFIG).await;
    bus.apply(letters_at(0, vec![letter(0, "a")])).await.unwrap();
    bus.apply(Batch { dead_letters: vec![letter(1, "a")], ..replays_at(1, &[1]) }).await.unwrap();
    assert_eq!(ids(&bus).await, [2]);
    assert_eq!(bus.discard(Discard::One(LetterId(2))).await.unwrap(), 1);
    drop(bus);
    let bus = open(home.path(), CONFIG).await;
    bus.apply(letters_at(2, vec![letter(2, "a")])).await.unwrap();
    assert_eq!(ids(&bus).await, [3]);
}

#[tokio::test]
async fn letters_are_discarded_one_by_one_or_by_plugin() {
    let home = tempfile::tempdir().unwrap();
    let bus = open(home.path(), CONFIG).await;
    bus.apply(letters_at(0, ["a", "b", "a", "b"].map(|plugin| letter(0, plugin)).into())).await.unwrap();
    assert_eq!(bus.discard(Discard::One(LetterId(2))).await.unwrap(), 1);
    assert_eq!(bus.discard(Discard::One(LetterId(2))).await.unwrap(), 0);
    assert_eq!(bus.discard(Discard::AllOf("a".into())).await.unwrap(), 2);
    assert_eq!(ids(&bus).await, [4]);
}

#[tokio::test]
async fn the_oldest_go_but_for_those_that_are_replayed() {
    let home = tempfile::tempdir().unwrap();
    let bus = open(home.path(), CONFIG).await;
    bus.apply(letters_at(0, vec![letter(0, "a"), letter(0, "a")])).await.unwrap();
    assert_eq!(bus.begin_replay(LetterId(1)).await.unwrap(), Begun::Noted);
    assert_eq!(bus.get(LetterId(1)).await.unwrap().unwrap().state, LetterState::Replaying);
    let many = usize::try_from(DEAD_LETTERS_COUNT_MAX).unwrap();
    bus.apply(letters_at(1, vec![letter(1, "b"); many])).await.unwrap();
    let left = ids(&bus).await;
    assert_eq!((left.len(), left[many - 1], left[many]), (many + 1, 3, 1));
    bus.cancel_replay(LetterId(1)).await.unwrap();
    bus.apply(letters_at(2, vec![letter(2, "b")])).await.unwrap();
    assert_eq!(bus.get(LetterId(1)).await.unwrap(), None);
}

#[tokio::test]
async fn only_so_many_replays_are_begun_at_once() {
    let home = tempfile::tempdir().unwrap();
    let bus = open(home.path(), CONFIG).await;
    bus.apply(letters_at(0, vec![letter(0, "a"); REPLAYS_COUNT_MAX + 1])).await.unwrap();
    for id in 1..=REPLAYS_COUNT_MAX as u64 {
        assert_eq!(bus.begin_replay(LetterId(id)).await.unwrap(), Begun::Noted);
    }
    let last = LetterId(REPLAYS_COUNT_MAX as u64 + 1);
    assert_eq!(bus.begin_replay(last).await.unwrap(), Begun::TooMany);
    assert_eq!(bus.begin_replay(LetterId(1)).await.unwrap(), Begun::Noted, "it is one of them");
    bus.apply(replays_at(1, &[1])).await.unwrap();
    assert_eq!(bus.begin_replay(LetterId(1)).await.unwrap(), Begun::Gone);
    assert_eq!(bus.begin_replay(last).await.unwrap(), Begun::Noted);
}

#[tokio::test]
async fn letters_of_the_first_hosts_are_taken_over() {
    let home = tempfile::tempdir().unwrap();
    let state = State::open(home.path()).unwrap();
    let first = "CREATE TABLE dead_letters (
             id INTEGER PRIMARY KEY,
             partition INTEGER NOT NULL,
             offset INTEGER NOT NULL,
             plugin TEXT NOT NULL,
             digest TEXT NOT NULL,
             fault TEXT NOT NULL,
             record BLOB NOT NULL
         ) STRICT;
         INSERT INTO dead_letters VALUES (5, 0, 8, 'a', '0a1b', 'it trapped', CAST('record' AS BLOB));";
    state.commit(move |connection| connection.execute_batch(first)).await.unwrap();
    for _ in 0..2 {
        let bus = LocalBus::open(state.clone(), CONFIG).await.unwrap();
        let kept = bus.get(LetterId(5)).await.unwrap().unwrap();
        assert_eq!(kept.letter, DeadLetter { generation: 0, ..letter(8, "a") });
        assert_eq!(ids(&bus).await, [5]);
    }
    let bus = LocalBus::open(state, CONFIG).await.unwrap();
    bus.discard(Discard::One(LetterId(5))).await.unwrap();
    bus.apply(letters_at(0, vec![letter(0, "a")])).await.unwrap();
    assert_eq!(ids(&bus).await, [6]);
}
