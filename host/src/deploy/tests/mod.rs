//! The room as a whole, over a real change log, bus, registry and pipeline.
//!
//! The plugins route each change to the channel that one of its columns names, see the pipeline's tests.

// A program built for release has no failpoints to die at.
#[cfg(debug_assertions)]
mod kill;

use std::path::Path;

use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::event::encode;
pub(crate) use crate::pipeline::tests::{Bus, CODES, P, change};
use crate::pipeline::tests::{Local, stores};
use crate::pipeline::{self, Pipeline};
use crate::policy::PluginLines;
use crate::policy::tests::{loader_of, router_by};
use crate::registry::Note;
use crate::telemetry::Metrics;

/// A server without a source and a gateway.
pub(crate) struct Server {
    pub(crate) deployer: Deployer,
    pub(crate) log: Arc<dyn ChangeLog>,
    pub(crate) bus: Arc<Local>,
    pub(crate) lines: PluginLines,
    pub(crate) metrics: Arc<Metrics>,
    ended: Vec<tokio::task::JoinHandle<()>>,
    stop: DropGuard,
}

pub(crate) fn home() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let wasm = CODES.map(router_by);
    loader_of(&home.path().join("compiled"), &wasm.each_ref().map(Vec::as_slice));
    home
}

pub(crate) fn digest(code: usize) -> Digest {
    Digest::of(&router_by(CODES[code]))
}

pub(crate) fn request(plugin: &str, code: usize) -> Request {
    Request::new(plugin, digest(code))
}

fn in_file(plugin: &str, code: usize) -> FilePlugin {
    FilePlugin { request: request(plugin, code), wasm: router_by(CODES[code]).into() }
}

impl Server {
    async fn start(home: &Path, file: Vec<FilePlugin>) -> Result<Self, StartError> {
        let (registry, bus, log) = stores(home).await;
        let loader = Arc::new(loader_of(&home.join("compiled"), &[]));
        let (lines, metrics) = (loader.lines(), Arc::<Metrics>::default());
        let (policy, set) = start(&registry, &loader, P, bus.committed(P), file).await?;
        let (beside, judged) = Beside::new();
        let neighbours = pipeline::Neighbours {
            log: log.clone(),
            bus: bus.clone(),
            timelines: None,
            cache: None,
            registry: registry.clone(),
            loader: loader.clone(),
            beside: beside.clone(),
            metrics: metrics.clone(),
        };
        let (pipeline, orders) = Pipeline::new(P, neighbours, policy, set).unwrap();
        let neighbours = Neighbours { registry, loader, log: log.clone(), partition: P, orders, beside };
        let (deployer, mirror) = Deployer::new(neighbours, judged);
        let stop = CancellationToken::new();
        let (pipeline_stop, mirror_stop) = (stop.clone(), stop.clone());
        let ended = vec![
            tokio::task::spawn_blocking(move || pipeline.run(&Handle::current(), &pipeline_stop).unwrap()),
            tokio::task::spawn_blocking(move || mirror.run(&Handle::current(), &mirror_stop)),
        ];
        deployer.resume_shadows().await.unwrap();
        Ok(Self { deployer, log, bus, lines, metrics, ended, stop: stop.drop_guard() })
    }

    /// With all three components.
    pub(crate) async fn with_components(home: &Path) -> Self {
        let server = Self::start(home, Vec::new()).await.unwrap();
        for code in CODES {
            let wasm = router_by(code);
            server.deployer.upload("anna", wasm.into(), Profile::Small).await.unwrap();
        }
        server
    }

    pub(crate) async fn stop(self) {
        let Self { deployer, log, bus, ended, stop, .. } = self;
        drop((deployer, log, bus, stop));
        for task in ended {
            task.await.unwrap();
        }
    }

    /// Appends changes, and waits until they are judged.
    pub(crate) async fn judge(&self, count: u64) {
        let from = self.log.bounds(P).end.0;
        let values = (from..from + count).map(|offset| CODES.map(|code| format!("{code}:{offset}")));
        let mut head = self.bus.head();
        let before = head.borrow_and_update().0;
        self.log.append(P, values.map(|values| encode(&change(&values))).collect()).await.unwrap();
        head.wait_for(|head| head.0 >= before + count).await.unwrap();
    }

    async fn notes(&self) -> Vec<(Action, Option<u64>)> {
        let entries = self.deployer.audit(0, usize::MAX).await.unwrap();
        let notes = entries.into_iter().map(|entry| (entry.note.action, entry.note.generation));
        notes.filter(|(action, _)| *action != Action::Uploaded).collect()
    }

