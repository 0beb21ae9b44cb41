//! The feed of one client: what it missed, then what comes, for channels that may change meanwhile.
//!
//! In: a place in the hub, and for each channel where to begin. Out: bytes in the client's format, resets, the end.
//!
//! A channel that is new to the client begins with its value, if it has one: a value that stands at or before the hub's
//! position. One beyond it comes live like any message, so no value is ever told after a newer message. After a reset
//! the values come likewise. Until they are told, no id is: whoever is cut off before has none that covers them.
//!
//! A channel that begins in the past is registered with the hub first, which tells a position; then the history is read
//! up to exactly that position, while everything after it waits in the mailbox. So is the whole feed when the mailbox
//! overflowed because the client is slow: it registers anew, and reads from the cursor. There is one way into the live
//! stream, and it has neither gap nor double; a face only encodes.
//!
//! ```text
//! history of X:   ······S·············P          S: what the client has, P: the hub's position when X was added
//! joining reads:         └───────────┘
//! mailbox has:                         └──────►  waits until the reading is done
//! ```
//! Invariants:
//! - of each channel, every kept message after its beginning was told in order and once, or a reset was;
//! - after [`Feed::unsubscribe`] nothing of the channel is told;
//! - who may not read what was before gets no value, also not after a reset;
//! - what is kept for a timeline is told on its channel, unless whom the user follows has changed since: then it is reset;
//! - what is read but not told is one page.
//!
//! Absent on purpose: commands, signs of life, and who may listen.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::admission::Attending;
use super::frame::{self, Frame, Kind};
use super::hub::{Pulse, Subscription};
use super::listening::{Listening, Past, past};
use super::mailbox::Taken;
use super::permits::Permits;
use super::resume::LossReason;
pub(super) use super::resume::Start;
use crate::bus::{Bus, BusError, Kept};
use crate::event::{Channel, Epoch, Sequence};
use crate::limits::REPLAY_READ_COUNT_MAX;
use crate::timeline::Sources;

/// What there is to tell.
#[derive(Debug)]
pub(super) enum Told {
    /// A message, encoded; its place, if it is kept.
    Message { sequence: Option<Sequence>, bytes: Bytes },
    /// The value of a channel, under its own place, which may be far behind.
    Value { bytes: Bytes },
    /// All values were told: the client is here now.
    Place(Sequence),
    /// Messages of these channels may be missing; all goes on from here, or, without a place, with their values.
    Reset { channels: Vec<Channel>, from: Option<Sequence>, reason: LossReason },
    /// The history cannot be read: the client must come back. The feed is at its end.
    Unavailable,
    /// The gateway ends the feed.
    Closed,
}

/// History that is to be read before the mailbox is looked at again.
struct Join {
    of: Of,
    /// Everything up to here was told.
    cursor: Sequence,
    /// From here on the mailbox has it.
    until: Sequence,
    lost: Option<LossReason>,
    values: Values,
    timeline: TimelineJoin,
}

impl Join {
    /// Channels that were added.
    fn added(of: Vec<Channel>, cursor: Sequence, until: Sequence) -> Self {
        let (values, timeline) = (Values::None, TimelineJoin::Unknown);
        Self { of: Of::Added(of), cursor, until, lost: None, values, timeline }
    }

    /// All channels, since the mailbox has overflowed.
    fn all(cursor: Sequence, until: Sequence) -> Self {
        let (values, timeline) = (Values::None, TimelineJoin::Unknown);
        Self { of: Of::All, cursor, until, lost: None, values, timeline }
    }
}

/// The values that a join tells before all else.
enum Values {
    /// It has none.
    None,
    /// These are left.
    Left(VecDeque<Arc<Kept>>),
    /// They could not be read.
    Failed(BusError),
}

/// Where channels begin that were added.
pub(super) struct Begun {
    /// Where those are that begin now, or were lost.
    pub(super) position: Sequence,
    /// Those that begin with a value, which is told next and has their first id.
    pub(super) with_value: Vec<Channel>,
}

/// What a join has of the timeline that the feed listens to, if that is a part of it.
enum TimelineJoin {
    /// Where to look for it is not known yet.
    Unknown,
    /// It is read from there.
    Of(Sources),
    /// It was reset: its client reads it anew.
    Reset,
}

