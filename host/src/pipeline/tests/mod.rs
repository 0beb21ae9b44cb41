//! The loop, step by step, over a real change log, bus and registry: who judged which offset, against a model; and
//! what others need to test with it.
//!
//! The plugins route each change to the channel that one of its columns names: the column `one`, `two` and so on
//! holds `one:N`, `two:N` and so on for the Nth change. So every message says which code made it from which offset.

mod crowd;

use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::*;
pub(crate) use crate::bus::contract::Local;
pub(crate) use crate::bus::{Bus, Letters};
use crate::event::{
    Column, Micros, Operation, Origin, Position, RowBuilder, Rows, Sequence, Table, Value, encode,
};
use crate::limits::QUARANTINE_FAULTS_MAX;
use crate::policy::tests::{loader_of, router_by};
use crate::policy::{Activation, Digest, Grants, Plugin, Profile};
use crate::registry::{Action, Component, SetRecord};

pub(crate) const P: Partition = Partition(0);
pub(crate) const CODES: [&str; 4] = ["one", "two", "three", "four"];

/// Everything around a pipeline, and the pipeline.
struct Stand {
    home: TempDir,
    runtime: Runtime,
    wasm: Vec<Vec<u8>>,
    parts: Option<Parts>,
    /// Changes appended so far.
    count: u64,
    /// Of the plugin `p`.
    generation: u64,
}

struct Parts {
    bus: Arc<Local>,
    log: Arc<dyn ChangeLog>,
    registry: Registry,
    loader: Arc<Loader>,
    metrics: Arc<Metrics>,
    pipeline: Pipeline,
    orders: Orders,
}

impl Stand {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let wasm: Vec<_> = CODES.iter().map(|code| router_by(code)).collect();
        let mut stand = Self { home, runtime, wasm, parts: None, count: 0, generation: 0 };
        let folder = stand.home.path().join("compiled");
        loader_of(&folder, &stand.wasm.iter().map(Vec::as_slice).collect::<Vec<_>>());
        stand.open();
        for code in 0..CODES.len() {
            let component = stand.component(code);
            let wasm = stand.wasm[code].clone().into();
            stand.runtime.block_on(stand.parts().registry.keep_component(component, wasm)).unwrap();
        }
        stand
    }

    fn component(&self, code: usize) -> Component {
        Component {
            digest: Digest::of(&self.wasm[code]),
            bytes_count: self.wasm[code].len() as u64,
            name: None,
            version: None,
            description: None,
            stages: vec!["router".into()],
            profile: Profile::Small,
            by: "test".into(),
            at: Micros(0),
        }
    }

    fn parts(&self) -> &Parts {
        self.parts.as_ref().expect("it is open")
    }

    fn pipeline(&mut self) -> &mut Pipeline {
        &mut self.parts.as_mut().expect("it is open").pipeline
    }

    /// As a start of the server does.
    fn open(&mut self) {
        self.parts = None;
        let home = self.home.path();
        let parts = self.runtime.block_on(open(home));
        self.parts = Some(parts);
    }

    fn append(&mut self, values: impl IntoIterator<Item = [String; 4]>) {
        let records: Vec<_> = values.into_iter().map(|values| encode(&change(&values))).collect();
        self.count += records.len() as u64;
        let log = self.parts().log.clone();
        self.runtime.block_on(log.append(P, records)).unwrap();
    }

    /// Changes that nobody fails on.
    fn append_plain(&mut self, count: u64) {
        let from = self.count;
        self.append((from..from + count).map(|offset| CODES.map(|code| format!("{code}:{offset}"))));
    }

    /// One step: there must be something to do.
    fn step(&mut self) {
        let runtime = self.runtime.handle().clone();
        assert!(self.pipeline().step(&runtime, &CancellationToken::new()).unwrap() == Stepped::On);
    }

    fn committed(&self) -> u64 {
        self.parts().bus.committed(P).0
    }

    fn catch_up(&mut self) {
        while self.committed() < self.count {
            self.step();
        }
    }

    fn activation(&mut self, code: usize, on_fault: OnFault) -> Activation {
        self.generation += 1;
        Activation {
            plugin: "p".into(),
            generation: self.generation,
            digest: Digest::of(&self.wasm[code]),
            order: 0,
            settings: std::collections::BTreeMap::new(),
            grants: Grants::default(),
            profile: Profile::Small,
            on_fault,
        }
    }

    fn load(&self, activation: Activation) -> Plugin {
        prepare(&self.parts().registry, &self.parts().loader, activation).unwrap()
    }

    /// Gives an order that the pipeline carries out in its next step.
    fn order<Order>(&mut self, order: impl FnOnce(Orders) -> Order) -> Result<Offset, OrderError>
    where
        Order: Future<Output = Result<Offset, OrderError>> + Send + 'static,
    {
        let given = self.runtime.spawn(order(self.parts().orders.clone()));
        while self.pipeline().ordered.queue.is_empty() {
            std::thread::yield_now();
        }
        self.step();
        self.runtime.block_on(given).unwrap()
    }

    fn put(&mut self, code: usize) -> Offset {
        let activation = self.activation(code, OnFault::SetAside);
        self.put_as(activation)
    }

    fn put_as(&mut self, activation: Activation) -> Offset {
        let plugin = self.load(activation);
        self.order(async move |orders| orders.put("anna", plugin, Action::Activated).await).unwrap()
    }

    fn remove(&mut self) -> Result<Offset, OrderError> {
        self.order(async |orders| orders.remove("anna", "p").await)
    }

    /// The channels of all messages, in order.
    fn messages(&self) -> Vec<String> {
        let all = self.parts().bus.read(None, Sequence(0), usize::MAX);
        let all = self.runtime.block_on(all).unwrap();
        all.iter().map(|kept| kept.message.channel.as_str().to_owned()).collect()
    }

    fn sets(&self) -> Vec<SetRecord> {
        self.runtime.block_on(self.parts().registry.sets(P)).unwrap()
    }

    fn actions(&self) -> Vec<Action> {
        let entries = self.runtime.block_on(self.parts().registry.audit(0, usize::MAX)).unwrap();
        entries.iter().map(|entry| entry.note.action).filter(|action| *action != Action::Uploaded).collect()
    }
}

