//! Which messages were kept lately, by the ids that their senders gave them.
//!
//! In: who said what where, and its number; after a start, the end of the change log. Out: the number of a message that
//! comes again.
//!
//! An id counts for a subject on a channel. Who has no subject has no ids that count: two of them could choose the same.
//!
//! Invariant: an id is remembered for `CLIENT_IDS_AGE_MAX`, unless more than `CLIENT_IDS_COUNT_MAX` came after it. Over a
//! restart it is so because the change log has it, among its last `CLIENT_IDS_SCAN_COUNT_MAX` records.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::{ClientMessage, SOURCE};
use crate::event::{Change, Decoder, Header, Offset, Partition, Value};
use crate::limits::{
    CLIENT_IDS_AGE_MAX, CLIENT_IDS_COUNT_MAX, CLIENT_IDS_READ_BYTES, CLIENT_IDS_SCAN_COUNT_MAX,
    CLIENT_IDS_SCAN_STEP,
};
use crate::log::{ChangeLog, LogError};

/// A message, as its sender names it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    subject: Box<str>,
    channel: Box<str>,
    id: Box<str>,
}

impl Key {
    pub(super) fn of(message: &ClientMessage) -> Option<Self> {
        let (subject, id) = (message.subject.clone()?, message.id.clone()?);
        Some(Self { subject, channel: message.channel.as_str().into(), id })
    }

    fn of_change(change: &Change) -> Option<Self> {
        let row = change.row()?;
        let text = |name| match row.value(change.table.column(name)?) {
            Value::Text(text) => Some(text.into()),
            _ => None,
        };
        Some(Self { subject: text("subject")?, channel: text("channel")?, id: text("id")? })
    }
}

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Ids {
    numbers: HashMap<Arc<Key>, u64>,
    /// By number.
    order: VecDeque<(u64, Arc<Key>)>,
}

impl Ids {
    /// The number of a message that was kept.
    pub(super) fn number(&self, key: &Key) -> Option<u64> {
        self.numbers.get(key).copied()
    }

    /// A message was kept, after all others.
    pub(super) fn add(&mut self, key: Arc<Key>, number: u64) {
        if self.numbers.insert(Arc::clone(&key), number).is_some() {
            // It was kept twice, as after a start that could not look so far back: the later one counts.
            self.order.retain(|(_, other)| *other != key);
        }
        self.order.push_back((number, key));
        if self.order.len() > CLIENT_IDS_COUNT_MAX {
            self.forget_first();
        }
    }

    /// Forgets those that are too old now.
    pub(super) fn forget_before(&mut self, now: u64) {
        let oldest = oldest(now);
        while self.order.front().is_some_and(|(number, _)| *number <= oldest) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.numbers.remove(&key);
        }
    }
}

/// The number of what is just too old.
pub(super) fn oldest(now: u64) -> u64 {
    now.saturating_sub(u64::try_from(CLIENT_IDS_AGE_MAX.as_micros()).unwrap_or(u64::MAX))
}

/// What the end of a log tells.
///
/// # Errors
/// If it cannot be read.
pub(super) async fn recall(log: &dyn ChangeLog, partition: Partition, now: u64) -> Result<Ids, LogError> {
    let mut ids = Ids::default();
    let oldest = oldest(now);
    // Mostly clients have said nothing lately, and nothing has to be read.
    if log.last_position(SOURCE).is_none_or(|last| last.commit <= oldest) {
        return Ok(ids);
    }
    let kept = log.bounds(partition);
    let lowest = kept.start.0.max(kept.end.0.saturating_sub(CLIENT_IDS_SCAN_COUNT_MAX));
    let (mut found, mut until) = (VecDeque::new(), kept.end.0);
    while until > lowest && found.len() < CLIENT_IDS_COUNT_MAX {
        let from = lowest.max(until.saturating_sub(CLIENT_IDS_SCAN_STEP));
        let step = match read(log, partition, from..until, oldest).await {
            Ok(step) => step,
            // Retention was faster: there is nothing further back.
            Err(LogError::Removed { .. }) => break,
            Err(error) => return Err(error),
        };
        step.found.into_iter().rev().for_each(|one| found.push_front(one));
        if step.is_last {
            break;
        }
        until = from;
    }
    found.into_iter().for_each(|(number, key)| ids.add(Arc::new(key), number));
    Ok(ids)
}

/// What some records tell.
struct Step {
    found: Vec<(u64, Key)>,
    /// Whether one was too old, so that all before are.
    is_last: bool,
}

async fn read(
    log: &dyn ChangeLog,
    partition: Partition,
    offsets: std::ops::Range<u64>,
    oldest: u64,
) -> Result<Step, LogError> {
    let mut step = Step { found: Vec::new(), is_last: false };
    let (mut decoder, mut next) = (Decoder::default(), offsets.start);
    while next < offsets.end {
        let count_max = usize::try_from(offsets.end - next).unwrap_or(usize::MAX);
        for record in log.read(partition, Offset(next), count_max, CLIENT_IDS_READ_BYTES).await? {
            next = record.offset.0 + 1;
            // A dead letter that was handed over again stands where it stood; whatever cannot be read is not ours.
            let Ok(Header { source: SOURCE, position, is_reached: true }) = Header::of(&record.payload)
            else {
                continue;
            };
            if position.commit <= oldest {
                step.is_last = true;
                continue;
            }
            let key = decoder.decode(&record.payload).ok().and_then(|change| Key::of_change(&change));
            step.found.extend(key.map(|key| (position.commit, key)));
        }
    }
    Ok(step)
}