/// Of which channels.
enum Of {
    /// All that the feed has, since the mailbox has overflowed.
    All,
    /// These, which were added together and begin at the same place.
    Added(Vec<Channel>),
}

/// See the head of this file.
pub(super) struct Feed {
    bus: Arc<dyn Bus>,
    subscription: Subscription,
    /// Everything at or before it was told, or is part of `joins`.
    cursor: Sequence,
    joins: VecDeque<Join>,
    /// What was read for the first of `joins`, and where that is when all of it is told.
    page: std::vec::IntoIter<Arc<Kept>>,
    page_end: Sequence,
    /// Channels that are told up to a place beyond the cursor by a join of their own.
    ahead: HashMap<Channel, Sequence>,
    /// Channels of which the client may have nothing that was before it came.
    withheld: Vec<Channel>,
    listening: Option<Listening>,
}

impl Feed {
    /// A feed without channels.
    pub(super) fn new(bus: Arc<dyn Bus>, subscription: Subscription) -> Self {
        Self {
            bus,
            subscription,
            cursor: Sequence(0),
            joins: VecDeque::new(),
            page: Vec::new().into_iter(),
            page_end: Sequence(0),
            ahead: HashMap::new(),
            withheld: Vec::new(),
            listening: None,
        }
    }

    /// The timeline among its channels.
    pub(super) fn listening(&self) -> Option<&Listening> {
        self.listening.as_ref()
    }

    /// Takes the timeline that is among the channels which are subscribed next, if there is one.
    pub(super) fn listen(&mut self, listening: Option<Listening>) {
        if listening.is_some() {
            self.listening = listening;
        }
    }

    /// The life of the history.
    pub(super) fn epoch(&self) -> Epoch {
        self.bus.epoch()
    }

    /// Its channels.
    pub(super) fn channels(&self) -> &[Channel] {
        self.subscription.channels()
    }

    /// How long its client should wait before it comes back.
    pub(super) fn reconnect_delay(&self) -> Duration {
        self.subscription.reconnect_delay()
    }

    /// Its client is about to be told something that must come before what the hub puts from now on.
    pub(super) fn claim(&self) {
        self.subscription.claim();
    }

    /// Its permits, of which it has none yet.
    pub(super) fn permits(&self) -> Permits {
        self.subscription.permits()
    }

    /// The means to tell how the connection does.
    pub(super) fn pulse(&self) -> Pulse {
        self.subscription.pulse()
    }

    /// Adds channels, none of which may be there already.
    pub(super) async fn subscribe(&mut self, channels: Vec<(Channel, Start)>) -> Begun {
        let new = channels.iter().filter(|(_, start)| *start == Start::New);
        let new: Vec<Channel> = new.map(|(channel, _)| channel.clone()).collect();
        let position = self.add(channels);
        let mut with_value = Vec::new();
        // After the place was taken: what is newer comes live.
        let values = match self.values_of(&new, position).await {
            Ok(values) if values.is_empty() => return Begun { position, with_value },
            Ok(values) => {
                with_value.extend(values.iter().map(|kept| kept.message.channel.clone()));
                Values::Left(values)
            }
            Err(error) => {
                with_value.clone_from(&new);
                Values::Failed(error)
            }
        };
        self.joins.push_back(Join { values, ..Join::added(new, position, position) });
        Begun { position, with_value }
    }

    /// The values of these channels that stand at or before a position, in the order of their places.
    async fn values_of(
        &self,
        channels: &[Channel],
        position: Sequence,
    ) -> Result<VecDeque<Arc<Kept>>, BusError> {
        // A timeline's value is its page.
        let timeline = self.listening.as_ref().map(Listening::channel);
        let has = |channel: &&Channel| Some(*channel) != timeline && !self.withheld.contains(channel);
        let channels: Vec<Channel> = channels.iter().filter(has).cloned().collect();
        if channels.is_empty() {
            return Ok(VecDeque::new());
        }
        let values = self.bus.values(&channels).await?;
        Ok(values.into_iter().filter(|kept| kept.sequence <= position).collect())
    }

