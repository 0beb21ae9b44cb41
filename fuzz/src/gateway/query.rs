//! Stands in for what reads a query.

use super::codes::{Code, Refusal};
use crate::event::Channel;

/// As the host has it.
pub(super) fn channel_named(name: &str) -> Result<Channel, Refusal> {
    Channel::new(name).map_err(|error| Refusal::new(Code::ChannelInvalid, error.to_string()))
}
