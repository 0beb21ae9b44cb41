//! The timeline that a connection listens to.
//!
//! In: the channels of a request. Out: a user who is there, with a timeline that is active, until the connection leaves the
//! channel; and for who comes back, of which channels the history is to be read.
//!
//! A channel `timeline:USER` has no history of its own: what the history carries of an author's posts is told on the
//! channels of all who follow (`timeline/live`). A connection has one such channel at most, so that a message has one
//! place on it.

use super::codes::{Code, Refusal};
use super::history::unavailable;
use super::routes::State;
use crate::bus::Kept;
use crate::event::Channel;
use crate::timeline::{Connected, Source, Sources, TimelineError, Timelines, turned_in, user_of};

/// See the head of this file.
pub(super) struct Listening {
    channel: Channel,
    timelines: Timelines,
    _connected: Connected,
}

impl Listening {
    /// Its channel, on which everything is told.
    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Of which channels the history is to be read now.
    pub(super) async fn sources(&self) -> Result<Sources, TimelineError> {
        let user = user_of(&self.channel).unwrap_or_default();
        self.timelines.sources(user).await
    }
}

/// Makes the user be there whose timeline is among these channels, which the client may listen to. `before` is the
/// timeline that the connection listens to already.
pub(super) async fn listen(
    state: &State,
    before: Option<&Listening>,
    channels: &[Channel],
) -> Result<Option<Listening>, Refusal> {
    let Some(timelines) = &state.timelines else { return Ok(None) };
    let mut users = channels.iter().filter_map(|channel| Some((channel, user_of(channel)?)));
    let Some((channel, user)) = users.next() else { return Ok(None) };
    if before.is_some() || users.next().is_some() {
        let message = "a connection listens to one timeline at most: open another one";
        return Err(Refusal::new(Code::TimelinesTooMany, message));
    }
    let connected = timelines.connect(user).await.map_err(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, "cannot make a timeline active");
        unavailable()
    })?;
    Ok(Some(Listening { channel: channel.clone(), timelines: timelines.clone(), _connected: connected }))
}

/// What is read of the history for a timeline.
pub(super) enum Past {
    /// To be told on it.
    News,
    /// Nothing for it.
    Nothing,
    /// The timeline is made of other channels since.
    Turned,
}

/// What a kept message, read from these sources, is to the timeline that they are of; none if it is a message of any
/// channel.
pub(super) fn past(kept: &Kept, sources: &Sources) -> Option<Past> {
    Some(match Source::of(&kept.message.channel)? {
        Source::Author(_) | Source::Inbox(_) => Past::News,
        Source::Edges => match turned_in(&kept.message.payload) {
            Some(version) if version <= sources.turned => Past::Turned,
            _ => Past::Nothing,
        },
    })
}
