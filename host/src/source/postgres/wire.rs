//! The replication connection: a small type of our own around the library that speaks it.
//!
//! In: a target, a slot, a place to start from. Out: events, in the order of the stream.
//!
//! Invariant: the server learns only of places that [`Wire::confirm`] was given. Keepalives are answered by the
//! library's own task, also while nobody takes events.
//!
//! Absent on purpose: the meaning of a message (`decode.rs`); any other file that knows the library.

use std::sync::Arc;

use pgwire_replication::client::{IdentifySystem, QueryRow, ReplicationEvent};
use pgwire_replication::{
    FeedbackObserver, Lsn, PgWireError, ReplicationClient, ReplicationConfig, TlsConfig,
};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::connect::Target;
use super::decode::{self, DecodeError, Message, Scope};
use super::error::{Said, SourceError};
use super::server::Server;
use crate::limits::{
    CHANGE_BYTES_MAX, SOURCE_BUFFER_COUNT_MAX, SOURCE_CLOSE_TIME_MAX, SOURCE_CONFIRM_INTERVAL,
    SOURCE_CONNECT_TIME_MAX, SOURCE_SERVER_TIME_MAX, SOURCE_SILENCE_TIME_MAX,
};

/// A replication connection. Dropping it cuts it; [`close`](Self::close) ends it.
pub(super) struct Wire {
    client: ReplicationClient,
    target: Target,
    slot: String,
    confirmed: u64,
    told: Arc<Notify>,
    /// Who answers.
    pub(super) server: Server,
}

/// Something that came.
pub(super) struct Event(ReplicationEvent);

/// What an event says.
pub(super) enum Incoming<'a> {
    Message(Message<'a>),
    /// Everything that committed before this place was sent before this event.
    KeepAlive {
        sent: u64,
    },
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
        publication: &str,
        from: u64,
    ) -> Result<Self, SourceError> {
        let told = Arc::new(Notify::new());
        let observer = {
            let told = told.clone();
            FeedbackObserver::new(move |_| told.notify_one())
        };
        let config = ReplicationConfig::new(
            target.host.as_str(),
            target.user.as_str(),
            target.password.as_str(),
            target.database.as_str(),
            slot,
            publication,
        )
        .with_port(target.port)
        .with_tls(TlsConfig::disabled())
        .with_options(target.options.as_str())
        .with_application_name(application)
        .with_start_lsn(Lsn::from_u64(from))
        .with_status_interval(SOURCE_CONFIRM_INTERVAL)
        // Longer than the server waits before it asks: so a quiet server is heard, and a dead one is noticed.
        .with_wakeup_interval(SOURCE_SERVER_TIME_MAX)
        .with_buffer_size(SOURCE_BUFFER_COUNT_MAX)
        .with_max_message_size(CHANGE_BYTES_MAX)
        .with_feedback_observer(observer);
        let doing = "connecting for replication";
        let mut wire = Self {
            client: ReplicationClient::connect_gated(config).await.map_err(|error| lost(doing, error))?,
            target: target.clone(),
            slot: slot.to_owned(),
            confirmed: from,
            told,
            server: Server { system: String::new(), timeline: 0 },
        };
        match timeout(SOURCE_CONNECT_TIME_MAX, wire.client.identify_system()).await {
            Ok(Ok(IdentifySystem { system_id: system, timeline, .. })) => {
                wire.server = Server { system, timeline };
                Ok(wire)
            }
            Ok(Err(PgWireError::Io(cause))) => Err(SourceError::Unreachable {
                address: target.address(),
                cause: std::io::Error::new(cause.kind(), cause.to_string()),
            }),
            Ok(Err(error)) => Err(wire.error(doing, error)),
            Err(_) => Err(SourceError::Unreachable {
                address: target.address(),
                cause: std::io::Error::from(std::io::ErrorKind::TimedOut),
            }),
        }
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
        let doing = "`TIMELINE_HISTORY`";
        match timeout(SOURCE_SILENCE_TIME_MAX, self.client.timeline_history(timeline)).await {
            Ok(Ok(history)) => Ok(String::from_utf8_lossy(&history.content).into_owned()),
            Ok(Err(error)) => Err(self.error(doing, error)),
            Err(_) => Err(SourceError::Silent(SOURCE_SILENCE_TIME_MAX)),
        }
    }

    /// Runs a command of the replication protocol, before the stream starts.
    ///
    /// # Errors
    /// If the server refuses, or the connection broke.
    pub(super) async fn command(&mut self, doing: &str, command: &str) -> Result<Vec<QueryRow>, SourceError> {
        let answer = self.client.simple_query(command).await;
        answer.map_err(|error| self.error(doing, error))
    }

    /// Starts the stream.
    ///
    /// # Errors
    /// If the server refuses, or the connection broke.
    pub(super) async fn start(&mut self) -> Result<(), SourceError> {
        let doing = "the start of replication";
        self.client.start().await.map_err(|error| lost(doing, error))?;
        match timeout(SOURCE_SILENCE_TIME_MAX, self.client.wait_started()).await {
            Ok(started) => started.map_err(|error| self.error(doing, error)),
            Err(_) => Err(SourceError::Silent(SOURCE_SILENCE_TIME_MAX)),
        }
    }

    /// The next event. Cancelling loses nothing but, at worst, the reason why a stream ended.
    ///
    /// # Errors
    /// If the stream ended, and why.
    pub(super) async fn next(&mut self) -> Result<Event, SourceError> {
        let doing = "replication";
        match self.client.recv().await {
            Ok(Some(event)) => Ok(Event(event)),
            Ok(None) => Err(SourceError::Lost {
                doing: doing.to_owned(),
                cause: "the server ended the stream".into(),
            }),
            Err(error) => Err(self.error(doing, error)),
        }
    }

    /// Tells the server, within `SOURCE_CONFIRM_INTERVAL`, that everything before a place is safe.
    pub(super) fn confirm(&mut self, place: u64) {
        if place > self.confirmed {
            self.confirmed = place;
            self.client.update_applied_lsn(Lsn::from_u64(place));
        }
    }

    /// Ends the stream after the server was told what is confirmed. What it does not learn in time, it will send
    /// again to the next connection.
    pub(super) async fn close(mut self) {
        let metrics = self.client.metrics();
        let told = async {
            while self.client.is_running() && metrics.last_applied_lsn().as_u64() < self.confirmed {
                self.told.notified().await;
            }
        };
        let _ = timeout(SOURCE_CLOSE_TIME_MAX, told).await;
        let _ = timeout(SOURCE_CLOSE_TIME_MAX, self.client.shutdown()).await;
    }

    fn error(&self, doing: &str, error: PgWireError) -> SourceError {
        match error {
            PgWireError::Server(text) => match said(&text) {
                said if said.code.starts_with("28") || said.code == "3D000" => self.target.refusal(said),
                said => SourceError::said(doing, said),
            },
            PgWireError::Auth(message) => {
                self.target.refusal(Said { code: "28000".to_owned(), message: auth_hint(message) })
            }
            PgWireError::MessageTooLarge { payload_bytes, .. } => {
                SourceError::TooLarge { bytes: payload_bytes, slot: self.slot.clone() }
            }
            PgWireError::Protocol(what) => SourceError::Protocol { doing: doing.to_owned(), what },
            other => lost(doing, other),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.client.abort();
    }
}

