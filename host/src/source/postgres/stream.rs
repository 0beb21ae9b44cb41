//! The stream: from the replication connection into the change log, until told to stop.
//!
//! In: a connection whose stream has started. Out: appended batches, and places confirmed to the server.
//!
//! Invariants:
//! - one append is under way while the next batch gathers; the batch waits for the end of a transaction, unless it is
//!   full, so that a small transaction costs one flush and no timer delays it;
//! - past a full batch nothing more is read, while the server still hears from us;
//! - a place is confirmed once everything before it is on disk. Where nothing is on its way, that is also the place up
//!   to which the server says it has sent everything, so that a slot whose tables are quiet does not keep the
//!   server from removing its log.

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::append::{Appended, Appender};
use super::assemble::Assembler;
use super::connect::Control;
use super::decode::{Identity, Message};
use super::error::SourceError;
use super::table;
use super::wire::{Event, Incoming, Wire};
use crate::event::{Micros, Position};
use crate::limits::SOURCE_SILENCE_TIME_MAX;

/// A stream that has started.
pub(super) struct Stream<'a> {
    control: Control,
    wire: Wire,
    appender: &'a mut Appender,
    assembler: Assembler,
    /// The server has sent everything before this place.
    sent: u64,
}

impl<'a> Stream<'a> {
    /// Nothing at or before `after` will be appended again.
    pub(super) fn new(
        control: Control,
        wire: Wire,
        appender: &'a mut Appender,
        source: &str,
        after: Option<Position>,
    ) -> Self {
        Self { control, wire, appender, assembler: Assembler::new(source, after), sent: 0 }
    }

    /// Streams until told to stop. An append that is under way then is finished.
    ///
    /// # Errors
    /// If the stream cannot go on; an append may then still be under way.
    pub(super) async fn run(mut self, stop: &CancellationToken) -> Result<(), SourceError> {
        let mut heard_at = Instant::now();
        loop {
            self.append();
            let has_room = !self.assembler.ready().is_full();
            if !has_room {
                // Silence counts only while we listen.
                heard_at = Instant::now();
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.finish().await,
                appended = self.appender.ended() => self.confirm(appended?),
                event = self.wire.next(), if has_room => {
                    heard_at = Instant::now();
                    self.take(&event?).await?;
                }
                () = sleep_until(heard_at + SOURCE_SILENCE_TIME_MAX), if has_room => {
                    return Err(SourceError::Silent(SOURCE_SILENCE_TIME_MAX));
                }
            }
        }
    }

    /// Begins an append if there is reason to; confirms if nothing is on its way.
    fn append(&mut self) {
        if !self.appender.is_idle() {
            return;
        }
        let ready = self.assembler.ready();
        if ready.is_empty() {
            let place = self.sent.max(ready.end.unwrap_or(0));
            self.wire.confirm(place);
        } else if ready.is_ripe() || ready.is_full() {
            self.appender.begin(self.assembler.take_ready());
        }
    }

    fn confirm(&mut self, appended: Appended) {
        match appended {
            Appended::Upto(Some(end)) => self.wire.confirm(end),
            Appended::Upto(None) | Appended::GivenUp => {}
        }
    }

    async fn take(&mut self, event: &Event) -> Result<(), SourceError> {
        let message = match event.incoming()? {
            Incoming::Message(message) => message,
            // Within a transaction the server speaks of the places of its changes.
            Incoming::KeepAlive { sent } if !self.assembler.is_within_transaction() => {
                self.sent = self.sent.max(sent);
                return Ok(());
            }
            Incoming::KeepAlive { .. } | Incoming::Nothing => return Ok(()),
        };
        match message {
            Message::Relation(relation) => {
                let primary_key = match relation.identity {
                    Identity::Full => Some(table::primary_key(&self.control, relation.oid).await?),
                    Identity::Default | Identity::Index | Identity::Nothing => None,
                };
                self.assembler.announce(&relation, primary_key.as_deref())?;
            }
            Message::Type { oid, schema, name } => self.assembler.announce_type(oid, schema, name)?,
            message => self.assembler.push(&message, now())?,
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<(), SourceError> {
        let appended = self.appender.settle().await?;
        self.confirm(appended);
        self.wire.close().await;
        Ok(())
    }
}

fn now() -> Micros {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}
