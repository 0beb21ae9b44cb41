//! What a client says on a channel: the fields of a message, over HTTP and over WebSocket.
//!
//! In: JSON as the client wrote it. Out: what is said, checked as strictly as an answer of a plugin is, so that a client
//! cannot make a plugin that hands it on seem to be at fault; or a refusal.
//!
//! The forms are those in which messages are told: `json`, `text` or `base64`, one of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::codes::{Code, Refusal};
use crate::event::{EventName, has_control};
use crate::intake::Body;
use crate::limits::ID_BYTES_MAX;

/// What is said.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spoken {
    /// Of what kind.
    pub(super) event: Option<Box<str>>,
    /// Which message, so that it is kept once however often it is sent.
    pub(super) id: Option<Box<str>>,
    /// What.
    pub(super) body: Body,
}

/// The fields as they come.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fields {
    #[serde(rename = "type")]
    kind: Option<IgnoredAny>,
    #[serde(rename = "ref")]
    reference: Option<IgnoredAny>,
    /// Where, if the address does not say it.
    pub(super) channel: Option<String>,
    event: Option<Box<str>>,
    id: Option<Box<str>>,
    #[serde(default, deserialize_with = "document")]
    json: Option<Box<RawValue>>,
    text: Option<Box<str>>,
    base64: Option<String>,
}

/// `null` is a document, too.
fn document<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

impl Fields {
    /// Reads the body of a request, whose address names the channel.
    ///
    /// # Errors
    /// If it is no JSON, or says what belongs elsewhere.
    pub(super) fn of_request(body: &[u8]) -> Result<Self, Refusal> {
        let refusal = |problem: &dyn std::fmt::Display| {
            let shape = r#"{"event":…,"json":…}, or with `text` or `base64` instead of `json`"#;
            invalid(format!("this is no message: {problem}; a message is {shape}"))
        };
        // The parser would also take a list for an object.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err(refusal(&"it is no JSON object"));
        }
        let fields: Self = serde_json::from_slice(body).map_err(|error| refusal(&error))?;
        if fields.kind.is_some() || fields.reference.is_some() || fields.channel.is_some() {
            return Err(invalid("`type`, `ref` and `channel` are for WebSocket: here the address says them"));
        }
        Ok(fields)
    }

    /// Checks them. `id` is what a header says.
    ///
    /// # Errors
    /// If a name is none, or there is not exactly one body.
    pub(super) fn spoken(self, id: Option<Box<str>>) -> Result<Spoken, Refusal> {
        let Self { event, id: own, json, text, base64, .. } = self;
        let body = match (json, text, base64) {
            (Some(json), None, None) => Body::Json(Box::<str>::from(json)),
            (None, Some(text), None) => Body::Text(text),
            (None, None, Some(text)) => {
                let bytes = BASE64.decode(text).map_err(|_| {
                    invalid("`base64` is not base64 with padding, as RFC 4648 has it in section 4")
                })?;
                Body::Bytes(bytes.into())
            }
            _ => return Err(invalid("a message has one of `json`, `text` and `base64`")),
        };
        // Like none, as in a message that is told.
        let event = event.filter(|name| !name.is_empty());
        EventName::check(event.as_deref().unwrap_or_default()).map_err(|error| invalid(error.to_string()))?;
        let id = match (own, id) {
            (Some(_), Some(_)) => {
                return Err(invalid("the message says its id twice: send the header or the field"));
            }
            (own, id) => own.or(id),
        };
        if id.as_ref().is_some_and(|id| id.is_empty() || id.len() > ID_BYTES_MAX || has_control(id)) {
            return Err(invalid(format!("an id has 1 to {ID_BYTES_MAX} bytes and no control characters")));
        }
        Ok(Spoken { event, id, body })
    }
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(Code::MessageInvalid, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spoken(text: &str) -> Result<Spoken, Refusal> {
        Fields::of_request(text.as_bytes())?.spoken(None)
    }

    #[test]
    fn a_message_has_one_of_three_forms() {
        let plain = |body| Spoken { event: None, id: None, body };
        for (text, body) in [
            (r#"{"json":{"a": 1.10}}"#, Body::Json(r#"{"a": 1.10}"#.into())),
            (r#"{"json":null}"#, Body::Json("null".into())),
            (r#"{"json":"x","event":"","id":null}"#, Body::Json(r#""x""#.into())),
            (r#"{"text":""}"#, Body::Text("".into())),
            (r#"{"base64":"/wA="}"#, Body::Bytes(bytes::Bytes::from_static(&[0xFF, 0]))),
        ] {
            assert_eq!(spoken(text), Ok(plain(body)), "{text}");
        }
        let said = Fields::of_request(br#"{"event":"said","text":"x"}"#)
            .and_then(|fields| fields.spoken(Some("7".into())));
        let expected =
            Spoken { event: Some("said".into()), id: Some("7".into()), body: Body::Text("x".into()) };
        assert_eq!(said, Ok(expected));
    }

    #[test]
    fn what_is_no_message_is_refused_with_what_is_wrong() {
        let refusals = [
            "",
            "[]",
            "{}",
            r#"{"json":1,"text":"x"}"#,
            r#"{"json":[}"#,
            r#"{"text":1}"#,
            r#"{"base64":"/wA"}"#,
            r#"{"text":"x","event":"a\nb"}"#,
            r#"{"text":"x","event":"reset"}"#,
            r#"{"text":"x","id":""}"#,
            r#"{"text":"x","id":"a\u0000"}"#,
            r#"{"text":"x","channel":"a"}"#,
            r#"{"text":"x","body":"a"}"#,
            r#"{"text":"x","text":"y"}"#,
        ]
        .map(|text| {
            let refusal = spoken(text).expect_err(text);
            assert_eq!(refusal.code, Code::MessageInvalid);
            format!("{text} → {}", refusal.message)
        });
        insta::assert_snapshot!(refusals.join("\n"));
        let twice = Fields::of_request(br#"{"text":"x","id":"1"}"#)
            .and_then(|fields| fields.spoken(Some("1".into())));
        assert!(twice.expect_err("it is there twice").message.contains("twice"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Fields::of_request(&bytes).and_then(|fields| fields.spoken(None));
        }

        #[test]
        fn json_is_handed_on_as_it_was_written(number in any::<i64>(), text in "\\PC{0,20}") {
            let json = serde_json::json!({"n": number, "t": text}).to_string();
            let expected = Body::Json(json.clone().into());
            prop_assert_eq!(spoken(&format!(r#"{{"json":{json}}}"#)).map(|spoken| spoken.body), Ok(expected));
        }
    }
}
