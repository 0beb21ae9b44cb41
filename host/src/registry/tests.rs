//! The registry over its state, against a model; and what others need to test with it.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::policy::{Grants, OnFault, Profile};

const P: Partition = Partition(0);

/// Activations with one name and setting differ in their number alone.
pub(crate) fn activation(plugin: &str, generation: u64, setting: &str) -> Activation {
    Activation {
        plugin: Arc::from(plugin),
        generation,
        digest: Digest::of(b"component"),
        order: 0,
        settings: [("setting".to_owned(), setting.to_owned())].into(),
        grants: Grants::default(),
        profile: Profile::default(),
        on_fault: OnFault::default(),
    }
}

/// A registry in a folder, over a state of its own.
pub(crate) async fn open(folder: &Path) -> Registry {
    let state = State::open(folder).expect("the folder is ours");
    Registry::open(state, folder).await.expect("there is space")
}

fn member(plugin: &str, generation: u64) -> Member {
    Member { plugin: plugin.into(), generation, standing: Standing::Running }
}

fn step(from: u64, set: &PluginSet) -> Step {
    let record = SetRecord { partition: P, from: Offset(from), set: set.clone() };
    Step { record: Some(record), ..Step::default() }
}

fn component(bytes: &[u8], at: i64) -> Component {
    Component {
        digest: Digest::of(bytes),
        bytes_count: bytes.len() as u64,
        name: Some("router".into()),
        version: None,
        description: None,
        stages: vec!["filter".into(), "router".into()],
        profile: Profile::Large,
        by: "anna".into(),
        at: Micros(at),
    }
}

