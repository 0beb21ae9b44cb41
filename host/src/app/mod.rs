//! The composition: makes the rooms, introduces them, and ends them.
//!
//! In: a [`Config`]. Out: a running server, until it is told to stop or a part of it cannot go on.
//!
//! Invariant: a start that fails leaves nothing that would hinder the next one; what can fail without touching the
//! database (plugins, data folder, port) comes first. Every task ends before [`serve`] returns.

mod public;
mod sources;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use public::{gateway_config, make_access};
pub use sources::{notify_configs, polling_configs, source_configs};
use sources::{prepare_sources, run_sources, ways_to_sources};

use crate::access::{Access, SettingsError};
use crate::admin::{self, Admin, Readiness, Token, TokenError};
use crate::bus::local::{self, LocalBus};
use crate::bus::{Bus, BusError};
use crate::cache::{self, Cache, CacheError};
use crate::config::{self, Config};
use crate::deploy::{self, DeployError, Deployer, FilePlugin, GateError, Gates, Mirror, Request, StartError};
use crate::event::Partition;
use crate::gateway::{self, Gateway};
use crate::http::{ListenError, PrefixError};
use crate::intake::{Desk, Intake};
use crate::letters::DeadLetters;
use crate::limits::{HISTORY_SWEEP_INTERVAL, SHUTDOWN_TIME_MAX};
use crate::log::segments::{self, Segments};
use crate::log::{ChangeLog, LogError};
use crate::pipeline::{self, Beside, Pipeline, PipelineError};
use crate::policy::{
    self, Digest, Gate, Grants, Loader, OnFault, Pattern, PatternError, PluginError, PolicyError, Profile,
};
use crate::registry::{Registry, RegistryError};
use crate::shutdown::Signals;
use crate::source::postgres::SourceError;
use crate::state::{self, State, StateError};
use crate::telemetry::Metrics;
use crate::timeline::{TimelineError, Timelines, embedded};

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
    /// What it may touch makes no sense.
    #[error("plugin.{name}.grants: {problem}")]
    Grant {
        /// Its name in the configuration.
        name: String,
        /// What is wrong.
        problem: PatternError,
    },
    /// What is active, or is to be, cannot be.
    #[error(transparent)]
    Start(#[from] StartError),
    /// What was deployed before is.
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// The registry is.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The embedded database is.
    #[error(transparent)]
    State(#[from] StateError),
    /// The history is.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The store of timelines is.
    #[error(transparent)]
    Timelines(#[from] TimelineError),
    /// The cache is.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The change log is.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A listener is.
    #[error(transparent)]
    Listen(#[from] ListenError),
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
    /// Who may listen makes no sense.
    #[error(transparent)]
    Access(#[from] SettingsError),
    /// A proxy is.
    #[error("gateway.proxies.trusted: {0}")]
    Proxies(PrefixError),
    /// Of which channels it is told who is there makes no sense.
    #[error("presence.channels: {0}")]
    Presence(String),
    /// The token of the admin listener is.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A listener ended although nobody told it to.
    #[error("the {0} listener ended: the lines above say why")]
    ListenerEnded(&'static str),
    /// A part of the program broke one of its own invariants.
    #[error("a part of the program failed: {0}")]
    Panic(#[from] tokio::task::JoinError),
    /// Signals cannot be handled.
    #[error("cannot wait for the signal to stop")]
    Signal(#[source] std::io::Error),
}

/// The one partition of the embedded change log.
const PARTITION: Partition = Partition(0);

/// Where the listeners are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// For clients.
    pub clients: SocketAddr,
    /// Whether these need TLS.
    pub is_encrypted: bool,
    /// For operators.
    pub admin: SocketAddr,
}

/// Runs until stopped. `program` is this program's own file, which compiles plugins in a process of its own;
/// `ready` is called once clients can connect and changes flow.
///
/// # Errors
/// If it cannot start, or a part of it cannot go on.
pub async fn serve(config: Config, program: PathBuf, ready: impl FnOnce(Addresses)) -> Result<(), AppError> {
    if config.sources.is_empty() && config.polling.is_empty() && config.notify.is_empty() {
        return Err(AppError::Incomplete("no source is configured"));
    }
    let (is_encrypted, grace) = (config.gateway.tls.is_some(), config.gateway.grace);
    let mut signals = Signals::new().map_err(AppError::Signal)?;
    make_folder(&config.data)?;
    let file = read_plugins(&config)?;
    let metrics = Arc::<Metrics>::default();
    let cache = open_cache(&config, &metrics).await?;
    let loader = make_loader(&config, &program)?;
    let lines = loader.lines();
    let stores = open_stores(&config, &metrics).await?;
    let access = make_access(&config, &stores.timelines, metrics.clone())?;
    let Policies { pipeline, mirror, deployer } =
        make_policies(&stores, cache.clone(), loader, metrics.clone(), file).await?;
    let Stores { log, bus, timelines, .. } = stores;
    let stop = CancellationToken::new();
    let _stop_on_error = stop.clone().drop_guard();
    let mut parts: JoinSet<Result<(), AppError>> = JoinSet::new();
    follow_gates(&access, &deployer, &mut parts, &stop).await;
    parts.spawn(watch_cache(cache, stop.clone()));
    let intake = open_intake(&log, &mut parts, &stop).await?;
    let neighbours = gateway::Neighbours { bus: bus.clone(), timelines: Some(timelines), access, intake };
    let gateway = Gateway::start(gateway_config(&config, metrics.clone())?, neighbours, stop.clone()).await?;
    let readiness = Readiness::default();
    let (asking, asked) = ways_to_sources(&config);
    let admin_parts = admin::Parts {
        lines,
        sources: asking,
        deployer: deployer.clone(),
        letters: DeadLetters::new(bus.clone(), log.clone()),
        log: log.clone(),
        bus: bus.clone(),
        partition: PARTITION,
        readiness: readiness.clone(),
        metrics: metrics.clone(),
    };
    let token = admin_token(&config)?;
    let admin = Admin::start(config.admin.listen, token, admin_parts, stop.clone()).await?;
    // Making a slot waits for every open transaction of the server, which may take long.
    let sources = tokio::select! {
        biased;
        () = signals.requested() => Ok(None),
        sources = prepare_sources(&config, &log, &metrics, asked) => sources.map(Some),
    };
    let sources = match sources {
        Ok(Some(sources)) => sources,
        // Clients are connected already.
        early_end => {
            stop.cancel();
            gateway.stopped().await;
            admin.stopped().await;
            return early_end.map(drop);
        }
    };

    run_sources(sources, &mut parts, &stop);
    let (runtime, pipeline_stop) = (Handle::current(), stop.clone());
    parts.spawn_blocking(move || Ok(pipeline.run(&runtime, &pipeline_stop)?));
    let (runtime, mirror_stop) = (Handle::current(), stop.clone());
    parts.spawn_blocking(move || {
        mirror.run(&runtime, &mirror_stop);
        Ok(())
    });
    deployer.resume_shadows().await?;
    parts.spawn(sweep(bus, stop.clone()));
    readiness.set();
    ready(Addresses { clients: gateway.address(), is_encrypted, admin: admin.address() });
    parts.spawn(listener("public", gateway.stopped(), stop.clone()));
    parts.spawn(listener("admin", admin.stopped(), stop.clone()));

    until_stopped(parts, signals, &stop, grace + SHUTDOWN_TIME_MAX).await
}

/// What makes plugins of components, with a folder for what was compiled.
fn make_loader(config: &Config, program: &Path) -> Result<Arc<Loader>, AppError> {
    let compiled = config.data.join("plugins").join("cache");
    Ok(Arc::new(Loader::new(policy::Engine::new()?, &compiled, program)?))
}

/// Waits for the order to stop, or for a part that cannot go on; then ends all of them.
async fn until_stopped(
    mut parts: JoinSet<Result<(), AppError>>,
    mut signals: Signals,
    stop: &CancellationToken,
    time_max: Duration,
) -> Result<(), AppError> {
    let end = tokio::select! {
        () = signals.requested() => Ok(()),
        // A part that ends by itself has failed, or panicked.
        Some(end) = parts.join_next() => end.map_err(AppError::from).flatten(),
    };
    info!("stopping");
    stop.cancel();
    let rest = async {
        while let Some(end) = parts.join_next().await {
            if let Err(failed) = end.map_err(AppError::from).flatten() {
                error!(error = &failed as &dyn std::error::Error, "failed while stopping");
            }
        }
    };
    if tokio::time::timeout(time_max, rest).await.is_err() {
        warn!("stopped without waiting any longer; nothing is lost");
    }
    end
}

fn make_folder(path: &Path) -> Result<(), AppError> {
    state::make_folder(path).map_err(|source| AppError::Data { path: path.to_owned(), source })
}

/// Waits for the end of a listener, which must not come before the order to stop.
async fn listener(
    name: &'static str,
    ended: impl Future<Output = ()>,
    stop: CancellationToken,
) -> Result<(), AppError> {
    ended.await;
    if stop.is_cancelled() { Ok(()) } else { Err(AppError::ListenerEnded(name)) }
}

fn put_gate(access: &Access, gate: Result<Option<Gate>, GateError>) {
    if let Err(error) = &gate {
        warn!(error = error as &dyn std::error::Error, "the gate cannot be asked: it denies");
    }
    access.put_gate(gate);
}

/// Puts the active gate where it is asked, before anybody can ask, and from then on each one after it.
async fn follow_gates(
    access: &Access,
    deployer: &Deployer,
    parts: &mut JoinSet<Result<(), AppError>>,
    stop: &CancellationToken,
) {
    let mut gates = deployer.gates();
    put_gate(access, gates.next().await);
    parts.spawn(keep_access(access.clone(), gates, stop.clone()));
}

/// Takes what clients say, from now until stopped.
async fn open_intake(
    log: &Arc<dyn ChangeLog>,
    parts: &mut JoinSet<Result<(), AppError>>,
    stop: &CancellationToken,
) -> Result<Intake, LogError> {
    let (intake, desk) = Desk::open(log.clone(), PARTITION).await?;
    // It ends by the order to stop alone: one that ended with the gateway would hide why that did.
    let (held, stop) = (intake.clone(), stop.clone());
    parts.spawn(async move {
        let _held = held;
        desk.run(stop).await;
        Ok(())
    });
    Ok(intake)
}

/// Keeps what decides who may listen current, until stopped: its keys, and the gate that it asks.
async fn keep_access(access: Access, mut gates: Gates, stop: CancellationToken) -> Result<(), AppError> {
    let gates = async {
        while let Some(gate) = stop.run_until_cancelled(gates.next()).await {
            put_gate(&access, gate);
        }
    };
    tokio::join!(gates, access.run(stop.clone()));
    Ok(())
}

fn admin_token(config: &Config) -> Result<Token, TokenError> {
    match &config.admin.token {
        Some(config::Secret(token)) => Token::new(token),
        None => Token::of_folder(&config.data),
    }
}

/// The plugins that the configuration file names.
fn read_plugins(config: &Config) -> Result<Vec<FilePlugin>, AppError> {
    let read = |(name, plugin): (&String, &config::Plugin)| {
        let at_fault = |problem| AppError::Plugin { name: name.clone(), path: plugin.file.clone(), problem };
        let profile = match plugin.profile {
            config::Profile::Small => Profile::Small,
            config::Profile::Large => Profile::Large,
        };
        let wasm = policy::read_component(&plugin.file, profile).map_err(at_fault)?;
        let config::Grants { channels, audience, topics, cache } = &plugin.grants;
        let patterns = |texts: &[String]| {
            let parsed = texts.iter().map(|text| text.parse()).collect::<Result<Vec<Pattern>, _>>();
            parsed.map_err(|problem| AppError::Grant { name: name.clone(), problem })
        };
        let request = Request {
            profile,
            order: plugin.order,
            settings: plugin.settings.clone(),
            grants: Grants {
                channels: patterns(channels)?,
                audience: *audience,
                topics: patterns(topics)?,
                cache: patterns(cache)?,
            },
            on_fault: match plugin.on_fault {
                config::OnFault::SetAside => OnFault::SetAside,
                config::OnFault::Pause => OnFault::Pause,
            },
            ..Request::new(name, Digest::of(&wasm))
        };
        Ok(FilePlugin { request, wasm: wasm.into() })
    };
    config.plugins.iter().map(read).collect()
}

#[derive(Clone)]
struct Stores {
    log: Arc<dyn ChangeLog>,
    bus: Arc<LocalBus>,
    timelines: Timelines,
    registry: Registry,
}

/// What judges, what does once more for candidates, and what tells both.
struct Policies {
    pipeline: Pipeline,
    mirror: Mirror,
    deployer: Deployer,
}

async fn make_policies(
    stores: &Stores,
    cache: Option<Cache>,
    loader: Arc<Loader>,
    metrics: Arc<Metrics>,
    file: Vec<FilePlugin>,
) -> Result<Policies, AppError> {
    let Stores { log, bus, timelines, registry } = stores.clone();
    let partition = PARTITION;
    let (policy, set) = deploy::start(&registry, &loader, partition, bus.committed(partition), file).await?;
    if policy.plugins().is_empty() {
        warn!("no plugin is active: changes go nowhere until one is");
    }
    let (beside, judged) = Beside::new();
    let neighbours = pipeline::Neighbours {
        log: log.clone(),
        bus,
        timelines: Some(timelines),
        cache,
        registry: registry.clone(),
        loader: loader.clone(),
        beside: beside.clone(),
        metrics,
    };
    let (pipeline, orders) = Pipeline::new(partition, neighbours, policy, set)?;
    let neighbours = deploy::Neighbours { registry, loader, log, partition, orders, beside };
    let (deployer, mirror) = Deployer::new(neighbours, judged);
    Ok(Policies { pipeline, mirror, deployer })
}

async fn open_stores(config: &Config, metrics: &Metrics) -> Result<Stores, AppError> {
    let folder = config.data.clone();
    let state = tokio::task::spawn_blocking(move || State::open(&folder)).await??;
    let config::History { count_max, age_max, values_count_max, values_bytes_max } = config.history;
    let history = local::Config { count_max, age_max, values_count_max, values_bytes_max };
    let registry = Registry::open(state.clone(), &config.data).await?;
    let config::Timeline { bytes_max, push_followers_max } = config.timeline;
    let limits = embedded::Config::new(bytes_max, push_followers_max);
    let timelines = Timelines::open_counted(state.clone(), limits, metrics.timelines.clone()).await?;
    let bus =
        LocalBus::open_counted(state, history, metrics.history.clone()).await?.with_feeds(timelines.along());
    let segments = segments::Config {
        bytes_max: config.log.bytes_max,
        age_max: config.log.age_max,
        ..segments::Config::new(config.data.join("log"))
    };
    let log = tokio::task::spawn_blocking(move || Segments::open(segments)).await??;
    Ok(Stores { log: Arc::new(log), bus: Arc::new(bus), timelines, registry })
}

async fn open_cache(config: &Config, metrics: &Arc<Metrics>) -> Result<Option<Cache>, CacheError> {
    let Some(config::Cache { url, prefix, hold, index }) = config.cache.clone() else {
        let granted = config.plugins.iter().filter(|(_, plugin)| !plugin.grants.cache.is_empty());
        for (plugin, _) in granted {
            warn!(
                plugin,
                "may delete keys of the cache, but `[cache]` names no Redis: docs/cache.md has an example"
            );
        }
        return Ok(None);
    };
    let config = cache::Config { url, prefix, hold, has_index: index };
    Cache::open(config, metrics.clone()).await.map(Some)
}

/// Knows whether keys can be deleted, until stopped.
async fn watch_cache(cache: Option<Cache>, stop: CancellationToken) -> Result<(), AppError> {
    match cache {
        Some(cache) => cache.watch(stop).await,
        None => stop.cancelled().await,
    }
    Ok(())
}

/// Lets the history go that is past its bounds, until stopped. What fails, fails for now only: the next round does
/// its work.
async fn sweep(bus: Arc<LocalBus>, stop: CancellationToken) -> Result<(), AppError> {
    let mut rounds = tokio::time::interval(HISTORY_SWEEP_INTERVAL);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(rounds.tick()).await.is_some() {
        if let Err(error) = bus.sweep().await {
            warn!(error = &error as &dyn std::error::Error, "the history keeps more than it should");
        }
    }
    Ok(())
}