/// Stores in a folder. Bus and registry have a state each: what must hold does not need that they share one.
pub(crate) async fn stores(home: &Path) -> (Registry, Arc<Local>, Arc<dyn ChangeLog>) {
    let registry = crate::registry::tests::open(&home.join("registry")).await;
    (registry, crate::bus::contract::local(home).await, crate::log::contract::local(home))
}

async fn open(home: &Path) -> Parts {
    let (registry, bus, log) = stores(home).await;
    let loader = Arc::new(loader_of(&home.join("compiled"), &[]));
    let owner = registry.owner(P, bus.committed(P)).await.unwrap();
    let set = owner.map(|record| record.set).unwrap_or_default();
    let mut plugins = Vec::new();
    for member in set.members() {
        let generations = registry.generations(&member.plugin).await.unwrap();
        let active = generations.into_iter().find(|one| one.activation.generation == member.generation);
        plugins.push(prepare(&registry, &loader, active.unwrap().activation).unwrap());
    }
    let neighbours = Neighbours {
        log: log.clone(),
        bus: bus.clone(),
        timelines: None,
        cache: None,
        registry: registry.clone(),
        loader: loader.clone(),
        beside: Beside::new().0,
        metrics: Arc::default(),
    };
    let metrics = neighbours.metrics.clone();
    let policy = Policy::new(plugins).unwrap();
    let (pipeline, orders) = Pipeline::new(P, neighbours, policy, set).unwrap();
    Parts { bus, log, registry, loader, metrics, pipeline, orders }
}

/// An insert with these values.
pub(crate) fn change(values: &[String; 4]) -> Change {
    let columns =
        CODES.iter().map(|name| Column { name: (*name).into(), type_name: "text".into(), key: false });
    let table = Arc::new(Table {
        source: "main".into(),
        schema: "public".into(),
        name: "t".into(),
        columns: columns.collect(),
    });
    let mut builder = RowBuilder::default();
    for value in values {
        builder.push(Value::Text(value));
    }
    let origin = Origin {
        table,
        operation: Operation::Insert,
        position: Position { commit: 1, index: 0 },
        last: true,
        transaction: 1,
        committed_at: Micros(0),
    };
    builder.finish(origin, Rows::New)
}

