//! What is said of a plugin.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// One plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    /// Its component.
    pub file: PathBuf,
    /// Which limits it runs under.
    pub profile: Profile,
    /// Its settings.
    pub settings: BTreeMap<String, String>,
    /// Plugins run in this order, those of one order by name.
    pub order: i32,
    /// What happens with a change that it fails on.
    pub on_fault: OnFault,
    /// What its routes may touch.
    pub grants: Grants,
}

/// What happens with a change that a plugin fails on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum OnFault {
    /// It becomes a dead letter.
    #[default]
    SetAside,
    /// Processing stops.
    Pause,
}

/// What a plugin's routes may touch; every list is one of patterns.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grants {
    /// Channels.
    pub channels: Vec<String>,
    /// Whether it may post to followers.
    pub audience: bool,
    /// Topics.
    pub topics: Vec<String>,
    /// Cache keys.
    pub cache: Vec<String>,
}

impl Default for Grants {
    fn default() -> Self {
        Self { channels: vec!["*".into()], audience: false, topics: Vec::new(), cache: Vec::new() }
    }
}

/// Which limits a plugin runs under.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Those for Rust, C and the like.
    #[default]
    Small,
    /// Those for guests that bring a runtime.
    Large,
}
