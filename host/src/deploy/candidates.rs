//! Candidates: what a plugin would do, before it does.
//!
//! In: requests. Out: how they compare with what is active, on old changes at once, or on new ones as they come.

use super::{Comparison, DeployError, Deployer, Request, ShadowReport};

impl Deployer {
    /// Asks a candidate, and what is active, about the newest changes of the log, at most `count_max`, without
    /// effects. If the plugin is not active, every effect of the candidate is one that only it has.
    ///
    /// # Errors
    /// If the candidate cannot run, or there is no change.
    pub async fn check(&self, _request: Request, _count_max: usize) -> Result<Comparison, DeployError> {
        Err(DeployError::NothingToCheck)
    }

    /// Lets a candidate run beside what is active, without effects, in place of the plugin's shadow if it has one.
    /// It survives restarts; its report begins anew then.
    ///
    /// # Errors
    /// If it cannot run, or too many do.
    pub async fn shadow(&self, _by: &str, _request: Request) -> Result<(), DeployError> {
        Err(DeployError::TooManyShadows)
    }

    /// Ends a shadow; gives its last report.
    ///
    /// # Errors
    /// If there is none.
    pub async fn stop_shadow(&self, _by: &str, plugin: &str) -> Result<ShadowReport, DeployError> {
        Err(DeployError::NoShadow(plugin.to_owned()))
    }

    /// What a shadow has found.
    ///
    /// # Errors
    /// If there is none.
    pub async fn shadow_report(&self, plugin: &str) -> Result<ShadowReport, DeployError> {
        Err(DeployError::NoShadow(plugin.to_owned()))
    }
}
