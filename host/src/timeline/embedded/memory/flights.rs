//! Posts on their way into timelines: so many timelines at a time, then another author has the turn.
//!
//! In: posts. Out: which timelines are next. A post that cannot be taken, or not be brought to its end, is pulled,
//! which readers cannot tell apart.

use std::collections::VecDeque;
use std::time::Instant;

use roaring::RoaringBitmap;

use crate::limits::{TIMELINE_FLIGHTS_COUNT_MAX, TIMELINE_LANES_COUNT_MAX};
use crate::timeline::embedded::shelf::Slot;
use crate::timeline::{UserId, Version};

/// A post on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flight {
    pub(super) slot: Slot,
    /// In which it became known.
    pub(super) version: Version,
    pub(super) begun: Instant,
}

/// What one author has under way.
pub(super) struct Lane {
    author: UserId,
    under_way: Option<UnderWay>,
    waiting: VecDeque<Flight>,
}

pub(super) struct UnderWay {
    pub(super) flight: Flight,
    targets: RoaringBitmap,
    /// Where to go on.
    from: u32,
}

#[derive(Default)]
pub(super) struct Flights {
    /// They have turns.
    lanes: VecDeque<Lane>,
    /// They wait for one that ends.
    later: VecDeque<Lane>,
    count: usize,
}

impl Flights {
    pub(super) fn is_full(&self) -> bool {
        self.count >= TIMELINE_FLIGHTS_COUNT_MAX
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn add(&mut self, flight: Flight) {
        self.count += 1;
        let author = flight.slot.author();
        let lane = self.lanes.iter_mut().chain(&mut self.later).find(|lane| lane.author == author);
        match lane {
            Some(lane) => lane.waiting.push_back(flight),
            None => self.later.push_back(Lane { author, under_way: None, waiting: [flight].into() }),
        }
    }

    /// Whose turn it is.
    pub(super) fn next(&mut self) -> Option<Lane> {
        while self.lanes.len() < TIMELINE_LANES_COUNT_MAX
            && let Some(lane) = self.later.pop_front()
        {
            self.lanes.push_back(lane);
        }
        self.lanes.pop_front()
    }

    /// After its turn.
    pub(super) fn give_back(&mut self, lane: Lane) {
        if lane.under_way.is_some() || !lane.waiting.is_empty() {
            self.lanes.push_back(lane);
        }
    }

    /// A flight of a lane has ended.
    pub(super) fn ended(&mut self) {
        self.count -= 1;
    }
}

impl Lane {
    /// The flight that is under way.
    pub(super) fn under_way(&mut self) -> Option<&mut UnderWay> {
        self.under_way.as_mut()
    }

    /// The next flight, if none is under way.
    pub(super) fn next(&mut self) -> Option<Flight> {
        self.waiting.pop_front()
    }

    pub(super) fn begin(&mut self, flight: Flight, targets: RoaringBitmap) {
        self.under_way = Some(UnderWay { flight, targets, from: 0 });
    }

    pub(super) fn end(&mut self) {
        self.under_way = None;
    }
}

impl UnderWay {
    /// The next timelines, as many as there is room for; fewer at the end.
    pub(super) fn targets<'u>(&mut self, users: &'u mut [u32]) -> &'u [u32] {
        let mut targets = self.targets.iter();
        targets.advance_to(self.from);
        let users = targets.next_many(users);
        // The greatest number is never given.
        self.from = users.last().map_or(u32::MAX, |last| last + 1);
        users
    }
}
