//! What activations cost the changes that come meanwhile: the whole way from the change log to the bus.
//!
//! A real pipeline with change log, bus and registry in a folder of its own. Changes come at a steady rate. In every
//! other window of time a plugin is activated with other settings, again and again without a pause: its component read,
//! loaded, configured, recorded, put in the other's place. A change's delay is from when it was due until its messages
//! are durable; a change counts as *during* if it was due in such a window.
//!
//! Windows, and not single activations with pauses, since a disk that hangs for some ten milliseconds would hold up
//! every activation that it meets, and so always count as an activation's doing.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use twohop::bus::Bus;
use twohop::bus::local::{self, LocalBus};
use twohop::deploy::{self, Deployer, Request};
use twohop::event::{Partition, Sequence, encode};
use twohop::limits::{
    BATCH_COUNT_MAX, HISTORY_AGE_MAX, HISTORY_COUNT_MAX, VALUES_BYTES_MAX, VALUES_COUNT_MAX,
};
use twohop::log::ChangeLog;
use twohop::log::segments::{self, Segments};
use twohop::pipeline::{self, Beside, Pipeline};
use twohop::policy::{Loader, Policy, Profile};
use twohop::registry::{PluginSet, Registry};
use twohop::state::State;

use crate::support::changes;
use crate::{Components, Figures};

const PARTITION: Partition = Partition(0);
/// Half of them with activations.
const WINDOWS_COUNT: u32 = 40;
const WINDOW: Duration = Duration::from_millis(500);
const BETWEEN_CHANGES: Duration = Duration::from_millis(1);
/// For what is under way at the end.
const CATCH_UP_MAX: Duration = Duration::from_secs(30);
/// Each way has to have so many changes: a percentile of few says nothing.
const SEEN_COUNT_MIN: usize = 5_000;

pub(crate) fn measure(components: &Components) -> anyhow::Result<Figures> {
    let home = tempfile::tempdir()?;
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let wasm = components.read("row-router")?;
    let seen = runtime.block_on(run(home.path(), components.loader.clone(), wasm))?;
    let [without, during] = seen.delays();
    for (what, delays) in [("during activations", &during), ("without", &without)] {
        ensure!(delays.len() >= SEEN_COUNT_MIN, "only {} changes {what}", delays.len());
    }
    let [during_p99, without_p99] = [&during, &without].map(|delays| p99(delays));
    println!(
        "delay, 99 of 100: {during_p99:.2} ms of {} changes during {} activations, {without_p99:.2} ms of {} without",
        during.len(),
        seen.activations_count,
        without.len(),
    );
    Ok(vec![
        ("swap_p99_ms".to_owned(), during_p99),
        ("steady_p99_ms".to_owned(), without_p99),
        ("swap_p99_extra_ms".to_owned(), during_p99 - without_p99),
    ])
}

/// What a run saw.
struct Seen {
    /// Of each change: when it was due, and when its effects were durable.
    changes: Vec<(Instant, Instant)>,
    /// When each window began; the second is the first with activations.
    windows: Vec<Instant>,
    activations_count: usize,
}

impl Seen {
    /// Of changes in windows without activations, and in those with them; sorted.
    fn delays(&self) -> [Vec<Duration>; 2] {
        let mut delays = [Vec::new(), Vec::new()];
        for (due, done) in &self.changes {
            let windows_begun = self.windows.partition_point(|start| start <= due);
            if let Some(window) = windows_begun.checked_sub(1) {
                delays[window % 2].push(*done - *due);
            }
        }
        delays.iter_mut().for_each(|delays| delays.sort_unstable());
        delays
    }
}

/// By the nearest rank, in milliseconds.
fn p99(sorted: &[Duration]) -> f64 {
    sorted[(sorted.len() * 99).div_ceil(100) - 1].as_secs_f64() * 1e3
}

