//! The pipeline: one partition's loop, read → evaluate → apply → commit.
//!
//! In: records of the change log, from the offset that the bus has committed. Out: batches for the bus.
//!
//! Invariants:
//! - the offset that a batch commits is durable together with its effects, so a crash at any point repeats nothing
//!   and leaves nothing out: what was applied lies behind the offset, what was not is read again;
//! - the change log is told of an offset only after that, so retention keeps whatever may be read again;
//! - a full disk is waited for; nothing else that fails is tried again.
//!
//! Absent on purpose: more than one batch under way. Evaluating ahead would be faster where a flush to disk is
//! slow; ARCHITECTURE.md says what it would take.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::backoff::Backoff;
use crate::bus::{Batch, Bus, BusError, DeadLetter};
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
        Ok(Self { partition, log, bus, policy, decoder: Decoder::default() })
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
            let batch = self.evaluate(&records?)?;
            let next = batch.offsets.end;
            if runtime.block_on(apply(&*self.bus, batch, stop))? == Applied::Stopped {
                return Ok(());
            }
            self.log.commit(CONSUMER, self.partition, next);
        }
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
        digest: rejection.digest.to_string(),
        fault: rejection.cause.to_string(),
        record: record.payload.clone(),
    };
    warn!(plugin = letter.plugin, offset = letter.offset.0, fault = letter.fault, "change set aside");
    letter
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