/// What may happen to the set of one partition.
#[derive(Debug, Clone)]
enum Event {
    /// So many offsets are judged.
    Judge(u64),
    /// A plugin is put, of this number.
    Put(u8),
    /// It is taken out.
    Remove(u8),
    /// The server starts anew.
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (1..5_u64).prop_map(Event::Judge),
        (0..3_u8).prop_map(Event::Put),
        (0..3_u8).prop_map(Event::Remove),
        Just(Event::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The model writes down for each offset which set was there when it was judged.
    #[test]
    fn the_owner_of_an_offset_is_the_set_that_judged_it(events in prop::collection::vec(event(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("there are threads");
        runtime.block_on(async {
            let home = tempfile::tempdir().expect("there is a temporary folder");
            let mut registry = open(home.path()).await;
            let mut judged: Vec<PluginSet> = Vec::new();
            let mut set = PluginSet::default();
            let mut generation = 0;
            for event in events {
                match event {
                    Event::Judge(count) => judged.extend((0..count).map(|_| set.clone())),
                    Event::Put(plugin) => {
                        generation += 1;
                        set = set.with(member(&plugin.to_string(), generation));
                        registry.record(step(judged.len() as u64, &set)).await.expect("there is space");
                    }
                    Event::Remove(plugin) => {
                        set = set.without(&plugin.to_string());
                        registry.record(step(judged.len() as u64, &set)).await.expect("there is space");
                    }
                    Event::Restart => {
                        drop(registry);
                        registry = open(home.path()).await;
                        let owner = registry.owner(P, Offset(judged.len() as u64)).await.expect("it is read");
                        assert_eq!(owner.map(|record| record.set).unwrap_or_default(), set);
                    }
                }
            }
            for (offset, expected) in judged.into_iter().enumerate() {
                let owner = registry.owner(P, Offset(offset as u64)).await.expect("it is read");
                assert_eq!(owner.map(|record| record.set).unwrap_or_default(), expected, "at {offset}");
            }
        });
    }
}

#[tokio::test]
async fn a_step_is_kept_whole_and_its_notes_are_told_in_order() {
    let home = tempfile::tempdir().unwrap();
    let registry = open(home.path()).await;
    let mut events = registry.events();
    let set = PluginSet::from_iter([member("p", 1)]);
    let notes = vec![Note::new("anna", Action::Activated), Note::new(HOST, Action::Deactivated)];
    let generations = vec![(activation("p", 1, "x"), "anna".to_owned())];
    let file = Some(vec![activation("p", 0, "x")]);
    let whole = Step { generations, notes: notes.clone(), file, ..step(7, &set) };
    registry.record(whole.clone()).await.unwrap();
    assert_eq!(registry.generations("p").await.unwrap()[0].activation, activation("p", 1, "x"));
    assert_eq!(registry.file().await.unwrap(), [activation("p", 0, "x")]);
    assert_eq!(registry.plugins().await.unwrap(), [("p".to_owned(), 1)]);
    let told = [events.recv().await.unwrap(), events.recv().await.unwrap()];
    assert_eq!(told.map(|entry| entry.note.clone()).as_slice(), notes);

    // The number is taken: nothing of the second is kept.
    let second = Step { record: step(9, &PluginSet::default()).record, ..whole };
    registry.record(second).await.unwrap_err();
    assert_eq!(registry.owner(P, Offset(9)).await.unwrap().unwrap().set, set);
    let kept = registry.audit(0, 10).await.unwrap();
    assert_eq!(kept.iter().map(|entry| entry.note.clone()).collect::<Vec<_>>(), notes);
    assert_eq!(registry.audit(1, 10).await.unwrap(), kept[1..]);
}

#[tokio::test]
async fn a_quarantined_generation_is_marked() {
    let home = tempfile::tempdir().unwrap();
    let registry = open(home.path()).await;
    let generations = (1..=2).map(|at| (activation("p", at, "x"), HOST.to_owned())).collect();
    registry.record(Step { generations, ..Step::default() }).await.unwrap();
    registry.record(Step { quarantined: Some(("p".into(), 2)), ..Step::default() }).await.unwrap();
    let marks = registry.generations("p").await.unwrap();
    assert_eq!(marks.iter().map(|one| one.quarantined_at.is_some()).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn a_quarantined_member_is_read_as_such() {
    let home = tempfile::tempdir().unwrap();
    let registry = open(home.path()).await;
    let set = PluginSet::from_iter([Member { standing: Standing::Quarantined, ..member("p", 3) }]);
    registry.record(step(0, &set)).await.unwrap();
    assert_eq!(registry.owner(P, Offset(0)).await.unwrap().unwrap().set, set);
}

#[tokio::test]
async fn a_component_is_found_by_its_digest_and_the_newest_comes_first() {
    let home = tempfile::tempdir().unwrap();
    let registry = open(home.path()).await;
    let (first, second) = (component(b"first", 1), component(b"second", 2));
    registry.keep_component(first.clone(), b"first"[..].into()).await.unwrap();
    registry.keep_component(second.clone(), b"second"[..].into()).await.unwrap();
    assert_eq!(registry.components().await.unwrap(), [second, first.clone()]);
    assert_eq!(registry.component(first.digest).await.unwrap(), Some(first.clone()));
    assert_eq!(registry.component(Digest::of(b"third")).await.unwrap(), None);
    assert_eq!(registry.wasm(first.digest).unwrap(), b"first");
}

#[tokio::test]
async fn the_oldest_components_go_but_never_one_that_is_active() {
    let home = tempfile::tempdir().unwrap();
    let registry = open(home.path()).await;
    let active = component(b"component", 0);
    registry.keep_component(active.clone(), b"component"[..].into()).await.unwrap();
    let set = PluginSet::from_iter([member("p", 1)]);
    let generations = vec![(activation("p", 1, "x"), HOST.to_owned())];
    registry.record(Step { generations, ..step(0, &set) }).await.unwrap();
    let others: Vec<_> = (0..crate::limits::COMPONENTS_COUNT_MAX).map(|at| at.to_string()).collect();
    let work = others.clone();
    let keep_all = move |connection: &_| {
        let note = Note::new(HOST, Action::Uploaded);
        work.iter().zip(1..).try_for_each(|(bytes, at)| {
            tables::keep_component(connection, &component(bytes.as_bytes(), at), &note).map(drop)
        })
    };
    registry.state.commit(keep_all).await.unwrap();
    assert!(registry.component(active.digest).await.unwrap().is_some());
    let is_there =
        async |bytes: &str| registry.component(Digest::of(bytes.as_bytes())).await.unwrap().is_some();
    assert!(!is_there(&others[0]).await);
    assert!(is_there(&others[1]).await);
}

#[tokio::test]
async fn the_oldest_generations_go_but_never_one_that_is_active() {
    let home = tempfile::tempdir().unwrap();
    let registry = open(home.path()).await;
    let count = u64::try_from(crate::limits::GENERATIONS_COUNT_MAX).unwrap();
    let generations: Vec<_> = (1..=count).map(|at| (activation("p", at, "x"), String::new())).collect();
    let set = PluginSet::from_iter([member("p", 1)]);
    registry.record(Step { generations, ..step(0, &set) }).await.unwrap();
    let one_more = vec![(activation("p", count + 1, "x"), String::new())];
    registry.record(Step { generations: one_more, ..Step::default() }).await.unwrap();
    let kept = registry.generations("p").await.unwrap();
    let numbers: Vec<_> = kept.iter().rev().map(|one| one.activation.generation).take(2).collect();
    assert_eq!((kept.len() as u64, numbers), (count, vec![1, 3]));
}

#[tokio::test]
async fn a_shadow_is_remembered_until_it_is_stopped() {
    let home = tempfile::tempdir().unwrap();
    let registry = open(home.path()).await;
    let shadow =
        |setting| Shadow { candidate: activation("p", 0, setting), by: "anna".into(), at: Micros(3) };
    for setting in ["x", "y"] {
        registry.start_shadow(shadow(setting), Note::new("anna", Action::ShadowStarted)).await.unwrap();
    }
    drop(registry);
    let registry = open(home.path()).await;
    assert_eq!(registry.shadows().await.unwrap(), [shadow("y")]);
    registry.stop_shadow("p", Note::new("anna", Action::ShadowStopped)).await.unwrap();
    assert_eq!(registry.shadows().await.unwrap(), []);
    let entries = registry.audit(0, 10).await.unwrap();
    assert_eq!(entries.last().unwrap().note, Note::new("anna", Action::ShadowStopped));
}
