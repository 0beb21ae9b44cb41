//! The stream: from the replication connection into the change log, until told to stop.
//!
//! In: a connection whose stream has started. Out: appended batches, and places confirmed to the server.
//!
//! Invariants:
//! - one append is under way while the next batch gathers; the batch waits for the end of a transaction, unless it is
//!   full, so that a small transaction costs one flush and no timer delays it;
//! - past a full batch nothing more is read, while the server still hears from us;
//! - a transaction that the server streams while it is in progress waits on disk (`spill.rs`); at its commit it is read
//!   back as if it came now, and nothing else is read until it is through, since changes stand in the order of commits;
//! - a place is confirmed once everything before it is on disk, and the place itself (`reached.rs`). Where nothing is on its way, that is also the place up
//!   to which the server says it has sent everything, so that a slot whose tables are quiet does not keep the
//!   server from removing its log.

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::append::{Appended, Appender, Batch};
use super::assemble::Assembler;
use super::connect::Control;
use super::decode::{Identity, Message, Streamed, Within, decode, decode_streamed, decode_within};
use super::error::SourceError;
use super::heartbeat::Heartbeat;
use super::reached::Reached;
use super::seen::Shape;
use super::spill::{ReadBack, Spill, SpillError};
use super::table;
use super::wire::{Event, Wire};
use crate::event::Micros;
use crate::limits::SOURCE_SILENCE_TIME_MAX;

/// A stream that has started.
pub(super) struct Stream<'a> {
    control: Control,
    wire: Wire,
    appender: &'a mut Appender,
    assembler: Assembler,
    spill: Spill,
    reached: Reached,
    replayed: Option<Replayed>,
    /// What the append under way, and those before it since a place was confirmed, tell of tables.
    told: Vec<(u32, Shape)>,
    /// The server has sent everything before this place.
    sent: u64,
}

/// A transaction that was in progress and has committed.
struct Replayed {
    transaction: u32,
    messages: ReadBack,
    commit: u64,
    end: u64,
    committed_at: i64,
}

/// What comes next.
enum Incoming {
    /// From the server.
    Event(Event),
    /// From disk; none after the last.
    Replayed(Option<Bytes>),
}

impl<'a> Stream<'a> {
    pub(super) fn new(
        control: Control,
        wire: Wire,
        appender: &'a mut Appender,
        assembler: Assembler,
        spill: Spill,
        reached: Reached,
    ) -> Self {
        let (replayed, told, sent) = (None, Vec::new(), 0);
        Self { control, wire, appender, assembler, spill, reached, replayed, told, sent }
    }

    /// Streams until told to stop. An append that is under way then is finished.
    ///
    /// # Errors
    /// If the stream cannot go on; an append may then still be under way.
    pub(super) async fn run(
        mut self,
        mut heartbeat: Heartbeat,
        stop: &CancellationToken,
    ) -> Result<(), SourceError> {
        let mut heard_at = Instant::now();
        loop {
            let append = if self.appender.is_idle() { Append::Idle } else { Append::UnderWay };
            self.step(append)?;
            let has_room = !self.assembler.ready().is_full();
            if !has_room {
                // Silence counts only while we listen.
                heard_at = Instant::now();
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.finish().await,
                appended = self.appender.ended() => {
                    if self.step(Append::Ended(appended?))? == Step::Finish {
                        self.wire.close().await;
                        return Ok(());
                    }
                }
                beaten = heartbeat.next(&self.control) => beaten?,
                place = self.reached.next() => self.wire.confirm(place?),
                incoming = next(self.replayed.as_mut(), &mut self.wire), if has_room => {
                    heard_at = Instant::now();
                    self.take(incoming?).await?;
                    self.take_buffered().await?;
                }
                () = sleep_until(heard_at + SOURCE_SILENCE_TIME_MAX), if has_room => {
                    return Err(SourceError::Silent(SOURCE_SILENCE_TIME_MAX));
                }
            }
        }
    }

    fn step(&mut self, append: Append) -> Result<Step, SourceError> {
        let step = next_step(append, self.assembler.ready(), self.sent);
        match step {
            Step::Begin => {
                let mut batch = self.assembler.take_ready();
                self.told.append(&mut batch.told);
                self.appender.begin(batch);
            }
            Step::Confirm(place) => {
                if self.assembler.ready().is_empty() {
                    self.told.append(&mut self.assembler.take_told());
                }
                self.assembler.keep(std::mem::take(&mut self.told))?;
                self.reached.want(place);
            }
            Step::Wait | Step::Finish => {}
        }
        Ok(step)
    }

    /// Takes what is in memory already, so that what came together is appended together.
    async fn take_buffered(&mut self) -> Result<(), SourceError> {
        while !self.assembler.ready().is_full() {
            let incoming = match &mut self.replayed {
                Some(replayed) => {
                    replayed.messages.buffered().map(|message| Incoming::Replayed(Some(message)))
                }
                None => self.wire.buffered()?.map(Incoming::Event),
            };
            let Some(incoming) = incoming else { return Ok(()) };
            self.take(incoming).await?;
        }
        Ok(())
    }

