//! What somebody wants to run, before it has a number.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::DeployError;
use crate::limits::{NAME_BYTES_MAX, PATTERNS_COUNT_MAX, SETTINGS_BYTES_MAX};
use crate::policy::{Activation, Digest, Grants, OnFault, Profile};

/// A plugin that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The plugin's name.
    pub plugin: Arc<str>,
    /// Which component.
    pub digest: Digest,
    /// Plugins run in this order, those of one order by name.
    pub order: i32,
    /// What `configure` gets.
    pub settings: BTreeMap<String, String>,
    /// What its routes may touch.
    pub grants: Grants,
    /// Which limits it runs under.
    pub profile: Profile,
    /// What happens with a change that it fails on.
    pub on_fault: OnFault,
}

impl Request {
    /// With the default of everything but name and component.
    #[must_use]
    pub fn new(plugin: &str, digest: Digest) -> Self {
        Self {
            plugin: plugin.into(),
            digest,
            order: 0,
            settings: BTreeMap::new(),
            grants: Grants::default(),
            profile: Profile::default(),
            on_fault: OnFault::default(),
        }
    }

    /// What a generation was asked to be.
    #[must_use]
    pub fn of(activation: &Activation) -> Self {
        let Activation { plugin, generation: _, digest, order, settings, grants, profile, on_fault } =
            activation.clone();
        Self { plugin, digest, order, settings, grants, profile, on_fault }
    }

    /// As a generation.
    #[must_use]
    pub fn activation(&self, generation: u64) -> Activation {
        let Self { plugin, digest, order, settings, grants, profile, on_fault } = self.clone();
        Activation { plugin, generation, digest, order, settings, grants, profile, on_fault }
    }

    /// # Errors
    /// If the name cannot be one, or a grant is for what this host does not have.
    pub(super) fn check(&self) -> Result<(), DeployError> {
        check_name(&self.plugin)?;
        let Grants { channels, audience: _, topics, cache } = &self.grants;
        if let Some(long) = [channels, topics, cache].iter().find(|list| list.len() > PATTERNS_COUNT_MAX) {
            return Err(DeployError::Patterns(long.len()));
        }
        let settings_bytes = self.settings.iter().map(|(key, value)| key.len() + value.len()).sum();
        if settings_bytes > SETTINGS_BYTES_MAX {
            return Err(DeployError::Settings(settings_bytes));
        }
        if !topics.is_empty() {
            return Err(DeployError::Grant { grant: "topics", has_no: "topics" });
        }
        Ok(())
    }
}

fn check_name(name: &str) -> Result<(), DeployError> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(fits) {
        return Err(DeployError::Name(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_that_this_host_cannot_give_is_refused_with_its_name() {
        let mut request = Request::new("p", Digest::of(b""));
        request.check().expect("the default is fine");
        request.grants.audience = true;
        request.grants.cache = Grants::everything().cache;
        request.check().expect("timelines are kept, and a cache may be configured");
        request.grants.topics = Grants::everything().topics;
        let message = request.check().expect_err("there are no topics").to_string();
        assert_eq!(message, "this host has no topics yet: leave `topics` out of the grants");
    }

    #[test]
    fn a_name_is_short_and_plain() {
        for name in ["", "A", "a b", &"a".repeat(NAME_BYTES_MAX + 1)] {
            let request = Request::new(name, Digest::of(b""));
            assert!(matches!(request.check(), Err(DeployError::Name(_))), "{name}");
        }
    }
}
