//! The pipeline: one partition's loop, read → evaluate → plan → apply → commit, and between two batches what it is told.
//!
//! In: records of the change log, from the offset that the bus has committed; orders. Out: keys that are deleted from
//! the cache, then a batch for the bus.
//!
//! Invariants:
//! - the offset that a batch commits is durable together with its effects, so a crash at any point repeats nothing
//!   and leaves nothing out: what was applied lies behind the offset, what was not is read again;
//! - which plugins judge an offset is durable before its first effect (`swap`), so what is read again is judged by
//!   the same ones;
//! - what a batch makes stale is deleted from the cache before the batch is applied, and so again after a crash in
//!   between: whoever hears of a change does not find in the cache what was before it;
//! - the change log is told of an offset only after that, so retention keeps whatever may be read again;
//! - a replay whose dead letter is gone (it was replayed or discarded before) has no effects;
//! - a full disk is waited for, and so is the cache's Redis; nothing else that fails is tried again.
//!
//! Absent on purpose: more than one batch under way. Evaluating ahead would be faster where a flush to disk is
//! slow; ARCHITECTURE.md says what it would take.

mod beside;
mod measure;
mod orders;
mod pause;
mod planning;
mod preparing;
mod quarantine;
mod reach;
mod swap;
#[cfg(test)]
mod replays;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub use beside::{Beside, Judged};
pub use orders::{OrderError, Orders};
pub use pause::Flow;
pub use preparing::{PrepareError, prepare};

use measure::Measure;
use orders::{Order, Ordered};
use quarantine::Faults;

use crate::backoff::Backoff;
use crate::bus::{Batch, Bus, BusError, DeadLetter, Replayed, Stage};
use crate::cache::{Cache, Deleted};
use crate::effects;
use crate::event::{Change, DecodeError, Decoder, Offset, Partition, Replay, Stale};
use crate::failpoint::failpoint;
use crate::limits::{BATCH_BYTES_MAX, BATCH_COUNT_MAX};
use crate::log::{ChangeLog, LogError, Record};
use crate::policy::{self, Activation, Evaluation, Loader, OnFault, Policy, Rejection};
use crate::registry::{PluginSet, Registry, RegistryError, Standing};
use crate::telemetry::Metrics;
use crate::timeline::{TimelineError, Timelines};

/// The name under which pipelines commit to the change log.
const CONSUMER: &str = "pipeline";

/// Why a pipeline ended.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The change log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The bus refuses.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The store of timelines refuses.
    #[error(transparent)]
    Timelines(#[from] TimelineError),
    /// The registry refuses.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A record is not readable.
    #[error("cannot decode the change at offset {offset} of partition {}", partition.0)]
    Decode {
        /// Its partition.
        partition: Partition,
        /// Its place there.
        offset: Offset,
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
    /// The change log is shorter than what was processed of it.
    #[error(
        "partition {} is processed up to offset {committed}, but the change log ends at {end}: bring back the change \
         log's folder, or remove the whole data folder to begin anew", partition.0
    )]
    LogBehind {
        /// The partition.
        partition: Partition,
        /// What the bus has committed.
        committed: Offset,
        /// Where the log ends.
        end: Offset,
    },
    /// The change log does not reach back to what comes next.
    #[error(
        "partition {} is processed up to offset {committed}, but the change log begins at {first}: bring back the \
         state's files, or, if they are lost, remove the whole data folder and drop the replication slots of the \
         sources (the next start names them) to begin anew with a snapshot", partition.0
    )]
    LogAhead {
        /// The partition.
        partition: Partition,
        /// What the bus has committed.
        committed: Offset,
        /// The first record that is there.
        first: Offset,
    },
}

/// One partition's way from the change log to the bus.
pub struct Pipeline {
    partition: Partition,
    log: Arc<dyn ChangeLog>,
    bus: Arc<dyn Bus>,
    timelines: Option<Timelines>,
    cache: Option<Cache>,
    registry: Registry,
    loader: Arc<Loader>,
    policy: Policy,
    /// What the policy is, as the registry has it.
    set: PluginSet,
    decoder: Decoder,
    ordered: Ordered,
    beside: Beside,
    faults: Faults,
    /// What stopped the pipeline, and may be set aside.
    excused: Option<Offset>,
    measure: Measure,
}

