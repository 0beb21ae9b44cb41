//! What the query of a request asks for, by the same rules in every face.
//!
//! In: names and values. Out: checked channels, limits, times; or a refusal that says what would be right.

use std::borrow::Cow;
use std::collections::HashSet;

use super::codes::{Code, Refusal};
use crate::event::Channel;
use crate::limits::CHANNELS_PER_CONNECTION_MAX;

/// The parameters of a request.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn new(parameters: Vec<(String, String)>) -> Self {
        Self(parameters)
    }

    /// The first parameter of this name that has a value.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// Whether there is a parameter of one of these names.
    pub(super) fn has_any(&self, names: &[&str]) -> bool {
        self.0.iter().any(|(key, _)| names.contains(&key.as_str()))
    }

    /// A number within bounds, or what stands for none.
    pub(super) fn number(&self, name: &str, or: usize, min: usize, max: usize) -> Result<usize, Refusal> {
        let Some(text) = self.get(name) else { return Ok(or) };
        text.parse().ok().filter(|number| (min..=max).contains(number)).ok_or_else(|| {
            Refusal::new(Code::QueryInvalid, format!("{name} is a number from {min} to {max}"))
        })
    }

    /// The channels asked for, at least one, each once, in their order.
    pub(super) fn channels(&self, example: &str) -> Result<Vec<Channel>, Refusal> {
        let mut seen = HashSet::new();
        let mut channels = Vec::new();
        for (_, name) in self.0.iter().filter(|(key, _)| key == "channel") {
            let channel = channel_named(name)?;
            if seen.insert(channel.clone()) {
                channels.push(channel);
            }
            if channels.len() > CHANNELS_PER_CONNECTION_MAX {
                return Err(too_many_channels());
            }
        }
        if channels.is_empty() {
            let message = format!("name at least one channel: {example}?channel=NAME");
            return Err(Refusal::new(Code::ChannelMissing, message));
        }
        Ok(channels)
    }
}

/// A name as it stands in a path.
pub(super) fn decoded(name: &str) -> Result<Cow<'_, str>, Refusal> {
    let refusal = |_| Refusal::new(Code::ChannelInvalid, "a name in a path is percent-encoded UTF-8");
    percent_encoding::percent_decode_str(name).decode_utf8().map_err(refusal)
}

/// A channel by its name.
pub(super) fn channel_named(name: &str) -> Result<Channel, Refusal> {
    Channel::new(name).map_err(|error| Refusal::new(Code::ChannelInvalid, error.to_string()))
}

pub(super) fn too_many_channels() -> Refusal {
    let message = format!("a stream has at most {CHANNELS_PER_CONNECTION_MAX} channels");
    Refusal::new(Code::ChannelsTooMany, message)
}
