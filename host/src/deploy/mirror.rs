//! The mirror: what is active, once more and without effects, with candidates beside it.
//!
//! In: what the pipeline has judged, and by which set. Out: reports of how candidates compare.
//!
//! A policy is a pure function, so the mirror gets the same answers as the pipeline did, on a thread of its own and
//! without a copy of every answer. It holds only what a candidate's comparison needs: the filters, and the plugins
//! that have a candidate.
//!
//! Invariants:
//! - each batch is judged by the set that judged it in the pipeline;
//! - nothing here has an effect, and nothing makes the pipeline wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{DeployError, ShadowReport, StartError, starting};
use crate::event::{Change, Decoder};
use crate::limits::SHADOWS_COUNT_MAX;
use crate::log::Record;
use crate::pipeline::{Beside, Judged, prepare};
use crate::policy::{Activation, Loader, Policy, Shadow, Stage};
use crate::registry::{Action, HOST, Note, PluginSet, Registry, Standing, Step};

/// How each shadow compares, by its plugin.
#[derive(Debug, Clone, Default)]
pub(super) struct Reports(Arc<Mutex<BTreeMap<Arc<str>, ShadowReport>>>);

impl Reports {
    pub(super) fn all(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, ShadowReport>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a mirror is told.
pub(super) enum Told {
    /// This candidate runs, in place of the one of its plugin.
    Start(Box<Shadow>),
    /// The candidate of this plugin runs no more.
    Stop(Arc<str>),
}

/// The deployer's end of a mirror.
pub(super) struct MirrorHandle {
    pub(super) orders: mpsc::Sender<Told>,
    pub(super) reports: Reports,
    pub(super) beside: Beside,
}

/// Judges once more.
pub struct Mirror {
    registry: Registry,
    loader: Arc<Loader>,
    beside: Beside,
    judged: mpsc::Receiver<Judged>,
    orders: mpsc::Receiver<Told>,
    reports: Reports,
    policy: Policy,
    /// What the policy was made for.
    set: PluginSet,
    decoder: Decoder,
}

enum Next {
    Told(Told),
    Judged(Judged),
    Stop,
}

impl Mirror {
    pub(super) fn new(
        registry: Registry,
        loader: Arc<Loader>,
        beside: Beside,
        judged: mpsc::Receiver<Judged>,
    ) -> (Self, MirrorHandle) {
        let (orders, told) = mpsc::channel(SHADOWS_COUNT_MAX);
        let reports = Reports::default();
        let handle = MirrorHandle { orders, reports: reports.clone(), beside: beside.clone() };
        let mirror = Self {
            registry,
            loader,
            beside,
            judged,
            orders: told,
            reports,
            policy: Policy::default(),
            set: PluginSet::default(),
            decoder: Decoder::default(),
        };
        (mirror, handle)
    }

    /// Runs until stopped. Blocks its thread: plugins are called synchronously.
    pub fn run(mut self, runtime: &Handle, stop: &CancellationToken) {
        loop {
            match runtime.block_on(self.next(stop)) {
                Next::Told(told) => self.obey(told),
                Next::Judged(judged) => self.judge(judged, runtime),
                Next::Stop => return,
            }
        }
    }

    async fn next(&mut self, stop: &CancellationToken) -> Next {
        tokio::select! {
            biased;
            () = stop.cancelled() => Next::Stop,
            Some(told) = self.orders.recv() => Next::Told(told),
            Some(judged) = self.judged.recv() => Next::Judged(judged),
            // Nobody is left who could tell anything.
            else => Next::Stop,
        }
    }

    fn obey(&mut self, told: Told) {
        match told {
            Told::Start(shadow) => drop(self.policy.compare(*shadow)),
            Told::Stop(plugin) => drop(self.policy.stop_comparing(&plugin)),
        }
        // Another set of plugins is needed now.
        self.set = PluginSet::default();
        for plugin in
            self.policy.plugins().iter().map(|plugin| plugin.activation().plugin.clone()).collect::<Vec<_>>()
        {
            self.policy.remove(&plugin);
        }
        if self.policy.shadows().is_empty() {
            self.beside.unwatch();
        } else {
            self.beside.watch();
        }
    }

    fn judge(&mut self, judged: Judged, runtime: &Handle) {
        if self.policy.shadows().is_empty() {
            return;
        }
        let Judged { records, set } = judged;
        let changes = self.adopt(set, runtime).and_then(|()| decode(&mut self.decoder, &records));
        let mut changes = match changes {
            Ok(changes) => changes,
            Err(error) => {
                warn!(%error, "shadows leave out what came");
                return self.beside.leave_out(records.len());
            }
        };
        self.policy.evaluate(&mut changes);
        self.report(runtime);
    }

    /// Becomes what judged, as far as candidates need it.
    fn adopt(&mut self, set: PluginSet, runtime: &Handle) -> Result<(), DeployError> {
        if set == self.set {
            return Ok(());
        }
        let named: Vec<_> = self.policy.shadows().iter().map(name).collect();
        let needed = runtime.block_on(needed(&self.registry, &set, &named))?;
        let here: Vec<_> = self.policy.plugins().iter().map(|plugin| plugin.activation().clone()).collect();
        for stale in here.iter().filter(|here| !needed.contains(here)) {
            self.policy.remove(&stale.plugin);
        }
        for missing in needed.iter().filter(|needed| !here.contains(needed)) {
            self.policy.put(prepare(&self.registry, &self.loader, missing.clone())?)?;
        }
        for member in set.members().iter().filter(|member| member.standing == Standing::Quarantined) {
            self.policy.quarantine(&member.plugin);
        }
        self.set = set;
        Ok(())
    }

    fn report(&self, runtime: &Handle) {
        let mut first = Vec::new();
        for shadow in self.policy.shadows() {
            let comparison = shadow.report();
            // It may have been stopped a moment ago.
            if let Some(report) = self.reports.all().get_mut(&name(shadow)) {
                let differs = comparison.equal_count < comparison.seen_count;
                if differs && report.comparison.equal_count == report.comparison.seen_count {
                    first.push(differing(shadow));
                }
                report.comparison.clone_from(comparison);
            }
        }
        if first.is_empty() {
            return;
        }
        for note in &first {
            info!(plugin = note.plugin, "the shadow differs for the first time: its report says how");
        }
        if let Err(error) = runtime.block_on(self.registry.record(Step { notes: first, ..Step::default() })) {
            warn!(%error, "the audit list does not say that a shadow differs");
        }
    }
}

fn name(shadow: &Shadow) -> Arc<str> {
    shadow.candidate().activation().plugin.clone()
}

fn differing(shadow: &Shadow) -> Note {
    let mut note = Note::new(HOST, Action::ShadowDiffers);
    let activation = shadow.candidate().activation();
    note.plugin = Some(activation.plugin.to_string());
    note.digest = Some(activation.digest);
    note
}

pub(super) fn decode(decoder: &mut Decoder, records: &[Record]) -> Result<Vec<Change>, DeployError> {
    let decode =
        |record: &Record| decoder.decode(&record.payload).map_err(|_| DeployError::Decode(record.offset));
    records.iter().map(decode).collect()
}

/// The active generations that a comparison with these plugins needs: filters, and the plugins themselves.
pub(super) async fn needed(
    registry: &Registry,
    set: &PluginSet,
    named: &[Arc<str>],
) -> Result<Vec<Activation>, StartError> {
    let mut needed = starting::active(registry, set).await?;
    let mut filters = Vec::new();
    for activation in &needed {
        let component = registry.component(activation.digest).await?;
        let is_filter = |stages: &[String]| stages.iter().any(|stage| stage == Stage::Filter.name());
        if component.is_none_or(|component| is_filter(&component.stages)) {
            filters.push(activation.plugin.clone());
        }
    }
    needed.retain(|one| named.contains(&one.plugin) || filters.contains(&one.plugin));
    Ok(needed)
}