/// Whom a pipeline stands between.
pub struct Neighbours {
    /// Where changes come from.
    pub log: Arc<dyn ChangeLog>,
    /// Where their effects go.
    pub bus: Arc<dyn Bus>,
    /// Who knows the audiences of posts. The bus writes to it. Where there is none, nothing is written to feeds.
    pub timelines: Option<Timelines>,
    /// What is deleted from. Where there is none, nothing is.
    pub cache: Option<Cache>,
    /// Where plugin sets are kept.
    pub registry: Registry,
    /// What loads the generation that takes over.
    pub loader: Arc<Loader>,
    /// Who looks on.
    pub beside: Beside,
    /// Where it is counted.
    pub metrics: Arc<Metrics>,
}

/// Whether there is more to do.
#[derive(PartialEq, Eq)]
enum Stepped {
    On,
    Stopped,
}

/// What comes next.
enum Next {
    Records(Vec<Record>),
    Order(Order),
    Stop,
}

impl Pipeline {
    /// Joins them, and makes the pipeline known to the change log. `policy` has the plugins of `set`, which owns the
    /// committed offset.
    ///
    /// # Errors
    /// If the change log does not hold what comes next.
    pub fn new(
        partition: Partition,
        neighbours: Neighbours,
        mut policy: Policy,
        set: PluginSet,
    ) -> Result<(Self, Orders), PipelineError> {
        let Neighbours { log, bus, timelines, cache, registry, loader, beside, metrics } = neighbours;
        let committed = bus.committed(partition);
        reach::check(partition, committed, log.bounds(partition))?;
        log.commit(CONSUMER, partition, committed);
        for member in set.members().iter().filter(|member| member.standing == Standing::Quarantined) {
            policy.quarantine(&member.plugin);
        }
        let (orders, ordered) = orders::orders();
        let (decoder, faults) = (Decoder::default(), Faults::default());
        let pipeline = Self {
            partition,
            log,
            bus,
            timelines,
            cache,
            registry,
            loader,
            policy,
            set,
            decoder,
            ordered,
            beside,
            faults,
            excused: None,
            measure: Measure::new(metrics),
        };
        Ok((pipeline, orders))
    }

    /// Runs until stopped. Blocks its thread: plugins are called synchronously.
    ///
    /// # Errors
    /// Whatever does not heal by itself.
    pub fn run(mut self, runtime: &Handle, stop: &CancellationToken) -> Result<(), PipelineError> {
        while self.step(runtime, stop)? == Stepped::On {}
        Ok(())
    }

