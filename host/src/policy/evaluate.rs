//! The judgment: changes in, routes out, and what hurts is found and set aside.
//!
//! A batch that fails is tried once more in a fresh instance, then halved until the change that hurts is alone; that
//! one is rejected on behalf of its plugin. Everything else stands.
//!
//! Invariant: routes are ordered by change, then plugin, then as the plugin gave them. The same changes, plugins and
//! settings give the same evaluation. Whatever plugins do, an evaluation ends and is no error.

use std::sync::Arc;

use super::activation::Activation;
use super::answer::{self, Asked, Directed};
use super::batch::{Batch, Filled, Member};
use super::digest::Digest;
use super::error::{Cause, Fault};
use super::plugin::Plugin;
use crate::event::Change;

/// What all plugins answered to some changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Evaluation {
    /// By change, then plugin, then in the plugin's order.
    pub routes: Vec<Directed>,
    /// By change, then plugin.
    pub rejected: Vec<Rejection>,
    /// How many calls failed, also those that a second try mended.
    pub faults_count: usize,
}

/// A change that one plugin does not handle: a dead letter of that plugin.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The index of the change in what was evaluated.
    pub change: usize,
    /// The index of the plugin in [`Policy::plugins`](super::Policy::plugins).
    pub plugin: usize,
    /// The plugin's name.
    pub name: Arc<str>,
    /// Which component it was.
    pub digest: Digest,
    /// Why.
    pub cause: Cause,
}

/// One plugin's turn.
pub(super) struct Turn<'a> {
    pub(super) changes: &'a [Change],
    pub(super) plugin: &'a mut Plugin,
    /// The plugin's index.
    pub(super) index: usize,
    pub(super) batch: &'a mut Batch,
    pub(super) evaluation: &'a mut Evaluation,
}

impl Turn<'_> {
    /// Hands over all members, in as many calls as it takes.
    pub(super) fn take(&mut self, mut members: &[Member]) {
        while !members.is_empty() {
            match self.batch.fill(self.changes, members, &self.plugin.matches) {
                Filled::TooLarge(bytes) => {
                    self.reject(members[0], Cause::Fault(Fault::ChangeTooLarge(bytes)));
                    members = &members[1..];
                }
                Filled::Changes(count) => {
                    let (now, later) = members.split_at(count);
                    if self.attempt(now).is_err() {
                        match self.attempt(now) {
                            Ok(()) => {}
                            Err(fault) => self.halve(now, fault),
                        }
                    }
                    members = later;
                }
            }
        }
    }

    /// Members that failed together, with the fault of the last try.
    fn halve(&mut self, members: &[Member], fault: Fault) {
        if members.len() == 1 || fault.is_of_instance() {
            for member in members {
                self.reject(*member, Cause::Fault(fault.clone()));
            }
            return;
        }
        let (first, second) = members.split_at(members.len() / 2);
        for half in [first, second] {
            // A part of what has fitted fits.
            self.batch.fill(self.changes, half, &self.plugin.matches);
            if let Err(fault) = self.attempt(half) {
                self.halve(half, fault);
            }
        }
    }

    /// Calls the plugin with the batch, which holds the members.
    fn attempt(&mut self, members: &[Member]) -> Result<(), Fault> {
        let asked = Asked { plugin: self.index, members };
        let answer = self.plugin.direct(self.batch).and_then(|outcome| {
            answer::read(&outcome, asked, &mut self.evaluation.routes).map_err(Fault::from)
        });
        let rejected = answer.inspect_err(|_| {
            self.plugin.drop_instance();
            self.evaluation.faults_count += 1;
        })?;
        for (at, reason) in rejected {
            self.reject(members[at as usize], Cause::Rejected(reason));
        }
        Ok(())
    }

    fn reject(&mut self, member: Member, cause: Cause) {
        let Activation { plugin: name, digest, .. } = self.plugin.activation();
        let (name, digest) = (name.clone(), *digest);
        let Member { change, .. } = member;
        self.evaluation.rejected.push(Rejection { change, plugin: self.index, name, digest, cause });
    }
}
