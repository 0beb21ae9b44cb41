//! Who is here: of channels that are configured for it, which subjects have a connection that listens.
//!
//! In: leases, one for each connection and channel, that begin and end. Out: frames for those who may see it, at most one
//! a channel and tick, without an id.
//!
//! ```text
//! a connection comes ─► lease ─► member ──────────► joined ─┐
//! it is lost ─────────► grace ─► no lease is left ─► left ───┴─ tick ─► one frame for all who watch
//! ```
//! Invariants:
//! - several connections of one subject are one member; one that is lost and comes back within the grace never left;
//! - who watches is told all who are here first, and then each change once, all those of a tick in one frame. Whoever
//!   may have missed a frame is told all anew;
//! - what is kept is bounded: past the members of a channel only their number is told, past the channels nothing is.
//!
//! Leases are this gateway's memory, and end with it. Absent on purpose: who may see, and is seen (`access`); other
//! gateways.
//!
//! Lock order: the presence, then a mailbox. It never meets the hub's registry.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior};

use super::frame::{Format, Frame, Kind, presence as encode};
use super::hub::SubscriberId;
use super::mailbox::Mailbox;
use crate::access::Patterns;
use crate::event::Channel;
use crate::limits::{
    PRESENCE_CHANNELS_COUNT_MAX, PRESENCE_GRACE, PRESENCE_INTERVAL, PRESENCE_MEMBERS_COUNT_MAX,
};
use crate::telemetry::Metrics;

/// Of which channels it is known who is here, and how.
#[derive(Debug, Clone)]
pub struct PresenceConfig {
    /// The channels.
    pub channels: Patterns,
    /// How long a member whose connection was lost is still here.
    pub grace: Duration,
    /// Between two frames of a channel.
    pub interval: Duration,
}

impl Default for PresenceConfig {
    /// Of none.
    fn default() -> Self {
        Self { channels: Patterns::default(), grace: PRESENCE_GRACE, interval: PRESENCE_INTERVAL }
    }
}

/// How a lease ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parting {
    /// The client has said so.
    Left,
    /// Its connection is gone since then; it may come back.
    Lost(Instant),
}

/// See the head of this file.
pub(super) struct Presence {
    config: PresenceConfig,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rooms: HashMap<Channel, Room>,
    /// Rooms with something to tell.
    stirred: HashSet<Channel>,
    /// Members without a lease, by the end of their grace.
    away: BTreeSet<(Instant, Channel, Arc<str>)>,
}

/// A channel with somebody in it.
#[derive(Default)]
struct Room {
    leases: HashMap<SubscriberId, Lease>,
    members: BTreeMap<Arc<str>, Member>,
    /// Leases beyond the members that are known by name.
    nameless_count: usize,
    /// Since the last tick.
    joined: BTreeSet<Arc<str>>,
    left: BTreeSet<Arc<str>>,
    /// What those who watch know: how many there are, and whether by name.
    told: (usize, bool),
}

struct Lease {
    seen: Seen,
    watcher: Option<Watcher>,
}

/// As whom a lease is seen.
enum Seen {
    /// As nobody: it has no subject.
    Not,
    /// As a member.
    Member(Arc<str>),
    /// As one more.
    Nameless,
}

struct Watcher {
    mailbox: Arc<Mailbox>,
    /// Whether it was told all who were here.
    knows: bool,
}

#[derive(Default)]
struct Member {
    leases_count: usize,
    /// Until when it is still here without a lease.
    away_until: Option<Instant>,
}

