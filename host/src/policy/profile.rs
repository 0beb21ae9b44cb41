//! The profiles: which limits a plugin runs under.
//!
//! Invariant: a profile is an engine of its own, and what one engine made is never mixed with another's.
//! To add one: a variant of [`Profile`], its name, its bounds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Profile;
use crate::limits::{
    COMPILE_TIME_MAX, LARGE_COMPILE_TIME_MAX, LARGE_PLUGIN_BYTES_MAX, LARGE_PLUGIN_CALL_TIME_MAX,
    LARGE_PLUGIN_CORE_INSTANCES_MAX, LARGE_PLUGIN_MEMORY_BYTES_MAX, PLUGIN_BYTES_MAX, PLUGIN_CALL_TIME_MAX,
    PLUGIN_CORE_INSTANCES_MAX, PLUGIN_MEMORY_BYTES_MAX,
};

/// Where the profiles differ; each is the limit of that name. All other limits hold for both.
#[derive(Debug)]
pub(super) struct Bounds {
    pub(super) component_bytes_max: usize,
    pub(super) memory_bytes_max: usize,
    pub(super) core_instances_max: u32,
    pub(super) call_time_max: Duration,
    pub(super) compile_time_max: Duration,
}

const SMALL: Bounds = Bounds {
    component_bytes_max: PLUGIN_BYTES_MAX,
    memory_bytes_max: PLUGIN_MEMORY_BYTES_MAX,
    core_instances_max: PLUGIN_CORE_INSTANCES_MAX,
    call_time_max: PLUGIN_CALL_TIME_MAX,
    compile_time_max: COMPILE_TIME_MAX,
};

const LARGE: Bounds = Bounds {
    component_bytes_max: LARGE_PLUGIN_BYTES_MAX,
    memory_bytes_max: LARGE_PLUGIN_MEMORY_BYTES_MAX,
    core_instances_max: LARGE_PLUGIN_CORE_INSTANCES_MAX,
    call_time_max: LARGE_PLUGIN_CALL_TIME_MAX,
    compile_time_max: LARGE_COMPILE_TIME_MAX,
};

/// A text that names no profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no profile `{0}`: it is `small`, or for plugins that bring a runtime `large`")]
pub struct NoProfile(String);

impl Profile {
    /// What configurations and commands call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
        }
    }

    pub(super) const fn bounds(self) -> &'static Bounds {
        match self {
            Self::Small => &SMALL,
            Self::Large => &LARGE,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = NoProfile;

    fn from_str(name: &str) -> Result<Self, NoProfile> {
        [Self::Small, Self::Large]
            .into_iter()
            .find(|profile| profile.name() == name)
            .ok_or_else(|| NoProfile(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_known_by_its_name() {
        for profile in [Profile::Small, Profile::Large] {
            assert_eq!(profile.to_string().parse(), Ok(profile));
        }
        assert_eq!("huge".parse::<Profile>(), Err(NoProfile("huge".into())));
    }
}
