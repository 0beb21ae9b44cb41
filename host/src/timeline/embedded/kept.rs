//! What is kept in memory for some users, within a budget of bytes: the least recently used goes first.
//!
//! In: values by user, with their sizes. Out: the same, as long as they are there.
//!
//! A value has a place in one array, so that a push which goes to many users looks the places up first, and then
//! touches the values, each loop with many misses of the cache under way at once.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::timeline::UserId;

/// What a map and an order cost for one value, about.
const ENTRY_BYTES: usize = 80;

pub(super) struct Kept<T> {
    places: FxHashMap<UserId, u32>,
    items: Vec<Option<Item<T>>>,
    free: Vec<u32>,
    /// By when it was used last.
    order: BTreeMap<u64, UserId>,
    tick: u64,
    bytes: usize,
    bytes_max: usize,
}

struct Item<T> {
    tick: u64,
    bytes: usize,
    value: T,
}

/// Where a value is, until the next one comes or goes.
#[derive(Clone, Copy)]
pub(super) struct At(u32);

impl<T> Kept<T> {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            places: FxHashMap::default(),
            items: Vec::new(),
            free: Vec::new(),
            order: BTreeMap::new(),
            tick: 0,
            bytes: 0,
            bytes_max,
        }
    }

    pub(super) fn at(&self, user: UserId) -> Option<At> {
        self.places.get(&user).map(|at| At(*at))
    }

    pub(super) fn get(&self, user: UserId) -> Option<&T> {
        let At(at) = self.at(user)?;
        self.items[at as usize].as_ref().map(|item| &item.value)
    }

    pub(super) fn get_mut(&mut self, user: UserId) -> Option<&mut T> {
        let At(at) = self.at(user)?;
        self.items[at as usize].as_mut().map(|item| &mut item.value)
    }

    /// Changes a value; the change says by how many bytes the value has grown.
    pub(super) fn change(&mut self, At(at): At, change: impl FnOnce(&mut T) -> usize) {
        if let Some(item) = &mut self.items[at as usize] {
            let grown = change(&mut item.value);
            item.bytes += grown;
            self.bytes += grown;
        }
    }

    /// Says that a value has another size now.
    pub(super) fn resize(&mut self, user: UserId, bytes: usize) {
        let Some(At(at)) = self.at(user) else { return };
        if let Some(item) = &mut self.items[at as usize] {
            self.bytes = self.bytes - item.bytes + bytes + ENTRY_BYTES;
            item.bytes = bytes + ENTRY_BYTES;
        }
    }

    /// It is the last to go now.
    pub(super) fn touch(&mut self, user: UserId) {
        let Some(At(at)) = self.at(user) else { return };
        if let Some(item) = &mut self.items[at as usize] {
            self.order.remove(&item.tick);
            self.tick += 1;
            item.tick = self.tick;
            self.order.insert(self.tick, user);
        }
    }

    /// Puts a value there, in place of the one before.
    pub(super) fn insert(&mut self, user: UserId, value: T, bytes: usize) {
        self.remove(user);
        self.tick += 1;
        let bytes = bytes + ENTRY_BYTES;
        let item = Some(Item { tick: self.tick, bytes, value });
        let at = match self.free.pop() {
            Some(at) => {
                self.items[at as usize] = item;
                at
            }
            None => {
                self.items.push(item);
                u32::try_from(self.items.len() - 1).expect("users have numbers of 32 bits")
            }
        };
        self.places.insert(user, at);
        self.order.insert(self.tick, user);
        self.bytes += bytes;
    }

    pub(super) fn remove(&mut self, user: UserId) -> Option<T> {
        let at = self.places.remove(&user)?;
        let item = self.items[at as usize].take()?;
        self.free.push(at);
        self.order.remove(&item.tick);
        self.bytes -= item.bytes;
        Some(item.value)
    }

    /// Takes the least recently used out, if there is more than the budget allows.
    pub(super) fn evict(&mut self) -> Option<(UserId, T)> {
        if self.bytes <= self.bytes_max {
            return None;
        }
        let (_, user) = self.order.first_key_value()?;
        let user = *user;
        self.remove(user).map(|value| (user, value))
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first_and_only_over_the_budget() {
        let mut kept = Kept::new(3 * (ENTRY_BYTES + 10));
        for user in 1..=3 {
            kept.insert(UserId(user), user, 10);
        }
        assert_eq!(kept.evict(), None);
        kept.touch(UserId(1));
        kept.insert(UserId(4), 4, 10);
        assert_eq!(kept.evict(), Some((UserId(2), 2)));
        assert_eq!(kept.evict(), None);
        kept.resize(UserId(4), 11);
        assert_eq!(kept.evict(), Some((UserId(3), 3)));
        kept.insert(UserId(4), 5, 10);
        assert_eq!((kept.len(), kept.bytes()), (2, 2 * (ENTRY_BYTES + 10)));
        let at = kept.at(UserId(4)).unwrap();
        kept.change(at, |value| {
            *value = 6;
            1
        });
        assert_eq!((kept.get(UserId(4)), kept.bytes()), (Some(&6), 2 * (ENTRY_BYTES + 10) + 1));
        assert_eq!(kept.remove(UserId(4)), Some(6));
        assert_eq!(kept.remove(UserId(1)), Some(1));
        assert_eq!((kept.len(), kept.bytes(), kept.items.len()), (0, 0, 4));
    }
}
