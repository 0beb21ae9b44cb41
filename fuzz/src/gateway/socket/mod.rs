//! Commands of WebSocket.

#[path = "../../../../host/src/gateway/socket/command.rs"]
#[allow(dead_code, reason = "only parts are used")]
mod command;

use command::Command;

use super::spoken::Spoken;
use crate::event::Channel;

/// Reads a command, whose channels are names; and what it says on one, if that is what it does.
pub(super) fn published(text: &str) -> Option<Spoken> {
    let is_name = |channel: &Channel| assert!(Channel::new(channel.as_str()).is_ok(), "{channel}");
    match Command::parse(text).1.ok()? {
        Command::Subscribe(channels) => channels.iter().for_each(|(channel, _)| is_name(channel)),
        Command::Unsubscribe(channels) => channels.iter().for_each(is_name),
        Command::Publish(channel, spoken) => {
            is_name(&channel);
            return Some(spoken);
        }
        Command::Refresh(_) | Command::Ping => {}
    }
    None
}
