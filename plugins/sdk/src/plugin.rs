//! The traits of a plugin: one that every plugin has, and one for each stage.
//!
//! Always holds: stages take `&self`, since a policy is a pure function of the batch and its settings; what it learns
//! from one change it cannot carry to the next. To add a stage, change this file, `bindings.rs` and `export.rs`.

use crate::{Change, Masks, Routes, Settings, Subscription, Verdict};

/// A configured policy and what it wants to see, or one sentence for the person who deploys it.
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