    async fn take(&mut self, incoming: Incoming) -> Result<(), SourceError> {
        match incoming {
            Incoming::Event(Event::Message(payload)) if self.spill.is_open() => {
                match decode_within(&payload)? {
                    Within::Stop => self.spill.end().await?,
                    Within::Origin => {}
                    Within::Message { part, kind, rest } => self.spill.push(part, kind, rest).await?,
                }
            }
            Incoming::Event(Event::Message(payload)) => match decode_streamed(&payload)? {
                Some(streamed) => self.around(streamed).await?,
                None => self.assemble(decode(&payload)?).await?,
            },
            // Within a transaction the server speaks of the places of its changes.
            Incoming::Event(Event::KeepAlive { sent }) => {
                if !self.assembler.is_within_transaction() && !self.spill.is_open() {
                    self.sent = self.sent.max(sent);
                }
            }
            Incoming::Event(Event::Nothing) => {}
            Incoming::Replayed(Some(message)) => self.assemble(decode(&message)?).await?,
            Incoming::Replayed(None) => {
                if let Some(Replayed { transaction, commit, end, committed_at, .. }) = self.replayed.take() {
                    self.assembler.push(&Message::Commit { commit, end, committed_at }, now())?;
                    self.spill.forget(transaction);
                }
            }
        }
        Ok(())
    }

    async fn around(&mut self, streamed: Streamed) -> Result<(), SourceError> {
        if self.assembler.is_within_transaction() {
            return Err(SpillError::OutOfPlace("a part").into());
        }
        match streamed {
            Streamed::Start { transaction, segment } => self.spill.begin(transaction, segment)?,
            Streamed::Abort { transaction, part } => self.spill.abort(transaction, part)?,
            Streamed::Commit { transaction, commit, end, committed_at } => {
                let messages = self.spill.read_back(transaction)?;
                self.assembler.push(&Message::Begin { commit, committed_at, transaction }, now())?;
                self.replayed = Some(Replayed { transaction, messages, commit, end, committed_at });
            }
        }
        Ok(())
    }

    async fn assemble(&mut self, message: Message<'_>) -> Result<(), SourceError> {
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
        self.step(Append::Ended(appended))?;
        let place = self.reached.settle().await?;
        self.wire.confirm(place);
        self.wire.close().await;
        Ok(())
    }
}

/// Cancelling loses nothing.
async fn next(replayed: Option<&mut Replayed>, wire: &mut Wire) -> Result<Incoming, SourceError> {
    match replayed {
        Some(replayed) => Ok(Incoming::Replayed(replayed.messages.next().await?)),
        None => wire.next().await.map(Incoming::Event),
    }
}

/// How the appender is.
#[derive(Debug, Clone, Copy)]
enum Append {
    Idle,
    UnderWay,
    /// Just now.
    Ended(Appended),
}

/// What the stream does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Append what is ready.
    Begin,
    /// Tell the server that everything before a place is safe.
    Confirm(u64),
    /// Listen.
    Wait,
    /// End: a batch was given up, so nothing after it may be appended, and no place after it confirmed.
    Finish,
}

fn next_step(append: Append, ready: &Batch, sent: u64) -> Step {
    match append {
        Append::Ended(Appended::GivenUp) => Step::Finish,
        Append::Ended(Appended::Upto(Some(end))) => Step::Confirm(end),
        Append::Ended(Appended::Upto(None)) | Append::UnderWay => Step::Wait,
        Append::Idle if ready.is_empty() => Step::Confirm(sent.max(ready.end.unwrap_or(0))),
        Append::Idle if ready.is_ripe() || ready.is_full() => Step::Begin,
        Append::Idle => Step::Wait,
    }
}

/// Our own clock.
pub(super) fn now() -> Micros {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{batch, begun_batch};
    use super::*;

    #[test]
    fn after_a_batch_was_given_up_nothing_is_appended_and_nothing_confirmed() {
        for ready in [Batch::default(), batch()] {
            assert_eq!(next_step(Append::Ended(Appended::GivenUp), &ready, 0x900), Step::Finish);
        }
    }

    #[test]
    fn what_was_appended_is_confirmed_up_to_the_end_of_its_transactions() {
        let appended = |end| next_step(Append::Ended(Appended::Upto(end)), &batch(), 0x900);
        assert_eq!(appended(Some(0x80)), Step::Confirm(0x80), "not what is ready, and not what was sent");
        assert_eq!(appended(None), Step::Wait);
    }

    #[test]
    fn a_batch_waits_for_the_one_before_it_and_for_the_end_of_a_transaction() {
        assert_eq!(next_step(Append::UnderWay, &batch(), 0x900), Step::Wait);
        assert_eq!(next_step(Append::Idle, &batch(), 0x900), Step::Begin);
        assert_eq!(next_step(Append::Idle, &begun_batch(), 0x900), Step::Wait);
    }

    #[test]
    fn where_nothing_is_on_its_way_all_that_was_sent_is_confirmed() {
        let mut passed = Batch::default();
        passed.close(0x100);
        assert_eq!(next_step(Append::Idle, &passed, 0x80), Step::Confirm(0x100));
        assert_eq!(next_step(Append::Idle, &passed, 0x900), Step::Confirm(0x900));
        assert_eq!(next_step(Append::UnderWay, &passed, 0x900), Step::Wait);
    }
}
