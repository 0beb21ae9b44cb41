//! The cache of an application, from which what has become stale is deleted.
//!
//! In: keys and prefixes that a batch of changes makes stale. Out: commands to a Redis that the application fills.
//!
//! Beside each deleted key stands a version key, whose value [`HELD`] forbids to fill the key until it expires. Whoever
//! fills takes a lease there first (`examples/cache/read.lua`), which a deletion replaces and which no later one equals,
//! and fills only if the lease still stands (`examples/cache/fill.lua`). So what was read before the deletion, or so
//! soon after it that the database may not have shown the change yet, is never filled in.
//!
//! Invariants:
//! - [`Cache::delete`] returns once Redis has acknowledged everything, however long that takes, or at the order to stop;
//! - a version key is held before its key is deleted: between the two, nobody can fill;
//! - to delete again is harmless: the pipeline does, after a crash before its batch is applied;
//! - no key is searched for: those with a prefix are in an index that the fillers keep.
//!
//! Absent on purpose: reading or filling, Redis Cluster and Sentinel, waiting for replicas (docs/cache.md says what that
//! means).

mod error;
mod redis;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

pub use error::CacheError;

use self::redis::{Commands, Server};
use crate::backoff::Backoff;
use crate::event::Stale;
use crate::limits::{CACHE_COMMANDS_MAX, CACHE_TRY_INTERVAL};
use crate::telemetry::Metrics;

/// What a version key's name has before the name of its key.
pub const VERSION: &str = "twohop:version:";
/// What a version key holds while nobody may fill.
pub const HELD: &str = "!";
/// The sorted set of all keys that are filled or about to be, where there is an index.
pub const INDEX: &str = "twohop:index";
/// What is there while nobody may begin to fill a key of the index, since a prefix was deleted.
pub const INDEX_HELD: &str = "twohop:index:held";
/// What is written all the time, to see whether anything can be.
const TRIED: &str = "twohop:tried";

/// Which Redis, and how.
#[derive(Clone)]
pub struct Config {
    /// `redis://…` or `rediss://…`; may hold a password.
    pub url: String,
    /// What every key of the cache begins with, which the policy leaves out.
    pub prefix: String,
    /// How long nobody may fill a key after it was deleted.
    pub hold: Duration,
    /// Whether the fillers keep the index, so that prefixes can be deleted.
    pub has_index: bool,
}

impl std::fmt::Debug for Config {
    /// Without the URL: it may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { url: _, prefix, hold, has_index } = self;
        let mut shown = f.debug_struct("Config");
        shown
            .field("prefix", prefix)
            .field("hold", hold)
            .field("has_index", has_index)
            .finish_non_exhaustive()
    }
}

/// A cache. Clones share it.
#[derive(Clone)]
pub struct Cache(Arc<Inner>);

struct Inner {
    server: Server,
    config: Config,
    metrics: Arc<Metrics>,
}

/// Whether the keys are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// Redis has acknowledged that.
    All,
    /// It was told to stop before.
    Stopped,
}

impl Cache {
    /// Connects, and sees whether keys can be deleted there.
    ///
    /// # Errors
    /// What somebody has to mend. What may heal by itself, such as a server that is not there yet, is none: then
    /// deletions wait for it.
    pub async fn open(config: Config, metrics: Arc<Metrics>) -> Result<Self, CacheError> {
        let server = Server::new(&config.url)?;
        let cache = Self(Arc::new(Inner { server, config, metrics }));
        match cache.try_write().await {
            Err(error) if !error.heals() => Err(error),
            tried => {
                cache.note_tried(tried);
                Ok(cache)
            }
        }
    }

    /// Tries all the time whether something can be written, so that what is wrong is known before it matters; until
    /// stopped.
    pub async fn watch(&self, stop: CancellationToken) {
        let mut rounds = tokio::time::interval(CACHE_TRY_INTERVAL);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(rounds.tick()).await.is_some() {
            let Some(tried) = stop.run_until_cancelled(self.try_write()).await else { return };
            self.note_tried(tried);
        }
    }

    /// Deletes what is stale, in this order, and tries until it is done. Cancelling leaves it open what was deleted.
    pub async fn delete(&self, stale: &[Stale], stop: &CancellationToken) -> Deleted {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        for stale in stale {
            match stale {
                Stale::Key(key) => keys.push(self.full(key)),
                Stale::Prefix(prefix) => {
                    if self.delete_keys(&std::mem::take(&mut keys), stop).await == Deleted::Stopped
                        || self.delete_prefix(prefix, stop).await == Deleted::Stopped
                    {
                        return Deleted::Stopped;
                    }
                }
            }
        }
        self.delete_keys(&keys, stop).await
    }

