//! What a client asks for over WebSocket: one JSON object in a text frame. `docs/protocol.md` has the list.
//!
//! In: text. Out: a command whose names and ids were checked, or a refusal with the reference that the client gave.
//!
//! To add a command: a variant, an arm in [`Command::parse`], a section in `docs/protocol.md`.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::codes::{Code, Refusal};
use super::super::query::channel_named;
use super::super::spoken::{Fields, Spoken};
use crate::event::Channel;

/// What a client gives to a command, to know its answer again.
pub(super) type Reference = Option<u64>;

/// A command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Channels, each with the id after which it begins, if it does not begin live.
    Subscribe(Vec<(Channel, Option<String>)>),
    Unsubscribe(Vec<Channel>),
    /// A message on a channel.
    Publish(Channel, Spoken),
    /// A token instead of the one before.
    Refresh(String),
    Ping,
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "ref")]
    reference: Reference,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<Item> {
    #[serde(rename = "type")]
    _kind: String,
    #[serde(rename = "ref")]
    _reference: Reference,
    channels: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Renewal {
    #[serde(rename = "type")]
    _kind: String,
    #[serde(rename = "ref")]
    _reference: Reference,
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    channel: String,
    after: Option<String>,
}

impl Command {
    /// Reads a command.
    pub(super) fn parse(text: &str) -> (Reference, Result<Self, Refusal>) {
        match read::<Head>(text) {
            Ok(head) => (head.reference, Self::of_kind(&head.kind, text)),
            Err(refusal) => (None, Err(refusal)),
        }
    }

    fn of_kind(kind: &str, text: &str) -> Result<Self, Refusal> {
        match kind {
            "subscribe" => {
                let wanted = some(read::<Body<Wanted>>(text)?)?.into_iter();
                let wanted = wanted.map(|Wanted { channel, after }| Ok((channel_named(&channel)?, after)));
                Ok(Self::Subscribe(wanted.collect::<Result<_, Refusal>>()?))
            }
            "unsubscribe" => {
                let channels = some(read::<Body<String>>(text)?)?;
                let channels = channels.iter().map(|name| channel_named(name));
                Ok(Self::Unsubscribe(channels.collect::<Result<_, _>>()?))
            }
            "ping" => Ok(Self::Ping),
            "publish" => {
                let mut fields = read::<Fields>(text)?;
                let Some(channel) = fields.channel.take() else {
                    return Err(Refusal::new(Code::ChannelMissing, "name the channel in `channel`"));
                };
                Ok(Self::Publish(channel_named(&channel)?, fields.spoken(None)?))
            }
            "refresh" => Ok(Self::Refresh(read::<Renewal>(text)?.token)),
            _ => {
                let message = "the type is none of subscribe, unsubscribe, ping, publish, refresh";
                Err(Refusal::new(Code::CommandInvalid, message))
            }
        }
    }
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, Refusal> {
    let refusal = |problem: &dyn std::fmt::Display| {
        let message = format!("this is no command: {problem}; a command is {{\"type\":…,\"ref\":…,…}}");
        Refusal::new(Code::CommandInvalid, message)
    };
    // The parser would also take a list for an object.
    if !text.trim_start().starts_with('{') {
        return Err(refusal(&"it is no JSON object"));
    }
    serde_json::from_str(text).map_err(|error| refusal(&error))
}

fn some<Item>(body: Body<Item>) -> Result<Vec<Item>, Refusal> {
    if body.channels.is_empty() {
        return Err(Refusal::new(Code::ChannelMissing, "name at least one channel in `channels`"));
    }
    Ok(body.channels)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::intake::Body;

    fn channel(name: &str) -> Channel {
        Channel::new(name).unwrap()
    }

    #[test]
    fn commands_are_as_documented() {
        let text =
            r#"{"type":"subscribe","ref":7,"channels":[{"channel":"a"},{"channel":"b","after":"1.2"}]}"#;
        let wanted = vec![(channel("a"), None), (channel("b"), Some("1.2".into()))];
        assert_eq!(Command::parse(text), (Some(7), Ok(Command::Subscribe(wanted))));
        let text = r#"{"channels":["a","b"],"type":"unsubscribe"}"#;
        let gone = vec![channel("a"), channel("b")];
        assert_eq!(Command::parse(text), (None, Ok(Command::Unsubscribe(gone))));
        assert_eq!(Command::parse(r#"{"type":"ping","ref":0}"#), (Some(0), Ok(Command::Ping)));
        let text =
            r#"{"type":"publish","ref":1,"channel":"room:7","event":"said","id":"a1","json":{"text": "hi"}}"#;
        let body = Body::Json(r#"{"text": "hi"}"#.into());
        let spoken = Spoken { event: Some("said".into()), id: Some("a1".into()), body };
        assert_eq!(Command::parse(text), (Some(1), Ok(Command::Publish(channel("room:7"), spoken))));
        let renewed = Command::Refresh("x".into());
        assert_eq!(Command::parse(r#"{"type":"refresh","ref":1,"token":"x"}"#), (Some(1), Ok(renewed)));
    }

    #[test]
    fn what_is_no_command_is_refused_with_its_reference_and_what_is_wrong() {
        let refusals = [
            "",
            "[]",
            r#"{"ref":1}"#,
            r#"{"type":"subscribe","ref":"one"}"#,
            r#"{"type":"shout","ref":1}"#,
            r#"{"type":"subscribe","ref":1}"#,
            r#"{"type":"subscribe","ref":1,"channels":[]}"#,
            r#"{"type":"subscribe","ref":1,"channels":["a"]}"#,
            r#"{"type":"subscribe","ref":1,"channels":[{"channel":"a","since":"1.2"}]}"#,
            r#"{"type":"subscribe","ref":1,"channels":[{"channel":"a\n"}]}"#,
            r#"{"type":"unsubscribe","ref":1,"channels":[""]}"#,
            r#"{"type":"publish","ref":1,"json":1}"#,
            r#"{"type":"publish","ref":1,"channel":"$a","json":1}"#,
            r#"{"type":"publish","ref":1,"channel":"a"}"#,
            r#"{"type":"publish","ref":1,"channel":"a","json":1,"extra":1}"#,
            r#"{"type":"publish","ref":1,"channel":"a","text":"x","event":"refused"}"#,
            r#"{"type":"refresh","ref":1}"#,
        ]
        .map(|text| {
            let (reference, command) = Command::parse(text);
            let refusal = command.expect_err(text);
            format!("{text} → {reference:?} {}: {}", refusal.code.number(), refusal.message)
        });
        insta::assert_snapshot!(refusals.join("\n"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,60}|[\\[\\]{}\":,a-z0-9]{0,60}") {
            let _ = Command::parse(&text);
        }
    }
}
