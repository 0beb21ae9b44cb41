//! The replication connection: its commands, its stream, and what went wrong with it in a person's words.
//!
//! In: a target, a slot, a place to start from. Out: events, in the order of the stream.
//!
//! Invariant: the server learns only of places that [`Wire::confirm`] was given. It hears from us by a task of its
//! own, also while nobody takes events.
//!
//! Absent on purpose: the protocol below (`transport/`), the meaning of a message (`decode.rs`).

use bytes::{Buf, Bytes};
use tokio::time::timeout;

use super::connect::Target;
use super::error::SourceError;
use super::server::Server;
use super::transport::{Feedback, Frame, Session, TransportError};
use crate::limits::{
    CHANGE_BYTES_MAX, SOURCE_CLOSE_TIME_MAX, SOURCE_CONNECT_TIME_MAX, SOURCE_SILENCE_TIME_MAX,
};

/// What stands before a message: a letter, two places, a time.
const HEAD_BYTES: usize = 25;
/// The first version that sends transactions in progress.
const STREAMING_VERSION: u32 = 14;

/// Whether transactions in progress are sent as they are made, or each at its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Streaming {
    On,
    Off,
}

/// A replication connection. Dropping it cuts it; [`close`](Self::close) ends it.
pub(super) struct Wire {
    session: Session,
    feedback: Option<Feedback>,
    target: Target,
    slot: String,
    confirmed: u64,
    /// The server wants to hear from us once what it said was looked at.
    is_wanted: bool,
    /// Who answers.
    pub(super) server: Server,
}

/// Something that came.
#[derive(Debug)]
pub(super) enum Event {
    /// The payload of a message of the stream.
    Message(Bytes),
    /// Everything that committed before this place was sent before this event.
    KeepAlive { sent: u64 },
    /// Nothing that concerns a stream.
    Nothing,
}

impl Wire {
    /// Connects, without starting the stream. `from` is where it will start, and is taken for confirmed; 0 leaves
    /// both to the slot.
    ///
    /// # Errors
    /// If the server cannot be reached or does not let us in.
    pub(super) async fn connect(
        target: &Target,
        application: &str,
        slot: &str,
        from: u64,
    ) -> Result<Self, SourceError> {
        let identified = timeout(SOURCE_CONNECT_TIME_MAX, async {
            let mut session = target.session(application).await?;
            let rows = session.command("IDENTIFY_SYSTEM").await;
            let rows = rows.map_err(|error| refused(target, error))?;
            Ok::<_, SourceError>((session, rows))
        });
        let (session, rows) = match identified.await {
            Ok(identified) => identified?,
            Err(_) => return Err(target.unreachable(std::io::ErrorKind::TimedOut.into())),
        };
        let text = |column: usize| {
            let value = rows.first().and_then(|row| row.get(column)).and_then(Option::as_ref);
            value.and_then(|value| std::str::from_utf8(value).ok())
        };
        let server = text(0).zip(text(1).and_then(|timeline| timeline.parse().ok()));
        let (system, timeline) = server.ok_or_else(|| SourceError::Protocol {
            doing: "`IDENTIFY_SYSTEM`".to_owned(),
            what: "the answer does not say which server it is".to_owned(),
        })?;
        let server = Server { system: system.to_owned(), timeline };
        Ok(Self {
            session,
            feedback: None,
            target: target.clone(),
            slot: slot.to_owned(),
            confirmed: from,
            is_wanted: false,
            server,
        })
    }

    /// The server's history of a timeline, before the stream starts.
    ///
    /// # Errors
    /// If the server refuses, or the connection broke.
    pub(super) async fn history(&mut self, timeline: u32) -> Result<String, SourceError> {
        // The first timeline has no ancestors, and no history.
        if timeline <= 1 {
            return Ok(String::new());
        }
        let command = format!("TIMELINE_HISTORY {timeline}");
        let asked = self.command("`TIMELINE_HISTORY`", &command);
        let Ok(rows) = timeout(SOURCE_SILENCE_TIME_MAX, asked).await else {
            return Err(SourceError::Silent(SOURCE_SILENCE_TIME_MAX));
        };
        let rows = rows?;
        let content = rows.first().and_then(|row| row.get(1)).and_then(Option::as_ref);
        Ok(content.map(|content| String::from_utf8_lossy(content).into_owned()).unwrap_or_default())
    }

    /// Runs a command of the replication protocol, before the stream starts.
    ///
    /// # Errors
    /// If the server refuses, or the connection broke.
    pub(super) async fn command(
        &mut self,
        doing: &str,
        command: &str,
    ) -> Result<Vec<Vec<Option<Bytes>>>, SourceError> {
        let answer = self.session.command(command).await;
        answer.map_err(|error| self.error(doing, error))
    }

