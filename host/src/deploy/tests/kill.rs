//! `kill -9` at every failpoint, under load: a process of its own that activates, rolls back and deactivates while
//! changes come, has a plugin quarantined, dies, and is started again; then what there is, against a model.
//!
//! The model: the owner of an offset is the record with the greatest first offset not above it. The messages are exactly
//! those that the code of each of its generations makes of that offset, once each, in order; where the code traps, or
//! the generation is quarantined and nobody took over, there is a dead letter instead. The plugin `p` is deployed by hand
//! and has the code `one` or `two`, which traps on some changes; the plugin `f` stands in the file and has `three` or
//! `four`.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;
use crate::event::{Decoder, Sequence, Value};
use crate::failpoint;
use crate::limits::PLUGIN_FAULTS_MAX;
use crate::pipeline::tests::Letters;
use crate::registry::{Member, SetRecord, Standing};

const HOME: &str = "TWOHOP_TEST_KILL_HOME";
const ROUND: &str = "TWOHOP_TEST_KILL_ROUND";
const FAILPOINT: &str = "TWOHOP_TEST_KILL_FAILPOINT";
/// Changes that each process appends.
const CHANGES: u64 = 150;
/// Further changes at its end, on which `two` traps: too many for one evaluation.
const TRAPS: u64 = PLUGIN_FAULTS_MAX as u64 + 8;

/// Every failpoint of the program.
const FAILPOINTS: &[&str] = &[
    "activate-before-order",
    "batch-after-apply",
    "batch-before-apply",
    "component-before-rename",
    "component-before-row",
    "start-after-record",
    "start-before-record",
    "swap-after-adopt",
    "swap-after-record",
    "swap-before-answer",
    "swap-before-record",
];

/// The same code as another component in each round: a custom section does nothing.
fn stamped(code: usize, round: u8) -> Vec<u8> {
    let mut wasm = router_by(CODES[code]);
    wasm.extend([0, 3, 1, b'r', round]);
    wasm
}

fn stamped_request(plugin: &str, code: usize, round: u8) -> Request {
    Request::new(plugin, Digest::of(&stamped(code, round)))
}

async fn append_all(log: Arc<dyn ChangeLog>) {
    let mut next = log.bounds(P).end.0;
    let end = next + CHANGES;
    while next < end {
        let until = (next + 1 + next % 3).min(end);
        log.append(P, (next..until).map(|offset| record(offset, offset % 16 == 9)).collect()).await.unwrap();
        next = until;
    }
}

/// What is appended there: on some the code `two` traps.
fn record(offset: u64, traps: bool) -> Bytes {
    let mut values = CODES.map(|code| format!("{code}:{offset}"));
    if traps {
        values[1] = "T".into();
    }
    encode(&change(&values))
}

/// `two` judges, and fails on more changes than it may.
async fn be_quarantined(server: &Server, round: u8) {
    acknowledge(server.deployer.activate("anna", stamped_request("p", 1, round)).await);
    let from = server.log.bounds(P).end.0;
    server.log.append(P, (from..from + TRAPS).map(|offset| record(offset, true)).collect()).await.unwrap();
}

/// Says what was answered, so that the parent can hold us to it.
fn acknowledge(activated: Result<Activated, DeployError>) {
    match activated {
        Ok(Activated { generation, from }) => println!("acknowledged {generation} {from}"),
        Err(DeployError::Unchanged { .. }) => {}
        Err(other) => panic!("{other}"),
    }
}

async fn swap_about(deployer: &Deployer, round: u8) {
    for code in [0, 1] {
        deployer.upload("anna", stamped(code, round).into(), Profile::Small).await.unwrap();
    }
    for turn in 0..4 {
        acknowledge(deployer.activate("anna", stamped_request("p", turn % 2, round)).await);
        let generations = deployer.generations("p").await.unwrap();
        let earlier = generations[generations.len() / 2].activation.generation;
        acknowledge(deployer.roll_back("bert", "p", earlier).await);
    }
    deployer.deactivate("anna", "p").await.unwrap();
    acknowledge(deployer.activate("anna", stamped_request("p", 0, round)).await);
}