impl Event {
    /// What the event says.
    ///
    /// # Errors
    /// If it is no message of the protocol.
    pub(super) fn incoming(&self) -> Result<Incoming<'_>, DecodeError> {
        let message = match &self.0 {
            ReplicationEvent::XLogData { data, .. } => decode::decode(data)?,
            ReplicationEvent::KeepAlive { wal_end, .. } => {
                return Ok(Incoming::KeepAlive { sent: wal_end.as_u64() });
            }
            // The library reads these by itself.
            ReplicationEvent::Begin { final_lsn, xid, commit_time_micros } => Message::Begin {
                commit: final_lsn.as_u64(),
                committed_at: *commit_time_micros,
                transaction: *xid,
            },
            ReplicationEvent::Commit { lsn, end_lsn, commit_time_micros } => Message::Commit {
                commit: lsn.as_u64(),
                end: end_lsn.as_u64(),
                committed_at: *commit_time_micros,
            },
            ReplicationEvent::Message { transactional, lsn, prefix, content } => Message::Logical {
                scope: if *transactional { Scope::Transaction } else { Scope::Standalone },
                at: lsn.as_u64(),
                prefix,
                content,
            },
            ReplicationEvent::StoppedAt { .. } => return Ok(Incoming::Nothing),
        };
        Ok(Incoming::Message(message))
    }
}

/// A place as the server writes it.
pub(super) fn place(text: &str) -> Option<u64> {
    Lsn::parse(text).ok().map(Lsn::as_u64)
}

/// A place in the server's notation.
pub(super) fn notation(place: u64) -> String {
    Lsn::from_u64(place).to_string()
}

fn lost(doing: &str, error: PgWireError) -> SourceError {
    SourceError::Lost { doing: doing.to_owned(), cause: Box::new(error) }
}

/// The library gives the server's words and code in one text.
fn said(text: &str) -> Said {
    let parts = text.strip_suffix(')').and_then(|text| text.rsplit_once(" (SQLSTATE "));
    let (message, code) = parts.unwrap_or((text, ""));
    Said { code: code.to_owned(), message: message.to_owned() }
}

fn auth_hint(message: String) -> String {
    if message.ends_with("code: 5") {
        return "it asks for an MD5 password, which replication here does not support: SET password_encryption = \
                'scram-sha-256' and set the role's password again"
            .to_owned();
    }
    message
}

// The server must hear from us more often than it gives up.
const _: () = assert!(SOURCE_CONFIRM_INTERVAL.as_millis() * 4 < SOURCE_SERVER_TIME_MAX.as_millis());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_taken_from_the_words_of_the_server() {
        let said = said("replication slot \"a (b)\" does not exist (SQLSTATE 42704)");
        assert_eq!(said.code, "42704");
        assert_eq!(said.message, "replication slot \"a (b)\" does not exist");
        assert_eq!(super::said("gone").code, "");
    }

    #[test]
    fn places_are_written_as_the_server_writes_them() {
        assert_eq!(place("1/16B3748"), Some(0x1_016B_3748));
        assert_eq!(notation(0x1_016B_3748), "1/16B3748");
        assert_eq!(place("x"), None);
    }
}
