//! The composition: makes the rooms, introduces them, and ends them.
//!
//! In: a [`Config`]. Out: a running server, until it is told to stop or a part of it cannot go on.
//!
//! Invariant: a start that fails leaves nothing that would hinder the next one; what can fail without touching the
//! database (plugins, data folder, port) comes first. Every task ends before [`serve`] returns.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::bus::BusError;
use crate::bus::local::{self, LocalBus};
use crate::config::{self, Config, Snapshot};
use crate::event::Partition;
use crate::gateway::{self, Gateway, GatewayError};
use crate::limits::{HISTORY_SWEEP_INTERVAL, SHUTDOWN_TIME_MAX};
use crate::log::segments::{self, Segments};
use crate::log::{ChangeLog, LogError};
use crate::pipeline::{Pipeline, PipelineError};
use crate::policy::{
    self, Activation, Digest, Grants, Loader, OnFault, PluginError, Policy, PolicyError, Profile,
};
use crate::shutdown;
use crate::source::postgres::{self, Postgres, SnapshotMode, SourceError};
use crate::state::{State, StateError};

/// Why the program cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// There is nothing to do.
    #[error("{0}: docs/configuration.md has an example")]
    Incomplete(&'static str),
    /// The data folder cannot be made.
    #[error(
        "cannot make the data folder {path}: make it, or set `data` to a folder that this user may write to"
    )]
    Data {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The plugins together are at fault.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// One plugin is.
    #[error("plugin `{name}` ({}): {problem}", path.display())]
    Plugin {
        /// Its name in the configuration.
        name: String,
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        problem: PluginError,
    },
    /// The embedded database is.
    #[error(transparent)]
    State(#[from] StateError),
    /// The history is.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The change log is.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The public listener is.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// A database is.
    #[error("source {name}")]
    Source {
        /// Its name in the configuration.
        name: String,
        /// What is wrong.
        #[source]
        source: Box<SourceError>,
    },
    /// The pipeline is.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The public listener ended although nobody told it to.
    #[error("the public listener ended: the lines above say why")]
    GatewayEnded,
    /// A part of the program broke one of its own invariants.
    #[error("a part of the program failed: {0}")]
    Panic(#[from] tokio::task::JoinError),
    /// Signals cannot be handled.
    #[error("cannot wait for the signal to stop")]
    Signal(#[source] std::io::Error),
}

/// Runs until stopped. `program` is this program's own file, which compiles plugins in a process of its own;
/// `ready` is called once clients can connect and changes flow.
///
/// # Errors
/// If it cannot start, or a part of it cannot go on.
pub async fn serve(config: Config, program: PathBuf, ready: impl FnOnce(SocketAddr)) -> Result<(), AppError> {
    if config.sources.is_empty() {
        return Err(AppError::Incomplete("no source is configured"));
    }
    if config.plugins.is_empty() {
        return Err(AppError::Incomplete("no plugin is configured, so no change would go anywhere"));
    }
    make_folder(&config.data)?;
    let policy = load_policy(&config, program).await?;
    let (log, bus) = open_stores(&config).await?;
    let stop = CancellationToken::new();
    let _stop_on_error = stop.clone().drop_guard();
    let pipeline = Pipeline::new(Partition(0), log.clone(), bus.clone(), policy)?;
    let gateway_config = gateway::Config {
        heartbeat_interval: config.gateway.heartbeat,
        ..gateway::Config::new(config.gateway.listen)
    };
    let gateway = Gateway::start(gateway_config, bus.clone(), stop.clone()).await?;
    // Making a slot waits for every open transaction of the server, which may take long.
    let sources = tokio::select! {
        sources = prepare_sources(&config, &log) => sources?,
        signal = shutdown::requested() => return signal.map_err(AppError::Signal),
    };

    let mut parts: JoinSet<Result<(), AppError>> = JoinSet::new();
    for (name, source) in sources {
        let stop = stop.clone();
        parts.spawn(async move {
            source.run(stop).await.map_err(|source| AppError::Source { name, source: Box::new(source) })
        });
    }
    let (runtime, pipeline_stop) = (Handle::current(), stop.clone());
    parts.spawn_blocking(move || Ok(pipeline.run(&runtime, &pipeline_stop)?));
    parts.spawn(sweep(bus, stop.clone()));
    ready(gateway.address());
    let gateway_stop = stop.clone();
    parts.spawn(async move {
        gateway.stopped().await;
        if gateway_stop.is_cancelled() { Ok(()) } else { Err(AppError::GatewayEnded) }
    });

    let end = tokio::select! {
        signal = shutdown::requested() => signal.map_err(AppError::Signal),
        // A part that ends by itself has failed, or panicked.
        Some(end) = parts.join_next() => end.map_err(AppError::from).flatten(),
    };
    info!("stopping");
    stop.cancel();
    let rest = async {
        while let Some(end) = parts.join_next().await {
            if let Err(failed) = end.map_err(AppError::from).flatten() {
                error!(error = %failed, "failed while stopping");
            }
        }
    };
    if tokio::time::timeout(SHUTDOWN_TIME_MAX * 2, rest).await.is_err() {
        warn!("stopped without waiting any longer; nothing is lost");
    }
    end
}

fn make_folder(path: &Path) -> Result<(), AppError> {
    std::fs::create_dir_all(path).map_err(|source| AppError::Data { path: path.to_owned(), source })
}

async fn load_policy(config: &Config, program: PathBuf) -> Result<Policy, AppError> {
    let cache = config.data.join("plugins").join("cache");
    let plugins = config.plugins.clone();
    let load = move || {
        let loader = Loader::new(policy::Engine::new()?, &cache, &program)?;
        let plugins = plugins.into_iter().map(|(name, plugin)| {
            let loaded = load_plugin(&loader, &name, &plugin);
            loaded.map_err(|problem| AppError::Plugin { name, path: plugin.file, problem })
        });
        Ok(Policy::new(plugins.collect::<Result<Vec<_>, AppError>>()?)?)
    };
    tokio::task::spawn_blocking(load).await?
}

fn load_plugin(loader: &Loader, name: &str, plugin: &config::Plugin) -> Result<policy::Plugin, PluginError> {
    let profile = match plugin.profile {
        config::Profile::Small => Profile::Small,
        config::Profile::Large => Profile::Large,
    };
    let wasm = policy::read_component(&plugin.file, profile)?;
    let activation = Activation {
        plugin: name.into(),
        generation: 1,
        digest: Digest::of(&wasm),
        order: 0,
        settings: plugin.settings.clone(),
        grants: Grants::default(),
        profile,
        on_fault: OnFault::default(),
    };
    loader.load(&wasm, activation)
}

async fn open_stores(config: &Config) -> Result<(Arc<dyn ChangeLog>, Arc<LocalBus>), AppError> {
    let folder = config.data.clone();
    let state = tokio::task::spawn_blocking(move || State::open(&folder)).await??;
    let history = local::Config { count_max: config.history.count_max, age_max: config.history.age_max };
    let bus = LocalBus::open(state, history).await?;
    let segments = segments::Config {
        bytes_max: config.log.bytes_max,
        age_max: config.log.age_max,
        ..segments::Config::new(config.data.join("log"))
    };
    let log = tokio::task::spawn_blocking(move || Segments::open(segments)).await??;
    Ok((Arc::new(log), Arc::new(bus)))
}

/// Lets the history go that is past its bounds, until stopped. What fails, fails for now only: the next round does
/// its work.
async fn sweep(bus: Arc<LocalBus>, stop: CancellationToken) -> Result<(), AppError> {
    let mut rounds = tokio::time::interval(HISTORY_SWEEP_INTERVAL);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(rounds.tick()).await.is_some() {
        if let Err(error) = bus.sweep().await {
            warn!(error = %error, "the history keeps more than it should");
        }
    }
    Ok(())
}

async fn prepare_sources(
    config: &Config,
    log: &Arc<dyn ChangeLog>,
) -> Result<Vec<(String, Postgres)>, AppError> {
    let mut sources = Vec::new();
    for (name, source) in &config.sources {
        let source = postgres::Config {
            name: name.clone(),
            url: source.url.clone(),
            tables: source.tables.clone(),
            slot: source.slot.clone(),
            publication: source.publication.clone(),
            snapshot: match source.snapshot {
                Snapshot::Initial => SnapshotMode::Initial,
                Snapshot::None => SnapshotMode::None,
            },
        };
        let prepared = Postgres::prepare(source, log.clone()).await;
        let prepared =
            prepared.map_err(|source| AppError::Source { name: name.clone(), source: Box::new(source) })?;
        sources.push((name.clone(), prepared));
    }
    Ok(sources)
}
