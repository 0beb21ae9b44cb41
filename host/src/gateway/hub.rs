//! The hub: follows the bus once for everybody, and puts each message's frame into the mailboxes of its channel.
//!
//! In: kept messages by sequence, live-only ones as they come. Out: shared frames.
//!
//! Invariants:
//! - a frame is encoded once for each format, however many clients get it, and not at all if nobody does;
//! - everything after the hub's position will be put, and everything up to where it has settled has been: who begins to
//!   follow learns the position under the same lock, reads the history up to it, and has neither gap nor double;
//! - the two are the same but while news go to the timelines of many, who are found only after the position has moved: so
//!   who comes meanwhile finds them in the history;
//! - a subscription that is dropped leaves nothing behind.
//!
//! Lock order: the registry, then a mailbox. Nobody holds a mailbox and asks for the registry.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Config;
use super::frame::{Format, Frames};
use super::mailbox::{Bounds, Mailbox, Own, Taken};
use super::permits::{Pass, Permits};
use super::presence::{Parting, Presence};
use crate::backoff::Backoff;
use crate::bus::{Bus, Kept};
use crate::event::{Channel, Message, Micros, Sequence};
use crate::limits::{HISTORY_READ_COUNT_MAX, HUB_TURN_COUNT_MAX};
use crate::telemetry::{CutReason, Face, FaceMetrics, Limit, Metrics};
use crate::timeline::{Listeners, Source, Timelines};

/// Which of the subscriptions there ever were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SubscriberId(pub(super) u64);

/// Why nobody more may subscribe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SubscribeError {
    /// The bound is reached.
    Full,
    /// The gateway stops: who asks should come back after this time.
    Closed(Duration),
}

/// See the head of this file.
pub(super) struct Hub {
    bus: Arc<dyn Bus>,
    began: Instant,
    subscribers_count_max: usize,
    bounds: Bounds,
    stall_time_max: Duration,
    reconnect_delay: Duration,
    drain_interval: Duration,
    metrics: Arc<Metrics>,
    timelines: Option<Timelines>,
    presence: Presence,
    registry: Mutex<Registry>,
    /// Where it has settled: beside the registry, which is held while messages are written, for all who ask where they are.
    settled: AtomicU64,
    /// How many were here when the end began.
    leaving: AtomicU32,
}

#[derive(Default)]
struct Registry {
    position: Sequence,
    closed: bool,
    next: u64,
    subscribers: HashMap<SubscriberId, Arc<Mailbox>>,
    channels: HashMap<Channel, Followers>,
}

type Followers = BTreeMap<SubscriberId, Arc<Mailbox>>;

impl Registry {
    fn leave(&mut self, id: SubscriberId, channel: &Channel) {
        if let Some(followers) = self.channels.get_mut(channel) {
            followers.remove(&id);
            if followers.is_empty() {
                self.channels.remove(channel);
            }
        }
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("subscribers_count", &self.subscribers_count()).finish_non_exhaustive()
    }
}

/// The hub's own view of the bus, from the moment that the hub was made.
pub(super) struct Follower {
    head: watch::Receiver<Sequence>,
    live: broadcast::Receiver<Arc<Message>>,
}

