//! The merge of chunks and stream, against a model of the server: transactions with parts, that leave the list of those
//! that run some time after their commit is in the log, in any order.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::visible::{Age, Files, Unsettled, Visible};

const KEYS: u8 = 6;

/// One of the server's transactions.
#[derive(Debug, Clone)]
struct Transaction {
    id: u64,
    /// Its part, which has a number of its own.
    part: u64,
    /// Key, version if it is not a deletion, number of who wrote it.
    writes: Vec<(u8, Option<u64>, u64)>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// In the server's log.
    Committed,
    /// So that others see it.
    Over,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Begin,
    Write { transaction: u8, key: u8, by_part: bool, deletes: bool },
    Commit(u8),
    Leave(u8),
    RollBack(u8),
    MakeSlot,
    Stream,
    Chunk,
}

/// The server, the stream from it, and what both brought.
#[derive(Debug, Default)]
struct World {
    next_id: u64,
    completed: u64,
    version: u64,
    transactions: Vec<Transaction>,
    /// Key → version, number of who wrote it, as others see them.
    rows: BTreeMap<u8, (u64, u64)>,
    /// Who holds a key.
    locks: HashMap<u8, usize>,
    slot: Option<Visible>,
    committed: Vec<usize>,
    streamed: usize,
    unsettled: Unsettled,
    next_key: u8,
    /// What came: key, version if it is not a deletion, whether from a chunk.
    log: Vec<(u8, Option<u64>, bool)>,
}

impl World {
    fn new() -> Self {
        let rows = (0..KEYS).map(|key| (key, (1 + u64::from(key), 3))).collect();
        Self { next_id: 10, completed: 9, version: 100, rows, ..Self::default() }
    }

