//! The stream: from the replication connection into the change log, until told to stop.
//!
//! In: a connection whose stream has started. Out: appended batches, and places confirmed to the server.
//!
//! Invariants:
//! - one append is under way while the next batch gathers; the batch waits for the end of a transaction, unless it is
//!   full, so that a small transaction costs one flush and no timer delays it;
//! - while an append is under way nothing else can be appended, so what trickles in is left to gather, and read in one go:
//!   to be woken for each message costs more than all that is done with it. The end of the append ends the rest;
//! - past a full batch nothing more is read, while the server still hears from us;
//! - rows of a snapshot come between two transactions, and while they are read nothing else is;
//! - a transaction that the server streams while it is in progress waits on disk (`spill.rs`); at its commit it is read
//!   back as if it came now, and nothing else is read until it is through, since changes stand in the order of commits;
//! - a place is confirmed once everything before it is on disk, and the place itself (`reached.rs`). Where nothing is on its way, that is also the place up
//!   to which the server says it has sent everything, so that a slot whose tables are quiet does not keep the
//!   server from removing its log.

use std::future::{pending, ready};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::append::{Appended, Appender, Batch};
use super::asked::Asked;
use super::assemble::Assembler;
use super::connect::Control;
use super::decode::{Identity, Message, Scope, Streamed, Within, decode, decode_streamed, decode_within};
use super::error::SourceError;
use super::heartbeat::Heartbeat;
use super::reached::Reached;
use super::seen::Shape;
use super::snapshot::rounds::Rounds;
use super::snapshot::{Snapshots, Work};
use super::spill::{ReadBack, Spill, SpillError};
use super::table;
use super::wire::{Event, Wire};
use crate::event::Micros;
use crate::limits::{SOURCE_REST_TIME, SOURCE_SILENCE_TIME_MAX, SOURCE_TRICKLE_COUNT_MAX};

/// A stream that has started.
pub(super) struct Stream<'a> {
    control: Arc<Control>,
    wire: Wire,
    appender: &'a mut Appender,
    assembler: Assembler,
    spill: Spill,
    reached: Reached,
    snapshots: Snapshots,
    replayed: Option<Replayed>,
    /// What the append under way, and those before it since a place was confirmed, tell of tables.
    told: Vec<(u32, Shape)>,
    /// What there is to be read of tables once the append under way has ended.
    rounds: Option<Rounds>,
    /// The server has sent everything before this place.
    sent: u64,
}

