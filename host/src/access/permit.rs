//! A permit: what somebody was granted, watched over for as long as a stream lives on it.
//!
//! In: time, other keys, another gate, edges. Out: the refusal that ends the stream, if one does; and at any moment a
//! [`Term`], from which others see whether it holds.
//!
//! Invariants:
//! - a permit outlives neither its token nor that token's key;
//! - what a gate granted is asked for again when the gate's own time is past, another gate stands there, or an edge from
//!   the subject to what the channel is of has come or gone. Until the gate has answered, for at most `GATE_TIME_MAX`, the
//!   permit neither holds nor has ended.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use super::doubts::Doubts;
use super::edges::Watch;
use super::identity::Visitor;
use super::refusal::Refusal;
use super::{Access, Rights, Wanted};
use crate::limits::{GATE_INTERVAL_MIN, PERMIT_LOOK_INTERVAL};

/// See the head of this file.
#[derive(Debug)]
pub struct Permit {
    access: Access,
    visitor: Visitor,
    /// For each thing that was asked for, in that order.
    rights: Box<[Rights]>,
    /// What the gate granted, and where its rights stand.
    by_gate: Box<[(Wanted, usize)]>,
    gate_number: u64,
    gate_until: Option<SystemTime>,
    /// Edges on which the gate's answer may depend, and how often they had turned when it was asked.
    edges: Option<Watch>,
    turns: u64,
    changes: watch::Receiver<()>,
    doubts: Arc<Doubts>,
    term: Arc<Term>,
}

/// What the permit is made of.
pub(super) struct Parts {
    pub(super) visitor: Visitor,
    pub(super) rights: Vec<Rights>,
    pub(super) by_gate: Vec<(Wanted, usize)>,
    pub(super) changes: watch::Receiver<()>,
    pub(super) doubts: Arc<Doubts>,
    /// How many doubts there were before anything was looked at.
    pub(super) settled: u64,
}

/// How a permit stands, while somebody else waits for its end.
#[derive(Debug)]
pub struct Term {
    /// In milliseconds since 1970.
    until: AtomicU64,
    settled: AtomicU64,
}

impl Term {
    /// When it may end, or has to be asked for again, in milliseconds since 1970; the greatest number if that is not
    /// known.
    #[must_use]
    pub fn until_millis(&self) -> u64 {
        self.until.load(Ordering::Relaxed)
    }

    /// How many of the stream's [`Doubts`] were looked at: with as many it holds. 0 while the gate is being asked.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.settled.load(Ordering::Relaxed)
    }
}

impl Permit {
    /// Asks the gate for what only it can grant.
    pub(super) async fn new(access: Access, parts: Parts) -> Result<Self, Refusal> {
        let Parts { visitor, rights, by_gate, changes, doubts, settled } = parts;
        let channels = by_gate.iter().filter_map(|(wanted, _)| wanted.as_channel());
        let edges = visitor.identity.subject().filter(|_| !by_gate.is_empty());
        let edges = edges.map(|subject| access.0.edges.watch(subject, channels, Arc::clone(&doubts)));
        let mut permit = Self {
            access,
            rights: rights.into(),
            by_gate: by_gate.into(),
            gate_number: 0,
            gate_until: None,
            edges,
            turns: 0,
            changes,
            doubts,
            term: Arc::new(Term { until: AtomicU64::new(u64::MAX), settled: AtomicU64::new(0) }),
            visitor,
        };
        if !permit.by_gate.is_empty() {
            permit.ask_gate().await?;
        }
        permit.settle(settled);
        Ok(permit)
    }

    /// What may be done with each thing that was asked for, in that order.
    #[must_use]
    pub fn rights(&self) -> &[Rights] {
        &self.rights
    }

    /// Who has it.
    #[must_use]
    pub fn visitor(&self) -> &Visitor {
        &self.visitor
    }

    /// Whether nothing can end it, so that nobody has to wait for that.
    #[must_use]
    pub fn is_for_ever(&self) -> bool {
        !self.visitor.identity.is_known() && self.by_gate.is_empty()
    }

    /// How it stands, now and later.
    #[must_use]
    pub fn term(&self) -> Arc<Term> {
        Arc::clone(&self.term)
    }

    /// Waits until it has ended, and says why. Cancelling loses nothing.
    pub async fn ended(&mut self) -> Refusal {
        loop {
            self.doubted().await;
            if let Err(refusal) = self.renew().await {
                self.access.count(&refusal);
                return refusal;
            }
        }
    }

    /// Waits until something has to be looked at.
    async fn doubted(&mut self) {
        let mut raised = pin!(self.doubts.raised());
        // From here on none is missed.
        raised.as_mut().enable();
        if self.doubts.count() != self.term.settled() {
            return;
        }
        let changed = async {
            tokio::select! {
                changed = self.changes.changed() => if changed.is_err() { std::future::pending::<()>().await },
                () = raised => {}
            }
        };
        match remaining(self.visitor.identity.until(), self.gate_until) {
            Some(time) => drop(tokio::time::timeout(time, changed).await),
            None => changed.await,
        }
    }

    async fn renew(&mut self) -> Result<(), Refusal> {
        let settled = self.doubts.count();
        self.access.check_known(&self.visitor.identity)?;
        let now = SystemTime::now();
        let is_due = self.gate_until.is_some_and(|until| until <= now)
            || self.gate_number != self.access.gate_number()
            || self.edges.as_ref().is_some_and(|edges| edges.turns() != self.turns);
        if !self.by_gate.is_empty() && is_due {
            self.term.settled.store(0, Ordering::Relaxed);
            self.ask_gate().await?;
        }
        self.settle(settled);
        Ok(())
    }

    /// Holds, as far as these doubts go.
    fn settle(&self, settled: u64) {
        let until = self.visitor.identity.until().into_iter().chain(self.gate_until).min();
        let millis = until.map_or(u64::MAX, |until| {
            let since = until.duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        });
        self.term.until.store(millis, Ordering::Relaxed);
        self.term.settled.store(settled, Ordering::Relaxed);
    }

    async fn ask_gate(&mut self) -> Result<(), Refusal> {
        let turns = self.edges.as_ref().map_or(0, Watch::turns);
        let wanted: Vec<_> = self.by_gate.iter().map(|(wanted, _)| wanted.clone()).collect();
        let admitted = self.access.ask_gate(&self.visitor, &wanted).await?;
        for ((_, place), rights) in self.by_gate.iter().zip(admitted.rights) {
            self.rights[*place] = rights;
        }
        (self.gate_number, self.turns) = (admitted.number, turns);
        // A gate whose time is past at once would be asked without end.
        self.gate_until = admitted.until.map(|until| until.max(SystemTime::now() + GATE_INTERVAL_MIN));
        Ok(())
    }
}

/// How long until the first of both. Clocks are set, so one looks again after a while.
fn remaining(token: Option<SystemTime>, gate: Option<SystemTime>) -> Option<Duration> {
    let first = token.into_iter().chain(gate).min()?;
    Some(first.duration_since(SystemTime::now()).unwrap_or_default().min(PERMIT_LOOK_INTERVAL))
}
