//! A permit: what somebody was granted, watched over for as long as a stream lives on it.
//!
//! In: time, other keys, another gate. Out: the refusal that ends the stream, if one does.
//!
//! Invariants:
//! - a permit outlives neither its token nor that token's key;
//! - what a gate granted is asked for again when the gate's own time is past, or another gate stands there; until it
//!   has answered the old answer counts, for at most `GATE_TIME_MAX`.

use std::time::{Duration, SystemTime};

use tokio::sync::watch;

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
    changes: watch::Receiver<()>,
}

/// What the permit is made of.
pub(super) struct Parts {
    pub(super) visitor: Visitor,
    pub(super) rights: Vec<Rights>,
    pub(super) by_gate: Vec<(Wanted, usize)>,
    pub(super) changes: watch::Receiver<()>,
}

impl Permit {
    /// Asks the gate for what only it can grant.
    pub(super) async fn new(access: Access, parts: Parts) -> Result<Self, Refusal> {
        let Parts { visitor, rights, by_gate, changes } = parts;
        let mut permit = Self {
            access,
            visitor,
            rights: rights.into(),
            by_gate: by_gate.into(),
            gate_number: 0,
            gate_until: None,
            changes,
        };
        if !permit.by_gate.is_empty() {
            permit.ask_gate().await?;
        }
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

    /// When it may end, or has to be asked for again, as far as that is known.
    #[must_use]
    pub fn until(&self) -> Option<SystemTime> {
        self.visitor.identity.until().into_iter().chain(self.gate_until).min()
    }

    /// Waits until it has ended, and says why. Cancelling loses nothing.
    pub async fn ended(&mut self) -> Refusal {
        loop {
            let changed = async {
                if self.changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            match remaining(self.visitor.identity.until(), self.gate_until) {
                Some(time) => drop(tokio::time::timeout(time, changed).await),
                None => changed.await,
            }
            if let Err(refusal) = self.renew().await {
                self.access.count(&refusal);
                return refusal;
            }
        }
    }

    async fn renew(&mut self) -> Result<(), Refusal> {
        self.access.check_known(&self.visitor.identity)?;
        let now = SystemTime::now();
        let is_due = self.gate_until.is_some_and(|until| until <= now)
            || self.gate_number != self.access.gate_number();
        if !self.by_gate.is_empty() && is_due {
            self.ask_gate().await?;
        }
        Ok(())
    }

    async fn ask_gate(&mut self) -> Result<(), Refusal> {
        let wanted: Vec<_> = self.by_gate.iter().map(|(wanted, _)| wanted.clone()).collect();
        let admitted = self.access.ask_gate(&self.visitor, &wanted).await?;
        for ((_, place), rights) in self.by_gate.iter().zip(admitted.rights) {
            self.rights[*place] = rights;
        }
        self.gate_number = admitted.number;
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
