//! The keys that count now, and where they come from.
//!
//! In: keys of the configuration; a JWKS, of a file or an address, which is read again from time to time and when a
//! token names a key that is not there. Out: the keys that a token may be signed with.
//!
//! Invariants:
//! - unknown keys make the source be read at most once in `TOKEN_KEYS_READ_INTERVAL_MIN`, however many tokens name
//!   them, and by one request at a time;
//! - a source that cannot be read leaves the keys as they were.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Mutex as TurnMutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::doubts::Common;
use super::fetch::Fetcher;
use super::key::{Algorithm, Key, KeyMark, Secrets, read_set};
use super::refusal::{Flaw, Refusal};
use crate::limits::{TOKEN_KEYS_BYTES_MAX, TOKEN_KEYS_READ_INTERVAL, TOKEN_KEYS_READ_INTERVAL_MIN};

/// Where keys are read that change.
#[derive(Debug)]
pub(super) enum Source {
    File(PathBuf),
    Address(Box<Fetcher>),
}

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Keyring {
    fixed: Vec<Arc<Key>>,
    source: Option<Source>,
    /// None until the source was read for the first time.
    read: Mutex<Option<Vec<Arc<Key>>>>,
    /// Held while the source is read: when that was tried last.
    tried: TurnMutex<Option<Instant>>,
    /// Raised when other keys count.
    doubts: Common,
}

impl Keyring {
    pub(super) fn new(fixed: Vec<Key>, source: Option<Source>, doubts: Common) -> Self {
        Self {
            doubts,
            fixed: fixed.into_iter().map(Arc::new).collect(),
            source,
            read: Mutex::new(None),
            tried: TurnMutex::new(None),
        }
    }

    /// Whether anybody can be known.
    pub(super) fn is_empty(&self) -> bool {
        self.fixed.is_empty() && self.source.is_none()
    }

    fn all(&self) -> Vec<Arc<Key>> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        self.fixed.iter().chain(read.iter().flatten()).cloned().collect()
    }

    fn was_read(&self) -> bool {
        self.source.is_none() || self.read.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Whether a key still counts.
    pub(super) fn has(&self, mark: KeyMark) -> bool {
        self.all().iter().any(|key| key.marked() == mark)
    }

    /// The keys that a token of this header may be signed with, at least one.
    ///
    /// # Errors
    /// If there is none, or none can be had at the moment.
    pub(super) async fn find(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Vec<Arc<Key>>, Refusal> {
        let is_named = |key: &Key| id.is_none() || key.id.is_none() || key.id.as_deref() == id;
        let find = || {
            let named: Vec<_> = self.all().into_iter().filter(|key| is_named(key)).collect();
            let is_known = !named.is_empty();
            let found: Vec<_> = named.into_iter().filter(|key| key.algorithm() == algorithm).collect();
            (found, is_known)
        };
        let (mut found, mut is_known) = find();
        if !is_known && self.source.is_some() {
            let mut tried = self.tried.lock().await;
            // Another request may have read it while this one waited.
            if tried.is_none_or(|at| at.elapsed() >= TOKEN_KEYS_READ_INTERVAL_MIN) {
                *tried = Some(Instant::now());
                self.read().await;
            }
            drop(tried);
            (found, is_known) = find();
        }
        match (found.is_empty(), is_known) {
            (false, _) => Ok(found),
            (true, true) => Err(Flaw::Algorithm.into()),
            (true, false) if !self.was_read() => Err(Refusal::KeysUnavailable),
            (true, false) => Err(Flaw::Key.into()),
        }
    }

    /// Reads the source now and then, until stopped.
    pub(super) async fn run(&self, stop: &CancellationToken) {
        if self.source.is_none() {
            return stop.cancelled().await;
        }
        let mut rounds = tokio::time::interval(TOKEN_KEYS_READ_INTERVAL);
        while stop.run_until_cancelled(rounds.tick()).await.is_some() {
            let mut tried = self.tried.lock().await;
            *tried = Some(Instant::now());
            stop.run_until_cancelled(self.read()).await;
        }
    }

    async fn read(&self) {
        let read = match &self.source {
            None => return,
            Some(Source::File(path)) => read_file(path).await,
            Some(Source::Address(fetcher)) => fetcher
                .fetch()
                .await
                .and_then(|text| read_set(&text, Secrets::Refused))
                .map_err(|fault| format!("{}: {fault}", fetcher.address())),
        };
        match read {
            Ok(keys) => {
                let keys: Vec<_> = keys.into_iter().map(Arc::new).collect();
                let marks = |keys: &[Arc<Key>]| keys.iter().map(|key| key.marked()).collect::<Vec<_>>();
                let mut own = self.read.lock().unwrap_or_else(PoisonError::into_inner);
                let is_same = own.as_ref().is_some_and(|own| marks(own) == marks(&keys));
                *own = Some(keys);
                drop(own);
                if !is_same {
                    self.doubts.raise();
                }
            }
            Err(fault) => {
                tracing::warn!(fault, "cannot read the keys that verify tokens; those that are known go on");
            }
        }
    }
}

async fn read_file(path: &std::path::Path) -> Result<Vec<Key>, String> {
    let at_fault = |fault: String| format!("{}: {fault}", path.display());
    let length = tokio::fs::metadata(path).await.map_err(|error| at_fault(error.to_string()))?.len();
    if length > TOKEN_KEYS_BYTES_MAX as u64 {
        return Err(at_fault(format!("it has {length} bytes, at most {TOKEN_KEYS_BYTES_MAX} are read")));
    }
    let text = tokio::fs::read(path).await.map_err(|error| at_fault(error.to_string()))?;
    read_set(&text, Secrets::Taken).map_err(at_fault)
}