    /// One batch or one order, whichever comes first.
    fn step(&mut self, runtime: &Handle, stop: &CancellationToken) -> Result<Stepped, PipelineError> {
        let mut records = match runtime.block_on(self.next(stop))? {
            Next::Records(records) => records,
            Next::Order(order) => {
                self.obey(order, runtime);
                return Ok(Stepped::On);
            }
            Next::Stop => return Ok(Stepped::Stopped),
        };
        // Where replays stand whose letters are gone. The bus alone can tell, in the commit itself.
        let mut left_out = HashSet::new();
        loop {
            let judged = self.judge(&mut records, &left_out, runtime, stop)?;
            let Some(Effects { stale, batch }) = judged else { return Ok(Stepped::On) };
            let next = batch.offsets.end;
            if self.delete(&stale, runtime, stop) == Deleted::Stopped {
                return Ok(Stepped::Stopped);
            }
            failpoint!("batch-before-apply");
            match runtime.block_on(apply(&*self.bus, batch, stop)) {
                Ok(Applied::Durably) => {
                    failpoint!("batch-after-apply");
                    self.log.commit(CONSUMER, self.partition, next);
                    self.measure.applied();
                    self.beside.tell(records, &self.set);
                    return Ok(Stepped::On);
                }
                Ok(Applied::Stopped) => return Ok(Stepped::Stopped),
                Err(BusError::NotDue { offsets }) => left_out.extend(offsets),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Orders first: changes may come without end.
    async fn next(&mut self, stop: &CancellationToken) -> Result<Next, PipelineError> {
        let from = self.bus.committed(self.partition);
        tokio::select! {
            biased;
            () = stop.cancelled() => Ok(Next::Stop),
            Some(order) = self.ordered.queue.recv() => Ok(Next::Order(order)),
            records = self.log.read(self.partition, from, BATCH_COUNT_MAX, BATCH_BYTES_MAX) => {
                Ok(Next::Records(records?))
            }
        }
    }

    /// Judges records, or the first few of them. Nothing, if that changed who judges: then they are read again.
    fn judge(
        &mut self,
        records: &mut Vec<Record>,
        left_out: &HashSet<Offset>,
        runtime: &Handle,
        stop: &CancellationToken,
    ) -> Result<Option<Effects>, PipelineError> {
        let judged = loop {
            let judged = self.evaluate(records, left_out)?;
            if let Some(plugin) = judged.evaluation.failing {
                let Activation { plugin, on_fault, .. } = self.policy.plugins()[plugin].activation().clone();
                if on_fault == OnFault::Pause && records.len() > 1 {
                    // It ended before the first change that hurts was found.
                    records.truncate(records.len() / 2);
                    continue;
                }
                self.quarantine(&plugin, runtime, stop)?;
                return Ok(None);
            }
            let Some(pause) = judged.evaluation.pause else { break judged };
            let rejection = &judged.evaluation.rejected[pause];
            let at = judged.records[rejection.change];
            let offset = records[at].offset;
            match at {
                0 if self.excused != Some(offset) => {
                    let (plugin, fault) = (rejection.name.clone(), rejection.cause.to_string());
                    self.pause(Flow::Paused { plugin, offset, fault }, runtime, stop);
                    return Ok(None);
                }
                0 if records.len() == 1 => break judged,
                // What is excused is applied by itself, and before it what comes before it.
                at => records.truncate(at.max(1)),
            }
        };
        if let Some(plugin) = self.faults.note(&quarantine::faults(&judged.evaluation), Instant::now()) {
            self.quarantine(&plugin, runtime, stop)?;
            return Ok(None);
        }
        Ok(Some(self.effects(records, judged, runtime)?))
    }

    fn evaluate(
        &mut self,
        records: &[Record],
        left_out: &HashSet<Offset>,
    ) -> Result<Judgment, PipelineError> {
        let mut judged = Judgment::default();
        for (at, record) in records.iter().enumerate() {
            if left_out.contains(&record.offset) {
                continue;
            }
            let change = self.decode(record)?;
            if let Some(Replay { letter, router, .. }) = &change.replay {
                judged.replayed.push(Replayed { offset: record.offset, letter: *letter });
                if let Some(router) = router.as_deref().filter(|router| !self.has_plugin(router)) {
                    judged.dead_letters.push(without_plugin(router, record));
                    continue;
                }
            }
            judged.changes.push(change);
            judged.records.push(at);
        }
        judged.evaluation = self.policy.evaluate(&mut judged.changes);
        self.measure.asked(&mut self.policy, &judged.evaluation);
        Ok(judged)
    }

    fn effects(
        &mut self,
        records: &[Record],
        judged: Judgment,
        runtime: &Handle,
    ) -> Result<Effects, PipelineError> {
        let Judgment { changes, records: at, mut evaluation, mut dead_letters, replayed } = judged;
        let rejected = std::mem::take(&mut evaluation.rejected).into_iter();
        dead_letters.extend(rejected.map(|rejection| dead_letter(&records[at[rejection.change]], rejection)));
        let committed_at = self.measure.judged(&self.policy, &changes, &evaluation, &dead_letters);
        for letter in &dead_letters {
            let DeadLetter { plugin, offset, fault, .. } = letter;
            warn!(plugin, offset = offset.0, fault, "change set aside");
        }
        let stale = effects::take_stale(&mut evaluation.routes);
        let mut feed = Vec::new();
        if let Some(timelines) = &self.timelines {
            feed = effects::take_feed(&changes, &mut evaluation.routes);
            planning::plan(&mut feed, timelines, &mut self.policy, &self.measure, runtime)?;
        }
        let first =
            records.first().map_or_else(|| self.bus.committed(self.partition), |record| record.offset);
        let batch = Batch {
            partition: self.partition,
            offsets: first..first.plus(records.len() as u64),
            messages: effects::messages(&changes, &evaluation.routes),
            feed: feed.into(),
            dead_letters,
            replayed,
            committed_at,
        };
        Ok(Effects { stale, batch })
    }

    /// Deletes from the cache, however long its Redis is away.
    fn delete(&self, stale: &[Stale], runtime: &Handle, stop: &CancellationToken) -> Deleted {
        if stale.is_empty() {
            return Deleted::All;
        }
        let Some(cache) = &self.cache else {
            self.measure.dropped(stale.len());
            return Deleted::All;
        };
        let deleted = runtime.block_on(cache.delete(stale, stop));
        if deleted == Deleted::All {
            self.measure.deleted();
        }
        deleted
    }

    fn has_plugin(&self, name: &str) -> bool {
        self.policy.plugins().iter().any(|plugin| &*plugin.activation().plugin == name)
    }

    fn decode(&mut self, record: &Record) -> Result<Change, PipelineError> {
        self.decoder.decode(&record.payload).map_err(|source| PipelineError::Decode {
            partition: self.partition,
            offset: record.offset,
            source,
        })
    }
}

/// What a batch of changes does, in this order.
struct Effects {
    /// What is deleted from the cache.
    stale: Vec<Stale>,
    /// What is applied.
    batch: Batch,
}

/// What was made of records.
#[derive(Default)]
struct Judgment {
    changes: Vec<Change>,
    /// For each change, which of the records it was.
    records: Vec<usize>,
    evaluation: Evaluation,
    /// Replays that nobody can take.
    dead_letters: Vec<DeadLetter>,
    replayed: Vec<Replayed>,
}

fn dead_letter(record: &Record, rejection: Rejection) -> DeadLetter {
    DeadLetter {
        offset: record.offset,
        plugin: rejection.name.to_string(),
        generation: rejection.generation,
        digest: rejection.digest.to_string(),
        stage: match rejection.stage {
            policy::Stage::Filter => Stage::Filter,
            _ => Stage::Router,
        },
        fault: rejection.cause.to_string(),
        record: record.payload.clone(),
    }
}

/// A replay whose plugin has gone meanwhile.
fn without_plugin(router: &str, record: &Record) -> DeadLetter {
    DeadLetter {
        offset: record.offset,
        plugin: router.to_owned(),
        generation: 0,
        digest: String::new(),
        stage: Stage::Router,
        fault: "the plugin is not active: activate it, then replay the change again".to_owned(),
        record: record.payload.clone(),
    }
}

#[derive(PartialEq, Eq)]
enum Applied {
    Durably,
    Stopped,
}

/// Applies a batch, however long the disk stays full.
async fn apply(bus: &dyn Bus, batch: Batch, stop: &CancellationToken) -> Result<Applied, BusError> {
    let mut backoff = Backoff::default();
    let mut waiting = false;
    loop {
        match bus.apply(batch.clone()).await {
            Ok(()) => {
                if waiting {
                    info!("the history takes messages again");
                }
                return Ok(Applied::Durably);
            }
            Err(full @ BusError::DiskFull { .. }) => {
                if !std::mem::replace(&mut waiting, true) {
                    error!(error = %full, "processing stopped");
                }
            }
            Err(other) => return Err(other),
        }
        if stop.run_until_cancelled(backoff.wait()).await.is_none() {
            return Ok(Applied::Stopped);
        }
    }
}
