//! A message of a client: as a change, and as what travels at once.
//!
//! In: what was said, checked. Out: a row of `$client`, or a live message of its channel.
//!
//! The row has the columns of every virtual table, `channel subject event id body`, and `form` beside them, which says
//! what the body is: a plugin gets JSON and text alike as text, and could not tell the text `1` from the number.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;

use super::{SOURCE, time};
use crate::event::{
    Change, Channel, Column, Form, Message, Operation, Origin, Position, Retention, RowBuilder, Rows, Table,
    Value,
};

/// What a client says on a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientMessage {
    /// Where.
    pub channel: Channel,
    /// Who says it, as far as a token says.
    pub subject: Option<Box<str>>,
    /// Of what kind; a name that events may have.
    pub event: Option<Box<str>>,
    /// Which message of this subject's on this channel.
    pub id: Option<Box<str>>,
    /// What.
    pub body: Body,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// One JSON document, checked.
    Json(Box<str>),
    /// Any text.
    Text(Box<str>),
    /// Any bytes.
    Bytes(Bytes),
}

impl Body {
    /// As the gate gets it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Json(text) | Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// The tables of what clients say: one for each type that a body has, so that a row as JSON has JSON as it is.
#[derive(Debug)]
pub(super) struct Tables {
    json: Arc<Table>,
    text: Arc<Table>,
    bytes: Arc<Table>,
}

impl Tables {
    pub(super) fn new() -> Self {
        let [json, text, bytes] = ["json", "text", "bytea"].map(|body| Arc::new(table(body)));
        Self { json, text, bytes }
    }
}

fn table(type_of_body: &str) -> Table {
    let column =
        |name: &str, type_name: &str| Column { name: name.into(), type_name: type_name.into(), key: false };
    let texts = ["channel", "subject", "event", "id"].map(|name| column(name, "text"));
    let columns = texts.into_iter().chain([column("body", type_of_body), column("form", "text")]);
    Table { source: SOURCE.into(), schema: "".into(), name: "$client".into(), columns: columns.collect() }
}

impl ClientMessage {
    /// As the change of that number.
    pub(super) fn into_change(self, tables: &Tables, number: u64) -> Change {
        let Self { channel, subject, event, id, body } = self;
        let mut row = RowBuilder::default();
        row.push(Value::Text(channel.as_str()));
        for text in [&subject, &event, &id] {
            row.push(text.as_deref().map_or(Value::Null, Value::Text));
        }
        let (value, table, form) = match &body {
            Body::Json(text) => (Value::Text(text), &tables.json, "json"),
            Body::Text(text) => (Value::Text(text), &tables.text, "text"),
            Body::Bytes(bytes) => (Value::Bytes(bytes), &tables.bytes, "bytes"),
        };
        row.push(value);
        row.push(Value::Text(form));
        let origin = Origin {
            table: Arc::clone(table),
            operation: Operation::Message,
            position: Position { commit: number, index: 0 },
            last: true,
            transaction: 0,
            committed_at: time(number),
        };
        row.finish(origin, Rows::New)
    }

    /// As what those get who listen now.
    #[must_use]
    pub fn into_live(self) -> Message {
        let Self { channel, event, body, .. } = self;
        let (form, payload) = match body {
            Body::Json(text) => (Form::Json, text.into_boxed_bytes().into()),
            Body::Text(text) => (Form::Text, text.into_boxed_bytes().into()),
            Body::Bytes(bytes) => (Form::Base64, BASE64.encode(bytes).into()),
        };
        let event = event.as_deref().unwrap_or_default().into();
        Message { channel, event, payload, form, retention: Retention::LiveOnly }
    }
}
