//! Orders: what a pipeline is told between two batches, and by whom.
//!
//! In: a plugin to put or take out, or the word to go on. Out: the first offset for which it counts.
//!
//! Invariant: an order that was answered is durable. One whose asker went away is carried out all the same.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::Flow;
use crate::event::Offset;
use crate::limits::PIPELINE_QUEUE_COUNT_MAX;
use crate::policy::{Plugin, PolicyError};
use crate::registry::{Action, RegistryError};

/// Why an order was not carried out; nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The pipeline has ended.
    #[error("the pipeline has ended")]
    Ended,
    /// There is nothing to take out.
    #[error("the plugin is not active")]
    NotActive,
    /// It runs.
    #[error("the pipeline is not paused")]
    NotPaused,
    /// The plugin does not fit among the others.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// It cannot be made durable.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// What is told, and by whom.
pub(super) struct Order {
    pub(super) by: String,
    pub(super) what: What,
    pub(super) reply: oneshot::Sender<Result<Offset, OrderError>>,
}

/// What a pipeline can be told.
pub(super) enum What {
    /// This plugin judges from now on, as a new generation; the action is what the audit list calls it.
    Put(Box<Plugin>, Action),
    /// The plugin of this name judges no more.
    Remove(Arc<str>),
    /// What stopped the pipeline is set aside, this once.
    Resume,
}

/// Gives orders to a pipeline. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Orders {
    queue: mpsc::Sender<Order>,
    flow: watch::Receiver<Flow>,
}

/// The pipeline's end.
pub(super) struct Ordered {
    pub(super) queue: mpsc::Receiver<Order>,
    pub(super) flow: watch::Sender<Flow>,
}

pub(super) fn orders() -> (Orders, Ordered) {
    let (sender, receiver) = mpsc::channel(PIPELINE_QUEUE_COUNT_MAX);
    let flow = watch::Sender::new(Flow::Running);
    (Orders { queue: sender, flow: flow.subscribe() }, Ordered { queue: receiver, flow })
}

impl Orders {
    /// Lets a plugin judge, in place of the one of its name: a new generation, called so in the audit list. Gives the
    /// first offset that it judges.
    ///
    /// # Errors
    /// If there would be too many, or it cannot be made durable.
    pub async fn put(&self, by: &str, plugin: Plugin, action: Action) -> Result<Offset, OrderError> {
        self.give(by, What::Put(Box::new(plugin), action)).await
    }

    /// Takes a plugin out. Gives the first offset that it does not judge.
    ///
    /// # Errors
    /// If it is not there, or it cannot be made durable.
    pub async fn remove(&self, by: &str, plugin: &str) -> Result<Offset, OrderError> {
        self.give(by, What::Remove(plugin.into())).await
    }

    /// Lets a paused pipeline go on. Gives the offset of what is set aside.
    ///
    /// # Errors
    /// If it is not paused.
    pub async fn resume(&self, by: &str) -> Result<Offset, OrderError> {
        self.give(by, What::Resume).await
    }

    /// Whether the pipeline runs, as it changes.
    #[must_use]
    pub fn flow(&self) -> watch::Receiver<Flow> {
        self.flow.clone()
    }

    async fn give(&self, by: &str, what: What) -> Result<Offset, OrderError> {
        let (reply, answer) = oneshot::channel();
        let order = Order { by: by.into(), what, reply };
        self.queue.send(order).await.map_err(|_| OrderError::Ended)?;
        answer.await.map_err(|_| OrderError::Ended)?
    }
}
