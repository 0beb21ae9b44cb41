//! The audit list: who did what to which plugin, and what the host did by itself.

use std::collections::BTreeMap;
use std::fmt;

use crate::event::{Micros, Offset};
use crate::policy::Digest;

/// An entry of the list, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number, from 1; later ones have greater numbers.
    pub id: u64,
    /// When.
    pub at: Micros,
    /// What it says.
    pub note: Note,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Who: a person's name, `configuration`, or [`HOST`].
    pub by: String,
    /// What was done.
    pub action: Action,
    /// To which plugin; none for an upload.
    pub plugin: Option<String>,
    /// Which of its generations, as it is now.
    pub generation: Option<u64>,
    /// Which component.
    pub digest: Option<Digest>,
    /// The first offset for which it counts.
    pub from: Option<Offset>,
    /// What `configure` got.
    pub settings: BTreeMap<String, String>,
    /// What else there is to say, for people; may be empty.
    pub text: String,
}

/// Who, where nobody did it.
pub const HOST: &str = "host";

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// A component came.
    Uploaded,
    /// A generation judges from an offset on.
    Activated,
    /// An earlier generation does again, under a new number.
    RolledBack,
    /// The plugin judges no more.
    Deactivated,
    /// A generation failed too often: the one named judges instead, or nobody, if it is the one that failed.
    Quarantined,
    /// A fault stopped the pipeline, as the plugin's `on_fault` says.
    Paused,
    /// It goes on.
    Resumed,
    /// A candidate runs beside what is active.
    ShadowStarted,
    /// It does no more.
    ShadowStopped,
    /// It answered differently for the first time.
    ShadowDiffers,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Uploaded,
        Self::Activated,
        Self::RolledBack,
        Self::Deactivated,
        Self::Quarantined,
        Self::Paused,
        Self::Resumed,
        Self::ShadowStarted,
        Self::ShadowStopped,
        Self::ShadowDiffers,
    ];

    /// As it is written everywhere, such as `rolled-back`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uploaded => "uploaded",
            Self::Activated => "activated",
            Self::RolledBack => "rolled-back",
            Self::Deactivated => "deactivated",
            Self::Quarantined => "quarantined",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::ShadowStarted => "shadow-started",
            Self::ShadowStopped => "shadow-stopped",
            Self::ShadowDiffers => "shadow-differs",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Note {
    /// Who did what; the rest is to be filled in.
    #[must_use]
    pub fn new(by: &str, action: Action) -> Self {
        Self {
            by: by.into(),
            action,
            plugin: None,
            generation: None,
            digest: None,
            from: None,
            settings: BTreeMap::new(),
            text: String::new(),
        }
    }
}
