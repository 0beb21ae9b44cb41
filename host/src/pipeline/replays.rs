//! Replays of dead letters in the loop.

use std::path::Path;

use super::*;
use crate::bus::Letters;
use crate::event::{LetterId, Micros, Operation, Origin, Position, Replay, RowBuilder, Rows, Table, encode};

const P: Partition = Partition(0);

fn replay_for(letter: LetterId, router: &str) -> bytes::Bytes {
    let table = Table { source: "s".into(), schema: "p".into(), name: "t".into(), columns: [].into() };
    let origin = Origin {
        table: Arc::new(table),
        operation: Operation::Truncate,
        position: Position { commit: 1, index: 0 },
        last: true,
        transaction: 1,
        committed_at: Micros(0),
    };
    let mut change = RowBuilder::default().finish(origin, Rows::Neither);
    change.replay = Some(Replay { letter, first: Offset(0), router: Some(router.into()) });
    encode(&change)
}

async fn process(bus: Arc<crate::bus::contract::Local>, log: Arc<dyn ChangeLog>, home: &Path) {
    let registry = crate::registry::tests::open(&home.join("registry")).await;
    let loader = Arc::new(crate::policy::tests::loader_of(&home.join("compiled"), &[]));
    let (beside, metrics) = (Beside::new().0, Arc::default());
    let neighbours = Neighbours { log, bus, timelines: None, cache: None, registry, loader, beside, metrics };
    let policy = Policy::new([]).unwrap();
    let (mut pipeline, _orders) = Pipeline::new(P, neighbours, policy, PluginSet::default()).unwrap();
    let runtime = Handle::current();
    let stepped =
        tokio::task::spawn_blocking(move || pipeline.step(&runtime, &CancellationToken::new()).unwrap());
    assert!(stepped.await.unwrap() == Stepped::On);
}

async fn stores(folder: &Path) -> (Arc<crate::bus::contract::Local>, Arc<dyn ChangeLog>) {
    (crate::bus::contract::local(folder).await, crate::log::contract::local(folder))
}

#[tokio::test]
async fn a_replay_whose_plugin_is_not_active_is_a_letter_again_and_a_replay_of_no_letter_is_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (bus, log) = stores(folder.path()).await;
    log.append(P, vec![replay_for(LetterId(1), "gone")]).await.unwrap();
    process(bus.clone(), log.clone(), folder.path()).await;
    assert_eq!((bus.committed(P), bus.list(None, None, 9, 9).await.unwrap()), (Offset(1), vec![]));

    let letter = DeadLetter {
        offset: Offset(1),
        plugin: "gone".into(),
        generation: 1,
        digest: "00".into(),
        stage: Stage::Router,
        fault: "it trapped".into(),
        record: replay_for(LetterId(7), "gone"),
    };
    let batch = Batch {
        partition: P,
        offsets: Offset(1)..Offset(2),
        messages: vec![],
        feed: [].into(),
        dead_letters: vec![letter],
        replayed: vec![],
        committed_at: None,
    };
    log.append(P, vec![replay_for(LetterId(7), "gone")]).await.unwrap();
    bus.apply(batch).await.unwrap();
    let id = bus.list(None, None, 9, 9).await.unwrap()[0].id;
    log.append(P, vec![replay_for(id, "gone"), replay_for(id, "gone")]).await.unwrap();
    process(bus.clone(), log.clone(), folder.path()).await;
    let letters = bus.list(None, None, 9, 999).await.unwrap();
    let [again] = &letters[..] else { panic!("{letters:?}") };
    assert!(again.id > id && again.letter.fault.contains("not active"), "{again:?}");
    assert_eq!((bus.committed(P), again.letter.offset), (Offset(4), Offset(2)));
}
