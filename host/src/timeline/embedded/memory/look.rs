//! A page as memory has it: a user's shelf, merged with the posts of marked authors, filtered by the graph of now.
//!
//! It ends at the highest floor of what it merges; below, the disk goes on.

use std::collections::BinaryHeap;
use std::sync::atomic::Ordering;

use super::home::{Home, HomeState};
use super::{Memory, Version};
use crate::timeline::embedded::shelf::{Reasons, Shelf, Slot};
use crate::timeline::{Place, UserId};

/// What memory says to a reader.
#[derive(Debug)]
pub(in crate::timeline::embedded) enum Look {
    /// Here.
    Slice(Slice),
    /// Build the timeline first, or read the disk.
    NoHome,
    /// Fetch what these authors posted first, or read the disk.
    NoOutboxes(Vec<UserId>),
    /// Read the disk.
    Disk,
}

/// Entries of a timeline, some of which may have been taken back.
#[derive(Debug)]
pub(in crate::timeline::embedded) struct Slice {
    /// The numbers of their posts, newest first.
    pub(in crate::timeline::embedded) numbers: Vec<u64>,
    /// Where to go on.
    pub(in crate::timeline::embedded) end: Place,
    /// There is nothing below.
    pub(in crate::timeline::embedded) is_last: bool,
}

/// What is merged.
enum Source<'m> {
    Shelf {
        shelf: &'m Shelf,
        /// See [`Shelf::below`].
        end: usize,
    },
    Flying(Slot),
}

impl Memory {
    pub(in crate::timeline::embedded) fn look(
        &mut self,
        user: UserId,
        before: Place,
        count_max: usize,
    ) -> Look {
        self.homes.touch(user);
        let Some(home) = self.homes.get(user) else { return Look::NoHome };
        let built = match home.state {
            HomeState::Built(built) if built >= self.stale_before => built,
            HomeState::Built(_) | HomeState::Stale => return Look::NoHome,
            HomeState::Building { .. } => return Look::Disk,
        };
        let (merged, flying) = self.to_merge(home, built);
        let absent: Vec<UserId> =
            merged.iter().filter(|author| self.outboxes.get(**author).is_none()).copied().collect();
        if absent.len() > self.config.sizes.outboxes {
            return Look::NoHome;
        }
        if !absent.is_empty() {
            return Look::NoOutboxes(absent);
        }
        for author in &merged {
            self.outboxes.touch(*author);
        }
        let Some(home) = self.homes.get(user) else { return Look::NoHome };
        let mut shelves = vec![&home.shelf];
        for author in &merged {
            match self.outboxes.get(*author) {
                Some(outbox) if outbox.building.is_none() => shelves.push(&outbox.shelf),
                _ => return Look::Disk,
            }
        }
        let floor = shelves.iter().map(|shelf| shelf.floor()).max().unwrap_or(Place::OLDEST);
        if floor != Place::OLDEST && before <= floor.above() {
            return Look::Disk;
        }
        self.metrics.merges.fetch_add(merged.len() as u64, Ordering::Relaxed);
        Look::Slice(merge(home, &shelves, &flying, floor, before, count_max))
    }

    /// Of whom the home's shelf may lack something, and which entries are on their way to it.
    fn to_merge(&self, home: &Home, built: Version) -> (Vec<UserId>, Vec<Slot>) {
        let mut merged: Vec<UserId> =
            home.lacking.iter().filter(|author| home.follows(**author)).copied().collect();
        let mut flying = Vec::new();
        let mut look_at = |author: UserId, mark: &super::Mark| {
            if mark.pulled > built && !home.lacking.contains(&author) {
                merged.push(author);
            } else {
                flying.extend_from_slice(&mark.flying);
            }
        };
        if self.marks.len() < home.followed().len() {
            for (author, mark) in self.marks.iter().filter(|(author, _)| home.follows(**author)) {
                look_at(*author, mark);
            }
        } else {
            for author in home.followed() {
                if let Some(mark) = self.marks.get(author) {
                    look_at(*author, mark);
                }
            }
        }
        (merged, flying)
    }
}

fn merge(
    home: &Home,
    shelves: &[&Shelf],
    flying: &[Slot],
    floor: Place,
    before: Place,
    count_max: usize,
) -> Slice {
    let shelves = shelves.iter().copied();
    let mut sources: Vec<Source<'_>> =
        shelves.map(|shelf| Source::Shelf { shelf, end: shelf.end_below(before) }).collect();
    sources.extend(flying.iter().filter(|slot| slot.place() < before).copied().map(Source::Flying));
    let heads = sources.iter().enumerate();
    let mut heads: BinaryHeap<(Place, usize)> =
        heads.filter_map(|(at, source)| Some((source.head()?.place(), at))).collect();
    let mut slice = Slice { numbers: Vec::with_capacity(count_max), end: before, is_last: false };
    while slice.numbers.len() < count_max {
        let Some((place, at)) = heads.pop().filter(|(place, _)| *place > floor) else {
            slice.is_last = floor == Place::OLDEST;
            slice.end = floor.above();
            return slice;
        };
        let mut entry = sources[at].take(&mut heads, at);
        while let Some((_, at)) = heads.peek().copied().filter(|(other, _)| *other == place) {
            heads.pop();
            let same = sources[at].take(&mut heads, at);
            if let (Some(entry), Some(same)) = (&mut entry, same) {
                entry.merge(same);
            }
        }
        slice.end = place;
        let is_shown = |slot: &Slot| slot.reasons().has(Reasons::INBOX) || home.follows(slot.author());
        slice.numbers.extend(entry.filter(is_shown).map(|slot| slot.place().number));
    }
    slice
}

impl Source<'_> {
    fn head(&self) -> Option<Slot> {
        match self {
            Source::Shelf { shelf, end } => shelf.below(*end),
            Source::Flying(slot) => Some(*slot),
        }
    }

    /// Takes the head, and names the next one.
    fn take(&mut self, heads: &mut BinaryHeap<(Place, usize)>, at: usize) -> Option<Slot> {
        let head = self.head();
        if let Source::Shelf { end, .. } = self {
            *end = end.saturating_sub(1);
            if let Some(next) = self.head() {
                heads.push((next.place(), at));
            }
        }
        head
    }
}