/// The process that dies. By itself it is a test of nothing.
#[test]
fn a_process_that_swaps_plugins_until_it_is_killed() {
    let (Some(home), Ok(round)) = (std::env::var_os(HOME), std::env::var(ROUND)) else { return };
    if let Ok(failpoint) = std::env::var(FAILPOINT) {
        failpoint::arm(&failpoint);
    }
    let (home, round) = (Path::new(&home), round.parse().unwrap());
    let file_code = 2 + usize::from(round % 2);
    let components = [stamped(0, round), stamped(1, round), stamped(file_code, round)];
    loader_of(&home.join("compiled"), &components.each_ref().map(Vec::as_slice));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let file = FilePlugin {
            request: stamped_request("f", file_code, round),
            wasm: stamped(file_code, round).into(),
        };
        let server = Server::start(home, vec![file]).await.unwrap();
        let appending = tokio::spawn(append_all(server.log.clone()));
        swap_about(&server.deployer, round).await;
        appending.await.unwrap();
        be_quarantined(&server, round).await;
        // Every change has a message of the file's plugin, so the head moves with each batch.
        let mut head = server.bus.head();
        while server.bus.committed(P) < server.log.bounds(P).end {
            head.changed().await.unwrap();
        }
        server.stop().await;
    });
}

/// Runs it in a process of its own; gives the signal that ended it, and what it acknowledged.
fn run(home: &Path, round: u8, failpoint: Option<&str>) -> (Option<i32>, Vec<(u64, u64)>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "deploy::tests::kill::a_process_that_swaps_plugins_until_it_is_killed",
        "--nocapture",
    ]);
    command.env(HOME, home).env(ROUND, round.to_string()).stdin(Stdio::null());
    if let Some(failpoint) = failpoint {
        command.env(FAILPOINT, failpoint);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let ended_well = output.status.success() || output.status.signal() == Some(9);
    assert!(
        ended_well,
        "{failpoint:?}: {}\n{said}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let acknowledged = said.lines().filter_map(|line| {
        let (generation, from) = line.strip_prefix("acknowledged ")?.split_once(' ')?;
        Some((generation.parse().unwrap(), from.parse().unwrap()))
    });
    (output.status.signal(), acknowledged.collect())
}

/// A plugin and its generation.
type Name = (Arc<str>, u64);

/// What was kept.
struct Kept {
    sets: Vec<SetRecord>,
    /// The code of each generation.
    codes: BTreeMap<Name, usize>,
    /// The generations that were quarantined.
    quarantined: BTreeSet<Name>,
    /// For each change whether `two` traps on it.
    traps: Vec<bool>,
    effects: Effects,
}

/// What became of the changes.
#[derive(Debug, Default, PartialEq)]
struct Effects {
    /// Channels, in order.
    messages: Vec<String>,
    /// The offset of each, and whose it is.
    letters: Vec<(u64, Name)>,
}

async fn kept(home: &Path, rounds: u8) -> Kept {
    let (registry, bus, log) = stores(home).await;
    let (mut codes, mut quarantined) = (BTreeMap::new(), BTreeSet::new());
    let by_digest: BTreeMap<_, _> = (0..rounds)
        .flat_map(|round| (0..CODES.len()).map(move |code| (Digest::of(&stamped(code, round)), code)))
        .collect();
    for plugin in ["f", "p"] {
        for kept in registry.generations(plugin).await.unwrap() {
            let Activation { plugin, generation, digest, .. } = kept.activation;
            codes.insert((plugin.clone(), generation), by_digest[&digest]);
            if kept.quarantined_at.is_some() {
                quarantined.insert((plugin, generation));
            }
        }
    }
    let messages = bus.read(None, Sequence(0), usize::MAX).await.unwrap();
    let messages = messages.iter().map(|kept| kept.message.channel.as_str().to_owned()).collect();
    let letters = bus.list(None, None, usize::MAX >> 1, usize::MAX).await.unwrap().into_iter().rev();
    let letters = letters.map(|kept| {
        let letter = kept.letter;
        (letter.offset.0, (letter.plugin.into(), letter.generation))
    });
    let effects = Effects { messages, letters: letters.collect() };
    let count = log.bounds(P).end;
    assert_eq!(bus.committed(P), count, "the last process has judged all");
    let sets = registry.sets(P).await.unwrap();
    Kept { sets, codes, quarantined, traps: traps(&*log, count).await, effects }
}

