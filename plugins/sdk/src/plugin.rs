//! The traits of a plugin: one that every plugin has, and one for each stage.
//!
//! Always holds: stages take `&self`, since a policy is a pure function of the batch and its settings; what it learns
//! from one change it cannot carry to the next. To add a stage, change this file, `bindings.rs` and `export.rs`.

use crate::{Change, Routes, Settings, Subscription};

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

/// The second stage: where each change goes.
pub trait Router: Plugin {
    /// Called once for each change, in the order of the change log.
    fn direct(&self, change: &Change<'_>, routes: &mut Routes);
}