    fn add(&mut self, mut channels: Vec<(Channel, Start)>) -> Sequence {
        let was_empty = self.channels().is_empty();
        let position = self.subscription.add(channels.iter().map(|(channel, _)| channel.clone()));
        if was_empty {
            // What was to be read was of channels that are gone.
            self.cursor = position;
            self.ahead.clear();
            self.joins.clear();
            self.end_join();
        }
        if channels.iter().any(|(_, start)| matches!(start, Start::After(_))) {
            self.subscription.counters().resumes.fetch_add(1, Ordering::Relaxed);
        }
        channels.sort_by_key(|(_, start)| *start);
        for group in channels.chunk_by(|(_, one), (_, other)| one == other) {
            if matches!(group[0].1, Start::Live | Start::Lost(LossReason::Withheld)) {
                self.withheld.extend(group.iter().map(|(channel, _)| channel.clone()));
            }
            let (cursor, lost) = match group[0].1 {
                Start::New | Start::Live => (position, None),
                Start::After(sequence) => (sequence, None),
                Start::Lost(reason) => (position, Some(reason)),
            };
            // Who resumes from beyond the hub has what the hub is about to put.
            let until = position.max(cursor);
            if until > self.cursor {
                self.ahead.extend(group.iter().map(|(channel, _)| (channel.clone(), until)));
            }
            if cursor < until || lost.is_some() {
                let of = group.iter().map(|(channel, _)| channel.clone()).collect();
                self.joins.push_back(Join { lost, ..Join::added(of, cursor, until) });
            }
        }
        position
    }

    /// Sees who is on those of its channels for which that is granted, instead of what it saw before.
    pub(super) fn attend(&mut self, attending: &Attending) {
        self.subscription.part(&attending.refused);
        for channel in &attending.granted {
            self.subscription.attend(channel, attending.subject.as_deref());
        }
    }

    /// Who is on its channels.
    pub(super) fn present(&self) -> Vec<serde_json::Value> {
        self.subscription.present()
    }

    /// Takes channels away: nothing of them is told any more.
    pub(super) fn unsubscribe(&mut self, channels: &[Channel]) {
        self.subscription.remove(channels);
        let leaves_timeline =
            self.listening.take_if(|listening| channels.contains(listening.channel())).is_some();
        if leaves_timeline {
            self.subscription.remove_news();
        }
        let is_gone = |channel: &Channel| {
            channels.contains(channel) || leaves_timeline && channel.as_reserved().is_some()
        };
        let page = std::mem::take(&mut self.page);
        self.page = page.filter(|kept| !is_gone(&kept.message.channel)).collect::<Vec<_>>().into_iter();
        for channel in channels {
            self.ahead.remove(channel);
        }
        self.withheld.retain(|channel| !channels.contains(channel));
        for join in &mut self.joins {
            if let Values::Left(values) = &mut join.values {
                values.retain(|kept| !channels.contains(&kept.message.channel));
            }
            if leaves_timeline {
                join.timeline = TimelineJoin::Unknown;
            }
            if let Of::Added(added) = &mut join.of {
                added.retain(|channel| !channels.contains(channel));
            }
        }
    }

    /// The place of all channels, unless some are still being told what they missed.
    pub(super) fn place(&mut self) -> Option<Sequence> {
        if !self.joins.is_empty() {
            return None;
        }
        if let Some(position) = self.subscription.drained_position() {
            self.cursor = self.cursor.max(position);
        }
        self.cursor = self.cursor.max(self.subscription.written());
        self.forget_passed();
        self.ahead.is_empty().then_some(self.cursor)
    }

    /// What is next, when it is there. Cancelling loses nothing.
    pub(super) async fn next(&mut self) -> Told {
        loop {
            if let Some(told) = self.missed().await {
                return told;
            }
            if let Some(told) = self.live().await {
                self.count(&told);
                return told;
            }
        }
    }

    /// What is next of that which was missed; `None` if all of it was told. Cancelling loses nothing.
    pub(super) async fn missed(&mut self) -> Option<Told> {
        while !self.joins.is_empty() {
            if let Some(told) = self.join().await {
                self.count(&told);
                return Some(told);
            }
        }
        None
    }

