//! The traits of a plugin: one that every plugin has, and one for each stage.
//!
//! Always holds: stages take `&self`, since a policy is a pure function of the batch and its settings; what it learns
//! from one change it cannot carry to the next. To add a stage, change this file, `bindings.rs` and `export.rs`.

use crate::{
    Change, Connection, Facts, Grant, Masks, Plan, Reception, Refusal, Request, Routes, Settings,
    Subscription, Verdict,
};

/// A configured policy and what it wants to see, or one sentence for the person who deploys it.
///
/// Subscriptions are for filters and routers. A plugin that is only a fan-out or a gate has none: `Ok((policy, vec![]))`.
pub type Configured<P> = Result<(P, Vec<Subscription>), String>;

/// Every plugin.
pub trait Plugin: Sized + 'static {
    /// Reads the settings. Called once, before anything else.
    ///
    /// A setting that was given but never asked for is refused by the SDK afterwards.
    ///
    /// # Errors
    /// One sentence that says which setting is wrong and what would be right.
    fn configure(settings: &Settings) -> Configured<Self>;
}

/// The first stage: which changes go on, and which columns are hidden from every later stage and payload.
pub trait Filter: Plugin {
    /// Called once for each change, in the order of the change log. A change that the plugin did not subscribe to goes
    /// on as it is.
    fn evaluate(&self, change: &Change<'_>, masks: &mut Masks<'_>) -> Verdict;
}

/// The second stage: where each change goes.
pub trait Router: Plugin {
    /// Called once for each change, in the order of the change log.
    fn direct(&self, change: &Change<'_>, routes: &mut Routes);
}

/// The third stage: how a post reaches its audience.
pub trait Fanout: Plugin {
    /// Called once for each post, in the order of the change log, whichever router it comes from.
    fn decide(&self, post: &Facts<'_>) -> Plan;
}

/// Who may listen, and what a client may say. Where a gate panics, the host denies.
pub trait Gate: Plugin {
    /// Whether this connection may listen to this channel.
    ///
    /// # Errors
    /// Why it may not.
    fn admit(&self, connection: &Connection, request: &Request) -> Result<Grant, Refusal>;

    /// What becomes of a client's message. Called for each message, so it decides by itself: that the connection was
    /// admitted, or to what, is not said here.
    ///
    /// # Errors
    /// Why the message is not taken.
    fn receive(
        &self,
        connection: &Connection,
        request: &Request,
        message: &[u8],
    ) -> Result<Reception, Refusal>;
}