impl Hub {
    /// A hub that stands at the head of the history, and what its task needs.
    pub(super) fn new(
        config: &Config,
        bus: Arc<dyn Bus>,
        timelines: Option<Timelines>,
    ) -> (Arc<Self>, Follower) {
        let live = bus.live();
        let mut head = bus.head();
        let position = *head.borrow_and_update();
        let hub = Self {
            bus,
            began: Instant::now(),
            subscribers_count_max: config.connections_count_max,
            bounds: Bounds {
                queue_count_max: config.queue_count_max,
                direct_bytes_max: config.direct_bytes_max,
            },
            stall_time_max: config.stall_time_max,
            reconnect_delay: config.reconnect_delay,
            drain_interval: config.drain_interval,
            leaving: AtomicU32::new(0),
            metrics: Arc::clone(&config.metrics),
            timelines,
            presence: Presence::new(config.presence.clone(), Arc::clone(&config.metrics)),
            registry: Mutex::new(Registry { position, ..Registry::default() }),
            settled: AtomicU64::new(position.0),
        };
        (Arc::new(hub), Follower { head, live })
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the bus until `stop`, or until the end of the bus, which ends every stream.
    pub(super) async fn run(self: Arc<Self>, follower: Follower, stop: CancellationToken) {
        let Follower { head, live } = follower;
        tokio::select! {
            () = stop.cancelled() => return,
            () = self.follow_history(head) => {}
            () = self.follow_live(live) => {}
            () = self.sweep() => {}
            () = self.presence.run() => {}
        }
        self.close();
    }

    /// Returns when the bus is gone.
    async fn follow_history(&self, mut head: watch::Receiver<Sequence>) {
        let mut backoff = Backoff::default();
        loop {
            let position = self.registry().position;
            match self.bus.read(None, position, HISTORY_READ_COUNT_MAX).await {
                Ok(page) => {
                    backoff = Backoff::default();
                    // Retention moves the floor before it removes: a floor that is not past us vouches for the page.
                    let floor = self.bus.floor();
                    if floor > position {
                        tracing::warn!(%position, %floor, "retention overtook the hub: streams resume by themselves");
                        self.lapse(floor);
                        continue;
                    }
                    self.put_page(&page).await;
                    if page.len() < HISTORY_READ_COUNT_MAX && head.changed().await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot read the history, trying again"
                    );
                    backoff.wait().await;
                }
            }
        }
    }