/// What goes on beside a stream.
pub(super) struct Beside<'a> {
    pub(super) heartbeat: Heartbeat,
    /// What people ask of the source.
    pub(super) asked: &'a mut Asked,
    /// Ends with the reason why the stream has to begin anew.
    pub(super) watch: BoxFuture<'static, SourceError>,
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
        control: Arc<Control>,
        wire: Wire,
        appender: &'a mut Appender,
        assembler: Assembler,
        spill: Spill,
        reached: Reached,
        snapshots: Snapshots,
    ) -> Self {
        let (replayed, told, rounds, sent) = (None, Vec::new(), None, 0);
        Self { control, wire, appender, assembler, spill, reached, snapshots, replayed, told, rounds, sent }
    }

    /// Streams until told to stop. An append that is under way then is finished.
    ///
    /// # Errors
    /// If the stream cannot go on; an append may then still be under way.
    pub(super) async fn run(
        mut self,
        beside: Beside<'_>,
        stop: &CancellationToken,
    ) -> Result<(), SourceError> {
        let ended = self.go(beside, stop).await;
        // The next connection begins with what is written then.
        let settled = self.snapshots.settle().await;
        if ended.is_ok() {
            self.wire.close().await;
        }
        ended.and(settled)
    }

    async fn go(&mut self, beside: Beside<'_>, stop: &CancellationToken) -> Result<(), SourceError> {
        let Beside { mut heartbeat, asked, mut watch } = beside;
        let mut heard_at = Instant::now();
        let mut rest = Rest::None;
        loop {
            let append = if self.appender.is_idle() { Append::Idle } else { Append::UnderWay };
            self.step(append)?;
            rest = rest.begin(self.appender.is_idle());
            if self.snapshots.is_due() && self.is_between_transactions() {
                self.snapshots.turn(&mut self.assembler);
            }
            let has_room = !self.assembler.ready().is_full();
            let listens = has_room && !self.snapshots.has_turn();
            if !listens {
                // Silence counts only while we listen.
                heard_at = Instant::now();
            }
            let may_turn = has_room && self.snapshots.may_turn() && self.is_between_transactions();
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.finish().await,
                appended = self.appender.ended() => {
                    rest = Rest::None;
                    if self.step(Append::Ended(appended?))? == Step::Finish {
                        return Ok(());
                    }
                }
                beaten = heartbeat.next(&self.control) => beaten?,
                place = self.reached.next() => self.wire.confirm(place?),
                ask = asked.next() => self.snapshots.ask(ask, &mut self.assembler),
                // A transaction that is on its way would be sent again from its begin.
                reason = &mut watch, if self.is_between_transactions() && self.spill.is_empty() => return Err(reason),
                work = self.snapshots.next() => self.take_snapshot(work?),
                () = rest.over() => rest = Rest::None,
                incoming = next(self.replayed.as_mut(), &mut self.wire), if listens && !rest.is_on() => {
                    heard_at = Instant::now();
                    self.take(incoming?).await?;
                    let taken = 1 + self.take_buffered().await?;
                    let trickles = taken < SOURCE_TRICKLE_COUNT_MAX && self.replayed.is_none();
                    rest = if trickles { Rest::Wanted } else { Rest::None };
                }
                // The stream has nothing at hand.
                () = ready(()), if may_turn && !rest.is_on() => self.snapshots.turn(&mut self.assembler),
                () = sleep_until(heard_at + SOURCE_SILENCE_TIME_MAX), if listens => {
                    return Err(SourceError::Silent(SOURCE_SILENCE_TIME_MAX));
                }
            }
        }
    }

    fn step(&mut self, append: Append) -> Result<Step, SourceError> {
        let step = next_step(append, self.assembler.ready(), self.sent);
        if let Append::Ended(Appended::Upto(_)) = append
            && let Some(rounds) = self.rounds.take()
        {
            self.snapshots.keep(rounds);
        }
        match step {
            Step::Begin => {
                let mut batch = self.assembler.take_ready();
                self.told.append(&mut batch.told);
                self.rounds = batch.rounds.take();
                self.snapshots.note_batch();
                self.appender.begin(batch);
            }
            Step::Confirm(place) => {
                if self.assembler.ready().is_empty() {
                    self.told.append(&mut self.assembler.take_told());
                    self.assembler.take_rounds().into_iter().for_each(|rounds| self.snapshots.keep(rounds));
                }
                self.assembler.keep(std::mem::take(&mut self.told))?;
                self.reached.want(place);
            }
            Step::Wait | Step::Finish => {}
        }
        Ok(step)
    }

    fn is_between_transactions(&self) -> bool {
        !self.assembler.is_within_transaction() && self.replayed.is_none()
    }

    /// Takes rows of a snapshot, or what else was done for it.
    fn take_snapshot(&mut self, work: Option<Work>) {
        if let Some(work) = work {
            self.snapshots.take(work, &mut self.assembler);
            self.after_snapshot();
        }
    }

    /// Everything before what was sent is ready before the rows, or was appended.
    fn after_snapshot(&mut self) {
        if self.is_between_transactions() {
            self.assembler.close(self.sent);
        }
    }

    /// The stream has brought everything before a place.
    fn pass(&mut self, end: u64) {
        self.snapshots.pass(end);
        if self.snapshots.may_release() {
            self.snapshots.release(&mut self.assembler);
            self.after_snapshot();
        }
    }

    /// Takes what is in memory already, so that what came together is appended together, and says how much that was.
    async fn take_buffered(&mut self) -> Result<usize, SourceError> {
        let mut taken = 0;
        while !self.assembler.ready().is_full() {
            if self.snapshots.is_due() && self.is_between_transactions() {
                break;
            }
            let incoming = match &mut self.replayed {
                Some(replayed) => {
                    replayed.messages.buffered().map(|message| Incoming::Replayed(Some(message)))
                }
                None => self.wire.buffered()?.map(Incoming::Event),
            };
            let Some(incoming) = incoming else { break };
            self.take(incoming).await?;
            taken += 1;
        }
        Ok(taken)
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
                    self.pass(sent);
                }
            }
            Incoming::Event(Event::Nothing) => {}
            Incoming::Replayed(Some(message)) => self.assemble(decode(&message)?).await?,
            Incoming::Replayed(None) => {
                if let Some(Replayed { transaction, commit, end, committed_at, .. }) = self.replayed.take() {
                    self.assembler.push(&Message::Commit { commit, end, committed_at }, now())?;
                    self.spill.forget(transaction);
                    self.pass(end);
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
                self.snapshots.note(transaction, &mut self.assembler);
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
            message => {
                if let Message::Begin { transaction, .. } = message {
                    self.snapshots.note(transaction, &mut self.assembler);
                }
                self.assembler.push(&message, now())?;
                match message {
                    Message::Truncate { relations } => {
                        relations.iter().for_each(|relation| self.snapshots.truncated(relation));
                    }
                    Message::Commit { end, .. } => self.pass(end),
                    Message::Logical { scope: Scope::Standalone, at, .. } => self.pass(at),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), SourceError> {
        let appended = self.appender.settle().await?;
        self.step(Append::Ended(appended))?;
        let place = self.reached.settle().await?;
        self.wire.confirm(place);
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

/// Whether what comes is left to gather.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    None,
    /// Little came: it begins, if an append is under way.
    Wanted,
    Until(Instant),
}

impl Rest {
    fn begin(self, appender_is_idle: bool) -> Self {
        match self {
            Self::Wanted if appender_is_idle => Self::None,
            Self::Wanted => Self::Until(Instant::now() + SOURCE_REST_TIME),
            Self::None | Self::Until(_) => self,
        }
    }

    fn is_on(self) -> bool {
        matches!(self, Self::Until(_))
    }

    /// Waits for its end; for ever if it is not on.
    async fn over(self) {
        match self {
            Self::Until(end) => sleep_until(end).await,
            Self::None | Self::Wanted => pending().await,
        }
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
    fn nothing_rests_but_what_trickles_in_while_an_append_is_under_way() {
        assert_eq!(Rest::Wanted.begin(true), Rest::None);
        assert!(Rest::Wanted.begin(false).is_on());
        assert_eq!(Rest::None.begin(false), Rest::None);
        let until = Rest::Until(Instant::now());
        assert_eq!(until.begin(true), until, "only the end of an append ends it before its time");
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
