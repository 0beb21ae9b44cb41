//! JSON for WebSocket, long-poll and history: `docs/protocol.md` has the list.
//!
//! In: a message and its place, or what else there is to tell. Out: a JSON object in an unmasked text frame of
//! WebSocket (RFC 6455, section 5.2), so that all sockets share the very bytes that are written; [`text`] is the object
//! alone.
//!
//! Invariant: the object is JSON in UTF-8, whatever a message holds. Payloads of the form JSON were checked by whoever
//! made them; all else is escaped here.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;

use super::super::resume::LossReason;
use crate::event::{Channel, Epoch, Form, Message, Sequence};

/// The longest header of a frame that is not masked.
const HEADER_BYTES_MAX: usize = 10;
/// The last fragment of a message.
const FINAL: u8 = 0x80;
/// A frame of text.
pub(in crate::gateway) const TEXT: u8 = 0x1;
/// A frame of bytes.
pub(in crate::gateway) const BINARY: u8 = 0x2;

/// A message that is new to the client; `sequence` is its place if it is kept.
pub(super) fn message(epoch: Epoch, sequence: Option<Sequence>, message: &Message) -> Bytes {
    put_message(epoch, sequence, message, "")
}

/// A channel's value.
pub(super) fn value(epoch: Epoch, sequence: Sequence, message: &Message) -> Bytes {
    put_message(epoch, Some(sequence), message, ",\"value\":true")
}

/// A message without a channel, and then with one, in a frame of its own.
pub(super) fn addressed(channel: &Channel, message: &Bytes) -> Bytes {
    let message = text(message);
    let mut out = begin(message.len() + channel.as_str().len() + 16);
    out.put_slice(b"{\"channel\":");
    put_json(&mut out, channel.as_str());
    out.put_u8(b',');
    out.put_slice(&message[1..]);
    end(out, TEXT)
}

/// That messages of these channels may be missing.
pub(in crate::gateway) fn reset(
    epoch: Epoch,
    from: Option<Sequence>,
    channels: &[Channel],
    reason: LossReason,
) -> Bytes {
    let channels: Vec<&str> = channels.iter().map(Channel::as_str).collect();
    let mut reset = serde_json::json!({"type": "reset", "channels": channels, "reason": reason.name()});
    if let Some(from) = from {
        reset["id"] = id(epoch, from).into();
    }
    frame(&reset)
}

/// Who is on a channel, came or went.
pub(super) fn presence(presence: &serde_json::Value) -> Bytes {
    let mut presence = presence.clone();
    presence["type"] = "presence".into();
    frame(&presence)
}

/// A place as clients get it.
pub(in crate::gateway) fn id(epoch: Epoch, sequence: Sequence) -> String {
    format!("{epoch}.{sequence}")
}

/// Any JSON in a frame.
pub(in crate::gateway) fn frame(value: &serde_json::Value) -> Bytes {
    let mut out = begin(128);
    put_json(&mut out, value);
    end(out, TEXT)
}

/// A whole message of a kind in a frame.
pub(in crate::gateway) fn in_frame(kind: u8, payload: &[u8]) -> Bytes {
    let mut out = begin(payload.len());
    out.put_slice(payload);
    end(out, kind)
}

/// The object in a frame.
pub(in crate::gateway) fn text(frame: &Bytes) -> Bytes {
    frame.slice(header_length(frame[1])..)
}

