//! What is in memory: active timelines, authors' newest posts, sets of followers, who is connected, and which authors a
//! reader has to merge.
//!
//! In: what was written, as soon as it is on the disk; what was found there. Out: what a reader or a plan needs, or
//! what has to be read from the disk first.
//!
//! Invariants:
//! - a post that became known is on the shelf of each active follower, or its author has a mark, so a reader merges
//!   the author's posts. A post begins with a mark; a push that reached the last timeline lifts it. So it does not
//!   matter where a push stands, whether it was begun, or who became active or followed meanwhile;
//! - whatever is read from the disk into here is announced first (`begin_…`), then read, then put here (`install_…`):
//!   what is written meanwhile arrives in between. What was not announced, or evicted meanwhile, is not put here;
//! - all of it is a cache within its budgets: it may go at any time.
//!
//! Absent on purpose: the disk.

mod audience;
mod flights;
mod home;
mod look;
mod online;

use roaring::RoaringBitmap;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

pub(super) use home::FoundHome;
pub(super) use look::Look;

use self::audience::{Audience, Outbox};
use self::flights::{Flight, Flights, Lane};
use self::home::{Home, HomeState};
use self::online::Online;
use super::Config;
use super::kept::{At, Kept};
use super::shelf::{Shelf, Slot};
use super::tables::{Deed, Written};
use crate::event::Delivery;
use crate::limits::{TIMELINE_AUDIENCE_BYTES_MAX, TIMELINE_OUTBOX_BYTES_MAX};
use crate::telemetry::TimelineMetrics;
use crate::timeline::{Place, UserId, Version};

pub(super) struct Memory {
    version: Version,
    config: Config,
    homes: Kept<Home>,
    /// Whose homes these are.
    active: RoaringBitmap,
    /// The same users by name.
    by_name: FxHashMap<Arc<str>, UserId>,
    outboxes: Kept<Outbox>,
    audiences: Kept<Audience>,
    marks: FxHashMap<UserId, Mark>,
    /// Homes that were built before it are stale: marks that they need were forgotten.
    stale_before: Version,
    online: Online,
    flights: Flights,
    builds_count: u64,
    metrics: Arc<TimelineMetrics>,
    /// Of one chunk.
    users: Vec<u32>,
    places: Vec<At>,
    /// The owner is gone.
    pub(super) ended: bool,
}

/// An author of whom shelves may not have everything.
#[derive(Debug, Default)]
struct Mark {
    /// In which a post was last left to be pulled.
    pulled: Version,
    /// What is on its way.
    flying: Vec<Slot>,
}

