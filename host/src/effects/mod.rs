//! Effects: what a policy asked for, turned into what the stores take.
//!
//! In: the changes of a batch and the routes that the policy gave them. Out: messages, and writes to feeds, each in the
//! order of the changes.
//!
//! Invariants:
//! - a row's JSON, and a change's envelope, is made once for each change that needs it, and shared by all its
//!   messages;
//! - routes of one change with equal channel, event, payload and form are one message, whichever plugins they came from; it
//!   is kept if one of them says so.
//!
//! Absent on purpose: I/O. The pipeline hands the messages to the bus, which applies them once.
//!
//! To add an effect: an arm in [`messages`], or a sibling of it for a store of its own.

mod feed;

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;

pub use feed::take_feed;

use crate::event::{Change, Channel, EventName, Form, Message, Retention, envelope_to_json, row_to_json};
use crate::policy::{Directed, Payload, Route};

/// Turns routes, ordered by change, into messages.
///
/// A plugin's bytes become base64 text (RFC 4648, section 4): event streams carry text.
///
/// # Panics
/// If a route names a change that is not there: the policy checks that.
#[must_use]
pub fn messages(changes: &[Change], routes: Vec<Directed>) -> Vec<Message> {
    let mut messages = Vec::with_capacity(routes.len());
    let mut said: HashMap<Said, usize> = HashMap::new();
    let (mut row, mut envelope) = (None, None);
    let mut previous = None;
    for Directed { change, route, .. } in routes {
        if previous.replace(change) != Some(change) {
            said.clear();
        }
        let Some((channel, event, payload, retention)) = channel(route) else { continue };
        let (form, payload) = match payload {
            Payload::Row => (Form::Json, made_once(&mut row, change, || row_json(&changes[change]))),
            Payload::Envelope => {
                (Form::Json, made_once(&mut envelope, change, || envelope_json(&changes[change])))
            }
            Payload::Nothing => (Form::Text, Bytes::new()),
            Payload::Json(bytes) => (Form::Json, bytes),
            Payload::Text(bytes) => (Form::Text, bytes),
            Payload::Bytes(bytes) => (Form::Base64, BASE64.encode(bytes).into()),
        };
        let says = Said { channel: channel.clone(), event: event.clone(), form, payload: payload.clone() };
        let place = *said.entry(says).or_insert(messages.len());
        if place == messages.len() {
            messages.push(Message { channel, event, payload, form, retention });
        } else if retention == Retention::Kept {
            messages[place].retention = Retention::Kept;
        }
    }
    messages
}

/// What a message says, whether or not it is kept.
#[derive(PartialEq, Eq)]
struct Said {
    channel: Channel,
    event: EventName,
    form: Form,
    payload: Bytes,
}

/// Without the payload's bytes: a large row to many channels would be hashed for each of them.
impl Hash for Said {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.channel.hash(state);
        self.event.hash(state);
        self.payload.len().hash(state);
    }
}

/// What is for a channel. Feeds were taken out before; where nobody keeps any, what is for them does nothing, as what is
/// for the cache and for topics, which have no store yet.
fn channel(route: Route) -> Option<(Channel, EventName, Payload, Retention)> {
    match route {
        Route::Channel { channel, event, payload, retention } => Some((channel, event, payload, retention)),
        Route::Audience(_)
        | Route::Inbox { .. }
        | Route::Retract { .. }
        | Route::Follow { .. }
        | Route::Unfollow { .. }
        | Route::Cache(_)
        | Route::Topic { .. } => None,
    }
}

/// What was made for the change, or is made now and kept.
fn made_once(kept: &mut Option<(usize, Bytes)>, change: usize, make: impl FnOnce() -> Bytes) -> Bytes {
    match kept {
        Some((of, made)) if *of == change => made.clone(),
        _ => kept.insert((change, make())).1.clone(),
    }
}

fn envelope_json(change: &Change) -> Bytes {
    let mut json = String::new();
    envelope_to_json(change, &mut json);
    json.into()
}