    async fn delete_keys(&self, keys: &[Vec<u8>], stop: &CancellationToken) -> Deleted {
        for keys in keys.chunks(CACHE_COMMANDS_MAX / 2) {
            let mut commands = Commands::default();
            for key in keys {
                self.push_deletion(&mut commands, key);
            }
            if self.insist(stop, async || self.0.server.run(&commands).await).await.is_none() {
                return Deleted::Stopped;
            }
            self.count(keys.len());
        }
        Deleted::All
    }

    /// What the index has with the prefix. Nobody begins to fill meanwhile, so one pass is enough; a key that is in the
    /// cache is in the index, and so is one for which there is a lease.
    async fn delete_prefix(&self, prefix: &str, stop: &CancellationToken) -> Deleted {
        if !self.0.config.has_index {
            drop_unheard(
                &self.0.metrics,
                1,
                "a plugin deletes keys of the cache by a prefix, but `cache.index` is not set",
            );
            return Deleted::All;
        }
        let prefix = self.full(prefix);
        let mut hold = Commands::default();
        hold.hold(INDEX_HELD.as_bytes(), self.0.config.hold);
        if self.insist(stop, async || self.0.server.run(&hold).await).await.is_none() {
            return Deleted::Stopped;
        }
        let mut after = None;
        loop {
            let look =
                async || self.0.server.indexed(&prefix, after.as_deref(), CACHE_COMMANDS_MAX / 3).await;
            let Some(keys) = self.insist(stop, look).await else { return Deleted::Stopped };
            let Some(last) = keys.last() else { return Deleted::All };
            let mut commands = Commands::default();
            for key in &keys {
                self.push_deletion(&mut commands, key);
                commands.forget(key);
            }
            if self.insist(stop, async || self.0.server.run(&commands).await).await.is_none() {
                return Deleted::Stopped;
            }
            self.count(keys.len());
            after = Some(last.clone());
        }
    }

    /// The version key first: else who holds a lease could fill between the two.
    fn push_deletion(&self, commands: &mut Commands, key: &[u8]) {
        commands.hold(&[VERSION.as_bytes(), key].concat(), self.0.config.hold);
        commands.delete(key);
    }

    fn full(&self, key: &str) -> Vec<u8> {
        [self.0.config.prefix.as_bytes(), key.as_bytes()].concat()
    }

    fn count(&self, keys: usize) {
        self.0.metrics.cache.deletions.fetch_add(keys as u64, Ordering::Relaxed);
    }

    /// Tries until it succeeds; nothing at the order to stop.
    async fn insist<T>(
        &self,
        stop: &CancellationToken,
        attempt: impl AsyncFn() -> Result<T, CacheError>,
    ) -> Option<T> {
        let metrics = &self.0.metrics.cache;
        let mut backoff = Backoff::default();
        loop {
            match stop.run_until_cancelled(attempt()).await? {
                Ok(done) => {
                    if metrics.deleting.set(None).is_some() {
                        info!("the cache is invalidated again");
                    }
                    return Some(done);
                }
                Err(failed) => {
                    metrics.errors.add(failed.reason());
                    let said = failed.to_string();
                    if metrics.deleting.set(Some(said.clone())).as_ref() != Some(&said) {
                        let failed = &failed as &dyn std::error::Error;
                        error!(
                            error = failed,
                            "keys of the cache cannot be deleted: processing waits for it"
                        );
                    }
                }
            }
            stop.run_until_cancelled(backoff.wait()).await?;
        }
    }

    async fn try_write(&self) -> Result<(), CacheError> {
        let mut commands = Commands::default();
        commands.hold(TRIED.as_bytes(), 10 * CACHE_TRY_INTERVAL);
        self.0.server.run(&commands).await
    }

    fn note_tried(&self, tried: Result<(), CacheError>) {
        let metrics = &self.0.metrics.cache;
        match tried {
            Ok(()) => {
                if metrics.trying.set(None).is_some() {
                    info!("the Redis of the cache takes commands again");
                }
            }
            Err(failed) => {
                let said = failed.to_string();
                if metrics.trying.set(Some(said.clone())).as_ref() != Some(&said) {
                    let failed = &failed as &dyn std::error::Error;
                    warn!(
                        error = failed,
                        "the Redis of the cache takes no commands: what becomes stale will wait"
                    );
                }
            }
        }
    }
}

/// Counts what nobody can delete, and says so the first time.
pub fn drop_unheard(metrics: &Metrics, count: usize, why: &'static str) {
    if count > 0 && metrics.cache.dropped.fetch_add(count as u64, Ordering::Relaxed) == 0 {
        warn!("{why}: they stay as they are, and `twohop_cache_dropped_total` counts them");
    }
}