/// `further` are fields that stand before the payload.
fn put_message(epoch: Epoch, sequence: Option<Sequence>, message: &Message, further: &str) -> Bytes {
    let mut out = begin(message.payload.len() + message.channel.as_str().len() + message.event.len() + 96);
    out.put_slice(b"{\"type\":\"message\"");
    if message.channel.as_reserved().is_none() {
        out.put_slice(b",\"channel\":");
        put_json(&mut out, message.channel.as_str());
    }
    if let Some(sequence) = sequence {
        out.put_slice(b",\"id\":");
        put_json(&mut out, &id(epoch, sequence));
    }
    if !message.event.is_empty() {
        out.put_slice(b",\"event\":");
        put_json(&mut out, &*message.event);
    }
    out.put_slice(further.as_bytes());
    match message.form {
        Form::Json => {
            out.put_slice(b",\"json\":");
            out.put_slice(&message.payload);
        }
        Form::Text => {
            out.put_slice(b",\"text\":");
            put_json(&mut out, &*String::from_utf8_lossy(&message.payload));
        }
        Form::Base64 => {
            out.put_slice(b",\"base64\":");
            put_json(&mut out, &*String::from_utf8_lossy(&message.payload));
        }
    }
    out.put_u8(b'}');
    end(out, TEXT)
}

fn put_json<T: Serialize + ?Sized>(out: &mut BytesMut, value: &T) {
    serde_json::to_writer(out.writer(), value).expect("a growing buffer takes every write");
}

/// A buffer with room for the header before what is written.
fn begin(capacity: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(HEADER_BYTES_MAX + capacity);
    out.put_bytes(0, HEADER_BYTES_MAX);
    out
}

/// Writes the header before the payload.
fn end(mut out: BytesMut, kind: u8) -> Bytes {
    let length = out.len() - HEADER_BYTES_MAX;
    let (marker, bytes) = match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length), _) if length < 126 => (length, &[][..]),
        (_, Ok(length)) => (126, &length.to_be_bytes()[..]),
        _ => (127, &(length as u64).to_be_bytes()[..]),
    };
    let start = HEADER_BYTES_MAX - bytes.len();
    out[start..HEADER_BYTES_MAX].copy_from_slice(bytes);
    out[start - 2] = FINAL | kind;
    out[start - 1] = marker;
    out.advance(start - 2);
    out.freeze()
}

fn header_length(marker: u8) -> usize {
    match marker {
        126 => 4,
        127 => 10,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Retention;

    fn of(form: Form, event: &str, payload: &str) -> Message {
        Message {
            channel: Channel::new("a\"b").expect("the name is good"),
            event: event.into(),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            form,
            retention: Retention::Kept,
        }
    }

    fn object(message_: &Message) -> String {
        let frame = message(Epoch(0x9f3c), Some(Sequence(7)), message_);
        String::from_utf8(text(&frame).to_vec()).expect("it is UTF-8")
    }

    #[test]
    fn a_payload_stands_under_the_name_of_its_form() {
        assert_eq!(
            object(&of(Form::Json, "insert", r#"{"id":42}"#)),
            r#"{"type":"message","channel":"a\"b","id":"9f3c.7","event":"insert","json":{"id":42}}"#
        );
        assert_eq!(
            object(&of(Form::Text, "", "say \"x\"\n\0")),
            r#"{"type":"message","channel":"a\"b","id":"9f3c.7","text":"say \"x\"\n\u0000"}"#
        );
        assert_eq!(
            object(&of(Form::Base64, "", "AAE=")),
            r#"{"type":"message","channel":"a\"b","id":"9f3c.7","base64":"AAE="}"#
        );
    }

    #[test]
    fn a_message_that_is_not_kept_has_no_id() {
        let frame = message(Epoch(1), None, &of(Form::Text, "typing", ""));
        assert_eq!(text(&frame), r#"{"type":"message","channel":"a\"b","event":"typing","text":""}"#);
    }

    #[test]
    fn a_header_says_how_long_its_text_is_in_the_shortest_form() {
        for (length, header) in [
            (125, &[0x81, 125][..]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 0xff, 0xff]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let value = serde_json::Value::String("x".repeat(length - 2));
            let frame = frame(&value);
            assert_eq!(&frame[..header.len()], header, "{length}");
            assert_eq!(text(&frame).len(), length);
            assert_eq!(frame.len(), header.len() + length);
        }
    }
}