    async fn put_page(&self, page: &[Arc<Kept>]) {
        let mut deliveries_count = 0;
        for kept in page {
            deliveries_count += 1 + match Source::of(&kept.message.channel) {
                None => self.put(Frames::kept(self.bus.epoch(), kept), &kept.message.channel),
                Some(source) => self.spread(kept, source).await,
            };
            if deliveries_count >= HUB_TURN_COUNT_MAX {
                deliveries_count = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Returns when the bus is gone.
    async fn follow_live(&self, mut live: broadcast::Receiver<Arc<Message>>) {
        loop {
            match live.recv().await {
                Ok(message) => {
                    self.put(Frames::live(self.bus.epoch(), &message), &message.channel);
                    tokio::task::consume_budget().await;
                }
                Err(broadcast::error::RecvError::Lagged(count)) => {
                    tracing::warn!(
                        count,
                        "live messages came faster than they could be handed out; these are gone"
                    );
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    /// Puts a message into the mailboxes of its channel and says into how many.
    fn put(&self, mut frames: Frames<'_>, channel: &Channel) -> usize {
        let mut registry = self.registry();
        let count = match registry.channels.get(channel.as_str()) {
            Some(followers) => self.put_frame(followers, &mut frames),
            None => 0,
        };
        if let Some(sequence) = frames.sequence() {
            registry.position = sequence;
            self.settle(sequence);
        }
        count
    }

    /// Puts what is kept for timelines into the mailboxes of those who listen to one that it is of, and says into how many.
    async fn spread(&self, kept: &Kept, source: Source) -> usize {
        // First of all: see the head of this file.
        self.registry().position = kept.sequence;
        let mut count = 0;
        if let Some(timelines) = &self.timelines {
            let mut listeners = listeners(timelines, source).await;
            let mut frames = Frames::kept(self.bus.epoch(), kept);
            while let Some(channels) = timelines.next_channels(&mut listeners, HUB_TURN_COUNT_MAX) {
                count += self.put_frames(&channels, &mut frames);
                tokio::task::consume_budget().await;
            }
        }
        self.settle(kept.sequence);
        count
    }

    fn put_frames(&self, channels: &[Arc<str>], frames: &mut Frames<'_>) -> usize {
        let registry = self.registry();
        let mut count = 0;
        for channel in channels {
            let Some(followers) = registry.channels.get(&**channel) else { continue };
            count += self.put_frame(followers, frames);
        }
        count
    }

    fn settle(&self, sequence: Sequence) {
        self.settled.store(sequence.0, Ordering::Release);
    }

    fn put_frame(&self, followers: &Followers, frames: &mut Frames<'_>) -> usize {
        let (began, now) = (Instant::now(), self.now_millis());
        let mut written = [0; Face::ALL.len()];
        for mailbox in followers.values() {
            let face = mailbox.face();
            written[face as usize] += u64::from(mailbox.give(frames.get(Format::of(face)), now));
        }
        for face in Face::ALL {
            let count = written[face as usize];
            if count > 0 {
                self.metrics.gateway.face(face).messages.fetch_add(count, Ordering::Relaxed);
                let committed_at = frames.committed_at().map(Micros::since_epoch);
                self.metrics.gateway.deliveries.observe(began.elapsed(), committed_at, count);
            }
        }
        followers.len()
    }

    fn lapse(&self, floor: Sequence) {
        let mut registry = self.registry();
        registry.position = floor;
        self.settle(floor);
        registry.subscribers.values().for_each(|mailbox| mailbox.lapse());
    }

    /// Cuts, now and then, the connections that take nothing.
    async fn sweep(&self) {
        let mut ticks = tokio::time::interval((self.stall_time_max / 4).max(Duration::from_millis(1)));
        loop {
            ticks.tick().await;
            let Some(before) = self.now_millis().checked_sub(millis(self.stall_time_max)) else { continue };
            let mut registry = self.registry();
            let there = registry.subscribers.len();
            // Its place is free at once: over HTTP/2 nothing ends a stream that its peer does not take from.
            registry.subscribers.retain(|_, mailbox| {
                let stalled = mailbox.is_stalled(before);
                if stalled {
                    mailbox.cut();
                }
                !stalled
            });
            let count = there - registry.subscribers.len();
            drop(registry);
            if count > 0 {
                let cut = self.metrics.gateway.listener.cuts(CutReason::Stalled);
                cut.fetch_add(count as u64, Ordering::Relaxed);
                tracing::info!(count, "cut connections that took nothing; their clients may resume");
            }
        }
    }

    /// Ends every stream, and lets nobody subscribe any more.
    fn close(&self) {
        self.shut().iter().for_each(|mailbox| mailbox.close());
    }

    /// Lets nobody subscribe any more, and ends the streams, in no order: one `drain_interval` after the other, but all of
    /// them within `time_max`.
    pub(super) async fn drain(&self, time_max: Duration) {
        let leaving = self.shut();
        let count = u32::try_from(leaving.len()).unwrap_or(u32::MAX);
        let (began, time) = (Instant::now(), self.drain_interval.saturating_mul(count).min(time_max));
        for (nth, mailbox) in (0..).zip(leaving) {
            tokio::time::sleep_until(began + time * nth / count).await;
            mailbox.close();
        }
    }

    /// Lets nobody subscribe any more; those who are here.
    fn shut(&self) -> Vec<Arc<Mailbox>> {
        let mut registry = self.registry();
        registry.closed = true;
        let leaving: Vec<_> = registry.subscribers.values().cloned().collect();
        self.leaving.fetch_max(u32::try_from(leaving.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
        leaving
    }

    /// How long the client of this number should wait before it comes back. The times are spread, the wider the more
    /// clients there were: those who were here must not all come back in the same moment.
    fn reconnect_delay(&self, number: u64) -> Duration {
        // By the golden ratio: whichever numbers are left, they lie apart.
        let share = u32::try_from(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32).unwrap_or(0);
        let crowd = self.drain_interval.saturating_mul(self.leaving.load(Ordering::Relaxed));
        let spread = crowd.max(self.reconnect_delay);
        self.reconnect_delay / 2 + spread.mul_f64(f64::from(share) / f64::from(u32::MAX))
    }

    fn now_millis(&self) -> u64 {
        millis(self.began.elapsed())
    }

    /// The subscriptions that are open.
    pub(super) fn subscribers_count(&self) -> usize {
        self.registry().subscribers.len()
    }

    /// The channels that somebody is subscribed to.
    #[cfg(test)]
    pub(super) fn channels_count(&self) -> usize {
        self.registry().channels.len()
    }

    /// A place for a client of a face, with no channel yet; with the connection under it, if nobody else shares that.
    ///
    /// # Errors
    /// If there is no room, or the gateway stops.
    pub(super) fn join(self: &Arc<Self>, face: Face, own: Own) -> Result<Subscription, SubscribeError> {
        let mut registry = self.registry();
        if registry.closed {
            registry.next += 1;
            return Err(SubscribeError::Closed(self.reconnect_delay(registry.next)));
        }
        if registry.subscribers.len() >= self.subscribers_count_max {
            self.metrics.gateway.listener.count_limited(Limit::Streams);
            return Err(SubscribeError::Full);
        }
        let id = SubscriberId(registry.next);
        registry.next += 1;
        let delays = self.metrics.gateway.deliveries.clone();
        let mailbox = Arc::new(Mailbox::new(face, self.bounds, own, delays));
        registry.subscribers.insert(id, Arc::clone(&mailbox));
        drop(registry);
        self.metrics.gateway.face(face).open.fetch_add(1, Ordering::Relaxed);
        let (channels, attended) = (Vec::new(), Vec::new());
        Ok(Subscription { hub: Arc::clone(self), id, channels, attended, mailbox })
    }
}

/// However long the state cannot be read: what is not told now would be missing without a word.
async fn listeners(timelines: &Timelines, source: Source) -> Listeners {
    let mut backoff = Backoff::default();
    loop {
        match timelines.listeners(source).await {
            Ok(listeners) => return listeners,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot find out whom to tell of a post, trying again"
                );
                backoff.wait().await;
            }
        }
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One stream's place in the hub; dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Subscription {
    hub: Arc<Hub>,
    id: SubscriberId,
    channels: Vec<Channel>,
    /// Those on which it sees who is there.
    attended: Vec<Channel>,
    mailbox: Arc<Mailbox>,
}

impl Subscription {
    /// Its channels.
    pub(super) fn channels(&self) -> &[Channel] {
        &self.channels
    }

    /// How long its client should wait before it comes back.
    pub(super) fn reconnect_delay(&self) -> Duration {
        self.hub.reconnect_delay(self.id.0)
    }

    /// Adds channels, none of which may be there already. Whoever follows gets everything of them after the position
    /// that this returns; with the first channels it begins to follow.
    pub(super) fn add(&mut self, channels: impl IntoIterator<Item = Channel>) -> Sequence {
        // The answer to who asked comes before all that follows.
        self.mailbox.claim();
        let mut registry = self.hub.registry();
        if self.channels.is_empty() {
            self.mailbox.follow();
        }
        for mut channel in channels {
            // A name that is there already is shared: ten thousand streams of one channel hold one text.
            if let Some((known, _)) = registry.channels.get_key_value(&channel) {
                channel = known.clone();
            }
            let followers = registry.channels.entry(channel.clone()).or_default();
            followers.insert(self.id, Arc::clone(&self.mailbox));
            self.channels.push(channel);
        }
        registry.position
    }

    /// What is put from now on waits until the client was told what it is told next.
    pub(super) fn claim(&self) {
        self.mailbox.claim();
    }

    /// Takes channels away, with what waits of them: nothing of them comes any more.
    pub(super) fn remove(&mut self, channels: &[Channel]) {
        self.part(channels);
        let mut registry = self.hub.registry();
        for channel in channels {
            self.channels.retain(|own| own != channel);
            registry.leave(self.id, channel);
            self.mailbox.remove(channel);
        }
    }

    /// Sees from now on who is on a channel that it has, if that is told there, and is seen as this subject; no more as the
    /// one before.
    pub(super) fn attend(&mut self, channel: &Channel, subject: Option<&str>) {
        // Who polls comes back for what it wants to see.
        let mailbox = (self.mailbox.face() != Face::LongPoll).then_some(&self.mailbox);
        let is_there = self.hub.presence.attend(self.id, channel, subject, mailbox);
        if is_there && !self.attended.contains(channel) {
            self.attended.push(channel.clone());
        }
    }

    /// Sees no more who is on these channels, and is seen no more.
    pub(super) fn part(&mut self, channels: &[Channel]) {
        for channel in self.attended.extract_if(.., |attended| channels.contains(attended)) {
            self.hub.presence.part(self.id, &channel, Parting::Left);
        }
    }

    /// May have missed who came and went.
    pub(super) fn refresh_presence(&self) {
        self.hub.presence.refresh(self.id, &self.attended);
    }

    /// Who is on its channels.
    pub(super) fn present(&self) -> Vec<serde_json::Value> {
        self.hub.presence.here(&self.attended)
    }

    /// Takes away what waits of a timeline, whose channel was removed.
    pub(super) fn remove_news(&self) {
        self.mailbox.remove_news();
    }

    /// Begins to follow, with an empty mailbox: gets everything after the position that this returns.
    pub(super) fn follow(&self) -> Sequence {
        let registry = self.hub.registry();
        self.mailbox.follow();
        registry.position
    }

    /// What its client understands.
    pub(super) fn format(&self) -> Format {
        Format::of(self.mailbox.face())
    }

    /// What counts for its face.
    pub(super) fn counters(&self) -> &FaceMetrics {
        self.hub.metrics.gateway.face(self.mailbox.face())
    }

    /// Where the hub has settled, if everything up to there was taken. What comes after it is told after what the client
    /// is told next.
    pub(super) fn drained_position(&self) -> Option<Sequence> {
        self.mailbox.claim();
        let position = Sequence(self.hub.settled.load(Ordering::Acquire));
        self.mailbox.is_drained().then_some(position)
    }

    /// Waits for what is next. Cancelling loses nothing. Meanwhile messages may go to the client without coming here, unless
    /// it `holds` them back.
    pub(super) async fn take(&self, holds: bool) -> Taken {
        std::future::poll_fn(|context| self.mailbox.poll_take(context, holds)).await
    }

    /// The place of the last message that went to the client without coming here.
    pub(super) fn written(&self) -> Sequence {
        self.mailbox.written()
    }

    /// Its permits, of which it has none yet.
    pub(super) fn permits(&self) -> Permits {
        Permits::new(Pass::new(self.hub.began, Arc::clone(&self.mailbox)))
    }

    /// Whether the stream must end.
    pub(super) fn is_closed(&self) -> bool {
        self.mailbox.is_closed()
    }

    /// The means to tell how the connection does.
    pub(super) fn pulse(&self) -> Pulse {
        Pulse { hub: Arc::clone(&self.hub), mailbox: Arc::clone(&self.mailbox) }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.counters().open.fetch_sub(1, Ordering::Relaxed);
        for channel in &self.attended {
            self.hub.presence.part(self.id, channel, Parting::Lost(Instant::now()));
        }
        let mut registry = self.hub.registry();
        registry.subscribers.remove(&self.id);
        for channel in &self.channels {
            registry.leave(self.id, channel);
        }
    }
}

/// Tells the hub whether the connection takes what the stream offers.
#[derive(Debug)]
pub(super) struct Pulse {
    hub: Arc<Hub>,
    mailbox: Arc<Mailbox>,
}

impl Pulse {
    /// The connection was given something.
    pub(super) fn offered(&self) {
        self.mailbox.mark_offered(self.hub.now_millis());
    }

    /// The connection waits.
    pub(super) fn waiting(&self) {
        self.mailbox.mark_waiting();
    }
}