async fn run(home: &Path, loader: Arc<Loader>, wasm: Vec<u8>) -> anyhow::Result<Seen> {
    let state = State::open(home)?;
    let registry = Registry::open(state.clone(), home).await?;
    let history = local::Config {
        count_max: HISTORY_COUNT_MAX,
        age_max: HISTORY_AGE_MAX,
        values_count_max: VALUES_COUNT_MAX,
        values_bytes_max: VALUES_BYTES_MAX,
    };
    let bus: Arc<dyn Bus> = Arc::new(LocalBus::open(state, history).await?);
    let log: Arc<dyn ChangeLog> = Arc::new(Segments::open(segments::Config::new(home.join("log")))?);
    let (beside, judged) = Beside::new();
    let neighbours = pipeline::Neighbours {
        timelines: None,
        cache: None,
        log: log.clone(),
        bus: bus.clone(),
        registry: registry.clone(),
        loader: loader.clone(),
        beside: beside.clone(),
        metrics: Arc::default(),
    };
    let (pipeline, orders) = Pipeline::new(PARTITION, neighbours, Policy::default(), PluginSet::default())?;
    let neighbours =
        deploy::Neighbours { registry, loader, log: log.clone(), partition: PARTITION, orders, beside };
    // Nothing is compared, so the mirror need not run.
    let (deployer, _mirror) = Deployer::new(neighbours, judged);

    let stop = CancellationToken::new();
    let (runtime, ended) = (Handle::current(), stop.clone());
    let running = tokio::task::spawn_blocking(move || pipeline.run(&runtime, &ended));
    let digest = deployer.upload("bench", wasm.into(), Profile::Small).await?.digest;
    // Both route alike; the second knows a table more.
    let request = |nth: usize| {
        let tables = ["orders", "orders,customers"][nth % 2];
        let settings = [("tables".to_owned(), tables.to_owned())].into();
        Request { settings, ..Request::new("row-router", digest) }
    };
    deployer.activate("bench", request(0)).await?;

    let (total, known) = watch::channel(usize::MAX);
    let fed = CancellationToken::new();
    let feeding = tokio::spawn(feed(log, fed.clone()));
    let following = tokio::spawn(follow(bus.head(), known));
    let mut windows = Vec::new();
    let mut activations_count = 0;
    for window in 0..WINDOWS_COUNT {
        let start = Instant::now();
        windows.push(start);
        if window % 2 == 0 {
            tokio::time::sleep(WINDOW).await;
            continue;
        }
        while start.elapsed() < WINDOW {
            activations_count += 1;
            deployer.activate("bench", request(activations_count)).await?;
        }
    }
    fed.cancel();
    let due = feeding.await??;
    total.send(due.len())?;
    let done = timeout(CATCH_UP_MAX, following).await.context("changes are missing")???;
    stop.cancel();
    running.await??;
    Ok(Seen { changes: due.into_iter().zip(done).collect(), windows, activations_count })
}

/// Appends changes at a steady rate, those that are due together as one, until told to end; gives when each was due.
async fn feed(log: Arc<dyn ChangeLog>, end: CancellationToken) -> anyhow::Result<Vec<Instant>> {
    let records: Vec<_> = changes(BATCH_COUNT_MAX).iter().map(encode).collect();
    let start = Instant::now();
    let mut due: Vec<Instant> = Vec::new();
    while !end.is_cancelled() {
        let next = due.last().map_or(start, |last| *last + BETWEEN_CHANGES);
        tokio::time::sleep_until(next.into()).await;
        let first = due.len();
        due.extend(
            std::iter::successors(Some(next), |before| Some(*before + BETWEEN_CHANGES))
                .take_while(|due| *due <= Instant::now()),
        );
        let batch = (first..due.len()).map(|nth| records[nth % records.len()].clone()).collect();
        log.append(PARTITION, batch).await?;
    }
    Ok(due)
}

/// Gives when the effects of each change were durable, as soon as it has seen as many changes as there are.
async fn follow(
    mut head: watch::Receiver<Sequence>,
    mut total: watch::Receiver<usize>,
) -> anyhow::Result<Vec<Instant>> {
    let mut done = Vec::new();
    loop {
        let messages = usize::try_from(head.borrow_and_update().0)?;
        done.resize(messages / 2, Instant::now());
        if done.len() >= *total.borrow_and_update() {
            return Ok(done);
        }
        tokio::select! {
            changed = head.changed() => changed.context("the bus has ended")?,
            changed = total.changed() => changed.context("the feeding has ended")?,
        }
    }
}