    fn count(&self, told: &Told) {
        let counters = self.subscription.counters();
        match told {
            Told::Message { .. } | Told::Value { .. } => counters.messages.fetch_add(1, Ordering::Relaxed),
            Told::Reset { .. } => counters.resets.fetch_add(1, Ordering::Relaxed),
            Told::Place(_) | Told::Unavailable | Told::Closed => return,
        };
    }

    async fn live(&mut self) -> Option<Told> {
        // A channel that is ahead has messages to be left out.
        let taken = self.subscription.take(!self.ahead.is_empty()).await;
        self.cursor = self.cursor.max(self.subscription.written());
        match taken {
            Taken::Frame(frame) => {
                let channel = match (frame.kind, &self.listening) {
                    (Kind::Message, _) => &frame.channel,
                    (Kind::News | Kind::Turned, Some(listening)) => listening.channel(),
                    (Kind::News | Kind::Turned, None) => return None,
                };
                if let Some(sequence) = frame.sequence {
                    let is_news = frame.kind != Kind::Message;
                    let was_told = |told: &Sequence| sequence <= *told;
                    // News are put one timeline after the other: this one may have begun in the middle of it.
                    if is_news && was_told(&self.cursor) || self.ahead.get(channel).is_some_and(was_told) {
                        self.cursor = self.cursor.max(sequence);
                        return None;
                    }
                    self.cursor = sequence;
                }
                let channel = channel.clone();
                self.forget_passed();
                Some(self.told(&frame, channel))
            }
            Taken::Behind => {
                let until = self.subscription.follow();
                self.subscription.refresh_presence();
                self.joins.push_back(Join::all(self.cursor, until));
                None
            }
            Taken::Closed => Some(Told::Closed),
        }
    }

    fn told(&self, frame: &Frame, channel: Channel) -> Told {
        let sequence = frame.sequence;
        match frame.kind {
            Kind::Message => Told::Message { sequence, bytes: frame.bytes.clone() },
            Kind::News => {
                let bytes = frame::addressed(self.subscription.format(), &channel, &frame.bytes);
                Told::Message { sequence, bytes }
            }
            Kind::Turned => {
                let from = sequence.unwrap_or(self.cursor);
                Told::Reset { channels: vec![channel], from: Some(from), reason: LossReason::Follows }
            }
        }
    }

    /// What a kept message is to the first join's client.
    fn replayed(&mut self, kept: &Kept) -> Option<Told> {
        let (format, epoch, sequence) = (self.subscription.format(), self.epoch(), Some(kept.sequence));
        let join = self.joins.front_mut()?;
        join.cursor = kept.sequence;
        let bytes = frame::message(format, epoch, sequence, &kept.message);
        if kept.message.channel.as_reserved().is_none() {
            return Some(Told::Message { sequence, bytes });
        }
        let TimelineJoin::Of(sources) = &join.timeline else { return None };
        let past = past(kept, sources)?;
        let channel = self.listening.as_ref()?.channel().clone();
        match past {
            Past::News => Some(Told::Message { sequence, bytes: frame::addressed(format, &channel, &bytes) }),
            Past::Nothing => None,
            Past::Turned => {
                join.timeline = TimelineJoin::Reset;
                Some(Told::Reset {
                    channels: vec![channel],
                    from: Some(kept.sequence),
                    reason: LossReason::Follows,
                })
            }
        }
    }

    /// Whether where to look for the timeline has to be found first, if it is a part of the first join.
    fn lacks_sources(&self) -> bool {
        let (Some(join), Some(listening)) = (self.joins.front(), &self.listening) else { return false };
        let is_part = match &join.of {
            Of::All => true,
            Of::Added(channels) => channels.contains(listening.channel()),
        };
        is_part && matches!(join.timeline, TimelineJoin::Unknown)
    }