    /// The open or committed transaction that a number stands for.
    fn pick(&self, nth: u8, state: State) -> Option<usize> {
        let of: Vec<_> =
            (0..self.transactions.len()).filter(|at| self.transactions[*at].state == state).collect();
        of.get(usize::from(nth) % of.len().max(1)).copied()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Begin => {
                let id = self.next_id;
                self.next_id += 2;
                let (part, writes, state) = (id + 1, Vec::new(), State::Open);
                self.transactions.push(Transaction { id, part, writes, state });
            }
            Step::Write { transaction, key, by_part, deletes } => {
                let Some(at) = self.pick(transaction, State::Open) else { return };
                if *self.locks.entry(key).or_insert(at) != at {
                    return;
                }
                self.version += 1;
                let its = &mut self.transactions[at];
                let by = if by_part { its.part } else { its.id };
                its.writes.push((key, (!deletes).then_some(self.version), by));
            }
            Step::Commit(nth) => {
                let Some(at) = self.pick(nth, State::Open) else { return };
                self.transactions[at].state = State::Committed;
                if self.slot.is_some() {
                    self.committed.push(at);
                }
            }
            Step::Leave(nth) => {
                let Some(at) = self.pick(nth, State::Committed) else { return };
                for (key, version, by) in self.transactions[at].writes.clone() {
                    match version {
                        Some(version) => self.rows.insert(key, (version, by)),
                        None => self.rows.remove(&key),
                    };
                }
                self.end(at);
            }
            Step::RollBack(nth) => {
                let Some(at) = self.pick(nth, State::Open) else { return };
                self.transactions[at].writes.clear();
                self.end(at);
            }
            Step::MakeSlot if self.slot.is_none() => self.slot = Some(self.exported()),
            Step::MakeSlot => {}
            Step::Stream => self.stream(),
            Step::Chunk => self.chunk(),
        }
    }

    fn end(&mut self, at: usize) {
        self.transactions[at].state = State::Over;
        self.completed = self.completed.max(self.transactions[at].part);
        self.locks.retain(|_, holder| *holder != at);
    }

    /// What a slot that is made now exports: everything whose commit is not in the log counts as running, parts too.
    fn exported(&self) -> Visible {
        let open = self.transactions.iter().filter(|its| its.state == State::Open);
        let running: Vec<_> = open.flat_map(|its| [its.id, its.part]).map(|id| id.to_string()).collect();
        let min = running.first().cloned().unwrap_or(self.next_id.to_string());
        Visible::parse(&format!("{min}:{}:{}", self.next_id, running.join(","))).expect("it is one")
    }

    /// What everybody else sees, without parts.
    fn current(&self) -> Visible {
        let max = self.completed + 1;
        let running = self.transactions.iter().filter(|its| its.state != State::Over && its.id < max);
        let running: Vec<_> = running.map(|its| its.id.to_string()).collect();
        let min = running.first().cloned().unwrap_or(max.to_string());
        Visible::parse(&format!("{min}:{max}:{}", running.join(","))).expect("it is one")
    }

    fn stream(&mut self) {
        let Some(at) = self.committed.get(self.streamed) else { return };
        let transaction = &self.transactions[*at];
        self.unsettled.note(u32::try_from(transaction.id).expect("few have begun"));
        self.log.extend(transaction.writes.iter().map(|(key, version, _)| (*key, *version, false)));
        self.streamed += 1;
    }

    fn chunk(&mut self) {
        let Some(kept) = self.slot.clone() else { return };
        // What was in the log when the slot was made, and is not over, is waited for. One that begins and ends has all
        // of them listed.
        self.completed = self.completed.max(self.next_id + 1);
        self.next_id += 2;
        let now = self.current();
        let is_awaited = now.running().any(|transaction| kept.sees(transaction));
        if self.next_key == KEYS || is_awaited || !self.unsettled.settle(&now) {
            return;
        }
        if let Some((version, by)) = self.rows.get(&self.next_key) {
            let age = kept.age(&now, Files::Same, u32::try_from(*by).expect("few have begun"));
            assert_ne!(age, Age::Unsure);
            if age == Age::Kept {
                self.log.push((self.next_key, Some(*version), true));
            }
        }
        self.next_key += 1;
    }

    /// Lets everything come to its end, and looks at what came.
    fn finish(mut self) {
        self.step(Step::MakeSlot);
        while self.pick(0, State::Open).is_some() {
            self.step(Step::Commit(0));
        }
        while self.pick(0, State::Committed).is_some() {
            self.step(Step::Leave(0));
        }
        while self.streamed < self.committed.len() {
            self.stream();
        }
        while self.next_key < KEYS {
            self.chunk();
        }
        let mut newest = HashMap::new();
        let mut folded = BTreeMap::new();
        for (key, version, is_read) in &self.log {
            if *is_read {
                assert!(
                    !newest.contains_key(key),
                    "row {key} comes after the stream or twice: {:?}",
                    self.log
                );
            }
            let before = newest.entry(*key).or_insert(0);
            if let Some(version) = version {
                assert!(*before < *version, "row {key}: {version} after {before}");
                *before = *version;
            }
            match version {
                Some(version) => folded.insert(*key, *version),
                None => folded.remove(key),
            };
        }
        let rows: BTreeMap<_, _> = self.rows.iter().map(|(key, (version, _))| (*key, *version)).collect();
        assert_eq!(folded, rows, "{:?}", self.log);
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let write = (0..4_u8, 0..KEYS, any::<bool>(), prop::bool::weighted(0.3));
    let write = write.prop_map(|(transaction, key, by_part, deletes)| Step::Write {
        transaction,
        key,
        by_part,
        deletes,
    });
    let step = prop_oneof![
        2 => Just(Step::Begin),
        6 => write,
        2 => (0..4_u8).prop_map(Step::Commit),
        2 => (0..4_u8).prop_map(Step::Leave),
        1 => (0..4_u8).prop_map(Step::RollBack),
        1 => Just(Step::MakeSlot),
        4 => Just(Step::Stream),
        2 => Just(Step::Chunk),
    ];
    prop::collection::vec(step, 0..80)
}

proptest! {
    #[test]
    fn rows_and_changes_are_the_table_whatever_happens_when(steps in steps()) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.step(step));
        world.finish();
    }
}
