//! Pauses: a plugin that wants processing to stop at its fault has failed.
//!
//! Invariant: nothing of the change that it failed on, or after it, is applied until somebody decides: for another
//! generation, for none, or for setting that one change aside.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::Pipeline;
use super::swap::Obeyed;
use crate::event::Offset;
use crate::registry::{Action, HOST, Note, Step};

/// Whether a pipeline runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    Running,
    /// It waits for somebody to decide: for `resume`, or for another plugin in place of the one that failed.
    Paused {
        /// The plugin, whose `on_fault` is `pause`.
        plugin: Arc<str>,
        /// The first change that it failed on.
        offset: Offset,
        /// What went wrong.
        fault: String,
    },
}

impl Pipeline {
    /// Waits for somebody to decide, and does what they say.
    pub(super) fn pause(&mut self, flow: Flow, runtime: &Handle, stop: &CancellationToken) {
        let Flow::Paused { plugin, offset, fault } = &flow else { return };
        error!(plugin = &**plugin, offset = offset.0, fault, "paused, as the plugin's `on_fault` says");
        let mut note = Note::new(HOST, Action::Paused);
        note.plugin = Some(plugin.to_string());
        note.from = Some(*offset);
        note.text.clone_from(fault);
        if let Err(error) =
            runtime.block_on(self.registry.record(Step { notes: vec![note], ..Step::default() }))
        {
            warn!(%error, "the audit list does not say so");
        }
        self.ordered.flow.send_replace(flow);
        loop {
            let order = async {
                tokio::select! {
                    () = stop.cancelled() => None,
                    Some(order) = self.ordered.queue.recv() => Some(order),
                }
            };
            match runtime.block_on(order).map(|order| self.obey(order, runtime)) {
                Some(Obeyed::No) => {}
                Some(Obeyed::Yes) => break info!("processing goes on"),
                None => break,
            }
        }
        self.ordered.flow.send_replace(Flow::Running);
    }
}