    /// One step of the first join; `None` if it told nothing.
    async fn join(&mut self) -> Option<Told> {
        if let Some(kept) = self.page.next() {
            return self.replayed(&kept);
        }
        if self.subscription.is_closed() {
            return Some(Told::Closed);
        }
        let end = self.page_end;
        let (format, epoch) = (self.subscription.format(), self.epoch());
        let join = self.joins.front_mut()?;
        join.cursor = join.cursor.max(end);
        if let Some(reason) = join.lost {
            return self.reset(reason).await;
        }
        match &mut join.values {
            Values::None => {}
            Values::Left(values) => {
                let next = values.pop_front();
                if let Some(kept) = next {
                    return Some(Told::Value { bytes: frame::value(format, epoch, &kept) });
                }
                self.end_join();
                return self.place().map(Told::Place);
            }
            Values::Failed(error) => return Some(unavailable(error)),
        }
        let channels = match &join.of {
            Of::All => self.subscription.channels(),
            Of::Added(channels) => channels,
        };
        if join.cursor >= join.until || channels.is_empty() {
            self.end_join();
            return None;
        }
        if self.lacks_sources() {
            // After the place was taken: an edge that is in `sources` and not in the history comes live.
            let found = self.listening.as_ref()?.sources().await;
            return match found {
                Ok(sources) => {
                    self.joins.front_mut()?.timeline = TimelineJoin::Of(sources);
                    None
                }
                Err(error) => Some(unavailable(&error)),
            };
        }
        self.read_page().await
    }

    /// Reads what the first join tells next.
    async fn read_page(&mut self) -> Option<Told> {
        let join = self.joins.front_mut()?;
        let channels = match &join.of {
            Of::All => self.subscription.channels(),
            Of::Added(channels) => channels,
        };
        let (after, until) = (join.cursor, join.until);
        let wanted = match &join.timeline {
            TimelineJoin::Of(sources) => Cow::Owned([channels, &sources.channels].concat()),
            TimelineJoin::Unknown | TimelineJoin::Reset => Cow::Borrowed(channels),
        };
        match self.bus.read(Some(&wanted), after, REPLAY_READ_COUNT_MAX).await {
            // Retention moves the floor before it removes: a floor that is not past us vouches for the page.
            Ok(_) if self.bus.floor() > after => join.lost = Some(LossReason::Expired),
            Ok(page) => {
                let last = page.last().filter(|_| page.len() == REPLAY_READ_COUNT_MAX);
                self.page_end = last.map_or(until, |kept| kept.sequence.min(until));
                let is_all = matches!(join.of, Of::All);
                let told = |kept: &Kept| {
                    let channel = match &self.listening {
                        Some(listening) if kept.message.channel.as_reserved().is_some() => {
                            listening.channel()
                        }
                        _ => &kept.message.channel,
                    };
                    is_all && self.ahead.get(channel).is_some_and(|told| kept.sequence <= *told)
                };
                self.page = page
                    .into_iter()
                    .filter(|kept| kept.sequence <= until && !told(kept))
                    .collect::<Vec<_>>()
                    .into_iter();
            }
            Err(error) => return Some(unavailable(&error)),
        }
        None
    }

    /// Goes on from the first join with a word about the loss, if that is of any channel, and then with values.
    async fn reset(&mut self, reason: LossReason) -> Option<Told> {
        let join = self.joins.front()?;
        let from = join.until;
        let channels: Vec<Channel> = match &join.of {
            Of::Added(channels) => channels.clone(),
            // The others have their own place, beyond the loss.
            Of::All => {
                let told = |channel: &&Channel| self.ahead.get(*channel).is_some_and(|told| *told >= from);
                self.channels().iter().filter(|channel| !told(channel)).cloned().collect()
            }
        };
        let values = match self.values_of(&channels, from).await {
            Ok(values) => values,
            Err(error) => return Some(unavailable(&error)),
        };
        if values.is_empty() {
            self.end_join();
            return (!channels.is_empty()).then_some(Told::Reset { channels, from: Some(from), reason });
        }
        let join = self.joins.front_mut()?;
        (join.cursor, join.lost, join.values) = (from, None, Values::Left(values));
        Some(Told::Reset { channels, from: None, reason })
    }

    fn end_join(&mut self) {
        self.page = Vec::new().into_iter();
        self.page_end = Sequence(0);
        if let Some(Join { of: Of::All, until, .. }) = self.joins.pop_front() {
            self.cursor = self.cursor.max(until);
            self.forget_passed();
        }
    }

    fn forget_passed(&mut self) {
        let cursor = self.cursor;
        self.ahead.retain(|_, told| *told > cursor);
    }
}

fn unavailable(error: &(dyn std::error::Error + 'static)) -> Told {
    tracing::warn!(error, "a replay failed; its client may resume");
    Told::Unavailable
}