impl Memory {
    pub(super) fn new(config: Config, version: Version, metrics: Arc<TimelineMetrics>) -> Self {
        Self {
            version,
            homes: Kept::new(config.bytes_max),
            active: RoaringBitmap::new(),
            by_name: FxHashMap::default(),
            outboxes: Kept::new(TIMELINE_OUTBOX_BYTES_MAX),
            audiences: Kept::new(TIMELINE_AUDIENCE_BYTES_MAX),
            marks: FxHashMap::default(),
            stale_before: Version(0),
            online: Online::default(),
            flights: Flights::default(),
            builds_count: 0,
            metrics,
            users: vec![0; config.sizes.chunk],
            places: Vec::with_capacity(config.sizes.chunk),
            ended: false,
            config,
        }
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    pub(super) fn user(&self, name: &str) -> Option<UserId> {
        self.by_name.get(name).copied()
    }

    /// Takes what was written.
    pub(super) fn apply(&mut self, written: Written) {
        let Written { version, deeds, new_users, .. } = written;
        self.version = version;
        for (name, user) in new_users {
            self.online.know(&name, user);
        }
        for deed in deeds {
            match deed {
                Deed::Published { slot, plan } => self.publish(slot, plan.delivery),
                Deed::Inboxed { user, slot } => self.put(user, slot),
                Deed::Edited { .. } => {}
                Deed::Retracted { slot } => {
                    if let Some(outbox) = self.outboxes.get_mut(slot.author()) {
                        outbox.shelf.take_out(slot.place());
                    }
                }
                Deed::Turned { follower, followee, turn } => {
                    self.online.turn(follower);
                    if let Some(audience) = self.audiences.get_mut(followee) {
                        audience.turn(follower, turn);
                    }
                    if let Some(home) = self.homes.get_mut(follower) {
                        home.turn(followee, turn, self.config.sizes.lacking);
                        let bytes = home.bytes();
                        self.homes.resize(follower, bytes);
                    }
                }
            }
        }
        self.forget_marks();
        self.make_room();
    }

    fn publish(&mut self, slot: Slot, delivery: Delivery) {
        let author = slot.author();
        if let Some(at) = self.outboxes.at(author) {
            self.outboxes.change(at, |outbox| outbox.shelf.put(slot));
        }
        let mark = self.marks.entry(author).or_default();
        if delivery == Delivery::Push && !self.flights.is_full() {
            mark.flying.push(slot);
            self.flights.add(Flight { slot, version: self.version, begun: Instant::now() });
        } else {
            mark.pulled = self.version;
            self.metrics.pulls.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn put(&mut self, user: UserId, slot: Slot) {
        if let Some(at) = self.homes.at(user) {
            self.homes.change(at, |home| home.shelf.put(slot));
        }
    }

    /// Marks must not grow with every author there ever was. Without them the homes that needed them are stale.
    fn forget_marks(&mut self) {
        if self.marks.len() > self.config.sizes.marks {
            self.marks.retain(|_, mark| !mark.flying.is_empty());
            self.stale_before = self.version;
        }
    }

    fn make_room(&mut self) {
        while let Some((user, home)) = self.homes.evict() {
            self.forget(user, &home);
            self.metrics.evictions.fetch_add(1, Ordering::Relaxed);
        }
        while self.outboxes.evict().is_some() {}
        while self.audiences.evict().is_some() {}
        for (gauge, value) in [
            (&self.metrics.active, self.homes.len()),
            (&self.metrics.timelines_bytes, self.homes.bytes()),
            (&self.metrics.posts_bytes, self.outboxes.bytes()),
            (&self.metrics.followers_bytes, self.audiences.bytes()),
            (&self.metrics.under_way, self.flights.count()),
        ] {
            gauge.store(value as u64, Ordering::Relaxed);
        }
    }

    fn forget(&mut self, user: UserId, home: &Home) {
        self.active.remove(user.0);
        self.by_name.remove(&home.name);
    }

    /// Lets a user's timeline go.
    pub(super) fn evict(&mut self, user: UserId) {
        if let Some(home) = self.homes.remove(user) {
            self.forget(user, &home);
        }
    }

    pub(super) fn is_active(&self, user: UserId) -> bool {
        self.active.contains(user.0)
    }

    /// Announces that a timeline will be built, of so many entries at most; not if somebody else does so.
    pub(super) fn begin_home(&mut self, user: UserId, name: &str) -> Option<(u64, usize)> {
        let is_building = |home: &Home| matches!(home.state, HomeState::Building { .. });
        if self.homes.get(user).is_some_and(is_building) {
            return None;
        }
        self.evict(user);
        self.builds_count += 1;
        let home = Home::new(name, self.builds_count, self.config.sizes.slots);
        self.by_name.insert(home.name.clone(), user);
        self.active.insert(user.0);
        let bytes = home.bytes();
        self.homes.insert(user, home, bytes);
        self.make_room();
        Some((self.builds_count, self.config.sizes.slots))
    }

    pub(super) fn install_home(&mut self, user: UserId, build: u64, found: FoundHome) {
        let Some(home) = self.homes.get_mut(user).filter(|home| home.is_building(build)) else { return };
        home.install(found, self.config.sizes.lacking);
        let bytes = home.bytes();
        self.homes.resize(user, bytes);
        self.make_room();
    }

    /// Nobody builds it any longer.
    pub(super) fn abandon_home(&mut self, user: UserId, build: u64) {
        if self.homes.get(user).is_some_and(|home| home.is_building(build)) {
            self.evict(user);
        }
    }

    pub(super) fn begin_outbox(&mut self, author: UserId) -> Option<(u64, usize)> {
        if self.outboxes.get(author).is_some() {
            return None;
        }
        self.builds_count += 1;
        let outbox =
            Outbox { shelf: Shelf::empty(self.config.sizes.slots), building: Some(self.builds_count) };
        let bytes = outbox.bytes();
        self.outboxes.insert(author, outbox, bytes);
        self.make_room();
        Some((self.builds_count, self.config.sizes.slots))
    }

    pub(super) fn install_outbox(&mut self, author: UserId, build: u64, found: &(Vec<Slot>, Place)) {
        let is_it = |outbox: &&mut Outbox| outbox.building == Some(build);
        let Some(outbox) = self.outboxes.get_mut(author).filter(is_it) else { return };
        outbox.building = None;
        outbox.shelf.merge(&found.0, found.1);
        let bytes = outbox.bytes();
        self.outboxes.resize(author, bytes);
        self.make_room();
    }

    pub(super) fn abandon_outbox(&mut self, author: UserId, build: u64) {
        if self.outboxes.get(author).is_some_and(|outbox| outbox.building == Some(build)) {
            self.outboxes.remove(author);
        }
    }

    pub(super) fn begin_audience(&mut self, author: UserId) -> Option<u64> {
        if self.audiences.get(author).is_some() {
            return None;
        }
        self.builds_count += 1;
        self.audiences.insert(author, Audience::new(self.builds_count), size_of::<Audience>());
        self.make_room();
        Some(self.builds_count)
    }

    pub(super) fn install_audience(&mut self, author: UserId, build: u64, found: RoaringBitmap) {
        let is_it = |audience: &&mut Audience| audience.is_building(build);
        let Some(audience) = self.audiences.get_mut(author).filter(is_it) else { return };
        audience.install(found);
        let bytes = size_of::<Audience>() + audience.followers.serialized_size();
        self.audiences.resize(author, bytes);
        self.make_room();
    }

    pub(super) fn abandon_audience(&mut self, author: UserId, build: u64) {
        if self.audiences.get(author).is_some_and(|audience| audience.is_building(build)) {
            self.audiences.remove(author);
        }
    }

    /// How many follow an author, and how many of these are connected and active; if that is in memory.
    pub(super) fn audience(&mut self, author: UserId) -> Option<[u64; 3]> {
        self.audiences.touch(author);
        let audience = self.audiences.get(author).filter(|audience| audience.building.is_none())?;
        let online = audience.followers.intersection_len(self.online.users());
        let active = audience.followers.intersection_len(&self.active);
        Some([audience.followers.len(), online, active])
    }

    pub(super) fn online(&mut self) -> &mut Online {
        &mut self.online
    }

    /// Who follows an author and has a connection; if the followers are in memory.
    pub(super) fn online_followers(&mut self, author: UserId) -> Option<RoaringBitmap> {
        self.audiences.touch(author);
        let audience = self.audiences.get(author).filter(|audience| audience.building.is_none())?;
        Some(&audience.followers & self.online.users())
    }

    /// Those with a connection whose edges changed since this was asked.
    pub(super) fn take_turned(&mut self) -> RoaringBitmap {
        self.online.take_turned()
    }

    /// Brings one chunk of one post into timelines. Says whether there was something to do.
    pub(super) fn fly(&mut self) -> bool {
        let Some(mut lane) = self.flights.next() else { return false };
        if lane.under_way().is_none() {
            self.take_off(&mut lane);
        }
        if let Some(under_way) = lane.under_way() {
            let mut users = std::mem::take(&mut self.users);
            let targets = under_way.targets(&mut users);
            let (flight, is_last) = (under_way.flight, targets.len() < self.config.sizes.chunk);
            self.push(flight.slot, targets);
            self.users = users;
            if is_last {
                self.land(flight, Delivery::Push);
                lane.end();
            }
        }
        self.flights.give_back(lane);
        self.make_room();
        true
    }

    fn take_off(&mut self, lane: &mut Lane) {
        let Some(flight) = lane.next() else { return };
        let audience =
            self.audiences.get(flight.slot.author()).filter(|audience| audience.building.is_none());
        match audience.map(|audience| &audience.followers & &self.active) {
            Some(targets) if targets.len() <= self.config.push_followers_max => lane.begin(flight, targets),
            _ => self.land(flight, Delivery::Pull),
        }
    }

    /// First all places, then all timelines: each loop has many misses of the cache under way at once.
    fn push(&mut self, slot: Slot, targets: &[u32]) {
        let mut places = std::mem::take(&mut self.places);
        places.clear();
        places.extend(targets.iter().filter_map(|user| self.homes.at(UserId(*user))));
        for at in &places {
            self.homes.change(*at, |home| home.shelf.put(slot));
        }
        self.metrics.entries.fetch_add(places.len() as u64, Ordering::Relaxed);
        self.places = places;
    }

    /// The post has reached everybody, or is left to readers.
    fn land(&mut self, flight: Flight, how: Delivery) {
        let author = flight.slot.author();
        self.flights.ended();
        match how {
            Delivery::Push => {
                self.metrics.pushes.fetch_add(1, Ordering::Relaxed);
                self.metrics.push_delays.observe(flight.begun.elapsed());
            }
            Delivery::Pull => {
                self.metrics.pulls.fetch_add(1, Ordering::Relaxed);
            }
        }
        let Some(mark) = self.marks.get_mut(&author) else { return };
        mark.flying.retain(|slot| slot.place() != flight.slot.place());
        if how == Delivery::Pull {
            mark.pulled = mark.pulled.max(flight.version);
        }
        if mark.flying.is_empty() && mark.pulled == Version::default() {
            self.marks.remove(&author);
        }
    }

    pub(super) fn flights_count(&self) -> usize {
        self.flights.count()
    }

    /// Figures for people.
    pub(super) fn activity(&self) -> Activity {
        let entries = |user| self.homes.get(UserId(user)).map_or(0, |home| home.shelf.len());
        Activity {
            active_count: self.homes.len(),
            entries_count: self.active.iter().map(entries).sum(),
            bytes: self.homes.bytes(),
            flights_count: self.flights.count(),
        }
    }
}

/// What is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// Active timelines.
    pub active_count: usize,
    /// Their entries.
    pub entries_count: usize,
    /// Their bytes, with all that belongs to them.
    pub bytes: usize,
    /// Posts that are being pushed, or wait for it.
    pub flights_count: usize,
}
