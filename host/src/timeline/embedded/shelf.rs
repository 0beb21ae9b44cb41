//! The newest entries of one timeline, or of one author, in one compact array: 20 bytes an entry.
//!
//! In: entries in any order, mostly newer and newer. Out: entries below a place, newest first.
//!
//! Invariant: a shelf holds at least everything above its floor that belongs there. It may hold more, of what has been
//! taken back or unfollowed since: who reads looks at the graph and at the posts of now. So nothing has to be taken
//! out of many shelves at once, and an entry that came in two ways stays when one goes.

use std::collections::VecDeque;

use crate::event::Micros;
use crate::timeline::{Place, UserId};

/// How an entry came: any of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reasons(u16);

impl Reasons {
    /// Its author is, or was, followed.
    pub(super) const FOLLOWED: Self = Self(1);
    /// It was put into the user's inbox.
    pub(super) const INBOX: Self = Self(2);

    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// An entry without its post: time, number (48 bits), reasons (16) and author, in words of four bytes so that an array
/// of them has no gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot([u32; 5]);

impl Slot {
    pub(super) fn new(place: Place, author: UserId, reasons: Reasons) -> Self {
        let time = place.time.0.cast_unsigned();
        debug_assert!(place.number < 1 << 48, "numbers are given one a post");
        let high = (place.number >> 32) as u32 & 0xFFFF;
        Self([
            time as u32,
            (time >> 32) as u32,
            place.number as u32,
            high | u32::from(reasons.0) << 16,
            author.0,
        ])
    }

    pub(super) fn place(self) -> Place {
        let time = u64::from(self.0[0]) | u64::from(self.0[1]) << 32;
        let number = u64::from(self.0[2]) | u64::from(self.0[3] & 0xFFFF) << 32;
        Place { time: Micros(time.cast_signed()), number }
    }

    pub(super) fn author(self) -> UserId {
        UserId(self.0[4])
    }

    pub(super) fn reasons(self) -> Reasons {
        Reasons((self.0[3] >> 16) as u16)
    }

    /// The same entry, which came in both ways.
    pub(super) fn merge(&mut self, other: Self) {
        self.0[3] |= other.0[3] & 0xFFFF_0000;
    }
}

#[derive(Debug)]
pub(super) struct Shelf {
    /// Oldest first: what comes is mostly the newest.
    slots: VecDeque<Slot>,
    floor: Place,
    count_max: u32,
}

impl Shelf {
    /// Of the newest entries, newest first: all above the floor.
    pub(super) fn new(newest: &[Slot], floor: Place, count_max: usize) -> Self {
        let mut slots = VecDeque::new();
        slots.reserve_exact(newest.len());
        slots.extend(newest.iter().rev());
        Self { slots, floor, count_max: u32::try_from(count_max).unwrap_or(u32::MAX) }
    }

    /// Holds all that is put into it from now on.
    pub(super) fn empty(count_max: usize) -> Self {
        Self::new(&[], Place::OLDEST, count_max)
    }

    pub(super) fn floor(&self) -> Place {
        self.floor
    }

    pub(super) fn capacity_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The newest, for who looks ahead.
    pub(super) fn newest(&self) -> Place {
        self.slots.back().map_or(self.floor, |slot| slot.place())
    }

    /// Puts an entry where it belongs. Says by how many bytes the array has grown.
    #[inline]
    pub(super) fn put(&mut self, slot: Slot) -> usize {
        if slot.place() <= self.newest() {
            return self.put_between(slot);
        }
        if self.is_full() {
            self.drop_oldest();
        }
        let grown = self.make_room();
        self.slots.push_back(slot);
        grown
    }

    fn put_between(&mut self, slot: Slot) -> usize {
        let place = slot.place();
        if place <= self.floor {
            return 0;
        }
        let at = self.slots.partition_point(|other| other.place() < place);
        if let Some(same) = self.slots.get_mut(at).filter(|other| other.place() == place) {
            same.merge(slot);
            return 0;
        }
        if !self.is_full() {
            let grown = self.make_room();
            self.slots.insert(at, slot);
            return grown;
        }
        if at == 0 {
            // It would be the first to go.
            self.floor = place;
            return 0;
        }
        self.drop_oldest();
        self.slots.insert(at - 1, slot);
        0
    }

