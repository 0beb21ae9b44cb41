//! Swaps: another plugin set, between two batches.
//!
//! Invariant: the record of a set is durable before it judges anything, and begins at the committed offset. So
//! whatever was judged under a set lies at or after its record and before the next one, also after a crash; a swap
//! at an offset where nothing was judged yet replaces the one before it.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::orders::{Order, OrderError, What};
use super::{Flow, Pipeline, PipelineError, prepare};
use crate::backoff::Backoff;
use crate::event::Offset;
use crate::failpoint::failpoint;
use crate::policy::{Activation, Plugin, PolicyError};
use crate::registry::{
    Action, HOST, Member, Note, PluginSet, RegistryError, SetRecord, Standing, Step, good_before,
};

/// Whether an order was carried out.
pub(super) enum Obeyed {
    Yes,
    No,
}

/// Why a plugin is not adopted; nothing has changed then.
#[derive(Debug, thiserror::Error)]
enum SwapError {
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl From<SwapError> for OrderError {
    fn from(error: SwapError) -> Self {
        match error {
            SwapError::Policy(error) => Self::Policy(error),
            SwapError::Registry(error) => Self::Registry(error),
        }
    }
}

impl Pipeline {
    /// Carries an order out, if that is possible, and answers it.
    pub(super) fn obey(&mut self, order: Order, runtime: &Handle) -> Obeyed {
        let Order { by, what, reply } = order;
        let done = match what {
            What::Put(plugin, action) => self.put(&by, *plugin, action, runtime),
            What::Remove(plugin) => self.take_out(&by, &plugin, runtime),
            What::Resume => self.resume(&by, runtime),
        };
        failpoint!("swap-before-answer");
        let obeyed = if done.is_ok() { Obeyed::Yes } else { Obeyed::No };
        // Who asked may have gone; it is done all the same.
        let _ = reply.send(done);
        obeyed
    }

    fn put(
        &mut self,
        by: &str,
        plugin: Plugin,
        action: Action,
        runtime: &Handle,
    ) -> Result<Offset, OrderError> {
        let activation = plugin.activation().clone();
        let step = Step {
            notes: vec![note(by, action, &activation)],
            generations: vec![(activation, by.to_owned())],
            ..Step::default()
        };
        Ok(self.adopt(plugin, step, runtime)?)
    }

    fn take_out(&mut self, by: &str, plugin: &Arc<str>, runtime: &Handle) -> Result<Offset, OrderError> {
        let member = self.set.member(plugin).ok_or(OrderError::NotActive)?;
        let mut note = Note::new(by, Action::Deactivated);
        note.plugin = Some(plugin.to_string());
        note.generation = Some(member.generation);
        let step = Step { notes: vec![note], ..Step::default() };
        let from = runtime.block_on(self.record(self.set.clone().without(plugin), step))?;
        self.policy.remove(plugin);
        self.faults.forget(plugin);
        Ok(from)
    }

    fn resume(&mut self, by: &str, runtime: &Handle) -> Result<Offset, OrderError> {
        let Flow::Paused { plugin, offset, fault } = self.ordered.flow.borrow().clone() else {
            return Err(OrderError::NotPaused);
        };
        let mut note = Note::new(by, Action::Resumed);
        note.plugin = Some(plugin.to_string());
        note.from = Some(offset);
        note.text = fault;
        runtime.block_on(self.registry.record(Step { notes: vec![note], ..Step::default() }))?;
        self.excused = Some(offset);
        Ok(offset)
    }

