//! `text/event-stream` (WHATWG HTML, section 9.2).
//!
//! In: a message and its place. Out: bytes that a client's parser turns into exactly that message.
//!
//! Invariant: nothing that a message holds can end its frame or begin a field. Whoever writes a row decides its
//! payload; it must not be able to forge an event or an id.
//!
//! The fields `channel`, `encoding` and `value` are ours: parsers must ignore fields that they do not know, and a client
//! that reads the stream itself learns from them where a message belongs, whether its text is JSON or stands for bytes,
//! and whether it is what the channel stands at and no news.

use std::fmt::Write;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::super::codes::Refusal;
use super::super::resume::LossReason;
use crate::event::{Channel, Epoch, Form, Message, PRESENCE_EVENT, REFUSED_EVENT, RESET_EVENT, Sequence};

/// Encodes a message; `sequence` is its place if it is kept.
pub(super) fn message(epoch: Epoch, sequence: Option<Sequence>, message: &Message) -> Bytes {
    let mut out = begin(epoch, sequence, message);
    put_data(&mut out, &message.payload);
    out.put_u8(b'\n');
    out.freeze()
}

/// Encodes a channel's value.
pub(super) fn value(epoch: Epoch, sequence: Sequence, message: &Message) -> Bytes {
    let mut out = begin(epoch, Some(sequence), message);
    put_field(&mut out, "value", "true");
    put_data(&mut out, &message.payload);
    out.put_u8(b'\n');
    out.freeze()
}

/// All fields but the payload.
fn begin(epoch: Epoch, sequence: Option<Sequence>, message: &Message) -> BytesMut {
    let length = message.payload.len() + message.channel.as_str().len() + message.event.len() + 96;
    let mut out = BytesMut::with_capacity(length);
    if !message.event.is_empty() {
        put_field(&mut out, "event", &message.event);
    }
    if message.channel.as_reserved().is_none() {
        put_field(&mut out, "channel", message.channel.as_str());
    }
    if let Some(sequence) = sequence {
        put_id(&mut out, epoch, sequence);
    }
    match message.form {
        Form::Json => {}
        Form::Text => put_field(&mut out, "encoding", "text"),
        Form::Base64 => put_field(&mut out, "encoding", "base64"),
    }
    out
}

/// A message without a channel, and then with one: the order of fields means nothing.
pub(super) fn addressed(channel: &Channel, message: &Bytes) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + channel.as_str().len() + 16);
    put_field(&mut out, "channel", channel.as_str());
    out.put_slice(message);
    out.freeze()
}

/// The first frame of a stream: how long to wait before coming back, and, for a client without an id, where it
/// begins. A frame without data is no event, but its id counts (section 9.2.6, "dispatch the event").
pub(in crate::gateway) fn greeting(reconnect_delay: Duration, from: Option<(Epoch, Sequence)>) -> Bytes {
    let mut out = BytesMut::with_capacity(96);
    put_field(&mut out, "retry", &reconnect_delay.as_millis().to_string());
    if let Some((epoch, sequence)) = from {
        put_id(&mut out, epoch, sequence);
    }
    out.put_u8(b'\n');
    out.freeze()
}

/// A sign of life that also moves the client's id, so that one that heard nothing for days resumes from today; unless
/// the client is still being told what it missed.
pub(in crate::gateway) fn heartbeat(place: Option<(Epoch, Sequence)>) -> Bytes {
    let mut out = BytesMut::with_capacity(48);
    out.put_slice(b":\n");
    if let Some((epoch, sequence)) = place {
        put_id(&mut out, epoch, sequence);
    }
    out.put_u8(b'\n');
    out.freeze()
}

/// The last frame of a stream that the server ends: when to come back.
pub(in crate::gateway) fn farewell(delay: Duration) -> Bytes {
    greeting(delay, None)
}

/// Tells that messages of these channels may be missing: the client must load its state anew, then go on from here, or
/// with the values that come next.
pub(in crate::gateway) fn reset(
    epoch: Epoch,
    from: Option<Sequence>,
    channels: &[Channel],
    reason: LossReason,
) -> Bytes {
    let channels: Vec<&str> = channels.iter().map(Channel::as_str).collect();
    let data = serde_json::json!({"channels": channels, "reason": reason.name()}).to_string();
    let mut out = BytesMut::with_capacity(data.len() + 96);
    put_field(&mut out, "event", RESET_EVENT);
    if let Some(from) = from {
        put_id(&mut out, epoch, from);
    }
    put_data(&mut out, data.as_bytes());
    out.put_u8(b'\n');
    out.freeze()
}

/// Tells who is on a channel, came or went; without an id. `EventSource` does not see the field `channel`, so the data
/// has it as well.
pub(super) fn presence(channel: &Channel, presence: &serde_json::Value) -> Bytes {
    let data = presence.to_string();
    let mut out = BytesMut::with_capacity(data.len() + channel.as_str().len() + 48);
    put_field(&mut out, "event", PRESENCE_EVENT);
    put_field(&mut out, "channel", channel.as_str());
    put_data(&mut out, data.as_bytes());
    out.put_u8(b'\n');
    out.freeze()
}

/// The last frame of a stream whose client may listen no longer: the same words as a refusal. Without an id, so that
/// the client resumes from what it has.
pub(in crate::gateway) fn refused(refusal: &Refusal) -> Bytes {
    let data = refusal.json().to_string();
    let mut out = BytesMut::with_capacity(data.len() + 32);
    put_field(&mut out, "event", REFUSED_EVENT);
    put_data(&mut out, data.as_bytes());
    out.put_u8(b'\n');
    out.freeze()
}