    fn is_full(&self) -> bool {
        self.slots.len() >= self.count_max as usize
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.slots.pop_front() {
            self.floor = oldest.place();
        }
    }

    /// By an eighth: doubling would leave a third of all memory empty.
    fn make_room(&mut self) -> usize {
        if self.slots.len() < self.slots.capacity() {
            return 0;
        }
        let before = self.capacity_bytes();
        let more = (self.slots.len() / 8).max(4).min(self.count_max as usize - self.slots.len());
        self.slots.reserve_exact(more.max(1));
        self.capacity_bytes() - before
    }

    /// Takes what a look at the store found, newest first, all above that floor, beside what has come meanwhile.
    pub(super) fn merge(&mut self, found: &[Slot], floor: Place) {
        let came = std::mem::replace(self, Self::new(found, floor, self.count_max as usize));
        self.floor = floor.max(came.floor);
        while self.slots.front().is_some_and(|oldest| oldest.place() <= self.floor) {
            self.slots.pop_front();
        }
        for slot in came.slots {
            self.put(slot);
        }
    }

    /// Takes an entry out, if it is there.
    pub(super) fn take_out(&mut self, place: Place) {
        let at = self.slots.partition_point(|other| other.place() < place);
        if self.slots.get(at).is_some_and(|slot| slot.place() == place) {
            self.slots.remove(at);
        }
    }

    /// The index of the newest entry below a place, and of one more, for [`Shelf::below`].
    pub(super) fn end_below(&self, before: Place) -> usize {
        self.slots.partition_point(|slot| slot.place() < before)
    }

    /// The entry before an index.
    pub(super) fn below(&self, end: usize) -> Option<Slot> {
        end.checked_sub(1).and_then(|at| self.slots.get(at)).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COUNT_MAX: usize = 800;

    fn place(time: i64, number: u64) -> Place {
        Place { time: Micros(time), number }
    }

    #[test]
    fn an_entry_has_twenty_bytes_and_keeps_what_it_was_made_of() {
        assert_eq!(size_of::<Slot>(), 20);
        for place in [place(i64::MIN, 0), place(-1, (1 << 48) - 1), place(i64::MAX, 1 << 40)] {
            let mut slot = Slot::new(place, UserId(u32::MAX), Reasons::FOLLOWED);
            slot.merge(Slot::new(place, UserId(u32::MAX), Reasons::INBOX));
            assert_eq!((slot.place(), slot.author()), (place, UserId(u32::MAX)));
            assert!(slot.reasons().has(Reasons::FOLLOWED) && slot.reasons().has(Reasons::INBOX));
        }
    }

    fn read(shelf: &Shelf) -> Vec<Place> {
        let mut end = shelf.end_below(Place::NEWEST);
        let mut places = Vec::new();
        while let Some(slot) = shelf.below(end) {
            places.push(slot.place());
            end -= 1;
        }
        places
    }

    proptest! {
        #[test]
        fn a_shelf_has_all_above_its_floor_whatever_comes_when(
            times in prop::collection::vec(0..3_000i64, 0..2_000),
            found in 0..1_000usize,
        ) {
            let places: Vec<Place> = times.iter().map(|time| place(*time, time.cast_unsigned())).collect();
            let slot = |place: &Place| Slot::new(*place, UserId(1), Reasons::FOLLOWED);
            let sorted = |places: &[Place]| {
                let mut sorted = places.to_vec();
                sorted.sort_by(|first, other| other.cmp(first));
                sorted.dedup();
                sorted
            };
            let (old, new) = places.split_at(found.min(places.len()));
            let mut shelf = Shelf::empty(COUNT_MAX);
            let mut bytes = 0;
            for place in new {
                bytes += shelf.put(slot(place));
            }
            prop_assert_eq!(bytes, shelf.capacity_bytes());
            let old: Vec<Slot> = sorted(old).iter().take(500).map(slot).collect();
            let floor = if old.len() == 500 { old[499].place() } else { Place::OLDEST };
            shelf.merge(&old, floor);
            let expected: Vec<Place> =
                sorted(&places).into_iter().filter(|place| *place > shelf.floor()).collect();
            prop_assert_eq!(read(&shelf), expected);
            prop_assert!(shelf.len() <= COUNT_MAX);
            prop_assert!(shelf.floor() == Place::OLDEST || times.len() > 500);
        }
    }
}
