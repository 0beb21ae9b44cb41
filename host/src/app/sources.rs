//! The sources, as the configuration has them.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::AppError;
use crate::config::{self, Config, OnGap, Snapshot};
use crate::log::ChangeLog;
use crate::source::Asking;
use crate::source::postgres::{
    self, Asked, Beside, Gap, Notify, NotifyConfig, OutboxColumns, Polling, PollingConfig, Postgres,
    SnapshotMode, SourceError,
};
use crate::telemetry::Metrics;

/// How people reach the sources whose rows can be read again, which are yet to be made.
pub(super) fn ways_to_sources(config: &Config) -> (BTreeMap<String, Asking>, BTreeMap<String, Asked>) {
    let ways = config.sources.keys().map(|name| (name.clone(), postgres::asking()));
    ways.map(|(name, (asking, asked))| ((name.clone(), asking), (name, asked))).unzip()
}

/// A source that can begin.
pub(super) enum Prepared {
    Postgres(Box<Postgres>),
    Polling(Box<Polling>),
    Notify(Box<Notify>),
}

impl Prepared {
    async fn run(self, stop: CancellationToken) -> Result<(), SourceError> {
        match self {
            Self::Postgres(source) => source.run(stop).await,
            Self::Polling(source) => source.run(stop).await,
            Self::Notify(source) => source.run(stop).await,
        }
    }
}

pub(super) async fn prepare_sources(
    config: &Config,
    log: &Arc<dyn ChangeLog>,
    metrics: &Metrics,
    mut asked: BTreeMap<String, Asked>,
) -> Result<Vec<(String, Prepared)>, AppError> {
    let at_fault = |name: &String| {
        let name = name.clone();
        |source| AppError::Source { name, source: Box::new(source) }
    };
    let configs = source_configs(config);
    for (at, source) in configs.iter().enumerate() {
        postgres::check_apart(source, &configs[..at]).map_err(at_fault(&source.name))?;
    }
    let mut sources = Vec::new();
    for source in configs {
        let name = source.name.clone();
        let asked = asked.remove(&name).unwrap_or_else(|| postgres::asking().1);
        let beside = Beside { asked, figures: metrics.snapshot(&name) };
        let prepared = Postgres::prepare(source, log.clone(), beside).await.map_err(at_fault(&name))?;
        sources.push((name, Prepared::Postgres(Box::new(prepared))));
    }
    for told in polling_configs(config) {
        let name = told.name.clone();
        let prepared = Polling::prepare(told, log.clone()).await.map_err(at_fault(&name))?;
        sources.push((name, Prepared::Polling(Box::new(prepared))));
    }
    for told in notify_configs(config) {
        let name = told.name.clone();
        let prepared = Notify::prepare(told, log.clone()).await.map_err(at_fault(&name))?;
        sources.push((name, Prepared::Notify(Box::new(prepared))));
    }
    Ok(sources)
}

pub(super) fn run_sources(
    sources: Vec<(String, Prepared)>,
    parts: &mut JoinSet<Result<(), AppError>>,
    stop: &CancellationToken,
) {
    for (name, source) in sources {
        let stop = stop.clone();
        parts.spawn(async move {
            source.run(stop).await.map_err(|source| AppError::Source { name, source: Box::new(source) })
        });
    }
}

fn outbox_columns(outbox: &config::Outbox) -> OutboxColumns {
    let config::Outbox { table: _, channel, subject, event, id, body } = outbox.clone();
    OutboxColumns { channel, subject, event, id, body }
}

/// The sources of a configuration that replicate, as they are told.
#[must_use]
pub fn source_configs(config: &Config) -> Vec<postgres::Config> {
    let folder = config.data.join("sources");
    let told = |(name, source): (&String, &config::Source)| postgres::Config {
        name: name.clone(),
        url: source.url.clone(),
        tables: source.tables.clone(),
        outbox: source.outbox.as_ref().map(|outbox| (outbox.table.clone(), outbox_columns(outbox))),
        slot: source.slot.clone(),
        publication: source.publication.clone(),
        snapshot: match source.snapshot {
            Snapshot::Initial => SnapshotMode::Initial,
            Snapshot::None => SnapshotMode::None,
        },
        gap: match source.on_gap {
            OnGap::Halt => Gap::Halt,
            OnGap::Resnapshot => Gap::Resnapshot,
        },
        folder: folder.clone(),
        spill_bytes_max: source.spill_bytes_max,
        messages: source.messages.clone(),
        heartbeat: source.heartbeat,
    };
    config.sources.iter().map(told).collect()
}

/// The sources of a configuration that poll, as they are told.
#[must_use]
pub fn polling_configs(config: &Config) -> Vec<PollingConfig> {
    let told = |(name, source): (&String, &config::Polling)| PollingConfig {
        name: name.clone(),
        url: source.url.clone(),
        table: source.outbox.table.clone(),
        columns: outbox_columns(&source.outbox),
        status: source.status.clone(),
        pending: source.pending.clone(),
        published: source.published.clone(),
        interval: source.interval,
        folder: config.data.join("sources"),
    };
    config.polling.iter().map(told).collect()
}

/// The sources of a configuration that listen, as they are told.
#[must_use]
pub fn notify_configs(config: &Config) -> Vec<NotifyConfig> {
    let told = |(name, config::Notify { url, channels }): (&String, &config::Notify)| NotifyConfig {
        name: name.clone(),
        url: url.clone(),
        channels: channels.clone(),
    };
    config.notify.iter().map(told).collect()
}