fn put_id(out: &mut BytesMut, epoch: Epoch, sequence: Sequence) {
    writeln!(out, "id: {epoch}.{sequence}").expect("a growing buffer takes every write");
}

/// Line breaks and NUL are left out: the vocabulary allows none, and a plugin must not get past it.
fn put_field(out: &mut BytesMut, name: &str, value: &str) {
    out.put_slice(name.as_bytes());
    out.put_slice(b": ");
    if value.contains(['\r', '\n', '\0']) {
        for part in value.split(['\r', '\n', '\0']) {
            out.put_slice(part.as_bytes());
        }
    } else {
        out.put_slice(value.as_bytes());
    }
    out.put_u8(b'\n');
}

/// One `data` line for each line of the payload; CR, LF and CRLF each end a line, as they do for the parser.
fn put_data(out: &mut BytesMut, payload: &[u8]) {
    let mut rest = payload;
    loop {
        let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        out.put_slice(b"data: ");
        out.put_slice(&rest[..end.unwrap_or(rest.len())]);
        out.put_u8(b'\n');
        let Some(end) = end else { return };
        let width = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[end + width..];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::codes::Code;
    use super::*;
    use crate::event::Retention;

    fn encoded(event: &str, payload: &str) -> String {
        encoded_as(Form::Json, event, payload)
    }

    fn encoded_as(form: Form, event: &str, payload: &str) -> String {
        let message_ = Message {
            channel: Channel::new("orders:42").expect("the name is good"),
            event: event.into(),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            form,
            retention: Retention::Kept,
        };
        let frame = message(Epoch(0x9f3c), Some(Sequence(7)), &message_);
        String::from_utf8(frame.to_vec()).expect("the frame is UTF-8")
    }

    #[test]
    fn a_frame_has_event_channel_id_and_data() {
        assert_eq!(
            encoded("insert", r#"{"id":42}"#),
            "event: insert\nchannel: orders:42\nid: 9f3c.7\ndata: {\"id\":42}\n\n"
        );
    }

    #[test]
    fn a_message_without_an_event_has_no_event_field() {
        assert_eq!(encoded("", ""), "channel: orders:42\nid: 9f3c.7\ndata: \n\n");
    }

    #[test]
    fn text_is_marked_and_so_are_bytes_that_became_text() {
        assert_eq!(
            encoded_as(Form::Text, "", "42"),
            "channel: orders:42\nid: 9f3c.7\nencoding: text\ndata: 42\n\n"
        );
        assert_eq!(
            encoded_as(Form::Base64, "", "AAE="),
            "channel: orders:42\nid: 9f3c.7\nencoding: base64\ndata: AAE=\n\n"
        );
    }

    #[test]
    fn every_kind_of_line_break_in_a_payload_begins_a_data_line() {
        assert_eq!(
            encoded("", "a\rid: forged\n\nevent: forged\r\n"),
            "channel: orders:42\nid: 9f3c.7\ndata: a\ndata: id: forged\ndata: \ndata: event: forged\ndata: \n\n"
        );
    }

    #[test]
    fn an_event_name_cannot_begin_a_field() {
        assert_eq!(
            encoded("x\ndata: forged\0", "1"),
            "event: xdata: forged\nchannel: orders:42\nid: 9f3c.7\ndata: 1\n\n"
        );
    }

    #[test]
    fn the_control_frames_are_as_documented() {
        let here = Some((Epoch(0x9f3c), Sequence(0)));
        assert_eq!(greeting(Duration::from_secs(2), here), "retry: 2000\nid: 9f3c.0\n\n");
        assert_eq!(greeting(Duration::from_secs(2), None), "retry: 2000\n\n");
        assert_eq!(heartbeat(Some((Epoch(0x9f3c), Sequence(9)))), ":\nid: 9f3c.9\n\n");
        assert_eq!(heartbeat(None), ":\n\n");
        let channels =
            [Channel::new("a\"").expect("the name is good"), Channel::new("b").expect("the name is good")];
        assert_eq!(
            reset(Epoch(1), Some(Sequence(5)), &channels, LossReason::Expired),
            "event: reset\nid: 1.5\ndata: {\"channels\":[\"a\\\"\",\"b\"],\"reason\":\"expired\"}\n\n"
        );
    }

    #[test]
    fn the_last_frame_of_a_refused_stream_is_as_documented() {
        let refusal = Refusal::new(Code::ChannelForbidden, "no\nid: forged");
        let data =
            r#"{"code":4024,"message":"no\nid: forged","reason":"channel_forbidden","reconnect":"never"}"#;
        assert_eq!(refused(&refusal), format!("event: refused\ndata: {data}\n\n"));
    }

    proptest! {
        #[test]
        fn whatever_a_message_holds_it_is_one_frame_with_its_own_fields(
            event in "[a\r\n\0:]{0,12}|(?s:.{0,12})", payload in "[a\r\n\0:]{0,12}|(?s:.{0,12})|(id: x\r\n?){0,3}",
        ) {
            let frame = encoded(&event, &payload);
            prop_assert!(!frame.contains('\r'));
            let (fields, end) = frame.split_at(frame.len() - 2);
            prop_assert_eq!(end, "\n\n");
            let count = |name: &str| fields.split('\n').filter(|line| line.starts_with(name)).count();
            prop_assert_eq!((count("id: 9f3c.7"), count("id"), count("channel: ")), (1, 1, 1));
            prop_assert_eq!(count("event: "), usize::from(!event.is_empty()));
            prop_assert_eq!(count("") - 2 - usize::from(!event.is_empty()), count("data: "));
            prop_assert!(!fields.lines().filter(|line| !line.starts_with("data: ")).any(|line| line.contains('\0')));
        }
    }
}
