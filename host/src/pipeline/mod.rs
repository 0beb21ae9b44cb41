//! The pipeline: one partition's loop, read → evaluate → apply → commit.
//!
//! In: records of the change log, from the offset that the bus has committed. Out: batches for the bus.
//!
//! Invariants:
//! - the offset that a batch commits is durable together with its effects, so a crash at any point repeats nothing
//!   and leaves nothing out: what was applied lies behind the offset, what was not is read again;
//! - the change log is told of an offset only after that, so retention keeps whatever may be read again;
//! - a replay whose dead letter is gone (it was replayed or discarded before) has no effects;
//! - a full disk is waited for; nothing else that fails is tried again.
//!
//! Absent on purpose: more than one batch under way. Evaluating ahead would be faster where a flush to disk is
//! slow; ARCHITECTURE.md says what it would take.

mod replays;

use std::collections::HashSet;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::replays::Replays;
use crate::backoff::Backoff;
use crate::bus::{Batch, Bus, BusError, DeadLetter, Stage};
use crate::effects;
use crate::event::{Change, DecodeError, Decoder, Offset, Partition};
use crate::limits::{BATCH_BYTES_MAX, BATCH_COUNT_MAX};
use crate::log::{ChangeLog, LogError, Record};
use crate::policy::{Policy, Rejection};

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
}

/// One partition's way from the change log to the bus.
pub struct Pipeline {
    partition: Partition,
    log: Arc<dyn ChangeLog>,
    bus: Arc<dyn Bus>,
    policy: Policy,
    decoder: Decoder,
    /// Replays whose letters are gone: the bus alone can tell, in the commit itself.
    passed_over: HashSet<Offset>,
}

impl Pipeline {
    /// Joins the three, and makes the pipeline known to the change log.
    ///
    /// # Errors
    /// If the change log does not hold what comes next.
    pub fn new(
        partition: Partition,
        log: Arc<dyn ChangeLog>,
        bus: Arc<dyn Bus>,
        policy: Policy,
    ) -> Result<Self, PipelineError> {
        let committed = bus.committed(partition);
        let end = log.bounds(partition).end;
        if committed > end {
            return Err(PipelineError::LogBehind { partition, committed, end });
        }
        log.commit(CONSUMER, partition, committed);
        let (decoder, passed_over) = (Decoder::default(), HashSet::new());
        Ok(Self { partition, log, bus, policy, decoder, passed_over })
    }

    /// Runs until stopped. Blocks its thread: plugins are called synchronously.
    ///
    /// # Errors
    /// Whatever does not heal by itself.
    pub fn run(mut self, runtime: &Handle, stop: &CancellationToken) -> Result<(), PipelineError> {
        loop {
            let from = self.bus.committed(self.partition);
            let read = self.log.read(self.partition, from, BATCH_COUNT_MAX, BATCH_BYTES_MAX);
            let Some(records) = runtime.block_on(stop.run_until_cancelled(read)) else { return Ok(()) };
            if self.process(records?, runtime, stop)? == Applied::Stopped {
                return Ok(());
            }
        }
    }

    /// Takes records on, or finds out what to leave out when they are read again.
    fn process(
        &mut self,
        mut records: Vec<Record>,
        runtime: &Handle,
        stop: &CancellationToken,
    ) -> Result<Applied, PipelineError> {
        let (partition, plugins) = (self.partition, self.policy.plugins());
        let has_plugin = |name: &str| plugins.iter().any(|plugin| &*plugin.activation().plugin == name);
        let replays = Replays::take_from(&mut records, &self.passed_over, has_plugin)
            .map_err(|(offset, source)| PipelineError::Decode { partition, offset, source })?;
        let mut batch = self.evaluate(&records)?;
        replays.add_to(&records, &mut batch);
        let next = batch.offsets.end;
        let applied = runtime.block_on(apply(&*self.bus, batch, stop))?;
        match &applied {
            Applied::Durably => {
                self.passed_over.clear();
                self.log.commit(CONSUMER, self.partition, next);
            }
            Applied::NotDue(offsets) => self.passed_over.extend(offsets),
            Applied::Stopped => {}
        }
        Ok(applied)
    }

