//! The profiles: which limits a plugin runs under.
//!
//! Invariant: a profile is an engine of its own, and what one engine made is never mixed with another's.
//! To add one: a variant of [`Profile`], its word, its bounds.

use std::fmt;
use std::time::Duration;

use super::Profile;
use crate::limits::{
    COMPILE_TIME_MAX, LARGE_COMPILE_TIME_MAX, LARGE_PLUGIN_BYTES_MAX, LARGE_PLUGIN_CALL_INSTRUCTIONS_MAX,
    LARGE_PLUGIN_CALL_TIME_MAX, LARGE_PLUGIN_CORE_INSTANCES_MAX, LARGE_PLUGIN_MEMORY_BYTES_MAX,
    PLUGIN_BYTES_MAX, PLUGIN_CALL_INSTRUCTIONS_MAX, PLUGIN_CALL_TIME_MAX, PLUGIN_CORE_INSTANCES_MAX,
    PLUGIN_MEMORY_BYTES_MAX,
};

/// Where the profiles differ; each is the limit of that name. All other limits hold for both.
#[derive(Debug)]
pub(super) struct Bounds {
    pub(super) component_bytes_max: usize,
    pub(super) memory_bytes_max: usize,
    pub(super) core_instances_max: u32,
    /// Where the clock is the meter.
    pub(super) call_time_max: Duration,
    /// Where fuel is.
    pub(super) call_instructions_max: u64,
    pub(super) compile_time_max: Duration,
}

const SMALL: Bounds = Bounds {
    component_bytes_max: PLUGIN_BYTES_MAX,
    memory_bytes_max: PLUGIN_MEMORY_BYTES_MAX,
    core_instances_max: PLUGIN_CORE_INSTANCES_MAX,
    call_time_max: PLUGIN_CALL_TIME_MAX,
    call_instructions_max: PLUGIN_CALL_INSTRUCTIONS_MAX,
    compile_time_max: COMPILE_TIME_MAX,
};

const LARGE: Bounds = Bounds {
    component_bytes_max: LARGE_PLUGIN_BYTES_MAX,
    memory_bytes_max: LARGE_PLUGIN_MEMORY_BYTES_MAX,
    core_instances_max: LARGE_PLUGIN_CORE_INSTANCES_MAX,
    call_time_max: LARGE_PLUGIN_CALL_TIME_MAX,
    call_instructions_max: LARGE_PLUGIN_CALL_INSTRUCTIONS_MAX,
    compile_time_max: LARGE_COMPILE_TIME_MAX,
};

impl Profile {
    pub(super) const fn bounds(self) -> &'static Bounds {
        match self {
            Self::Small => &SMALL,
            Self::Large => &LARGE,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