/// What may happen to a pipeline.
#[derive(Debug, Clone)]
enum Event {
    Append(u64),
    Step,
    Put(usize),
    Remove,
    /// As after `kill -9`: whatever was not durable is gone.
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (1..4_u64).prop_map(Event::Append),
        3 => Just(Event::Step),
        3 => (0..CODES.len()).prop_map(Event::Put),
        1 => Just(Event::Remove),
        1 => Just(Event::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The model: which code is active, and for each offset that was judged, which was when it was.
    #[test]
    fn each_offset_is_judged_once_by_the_code_that_was_active(events in prop::collection::vec(event(), 1..40)) {
        let mut stand = Stand::new();
        let (mut active, mut expected, mut judged) = (None, Vec::new(), 0);
        let mut judge = |active: Option<usize>, judged: &mut u64, until: u64| {
            let codes = active.map(|code| CODES[code]);
            expected.extend((*judged..until).filter_map(|offset| Some(format!("{}:{offset}", codes?))));
            *judged = until;
            expected.clone()
        };
        for event in events {
            match event {
                Event::Append(count) => stand.append_plain(count),
                Event::Step if judged < stand.count => {
                    stand.step();
                    prop_assert_eq!(stand.messages(), judge(active, &mut judged, stand.committed()));
                }
                Event::Step => {}
                Event::Put(code) => {
                    prop_assert_eq!(stand.put(code).0, judged);
                    active = Some(code);
                }
                Event::Remove => match stand.remove() {
                    Ok(from) => prop_assert_eq!((from.0, active.take().is_some()), (judged, true)),
                    Err(error) => prop_assert!(active.is_none(), "{}", error),
                },
                Event::Restart => stand.open(),
            }
        }
        stand.catch_up();
        prop_assert_eq!(stand.messages(), judge(active, &mut judged, stand.count));
        // Of two swaps at one offset, the second has replaced the first.
        let firsts: Vec<_> = stand.sets().iter().map(|record| record.from).collect();
        prop_assert!(firsts.is_sorted_by(|a, b| a < b), "{:?}", firsts);
    }
}

/// Changes on which the code of the second column traps, or the value that is given instead.
fn trap(stand: &Stand, count: u64) -> Vec<[String; 4]> {
    let from = stand.count;
    (from..from + count)
        .map(|at| [format!("one:{at}"), "T".into(), format!("three:{at}"), format!("four:{at}")])
        .collect()
}

#[test]
fn a_plugin_that_fails_too_often_is_replaced_by_its_last_good_generation_before_any_effect() {
    let mut stand = Stand::new();
    stand.put(0);
    stand.append_plain(2);
    stand.catch_up();
    stand.put(1);
    stand.append_plain(2);
    stand.catch_up();
    let traps = trap(&stand, QUARANTINE_FAULTS_MAX as u64 + 1);
    stand.append(traps);
    stand.catch_up();
    let expected =
        (0..stand.count).map(|at| format!("{}:{at}", if (2..4).contains(&at) { "two" } else { "one" }));
    assert_eq!(stand.messages(), expected.collect::<Vec<_>>());
    let froms: Vec<_> =
        stand.sets().iter().map(|record| (record.from.0, record.set.members()[0].generation)).collect();
    assert_eq!(froms, [(0, 1), (2, 2), (4, 1)]);
    assert_eq!(stand.actions(), [Action::Activated, Action::Activated, Action::Quarantined]);
    assert_eq!(stand.runtime.block_on(stand.parts().bus.list(None, None, 9, usize::MAX)).unwrap(), vec![]);
    // It stays so.
    stand.open();
    stand.append_plain(1);
    stand.catch_up();
    assert_eq!(stand.messages().last().unwrap(), "one:105");
}

#[test]
fn few_faults_are_set_aside_one_by_one() {
    let mut stand = Stand::new();
    stand.put(1);
    let traps = trap(&stand, 2);
    stand.append(traps);
    stand.append_plain(1);
    stand.catch_up();
    assert_eq!(stand.messages(), ["two:2"]);
    let letters = stand.runtime.block_on(stand.parts().bus.list(None, None, 9, usize::MAX)).unwrap();
    assert_eq!(letters.iter().map(|kept| kept.letter.offset.0).collect::<Vec<_>>(), [1, 0]);
}

#[test]
fn a_plugin_that_fails_too_often_without_a_good_generation_is_called_no_more() {
    let mut stand = Stand::new();
    stand.put(1);
    let traps = trap(&stand, QUARANTINE_FAULTS_MAX as u64 + 1);
    stand.append(traps);
    stand.append_plain(1);
    stand.catch_up();
    assert_eq!(stand.messages(), [""; 0]);
    assert_eq!(stand.sets()[0].set.members()[0].standing, Standing::Quarantined);
    let letters =
        stand.runtime.block_on(stand.parts().bus.list(None, None, usize::MAX >> 1, usize::MAX)).unwrap();
    assert_eq!(letters.len() as u64, stand.count);
    stand.open();
    stand.append_plain(1);
    stand.catch_up();
    assert_eq!(stand.messages(), [""; 0]);
    // Whoever puts another in its place is obeyed.
    stand.put(0);
    stand.append_plain(1);
    stand.catch_up();
    assert_eq!(stand.messages(), ["one:103"]);
}

/// Runs a step in which the pipeline pauses, does something meanwhile, and gives what the pipeline waited with.
fn paused(stand: &mut Stand, meanwhile: impl AsyncFnOnce(Orders)) -> Flow {
    let mut parts = stand.parts.take().unwrap();
    let (orders, handle) = (parts.orders.clone(), stand.runtime.handle().clone());
    let stepping = std::thread::spawn(move || {
        assert!(parts.pipeline.step(&handle, &CancellationToken::new()).unwrap() == Stepped::On);
        parts
    });
    let mut flow = orders.flow();
    let seen = stand.runtime.block_on(async {
        let seen = flow.wait_for(|flow| *flow != Flow::Running).await.unwrap().clone();
        meanwhile(orders).await;
        seen
    });
    stand.parts = Some(stepping.join().unwrap());
    assert_eq!(stand.pipeline().ordered.flow.borrow().clone(), Flow::Running);
    seen
}

/// A plain change, two that trap, a plain one, under a plugin that pauses; the first is applied.
fn stand_before_a_pause() -> Stand {
    let mut stand = Stand::new();
    stand.put(0);
    let activation = stand.activation(1, OnFault::Pause);
    stand.put_as(activation);
    stand.append_plain(1);
    let traps = trap(&stand, 2);
    stand.append(traps);
    stand.append_plain(1);
    stand.step();
    assert_eq!(stand.messages(), ["two:0"]);
    stand
}

#[test]
fn a_fault_pauses_the_pipeline_where_the_plugin_says_so_and_each_resume_sets_one_change_aside() {
    let mut stand = stand_before_a_pause();
    for offset in [1, 2] {
        let flow = paused(&mut stand, async |orders| {
            assert!(matches!(orders.remove("anna", "nobody").await, Err(OrderError::NotActive)));
            assert_eq!(orders.resume("anna").await.unwrap(), Offset(offset));
        });
        assert!(matches!(flow, Flow::Paused { offset: at, .. } if at == Offset(offset)), "{flow:?}");
        assert_eq!(stand.committed(), offset);
        stand.step();
        assert_eq!(stand.committed(), offset + 1);
    }
    stand.catch_up();
    assert_eq!(stand.messages(), ["two:0", "two:3"]);
    assert_eq!(stand.runtime.block_on(stand.parts().bus.list(None, None, 9, usize::MAX)).unwrap().len(), 2);
    assert_eq!(stand.actions()[2..], [Action::Paused, Action::Resumed, Action::Paused, Action::Resumed]);
}

#[test]
fn another_generation_ends_a_pause_and_judges_what_was_paused_on() {
    let mut stand = stand_before_a_pause();
    let activation = stand.activation(0, OnFault::Pause);
    let plugin = stand.load(activation);
    paused(&mut stand, async |orders| {
        assert_eq!(orders.put("anna", plugin, Action::RolledBack).await.unwrap(), Offset(1));
    });
    stand.catch_up();
    assert_eq!(stand.messages(), ["two:0", "one:1", "one:2", "one:3"]);
    assert!(matches!(stand.order(async |orders| orders.resume("anna").await), Err(OrderError::NotPaused)));
}

#[test]
fn a_paused_pipeline_stops_when_it_is_told_to_and_pauses_again_at_the_next_start() {
    let mut stand = stand_before_a_pause();
    let (handle, stop) = (stand.runtime.handle().clone(), CancellationToken::new());
    let Parts { pipeline, orders, .. } = stand.parts.take().unwrap();
    let (mut flow, stopping) = (orders.flow(), stop.clone());
    let running = std::thread::spawn(move || pipeline.run(&handle, &stop));
    stand.runtime.block_on(flow.wait_for(|flow| *flow != Flow::Running)).unwrap();
    stopping.cancel();
    running.join().unwrap().unwrap();
    stand.open();
    assert_eq!(stand.committed(), 1);
    paused(&mut stand, async |orders| {
        orders.remove("anna", "p").await.unwrap();
    });
    stand.catch_up();
    assert_eq!(stand.messages(), ["two:0"]);
}