/// The new row, the old one of a delete, or `null` where there is none.
fn row_json(change: &Change) -> Bytes {
    let Some(row) = change.key_row() else { return Bytes::from_static(b"null") };
    let mut json = String::new();
    row_to_json(row, &mut json);
    json.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::{Column, Micros, Operation, Origin, Position, RowBuilder, Rows, Table, Value};

    pub(super) fn change(id: i64, rows: Rows) -> Change {
        let table = Arc::new(Table {
            source: "shop".into(),
            schema: "public".into(),
            name: "orders".into(),
            columns: [Column { name: "id".into(), type_name: "int8".into(), key: true }].into(),
        });
        let mut builder = RowBuilder::default();
        if rows != Rows::Neither {
            builder.push(Value::Integer(id));
        }
        let origin = Origin {
            table,
            operation: Operation::Insert,
            position: Position { commit: 1, index: 0 },
            last: true,
            transaction: 1,
            committed_at: Micros(0),
        };
        builder.finish(origin, rows)
    }

    pub(super) fn directed(change: usize, plugin: usize, channel: &str, payload: Payload) -> Directed {
        let channel = Channel::new(channel).expect("the name is right");
        let route = Route::Channel { channel, event: "e".into(), payload, retention: Retention::Kept };
        Directed { change, plugin, route }
    }

    const ENVELOPE: &str = r#"{"before":null,"after":null,"source":{"name":"shop","ts_ms":0,"snapshot":"false","schema":"public","table":"orders","txId":1,"lsn":1},"op":"c","ts_ms":0}"#;

    fn texts(messages: &[Message]) -> Vec<(&str, &str)> {
        messages
            .iter()
            .map(|message| {
                (message.channel.as_str(), std::str::from_utf8(&message.payload).expect("payloads are text"))
            })
            .collect()
    }

    #[test]
    fn each_payload_becomes_text_in_the_order_of_the_changes() {
        let changes = [change(1, Rows::New), change(2, Rows::Old), change(3, Rows::Neither)];
        let routes = vec![
            directed(0, 0, "a", Payload::Row),
            directed(0, 0, "b", Payload::Row),
            directed(1, 0, "a", Payload::Row),
            directed(1, 0, "c", Payload::Nothing),
            directed(2, 0, "a", Payload::Row),
            directed(2, 0, "d", Payload::Bytes(Bytes::from_static(&[0xFF, 0]))),
            directed(2, 1, "e", Payload::Json(Bytes::from_static(b"[1]"))),
            directed(2, 1, "f", Payload::Envelope),
            directed(2, 1, "g", Payload::Envelope),
        ];
        let messages = messages(&changes, routes);
        assert_eq!(
            texts(&messages),
            [
                ("a", r#"{"id":1}"#),
                ("b", r#"{"id":1}"#),
                ("a", r#"{"id":2}"#),
                ("c", ""),
                ("a", "null"),
                ("d", "/wA="),
                ("e", "[1]"),
                ("f", ENVELOPE),
                ("g", ENVELOPE),
            ]
        );
        assert_eq!(messages[7].payload.as_ptr(), messages[8].payload.as_ptr(), "the envelope is shared");
        assert_eq!(messages[0].payload.as_ptr(), messages[1].payload.as_ptr(), "the JSON is shared");
    }

    #[test]
    fn equal_messages_of_one_change_are_one_and_of_two_changes_are_two() {
        let changes = [change(1, Rows::New), change(1, Rows::New)];
        let routes = vec![
            directed(0, 0, "a", Payload::Row),
            directed(0, 1, "a", Payload::Row),
            directed(0, 1, "a", Payload::Text(Bytes::from_static(b"other"))),
            directed(1, 0, "a", Payload::Row),
        ];
        let messages = messages(&changes, routes);
        assert_eq!(texts(&messages), [("a", r#"{"id":1}"#), ("a", "other"), ("a", r#"{"id":1}"#)]);
    }

    #[test]
    fn a_message_that_only_one_route_keeps_is_kept_and_comes_once() {
        for order in [[Retention::Kept, Retention::LiveOnly], [Retention::LiveOnly, Retention::Kept]] {
            let routes = order.map(|kept| {
                let mut directed = directed(0, 0, "a", Payload::Row);
                let Route::Channel { retention, .. } = &mut directed.route else { unreachable!("it is one") };
                *retention = kept;
                directed
            });
            let messages = messages(&[change(1, Rows::New)], routes.into());
            assert_eq!(
                messages.iter().map(|message| message.retention).collect::<Vec<_>>(),
                [Retention::Kept]
            );
        }
    }
}