    fn evaluate(&mut self, records: &[Record]) -> Result<Batch, PipelineError> {
        let mut changes = records.iter().map(|record| self.decode(record)).collect::<Result<Vec<_>, _>>()?;
        let evaluation = self.policy.evaluate(&mut changes);
        let dead_letters =
            evaluation.rejected.into_iter().map(|rejection| dead_letter(rejection, records)).collect();
        let first =
            records.first().map_or_else(|| self.bus.committed(self.partition), |record| record.offset);
        Ok(Batch {
            partition: self.partition,
            offsets: first..first.plus(records.len() as u64),
            messages: effects::messages(&changes, evaluation.routes),
            dead_letters,
            replayed: vec![],
        })
    }

    fn decode(&mut self, record: &Record) -> Result<Change, PipelineError> {
        self.decoder.decode(&record.payload).map_err(|source| PipelineError::Decode {
            partition: self.partition,
            offset: record.offset,
            source,
        })
    }
}

fn dead_letter(rejection: Rejection, records: &[Record]) -> DeadLetter {
    let record = &records[rejection.change];
    let letter = DeadLetter {
        offset: record.offset,
        plugin: rejection.name.to_string(),
        generation: rejection.generation,
        digest: rejection.digest.to_string(),
        stage: Stage::Router,
        fault: rejection.cause.to_string(),
        record: record.payload.clone(),
    };
    warn!(plugin = letter.plugin, offset = letter.offset.0, fault = letter.fault, "change set aside");
    letter
}

#[derive(Debug, PartialEq, Eq)]
enum Applied {
    Durably,
    /// Not at all: the letters of the replays at these offsets are gone.
    NotDue(Vec<Offset>),
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
            Err(BusError::NotDue { offsets }) => return Ok(Applied::NotDue(offsets)),
            Err(other) => return Err(other),
        }
        if stop.run_until_cancelled(backoff.wait()).await.is_none() {
            return Ok(Applied::Stopped);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::bus::Letters;
    use crate::event::{
        LetterId, Micros, Operation, Origin, Position, Replay, RowBuilder, Rows, Table, encode,
    };

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

    async fn process(bus: Arc<dyn Bus>, log: Arc<dyn ChangeLog>) {
        let policy = Policy::new([]).unwrap();
        let mut pipeline = Pipeline::new(P, log.clone(), bus.clone(), policy).unwrap();
        let records = log.read(P, bus.committed(P), 9, 999).await.unwrap();
        let runtime = Handle::current();
        let processed = tokio::task::spawn_blocking(move || {
            let stop = CancellationToken::new();
            let first = pipeline.process(records.clone(), &runtime, &stop).unwrap();
            (first, pipeline.process(records, &runtime, &stop).unwrap())
        });
        let (first, second) = processed.await.unwrap();
        assert!(matches!(first, Applied::NotDue(_)) && second == Applied::Durably, "{first:?}, {second:?}");
    }

    async fn stores(folder: &Path) -> (Arc<crate::bus::contract::Local>, Arc<dyn ChangeLog>) {
        (crate::bus::contract::local(folder).await, crate::log::contract::local(folder))
    }

    #[tokio::test]
    async fn a_replay_whose_plugin_is_not_active_is_a_letter_again_and_a_replay_of_no_letter_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (bus, log) = stores(folder.path()).await;
        log.append(P, vec![replay_for(LetterId(1), "gone")]).await.unwrap();
        process(bus.clone(), log.clone()).await;
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
            dead_letters: vec![letter],
            replayed: vec![],
        };
        log.append(P, vec![replay_for(LetterId(7), "gone")]).await.unwrap();
        bus.apply(batch).await.unwrap();
        let id = bus.list(None, None, 9, 9).await.unwrap()[0].id;
        log.append(P, vec![replay_for(id, "gone"), replay_for(id, "gone")]).await.unwrap();
        process(bus.clone(), log.clone()).await;
        let letters = bus.list(None, None, 9, 999).await.unwrap();
        let [again] = &letters[..] else { panic!("{letters:?}") };
        assert!(again.id > id && again.letter.fault.contains("not active"), "{again:?}");
        assert_eq!((bus.committed(P), again.letter.offset), (Offset(4), Offset(2)));
    }
}
