//! Sources of messages: outboxes, polled ones, and `NOTIFY`.

use std::time::Duration;

use serde::Deserialize;

use super::units;
use crate::limits::{POLLING_INTERVAL, POLLING_INTERVAL_MAX, POLLING_INTERVAL_MIN};

/// A table whose rows are messages.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outbox {
    /// The table.
    pub table: String,
    /// Its column for the kind of thing.
    #[serde(default = "aggregatetype")]
    pub channel: String,
    /// For which of them.
    #[serde(default = "aggregateid")]
    pub subject: String,
    /// For what happened.
    #[serde(default = "of_type")]
    pub event: String,
    /// For the message's own id.
    #[serde(default = "id")]
    pub id: String,
    /// For its body.
    #[serde(default = "payload")]
    pub body: String,
}

fn aggregatetype() -> String {
    "aggregatetype".to_owned()
}

fn aggregateid() -> String {
    "aggregateid".to_owned()
}

fn of_type() -> String {
    "type".to_owned()
}

fn id() -> String {
    "id".to_owned()
}

fn payload() -> String {
    "payload".to_owned()
}

/// An outbox that is polled.
#[derive(Clone, PartialEq)]
pub struct Polling {
    /// Where it is; holds a password.
    pub url: String,
    /// The table.
    pub outbox: Outbox,
    /// Its column that says whether a row was published.
    pub status: String,
    /// The column's value before.
    pub pending: String,
    /// The column's value after.
    pub published: String,
    /// Between two looks.
    pub interval: Duration,
}

impl std::fmt::Debug for Polling {
    /// Without the URL: it holds a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Polling").field("outbox", &self.outbox).finish_non_exhaustive()
    }
}

/// A database that is listened to.
#[derive(Clone, PartialEq)]
pub struct Notify {
    /// Where it is; holds a password.
    pub url: String,
    /// What is listened to.
    pub channels: Vec<String>,
}

impl std::fmt::Debug for Notify {
    /// Without the URL: it holds a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notify").field("channels", &self.channels).finish_non_exhaustive()
    }
}

/// How a source comes by its changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    #[default]
    Postgres,
    Polling,
    Notify,
}

/// What the file says about polling.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Marks {
    status: Option<String>,
    pending: Option<String>,
    published: Option<String>,
    #[serde(default, deserialize_with = "units::duration")]
    interval: Option<Duration>,
}

impl Marks {
    /// With the defaults.
    ///
    /// # Errors
    /// What is wrong with the interval.
    pub(super) fn check(self, url: String, outbox: Outbox) -> Result<Polling, String> {
        let interval = self.interval.unwrap_or(POLLING_INTERVAL);
        if !(POLLING_INTERVAL_MIN..=POLLING_INTERVAL_MAX).contains(&interval) {
            return Err("is not from 10ms to 1h".to_owned());
        }
        let or = |said: Option<String>, default: &str| said.unwrap_or_else(|| default.to_owned());
        Ok(Polling {
            url,
            outbox,
            status: or(self.status, "status"),
            pending: or(self.pending, "PENDING"),
            published: or(self.published, "PUBLISHED"),
            interval,
        })
    }
}
