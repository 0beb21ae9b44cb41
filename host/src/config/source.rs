//! What is said of a database that is read by logical replication.

use std::time::Duration;

use serde::Deserialize;

use super::Outbox;

/// One database.
#[derive(Clone, PartialEq)]
pub struct Source {
    /// Where it is; holds a password.
    pub url: String,
    /// What is captured.
    pub tables: Vec<String>,
    /// Another table, whose rows are messages.
    pub outbox: Option<Outbox>,
    /// The slot's name, if it is not the usual one.
    pub slot: Option<String>,
    /// The publication's name, if it is not the usual one.
    pub publication: Option<String>,
    /// What happens with the rows that are there at the first start.
    pub snapshot: Snapshot,
    /// What happens where changes are lost.
    pub on_gap: OnGap,
    /// What transactions in progress may take on disk.
    pub spill_bytes_max: u64,
    /// Of which messages of the database.
    pub messages: Vec<String>,
    /// How often the source writes one of its own.
    pub heartbeat: Option<Duration>,
}

impl std::fmt::Debug for Source {
    /// Without the URL: it holds a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("tables", &self.tables)
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}

/// What happens with the rows that are there at the first start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Snapshot {
    /// They are sent, as the operation `snapshot`.
    #[default]
    Initial,
    /// They are not.
    None,
}

/// What happens where changes are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum OnGap {
    /// The server ends with an error.
    #[default]
    Halt,
    /// All rows are sent once more.
    Resnapshot,
}