async fn traps(log: &dyn ChangeLog, count: Offset) -> Vec<bool> {
    let (mut traps, mut decoder) = (Vec::new(), Decoder::default());
    while traps.len() < count.0 as usize {
        for record in log.read(P, Offset(traps.len() as u64), usize::MAX, usize::MAX).await.unwrap() {
            let change = decoder.decode(&record.payload).unwrap();
            traps.push(change.row().unwrap().value(1) == Value::Text("T"));
        }
    }
    traps
}

impl Kept {
    fn expected(&self) -> Effects {
        let mut expected = Effects::default();
        for (offset, traps) in (0_u64..).zip(&self.traps) {
            let owner = self.sets.iter().rev().find(|record| record.from.0 <= offset);
            for Member { plugin, generation, standing } in
                owner.map_or(&[][..], |record| record.set.members())
            {
                let name = (plugin.clone(), *generation);
                let code = CODES[self.codes[&name]];
                if *standing == Standing::Quarantined || (*traps && code == CODES[1]) {
                    expected.letters.push((offset, name));
                } else {
                    expected.messages.push(format!("{code}:{offset}"));
                }
            }
        }
        expected
    }

    /// What was answered is there: the generation, and a record that names it, or a later one of the same offset, or
    /// one that took over when it was quarantined at once.
    fn check_acknowledged(&self, acknowledged: &[(u64, u64)]) {
        for (generation, from) in acknowledged {
            let name = ("p".into(), *generation);
            assert!(self.codes.contains_key(&name), "generation {generation} is lost");
            let record = self.sets.iter().find(|record| record.from.0 == *from);
            let named = record.unwrap_or_else(|| panic!("the record from {from} on is lost")).set.member("p");
            let stands = named.is_none_or(|named| named.generation >= *generation);
            assert!(stands || self.quarantined.contains(&name), "{generation} from {from} on");
        }
    }
}

#[test]
fn kill_9_at_every_failpoint_of_a_swap_loses_nothing_and_repeats_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (mut rounds, mut acknowledged) = (0, Vec::new());
    let mut killed_at = BTreeSet::new();
    for nth in [1, 4] {
        for failpoint in FAILPOINTS {
            let (signal, answered) = run(home.path(), rounds, Some(&format!("{failpoint}:{nth}")));
            rounds += 1;
            acknowledged.extend(answered);
            if signal == Some(9) {
                killed_at.insert(*failpoint);
            }
        }
    }
    assert_eq!(killed_at.into_iter().collect::<Vec<_>>(), FAILPOINTS, "each failpoint is reached");
    let (signal, answered) = run(home.path(), rounds, None);
    assert_eq!(signal, None);
    acknowledged.extend(answered);

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let kept = runtime.block_on(kept(home.path(), rounds + 1));
    let expected = kept.expected();
    let Effects { messages, letters } = &kept.effects;
    let first = messages.iter().zip(&expected.messages).find(|(is, should)| is != should);
    assert_eq!(first, None, "the first message that is wrong");
    let first = letters.iter().zip(&expected.letters).find(|(is, should)| is != should);
    assert_eq!(first, None, "the first dead letter that is wrong");
    assert_eq!((messages.len(), letters.len()), (expected.messages.len(), expected.letters.len()));
    kept.check_acknowledged(&acknowledged);
    assert!(
        kept.traps.len() as u64 >= CHANGES && kept.sets.len() > FAILPOINTS.len(),
        "there was something to check"
    );
    assert!(!letters.is_empty() && !kept.quarantined.is_empty(), "plugins were stopped");
}

#[test]
fn the_list_of_failpoints_has_them_all() {
    fn visit(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, found);
            } else if path.file_name().is_some_and(|name| name != "failpoint.rs" && name != "kill.rs") {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                let names = text.split("failpoint!(\"").skip(1).filter_map(|rest| rest.split('"').next());
                found.extend(names.map(str::to_owned));
            }
        }
    }
    // Those at which a test of the suite dies: `tests/snapshots`.
    let elsewhere = BTreeSet::from(["snapshot-chunk-read".to_owned()]);
    let mut found = BTreeSet::new();
    visit(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.is_superset(&elsewhere));
    assert_eq!(found.difference(&elsewhere).collect::<Vec<_>>(), FAILPOINTS.iter().collect::<Vec<_>>());
}
