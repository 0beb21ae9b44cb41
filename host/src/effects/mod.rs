//! Effects: what a policy asked for, turned into what the stores take.
//!
//! In: the changes of a batch and the routes that the policy gave them. Out: messages, writes to feeds, and what of the
//! cache is stale, each in the order of the changes.
//!
//! Invariants:
//! - a row's JSON, and a change's envelope, is made once for each change that needs it, and shared by all its
//!   messages;
//! - routes of one change with equal channel, event, payload and form are one message, whichever plugins they came from; it
//!   is kept if one of them says so, and its channel's value, or the end of that, as the last of them says.
//!
//! Absent on purpose: I/O. The pipeline hands the messages to the bus, which applies them once.
//!
//! To add an effect: an arm in [`messages`], or a sibling of it for a store of its own.

mod feed;
mod stale;

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;

pub use feed::take_feed;
pub use stale::take_stale;

use crate::event::{Change, EventName, Form, Message, envelope_to_json, row_to_json};
use crate::policy::{Payload, Routes, ToChannel};

/// How many messages of one change are compared one by one; among more, an equal one is looked up.
const COMPARED_COUNT_MAX: usize = 16;

/// Turns routes into messages. Those for feeds and the cache were taken out before; where nobody keeps any, what is for
/// feeds does nothing, as what is for topics, which have no store yet.
///
/// A plugin's bytes become base64 text (RFC 4648, section 4): event streams carry text.
///
/// # Panics
/// If a route names a change that is not there: the policy checks that.
#[must_use]
pub fn messages(changes: &[Change], routes: &Routes) -> Vec<Message> {
    let mut messages = Vec::with_capacity(routes.len());
    let mut said = Said::default();
    let (mut row, mut envelope) = (None, None);
    let mut previous = None;
    let mut name = EventName::from("");
    for directed in routes.iter() {
        let Some(ToChannel { channel, event, payload, retention }) = directed.to_channel() else { continue };
        let change = directed.change();
        if previous.replace(change) != Some(change) {
            said.next_change(messages.len());
        }
        if *name != *event {
            name = event.into();
        }
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
        let message = Message { channel, event: name.clone(), payload, form, retention };
        match said.find(&messages, &message) {
            None => messages.push(message),
            Some(place) => messages[place].retention = messages[place].retention.and(retention),
        }
    }
    messages
}

/// Which messages of one change there are already.
#[derive(Default)]
struct Said {
    /// The index of its first.
    first: usize,
    /// By what they say, once there are many, with their indexes.
    many: HashMap<Saying, usize>,
}

impl Said {
    fn next_change(&mut self, first: usize) {
        self.first = first;
        self.many.clear();
    }

    /// The index of the message of this change that says the same.
    fn find(&mut self, messages: &[Message], new: &Message) -> Option<usize> {
        let of_change = &messages[self.first..];
        if of_change.len() <= COMPARED_COUNT_MAX {
            let place = of_change.iter().position(|message| says_the_same(message, new))?;
            return Some(self.first + place);
        }
        let known = self.first + self.many.len();
        self.many.extend((known..).zip(&messages[known..]).map(|(at, message)| (Saying::of(message), at)));
        self.many.get(&Saying::of(new)).copied()
    }
}

/// Whether or not they are kept.
fn says_the_same(one: &Message, other: &Message) -> bool {
    let Message { channel, event, payload, form, retention: _ } = one;
    *form == other.form
        && channel == &other.channel
        && event == &other.event
        && (payload.as_ptr() == other.payload.as_ptr() && payload.len() == other.payload.len()
            || payload == &other.payload)
}

/// What a message says, as a key.
struct Saying(Message);

impl Saying {
    fn of(message: &Message) -> Self {
        Self(message.clone())
    }
}

impl PartialEq for Saying {
    fn eq(&self, other: &Self) -> bool {
        says_the_same(&self.0, &other.0)
    }
}

impl Eq for Saying {}

/// Without the payload's bytes: a large row to many channels would be hashed for each of them.
impl Hash for Saying {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.channel.hash(state);
        self.0.event.hash(state);
        self.0.payload.len().hash(state);
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
    use crate::event::{
        Channel, Column, Micros, Operation, Origin, Position, Retention, RowBuilder, Rows, Table, Value,
    };
    use crate::policy::{Route, routes_of};

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

    pub(super) fn directed(
        change: usize,
        plugin: usize,
        channel: &str,
        payload: Payload,
    ) -> (usize, usize, Route) {
        let channel = Channel::new(channel).expect("the name is right");
        let route = Route::Channel { channel, event: "e".into(), payload, retention: Retention::Kept };
        (change, plugin, route)
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
        let messages = messages(&changes, &routes_of(routes));
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
        let messages = messages(&changes, &routes_of(routes));
        assert_eq!(texts(&messages), [("a", r#"{"id":1}"#), ("a", "other"), ("a", r#"{"id":1}"#)]);
    }

    #[test]
    fn equal_messages_are_one_among_many_too() {
        let names: Vec<_> = (0..3 * COMPARED_COUNT_MAX).map(|number| format!("c{number}")).collect();
        let once = || names.iter().map(|name| directed(0, 0, name, Payload::Row));
        let text = |name: &String| directed(0, 1, name, Payload::Text(Bytes::from_static(b"other")));
        let routes = once().chain(names.iter().map(text)).chain(once());
        let messages = messages(&[change(1, Rows::New)], &routes_of(routes));
        assert_eq!(messages.len(), 2 * names.len());
        let said: Vec<_> = texts(&messages).iter().map(|(channel, _)| *channel).collect();
        assert_eq!(said, [&names[..], &names[..]].concat());
    }

    #[test]
    fn a_message_that_only_one_route_keeps_is_kept_and_comes_once() {
        use Retention::{Forget, Kept, LiveOnly, Value};
        for (order, both) in [
            ([Kept, LiveOnly], Kept),
            ([LiveOnly, Kept], Kept),
            ([Value, Kept], Value),
            ([Value, Forget], Forget),
        ] {
            let routes = order.map(|kept| {
                let mut directed = directed(0, 0, "a", Payload::Row);
                let Route::Channel { retention, .. } = &mut directed.2 else { unreachable!("it is one") };
                *retention = kept;
                directed
            });
            let messages = messages(&[change(1, Rows::New)], &routes_of(routes));
            assert_eq!(messages.iter().map(|message| message.retention).collect::<Vec<_>>(), [both]);
        }
    }
}
