//! `kill -9` at every failpoint, under load: a process of its own that activates, rolls back and deactivates while
//! changes come, dies, and is started again; then what there is, against a model.
//!
//! The model: the owner of an offset is the record with the greatest first offset not above it, and the messages are
//! exactly those that the code of each of its generations makes of that offset, once each, in order. The plugin `p`
//! is deployed by hand and has the code `one` or `two`; the plugin `f` stands in the file and has `three` or `four`.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;
use crate::event::Sequence;
use crate::failpoint;
use crate::registry::{Member, SetRecord};

const HOME: &str = "TWOHOP_TEST_KILL_HOME";
const ROUND: &str = "TWOHOP_TEST_KILL_ROUND";
const FAILPOINT: &str = "TWOHOP_TEST_KILL_FAILPOINT";
/// Changes that each process appends.
const CHANGES: u64 = 150;

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
        let values = (next..until).map(|offset| CODES.map(|code| format!("{code}:{offset}")));
        log.append(P, values.map(|values| encode(&change(&values))).collect()).await.unwrap();
        next = until;
    }
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

/// What was kept: set records, the code of each generation, channels of messages, and how many changes there are.
struct Kept {
    sets: Vec<SetRecord>,
    codes: BTreeMap<(Arc<str>, u64), usize>,
    messages: Vec<String>,
    count: u64,
}

async fn kept(home: &Path, rounds: u8) -> Kept {
    let (registry, bus, _log) = stores(home).await;
    let mut codes = BTreeMap::new();
    let by_digest: BTreeMap<_, _> = (0..rounds)
        .flat_map(|round| (0..CODES.len()).map(move |code| (Digest::of(&stamped(code, round)), code)))
        .collect();
    for plugin in ["f", "p"] {
        for generation in registry.generations(plugin).await.unwrap() {
            let Activation { plugin, generation, digest, .. } = generation.activation;
            codes.insert((plugin, generation), by_digest[&digest]);
        }
    }
    let messages = bus.read(None, Sequence(0), usize::MAX).await.unwrap();
    let messages = messages.iter().map(|kept| kept.message.channel.as_str().to_owned()).collect();
    Kept { sets: registry.sets(P).await.unwrap(), codes, messages, count: bus.committed(P).0 }
}

impl Kept {
    fn expected(&self) -> Vec<String> {
        let mut expected = Vec::new();
        for offset in 0..self.count {
            let owner = self.sets.iter().rev().find(|record| record.from.0 <= offset);
            let members = owner.map_or(&[][..], |record| record.set.members());
            expected.extend(members.iter().map(|Member { plugin, generation, .. }| {
                format!("{}:{offset}", CODES[self.codes[&(plugin.clone(), *generation)]])
            }));
        }
        expected
    }

    /// What was answered is there: the generation, and a record that names it, or a later one of the same offset.
    fn check_acknowledged(&self, acknowledged: &[(u64, u64)]) {
        for (generation, from) in acknowledged {
            assert!(self.codes.contains_key(&("p".into(), *generation)), "generation {generation} is lost");
            let record = self.sets.iter().find(|record| record.from.0 == *from);
            let named = record.unwrap_or_else(|| panic!("the record from {from} on is lost")).set.member("p");
            assert!(named.is_none_or(|named| named.generation >= *generation), "{generation} from {from} on");
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
    let first = kept.messages.iter().zip(&expected).position(|(is, should)| is != should);
    assert_eq!(first.map(|at| (&kept.messages[at], &expected[at])), None, "the first that is wrong");
    assert_eq!(kept.messages.len(), expected.len());
    kept.check_acknowledged(&acknowledged);
    assert!(kept.count >= CHANGES && kept.sets.len() > FAILPOINTS.len(), "there was something to check");
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
    let mut found = BTreeSet::new();
    visit(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert_eq!(found.iter().collect::<Vec<_>>(), FAILPOINTS.iter().collect::<Vec<_>>());
}
