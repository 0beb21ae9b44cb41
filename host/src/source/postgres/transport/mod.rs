//! The replication connection's own transport: PostgreSQL's protocol, version 3, as far as replication needs it.
//!
//! ```text
//! dial (TCP, TLS) ─► session (who we are, commands) ─► copy of both ways ─┬─► frames, read by who decodes
//!                                                                         └─◄ feedback, a task of its own
//! ```
//! In: an address, what the URL says about encryption, who we are. Out: frames. The same way leads SQL to the server:
//! `tokio-postgres` is given a [`Stream`] that [`dial`] made.
//!
//! Invariants:
//! - a frame is read only if its length is within what the reader allows;
//! - reading can be cancelled anywhere, and nothing is lost by it;
//! - the server hears from us for as long as the connection lives, whether anybody reads or not;
//! - a password is in no error.
//!
//! Absent on purpose: GSSAPI and SSPI; the extended protocol; what the frames of a stream mean (`decode.rs`).

mod feedback;
mod session;
mod socket;
mod tls;

use std::io;

pub(super) use feedback::Feedback;
pub(super) use session::{Account, Binding, Frame, Session};
pub(super) use socket::{Address, Cleartext, DialError, Stream, dial};
pub(super) use tls::{SslMode, Tls};

use super::error::Said;

/// Why a session cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransportError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server says no.
    #[error("{0}")]
    Said(Said),
    /// The server does not speak the protocol.
    #[error("{0}")]
    Protocol(String),
    /// Who we are cannot be shown as the server wants it.
    #[error("{0}")]
    Identity(String),
    /// A frame is longer than we allow.
    #[error("a message of {0} bytes")]
    TooLarge(usize),
}

impl TransportError {
    /// What the server said.
    pub(super) fn said(body: &[u8]) -> Self {
        Self::Said(session::said(body))
    }
}