    async fn active(&self, plugin: &str) -> Option<(u64, Digest)> {
        let plugins = self.deployer.plugins().await.unwrap();
        let found = plugins.into_iter().find(|status| *status.plugin == *plugin)?;
        let activation = found.active?.generation.activation;
        Some((activation.generation, activation.digest))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_is_uploaded_once_and_must_be_a_plugin() {
    let home = home();
    let server = Server::start(home.path(), Vec::new()).await.unwrap();
    let wasm: Bytes = router_by(CODES[0]).into();
    let first = server.deployer.upload("anna", wasm.clone(), Profile::Small).await.unwrap();
    assert_eq!((first.digest, first.stages.as_slice()), (digest(0), &["router".to_owned()][..]));
    let second = server.deployer.upload("bert", wasm, Profile::Small).await.unwrap();
    assert_eq!(second, first);
    let error = server.deployer.upload("anna", Bytes::from_static(b"no"), Profile::Small).await.unwrap_err();
    assert!(matches!(error, DeployError::Plugin(_)), "{error}");
    assert_eq!(server.deployer.components().await.unwrap(), [first]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_activated_rolled_back_and_deactivated_and_the_list_says_so() {
    let home = home();
    let server = Server::with_components(home.path()).await;
    let Server { deployer, .. } = &server;
    let first = deployer.activate("anna", request("p", 0)).await.unwrap();
    assert_eq!(first, Activated { generation: 1, from: Offset(0) });
    server.judge(2).await;
    let second = deployer.activate("anna", request("p", 1)).await.unwrap();
    assert_eq!(second, Activated { generation: 2, from: Offset(2) });
    let error = deployer.activate("anna", request("p", 1)).await.unwrap_err();
    assert!(matches!(error, DeployError::Unchanged { generation: 2, .. }), "{error}");
    let third = deployer.roll_back("bert", "p", 1).await.unwrap();
    assert_eq!(third, Activated { generation: 3, from: Offset(2) });
    assert_eq!(server.active("p").await, Some((3, digest(0))));
    server.judge(1).await;
    assert_eq!(deployer.deactivate("anna", "p").await.unwrap(), Offset(3));
    let error = deployer.deactivate("anna", "p").await.unwrap_err();
    assert!(matches!(error, DeployError::NotActive(_)), "{error}");
    assert_eq!(server.active("p").await, None);
    let numbers = deployer.generations("p").await.unwrap();
    assert_eq!(numbers.iter().map(|one| one.activation.generation).collect::<Vec<_>>(), [3, 2, 1]);
    let expected = [
        (Action::Activated, Some(1)),
        (Action::Activated, Some(2)),
        (Action::RolledBack, Some(3)),
        (Action::Deactivated, Some(3)),
    ];
    assert_eq!(server.notes().await, expected);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_and_changes_nothing() {
    let home = home();
    let server = Server::with_components(home.path()).await;
    let Server { deployer, .. } = &server;
    let unknown = Request::new("p", Digest::of(b"unknown"));
    let mut topics = request("p", 0);
    topics.grants.topics = vec!["t".parse().unwrap()];
    for (request, blame) in
        [(unknown, Blame::NotFound), (topics, Blame::Invalid), (request("P", 0), Blame::Invalid)]
    {
        assert_eq!(deployer.activate("anna", request.clone()).await.unwrap_err().blame(), blame);
        assert_eq!(deployer.shadow("anna", request.clone()).await.unwrap_err().blame(), blame);
        assert_eq!(deployer.check(request, 9).await.unwrap_err().blame(), blame);
    }
    assert!(matches!(deployer.generations("p").await, Err(DeployError::UnknownPlugin(_))));
    assert!(matches!(deployer.roll_back("anna", "p", 1).await, Err(DeployError::UnknownPlugin(_))));
    assert!(matches!(deployer.resume("anna").await, Err(DeployError::NotPaused)));
    deployer.activate("anna", request("p", 0)).await.unwrap();
    let error = deployer.roll_back("anna", "p", 7).await.unwrap_err();
    assert!(matches!(error, DeployError::UnknownGeneration { generation: 7, .. }), "{error}");
    assert_eq!(server.notes().await, [(Action::Activated, Some(1))]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_is_checked_against_the_newest_changes() {
    let home = home();
    let server = Server::with_components(home.path()).await;
    let Server { deployer, .. } = &server;
    let error = deployer.check(request("p", 1), 9).await.unwrap_err();
    assert!(matches!(error, DeployError::NothingToCheck), "{error}");
    deployer.activate("anna", request("p", 0)).await.unwrap();
    server.judge(600).await;
    let same = deployer.check(request("p", 0), 500).await.unwrap();
    assert_eq!((same.seen_count, same.equal_count), (500, 500));
    let other = deployer.check(request("p", 1), 7).await.unwrap();
    assert_eq!((other.seen_count, other.different_count), (7, 7));
    let alone = deployer.check(request("q", 1), 7).await.unwrap();
    assert_eq!((alone.seen_count, alone.only_candidate_count), (7, 7));
    server.stop().await;
}

/// Waits for an entry of the audit list, which `events` has not given yet.
async fn wait_for(events: &mut broadcast::Receiver<Arc<Entry>>, action: Action) -> Note {
    loop {
        let entry = events.recv().await.unwrap();
        if entry.note.action == action {
            return entry.note.clone();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_is_compared_beside_the_pipeline_without_effects_and_survives_a_restart() {
    let home = home();
    let server = Server::with_components(home.path()).await;
    server.deployer.activate("anna", request("p", 0)).await.unwrap();
    let mut events = server.deployer.events();
    server.deployer.shadow("anna", request("p", 1)).await.unwrap();
    server.judge(3).await;
    let note = wait_for(&mut events, Action::ShadowDiffers).await;
    assert_eq!((note.plugin.as_deref(), note.digest), (Some("p"), Some(digest(1))));
    let report = server.deployer.shadow_report("p").await.unwrap();
    assert_eq!((&report.candidate, report.left_out_count), (&request("p", 1), 0));
    let Comparison { seen_count, different_count, .. } = report.comparison;
    assert!(seen_count > 0 && different_count == seen_count, "{report:?}");
    assert_eq!(server.bus.head().borrow().0, 3, "the shadow has no effects");
    assert_eq!(server.deployer.plugins().await.unwrap()[0].shadow, Some(request("p", 1)));
    server.stop().await;

    let server = Server::start(home.path(), Vec::new()).await.unwrap();
    let mut events = server.deployer.events();
    assert_eq!(server.deployer.shadow_report("p").await.unwrap().comparison, Comparison::default());
    server.judge(1).await;
    wait_for(&mut events, Action::ShadowDiffers).await;
    server.deployer.stop_shadow("anna", "p").await.unwrap();
    let error = server.deployer.shadow_report("p").await.unwrap_err();
    assert!(matches!(error, DeployError::NoShadow(_)), "{error}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_meets_whatever_is_active_when_it_is_swapped() {
    let home = home();
    let server = Server::with_components(home.path()).await;
    server.deployer.activate("anna", request("p", 1)).await.unwrap();
    server.deployer.shadow("anna", request("p", 1)).await.unwrap();
    server.judge(3).await;
    let mut events = server.deployer.events();
    server.deployer.activate("anna", request("p", 2)).await.unwrap();
    server.judge(3).await;
    wait_for(&mut events, Action::ShadowDiffers).await;
    let report = server.deployer.shadow_report("p").await.unwrap();
    let Comparison { equal_count, different_count, .. } = report.comparison;
    assert!((1..=3).contains(&different_count) && equal_count == 3, "{report:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_applied_when_it_changes_and_only_then() {
    let home = home();
    let start = async |file| Server::start(home.path(), file).await.unwrap();
    let server = start(vec![in_file("p", 0), in_file("q", 0)]).await;
    assert_eq!(server.active("p").await, Some((1, digest(0))));
    server.deployer.upload("anna", router_by(CODES[1]).into(), Profile::Small).await.unwrap();
    server.deployer.activate("anna", request("p", 1)).await.unwrap();
    server.stop().await;

    // What was activated by hand outlives a restart with the same file, and what was rolled back does.
    let server = start(vec![in_file("p", 0), in_file("q", 0)]).await;
    assert_eq!(server.active("p").await, Some((2, digest(1))));
    server.stop().await;

    // The file says something new, and no longer names one.
    let server = start(vec![in_file("p", 2)]).await;
    assert_eq!(server.active("p").await, Some((3, digest(2))));
    assert_eq!(server.active("q").await, None);
    assert_eq!(server.deployer.generations("p").await.unwrap()[0].by, CONFIGURATION);
    let plugins = server.deployer.plugins().await.unwrap();
    assert_eq!(plugins.iter().map(|plugin| plugin.in_file).collect::<Vec<_>>(), [true, false]);
    server.stop().await;

    let server = start(Vec::new()).await;
    assert_eq!(server.active("p").await, None);
    let notes = server.notes().await;
    assert_eq!(notes.last(), Some(&(Action::Deactivated, Some(3))));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_changes_nothing_and_names_what_is_wrong() {
    let home = home();
    Server::start(home.path(), vec![in_file("p", 0)]).await.unwrap().stop().await;
    let mut wrong = in_file("p", 1);
    wrong.request.grants.topics = crate::policy::Grants::everything().topics;
    let error = Server::start(home.path(), vec![wrong]).await.err().unwrap().to_string();
    assert_eq!(error, "plugin `p`: this host has no topics yet: leave `topics` out of the grants");

    let component = home.path().join(format!("registry/plugins/components/{}.wasm", digest(0)));
    let wasm = std::fs::read(&component).unwrap();
    std::fs::write(&component, "damaged").unwrap();
    let error = Server::start(home.path(), vec![in_file("p", 0)]).await.err().unwrap().to_string();
    assert!(error.contains(&component.display().to_string()) && error.contains("is damaged"), "{error}");

    std::fs::write(&component, wasm).unwrap();
    let server = Server::start(home.path(), vec![in_file("p", 0)]).await.unwrap();
    assert_eq!(server.notes().await, [(Action::Activated, Some(1))]);
    server.stop().await;
}