    /// The last good generation of a plugin that failed too often takes over; without one, nobody calls it any more.
    pub(super) fn quarantine(
        &mut self,
        plugin: &Arc<str>,
        runtime: &Handle,
        stop: &CancellationToken,
    ) -> Result<(), PipelineError> {
        let Some(failing) = self.set.member(plugin).cloned() else { return Ok(()) };
        let generations = runtime.block_on(self.registry.generations(plugin))?;
        let successor = good_before(&generations, failing.generation).into_iter().find_map(|good| {
            let number = good.activation.generation;
            prepare(&self.registry, &self.loader, good.activation.clone())
                .inspect_err(
                    |error| warn!(plugin = &**plugin, generation = number, %error, "cannot take over"),
                )
                .ok()
        });
        let adopted = successor.map(|good| {
            let step = quarantined(&failing, note(HOST, Action::Quarantined, good.activation()));
            self.adopt(good, step, runtime)
        });
        let done = match adopted {
            Some(Ok(from)) => Ok(from),
            Some(Err(SwapError::Registry(error))) => Err(error),
            Some(Err(SwapError::Policy(error))) => {
                warn!(plugin = &**plugin, %error, "cannot take over");
                self.silence(&failing, runtime)
            }
            None => self.silence(&failing, runtime),
        };
        let failing = failing.generation;
        match done {
            Ok(from) => {
                let now = self.set.member(plugin);
                error!(plugin = &**plugin, failing, ?now, from = from.0, "quarantined: it failed too often");
                Ok(())
            }
            Err(full) if full.is_disk_full() => {
                // The batch is judged again, and the plugin found to fail again.
                error!(error = %full, "processing stopped");
                runtime.block_on(stop.run_until_cancelled(Backoff::default().wait()));
                Ok(())
            }
            Err(other) => Err(other.into()),
        }
    }

    fn silence(&mut self, failing: &Member, runtime: &Handle) -> Result<Offset, RegistryError> {
        let mut note = Note::new(HOST, Action::Quarantined);
        note.plugin = Some(failing.plugin.to_string());
        note.generation = Some(failing.generation);
        let member = Member { standing: Standing::Quarantined, ..failing.clone() };
        let step = quarantined(failing, note);
        let from = runtime.block_on(self.record(self.set.clone().with(member), step))?;
        self.policy.quarantine(&failing.plugin);
        self.faults.forget(&failing.plugin);
        Ok(from)
    }

    /// Lets a plugin judge, in place of the one of its name. If that cannot be made durable, everything is as before:
    /// nothing is judged meanwhile.
    fn adopt(&mut self, plugin: Plugin, step: Step, runtime: &Handle) -> Result<Offset, SwapError> {
        let Activation { plugin: name, generation, .. } = plugin.activation().clone();
        let before = self.policy.put(plugin)?;
        let member = Member { plugin: name.clone(), generation, standing: Standing::Running };
        match runtime.block_on(self.record(self.set.clone().with(member), step)) {
            Ok(from) => {
                failpoint!("swap-after-adopt");
                info!(plugin = &*name, generation, from = from.0, "judges from now on");
                self.faults.forget(&name);
                Ok(from)
            }
            Err(error) => {
                self.policy.remove(&name);
                if let Some(before) = before {
                    self.policy.put(before).expect("it was there a moment ago");
                }
                Err(error.into())
            }
        }
    }

    /// Makes a set durable, from the committed offset on, with whatever else belongs to the step.
    async fn record(&mut self, set: PluginSet, mut step: Step) -> Result<Offset, RegistryError> {
        let from = self.bus.committed(self.partition);
        for note in &mut step.notes {
            note.from = Some(from);
        }
        step.record = Some(SetRecord { partition: self.partition, from, set: set.clone() });
        failpoint!("swap-before-record");
        self.registry.record(step).await?;
        failpoint!("swap-after-record");
        self.set = set;
        Ok(from)
    }
}

fn quarantined(failing: &Member, mut note: Note) -> Step {
    note.text = format!("generation {} failed too often", failing.generation);
    let quarantined = Some((failing.plugin.clone(), failing.generation));
    Step { quarantined, notes: vec![note], ..Step::default() }
}

fn note(by: &str, action: Action, activation: &Activation) -> Note {
    let mut note = Note::new(by, action);
    note.plugin = Some(activation.plugin.to_string());
    note.generation = Some(activation.generation);
    note.digest = Some(activation.digest);
    note.settings = activation.settings.clone();
    note
}