impl Presence {
    pub(super) fn new(config: PresenceConfig, metrics: Arc<Metrics>) -> Self {
        Self { config, metrics, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lease for a connection that may see who is here, until [`Presence::part`], instead of the one that it has. `subject` is as whom it is seen;
    /// `mailbox` gets what is told. Returns whether there is one: not where it is not configured, nor past the bound.
    pub(super) fn attend(
        &self,
        id: SubscriberId,
        channel: &Channel,
        subject: Option<&str>,
        mailbox: Option<&Arc<Mailbox>>,
    ) -> bool {
        if !self.config.channels.cover(channel.as_str()) {
            return false;
        }
        let mut state = self.state();
        if state.rooms.len() >= PRESENCE_CHANNELS_COUNT_MAX && !state.rooms.contains_key(channel) {
            self.metrics.gateway.presence_refused.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        // A name that stays must not keep a longer text.
        let channel = channel.own();
        let State { rooms, stirred, away } = &mut *state;
        let room = rooms.entry(channel.clone()).or_default();
        let (seen, was_away) = subject.map_or((Seen::Not, None), |subject| room.enter(subject));
        if let (Seen::Member(name), Some(until)) = (&seen, was_away) {
            away.remove(&(until, channel.clone(), Arc::clone(name)));
        }
        let old = room.leases.remove(&id);
        let knows = old.as_ref().and_then(|old| old.watcher.as_ref()).is_some_and(|watcher| watcher.knows);
        if let Some(old) = old {
            room.exit(&old.seen, None);
        }
        let watcher = mailbox.map(|mailbox| Watcher { mailbox: Arc::clone(mailbox), knows });
        room.leases.insert(id, Lease { seen, watcher });
        stirred.insert(channel);
        true
    }

    /// Ends a lease.
    pub(super) fn part(&self, id: SubscriberId, channel: &Channel, parting: Parting) {
        let mut state = self.state();
        let Some(room) = state.rooms.get_mut(channel) else { return };
        let Some(lease) = room.leases.remove(&id) else { return };
        let away_until = match parting {
            Parting::Left => None,
            Parting::Lost(at) => Some(at + self.config.grace),
        };
        let last = room.exit(&lease.seen, away_until);
        state.stirred.insert(channel.own());
        if let (Some(name), Some(until)) = (last, away_until) {
            state.away.insert((until, channel.own(), name));
        }
    }

    /// The connection may have missed what was told: it is told all anew.
    pub(super) fn refresh(&self, id: SubscriberId, channels: &[Channel]) {
        let mut state = self.state();
        for channel in channels {
            let lease = state.rooms.get_mut(channel).and_then(|room| room.leases.get_mut(&id));
            if let Some(watcher) = lease.and_then(|lease| lease.watcher.as_mut()) {
                watcher.knows = false;
                state.stirred.insert(channel.own());
            }
        }
    }

    /// Who is in these channels now, for one that is told once.
    pub(super) fn here(&self, channels: &[Channel]) -> Vec<Value> {
        let state = self.state();
        let rooms = channels.iter().filter_map(|channel| Some((channel, state.rooms.get(channel)?)));
        rooms.map(|(channel, room)| room.all(channel)).collect()
    }

    /// Tells what has changed, now and then. Does not return.
    pub(super) async fn run(&self) {
        if self.config.channels.is_empty() {
            return std::future::pending().await;
        }
        let mut ticks = tokio::time::interval(self.config.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for channel in self.stirred(Instant::now()) {
                self.tell(&channel);
                tokio::task::consume_budget().await;
            }
        }
    }

    /// The rooms with something to tell, after those have left whose grace is over.
    fn stirred(&self, now: Instant) -> HashSet<Channel> {
        let mut state = self.state();
        let State { rooms, stirred, away } = &mut *state;
        while away.first().is_some_and(|(until, ..)| *until <= now) {
            let Some((_, channel, name)) = away.pop_first() else { break };
            if let Some(room) = rooms.get_mut(&channel) {
                room.forget(&name);
            }
            stirred.insert(channel);
        }
        std::mem::take(stirred)
    }

    fn tell(&self, channel: &Channel) {
        let mut state = self.state();
        let gateway = &self.metrics.gateway;
        let Some(room) = state.rooms.get_mut(channel) else { return };
        let before = room.told.0;
        let frames_count = room.tell(channel);
        gateway.presence_members.fetch_add(room.told.0 as u64, Ordering::Relaxed);
        gateway.presence_members.fetch_sub(before as u64, Ordering::Relaxed);
        if room.leases.is_empty() && room.members.is_empty() {
            state.rooms.remove(channel);
        }
        gateway.presence_frames.fetch_add(frames_count, Ordering::Relaxed);
        gateway.presence_channels.store(state.rooms.len() as u64, Ordering::Relaxed);
    }
}

impl Room {
    /// As whom it is seen from now on, and the end of its grace if it was away.
    fn enter(&mut self, subject: &str) -> (Seen, Option<Instant>) {
        if let Some((name, _)) = self.members.get_key_value(subject) {
            let name = Arc::clone(name);
            let member = self.members.entry(Arc::clone(&name)).or_default();
            member.leases_count += 1;
            return (Seen::Member(name), member.away_until.take());
        }
        if self.members.len() >= PRESENCE_MEMBERS_COUNT_MAX {
            self.nameless_count += 1;
            return (Seen::Nameless, None);
        }
        let name: Arc<str> = subject.into();
        self.members.insert(Arc::clone(&name), Member { leases_count: 1, away_until: None });
        if !self.left.remove(&name) {
            self.joined.insert(Arc::clone(&name));
        }
        (Seen::Member(name), None)
    }

    /// A member that has no other lease leaves now, or is away until then; it is returned.
    fn exit(&mut self, seen: &Seen, away_until: Option<Instant>) -> Option<Arc<str>> {
        match seen {
            Seen::Not => None,
            Seen::Nameless => {
                self.nameless_count -= 1;
                None
            }
            Seen::Member(name) => {
                let member = self.members.get_mut(name)?;
                member.leases_count -= 1;
                if member.leases_count > 0 {
                    return None;
                }
                member.away_until = away_until;
                if away_until.is_none() {
                    self.forget(name);
                }
                Some(Arc::clone(name))
            }
        }
    }

    fn forget(&mut self, name: &Arc<str>) {
        self.members.remove(name);
        if !self.joined.remove(name) {
            self.left.insert(Arc::clone(name));
        }
    }

    /// How many are here, and whether all of them are known by name.
    fn size(&self) -> (usize, bool) {
        (self.members.len() + self.nameless_count, self.nameless_count == 0)
    }

    /// All who are here.
    fn all(&self, channel: &Channel) -> Value {
        let (count, by_name) = self.size();
        let mut all = json!({"channel": channel.as_str(), "count": count});
        if by_name {
            all["here"] = self.members.keys().map(|name| &**name).collect();
        }
        all
    }

    /// What has changed for those who know; none if nothing has.
    fn change(&self, channel: &Channel) -> Option<Value> {
        let (count, by_name) = self.size();
        if !(by_name && self.told.1) {
            return (self.told != (count, by_name)).then(|| self.all(channel));
        }
        let mut change = json!({"channel": channel.as_str(), "count": count});
        for (key, names) in [("join", &self.joined), ("leave", &self.left)] {
            if !names.is_empty() {
                change[key] = names.iter().map(|name| &**name).collect();
            }
        }
        (!self.joined.is_empty() || !self.left.is_empty()).then_some(change)
    }

    /// Puts what there is to tell, and says into how many mailboxes.
    fn tell(&mut self, channel: &Channel) -> u64 {
        let mut change = Shared::new(channel, self.change(channel));
        let mut all = Shared::new(channel, Some(self.all(channel)));
        let mut count = 0;
        for watcher in self.leases.values_mut().filter_map(|lease| lease.watcher.as_mut()) {
            let told = if watcher.knows { &mut change } else { &mut all };
            watcher.knows = true;
            if let Some(frame) = told.frame(Format::of(watcher.mailbox.face())) {
                watcher.mailbox.put(frame);
                count += 1;
            }
        }
        self.joined.clear();
        self.left.clear();
        self.told = self.size();
        count
    }
}

/// What is told to many, encoded once for each format that somebody understands.
struct Shared<'a> {
    channel: &'a Channel,
    value: Option<Value>,
    event_stream: Option<Arc<Frame>>,
    json: Option<Arc<Frame>>,
}

impl<'a> Shared<'a> {
    fn new(channel: &'a Channel, value: Option<Value>) -> Self {
        Self { channel, value, event_stream: None, json: None }
    }

    fn frame(&mut self, format: Format) -> Option<&Arc<Frame>> {
        let Self { channel, value, event_stream, json } = self;
        let value = value.as_ref()?;
        let frame = match format {
            Format::EventStream => event_stream,
            Format::Json => json,
        };
        Some(frame.get_or_insert_with(|| {
            let bytes = encode(format, channel, value);
            let (sequence, committed_at) = (None, None);
            Arc::new(Frame { sequence, channel: channel.own(), bytes, kind: Kind::Message, committed_at })
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::json;
    use super::super::mailbox::{Bounds, Own, Taken};
    use super::*;
    use crate::telemetry::Face;

    const GRACE: Duration = Duration::from_secs(10);
    const BOUNDS: Bounds = Bounds { queue_count_max: 4, direct_bytes_max: 0 };

    struct Client {
        presence: Arc<Presence>,
        id: SubscriberId,
        mailbox: Arc<Mailbox>,
    }

    fn presence() -> Arc<Presence> {
        let channels = Patterns::new(&["room:*".into()]).expect("the pattern is right");
        let config = PresenceConfig { channels, grace: GRACE, interval: Duration::from_millis(500) };
        Arc::new(Presence::new(config, Arc::default()))
    }

    fn room() -> Channel {
        Channel::new("room:1").expect("the name is good")
    }

    fn tick(presence: &Presence, now: Instant) {
        presence.stirred(now).iter().for_each(|channel| presence.tell(channel));
    }

    impl Client {
        fn come(presence: &Arc<Presence>, id: u64, subject: Option<&str>) -> Self {
            let mailbox = Arc::new(Mailbox::new(Face::WebSocket, BOUNDS, Own::default(), Arc::default()));
            mailbox.follow();
            assert!(presence.attend(SubscriberId(id), &room(), subject, Some(&mailbox)));
            Self { presence: Arc::clone(presence), id: SubscriberId(id), mailbox }
        }

        fn part(&self, parting: Parting) {
            self.presence.part(self.id, &room(), parting);
        }

        /// What was put since the last time, without what is the same in all.
        fn told(&self) -> Vec<Value> {
            let mut context = std::task::Context::from_waker(futures_util::task::noop_waker_ref());
            let mut told = Vec::new();
            while let std::task::Poll::Ready(Taken::Frame(frame)) =
                self.mailbox.poll_take(&mut context, false)
            {
                let mut value: Value = serde_json::from_slice(&json::text(&frame.bytes)).expect("it is JSON");
                let object = value.as_object_mut().expect("it is an object");
                assert_eq!(object.remove("type"), Some("presence".into()));
                assert_eq!(object.remove("channel"), Some("room:1".into()));
                told.push(value);
            }
            told
        }
    }

    #[test]
    fn who_comes_is_told_all_who_are_here_and_then_each_change_once() {
        let (presence, now) = (presence(), Instant::now());
        let ann = Client::come(&presence, 1, Some("ann"));
        tick(&presence, now);
        assert_eq!(ann.told(), [json!({"here": ["ann"], "count": 1})]);
        let bob = Client::come(&presence, 2, Some("bob"));
        let cat = Client::come(&presence, 3, Some("cat"));
        tick(&presence, now);
        assert_eq!(ann.told(), [json!({"join": ["bob", "cat"], "count": 3})], "one frame for both");
        assert_eq!(bob.told(), [json!({"here": ["ann", "bob", "cat"], "count": 3})]);
        cat.part(Parting::Left);
        tick(&presence, now);
        tick(&presence, now);
        assert_eq!(ann.told(), [json!({"leave": ["cat"], "count": 2})]);
        assert_eq!(bob.told(), [json!({"leave": ["cat"], "count": 2})]);
        let here = json!({"channel": "room:1", "here": ["ann", "bob"], "count": 2});
        assert_eq!(presence.here(&[room()]), [here]);
    }

    #[test]
    fn several_connections_are_one_member_and_who_comes_back_within_the_grace_never_left() {
        let (presence, mut now) = (presence(), Instant::now());
        let watcher = Client::come(&presence, 1, None);
        let ann = [2, 3].map(|id| Client::come(&presence, id, Some("ann")));
        tick(&presence, now);
        assert_eq!(watcher.told(), [json!({"here": ["ann"], "count": 1})], "who has no subject is not seen");
        ann[0].part(Parting::Left);
        ann[1].part(Parting::Lost(now));
        now += GRACE - Duration::from_secs(1);
        tick(&presence, now);
        let back = Client::come(&presence, 4, Some("ann"));
        now += GRACE;
        tick(&presence, now);
        assert_eq!(watcher.told(), Vec::<Value>::new());
        back.part(Parting::Lost(now));
        now += GRACE - Duration::from_millis(1);
        tick(&presence, now);
        assert_eq!(watcher.told(), Vec::<Value>::new());
        now += Duration::from_millis(1);
        tick(&presence, now);
        assert_eq!(watcher.told(), [json!({"leave": ["ann"], "count": 0})]);
        watcher.part(Parting::Left);
        tick(&presence, now);
        let state = presence.state();
        assert!(state.rooms.is_empty() && state.away.is_empty() && state.stirred.is_empty());
    }

    #[test]
    fn past_the_bound_only_the_number_is_told_until_all_are_known_again() {
        let (presence, now) = (presence(), Instant::now());
        let watcher = Client::come(&presence, 0, None);
        let all = PRESENCE_MEMBERS_COUNT_MAX as u64 + 2;
        let members: Vec<_> =
            (1..=all).map(|id| Client::come(&presence, id, Some(&format!("m{id:04}")))).collect();
        tick(&presence, now);
        assert_eq!(watcher.told(), [json!({"count": all})]);
        members[0].part(Parting::Left);
        members[all as usize - 1].part(Parting::Lost(now));
        tick(&presence, now);
        assert_eq!(watcher.told(), [json!({"count": all - 2})]);
        members[all as usize - 2].part(Parting::Left);
        tick(&presence, now);
        let told = watcher.told();
        assert_eq!(told[0]["count"], all - 3);
        assert_eq!(told[0]["here"].as_array().map(Vec::len), Some(PRESENCE_MEMBERS_COUNT_MAX - 1));
        let channels: Vec<_> = (0..=PRESENCE_CHANNELS_COUNT_MAX)
            .filter(|nth| {
                let channel = Channel::new(&format!("room:x{nth}")).expect("the name is good");
                presence.attend(SubscriberId(1), &channel, Some("ann"), None)
            })
            .collect();
        assert_eq!(channels.len(), PRESENCE_CHANNELS_COUNT_MAX - 1, "one was there");
        assert_eq!(presence.metrics.gateway.presence_refused.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn whoever_may_have_missed_a_frame_is_told_all_anew() {
        let (presence, now) = (presence(), Instant::now());
        let ann = Client::come(&presence, 1, Some("ann"));
        tick(&presence, now);
        ann.told();
        ann.mailbox.lapse();
        let bob = Client::come(&presence, 2, Some("bob"));
        tick(&presence, now);
        ann.mailbox.follow();
        presence.refresh(ann.id, &[room()]);
        tick(&presence, now);
        assert_eq!(ann.told(), [json!({"here": ["ann", "bob"], "count": 2})]);
        assert_eq!(bob.told().len(), 1, "nothing is new to others");
    }

    #[test]
    fn ten_thousand_who_come_at_once_are_one_frame_each() {
        let (presence, mut now) = (presence(), Instant::now());
        let crowd: Vec<_> =
            (0..10_000).map(|id| Client::come(&presence, id, Some(&format!("m{id}")))).collect();
        tick(&presence, now);
        crowd.iter().for_each(|client| client.part(Parting::Lost(now)));
        now += GRACE;
        tick(&presence, now);
        assert_eq!(presence.metrics.gateway.presence_frames.load(Ordering::Relaxed), 10_000);
        assert!(presence.state().rooms.is_empty());
    }
}