    /// Starts the stream.
    ///
    /// # Errors
    /// If the server refuses, or the connection broke.
    pub(super) async fn start(&mut self, publication: &str, streaming: Streaming) -> Result<(), SourceError> {
        let doing = "the start of replication";
        let streams = streaming == Streaming::On && self.session.version >= STREAMING_VERSION;
        // Version 3 adds prepared transactions and 4 parallel appliers, which both are of no use here.
        let options = if streams { "proto_version '2', streaming 'on'" } else { "proto_version '1'" };
        // The names have letters, digits and `_` alone.
        let command = format!(
            "START_REPLICATION SLOT \"{}\" LOGICAL {} ({options}, publication_names '\"{publication}\"', messages \
             'true')",
            self.slot,
            notation(self.confirmed)
        );
        match timeout(SOURCE_SILENCE_TIME_MAX, self.session.copy(&command)).await {
            Ok(started) => {
                let writer = started.map_err(|error| self.error(doing, error))?;
                self.feedback = Some(Feedback::begin(writer, self.confirmed));
                Ok(())
            }
            Err(_) => Err(SourceError::Silent(SOURCE_SILENCE_TIME_MAX)),
        }
    }

    /// The next event. Cancelling loses nothing.
    ///
    /// # Errors
    /// If the stream ended, and why.
    pub(super) async fn next(&mut self) -> Result<Event, SourceError> {
        if std::mem::take(&mut self.is_wanted)
            && let Some(feedback) = &self.feedback
        {
            feedback.answer();
        }
        match self.session.frame(CHANGE_BYTES_MAX).await {
            Ok(frame) => self.event(frame),
            Err(error) => Err(self.error(DOING, error)),
        }
    }

    /// An event that has come already.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub(super) fn buffered(&mut self) -> Result<Option<Event>, SourceError> {
        let frame = self.session.buffered(CHANGE_BYTES_MAX).map_err(|error| self.error(DOING, error))?;
        frame.map(|frame| self.event(frame)).transpose()
    }

    fn event(&mut self, Frame { tag, mut body }: Frame) -> Result<Event, SourceError> {
        if let Some(feedback) = &self.feedback {
            feedback.heard();
        }
        match (tag, body.first()) {
            (b'd', Some(b'w')) if body.len() >= HEAD_BYTES => {
                body.advance(HEAD_BYTES);
                Ok(Event::Message(body))
            }
            (b'd', Some(b'k')) if body.len() == 18 => {
                self.is_wanted |= body[17] != 0;
                body.advance(1);
                Ok(Event::KeepAlive { sent: body.get_u64() })
            }
            // Notices, and settings that changed.
            (b'N' | b'S', _) => Ok(Event::Nothing),
            (b'E', _) => Err(self.error(DOING, TransportError::said(&body))),
            (b'c' | b'C' | b'Z', _) => Err(SourceError::Lost {
                doing: DOING.to_owned(),
                cause: "the server ended the stream".into(),
            }),
            _ => Err(SourceError::Protocol {
                doing: DOING.to_owned(),
                what: format!("a message of the unknown kind {tag:#04x}"),
            }),
        }
    }

    /// Tells the server soon that everything before a place is safe.
    pub(super) fn confirm(&mut self, place: u64) {
        if place > self.confirmed {
            self.confirmed = place;
            if let Some(feedback) = &self.feedback {
                feedback.confirm(place);
            }
        }
    }

    /// Ends the stream after the server was told what is confirmed. What it does not learn in time, it will send
    /// again to the next connection.
    pub(super) async fn close(mut self) {
        let Some(mut feedback) = self.feedback.take() else { return };
        let ended = async {
            feedback.end().await;
            // A connection that is cut while something waits there to be read may lose what was told.
            while self.session.frame(CHANGE_BYTES_MAX).await.is_ok_and(|frame| frame.tag != b'Z') {}
        };
        let _ = timeout(SOURCE_CLOSE_TIME_MAX, ended).await;
    }

    fn error(&self, doing: &str, error: TransportError) -> SourceError {
        match error {
            TransportError::Said(said) => SourceError::said(doing, said),
            TransportError::TooLarge(bytes) => SourceError::TooLarge { bytes, slot: self.slot.clone() },
            TransportError::Protocol(what) => SourceError::Protocol { doing: doing.to_owned(), what },
            TransportError::Identity(what) => self.target.refusal_of(what),
            TransportError::Io(error) => {
                SourceError::Lost { doing: doing.to_owned(), cause: Box::new(error) }
            }
        }
    }
}

const DOING: &str = "replication";

/// The error for a session that did not begin.
pub(super) fn refused(target: &Target, error: TransportError) -> SourceError {
    let doing = "connecting for replication";
    match error {
        TransportError::Said(said) => target.refusal(said),
        TransportError::Identity(what) => target.refusal_of(what),
        TransportError::Io(error) => target.broken(error),
        error @ (TransportError::Protocol(_) | TransportError::TooLarge(_)) => {
            SourceError::Protocol { doing: doing.to_owned(), what: error.to_string() }
        }
    }
}

/// A place as the server writes it.
pub(super) fn place(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let [high, low] = [high, low].map(|half| u32::from_str_radix(half, 16).ok());
    Some(u64::from(high?) << 32 | u64::from(low?))
}

/// A place in the server's notation.
pub(super) fn notation(place: u64) -> String {
    format!("{:X}/{:X}", place >> 32, place & 0xFFFF_FFFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_as_the_server_writes_them() {
        assert_eq!(place("1/16B3748"), Some(0x1_016B_3748));
        assert_eq!(notation(0x1_016B_3748), "1/16B3748");
        for text in ["x", "", "/", "1/", "1/1/1", "1/100000000"] {
            assert_eq!(place(text), None, "{text}");
        }
    }
}
