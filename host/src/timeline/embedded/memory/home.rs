//! An active timeline: what was pushed to one user, whom the user follows, and what a reader has to merge with it.
//!
//! *built → stale:* too many authors were followed since, and it is cheaper to build it anew.

use std::sync::Arc;

use crate::timeline::embedded::edges::Turn;
use crate::timeline::embedded::shelf::{Shelf, Slot};
use crate::timeline::{Place, UserId, Version};

pub(in crate::timeline::embedded) struct Home {
    pub(super) name: Arc<str>,
    pub(super) shelf: Shelf,
    /// Sorted.
    followed: Vec<UserId>,
    /// Who was followed since it was built: their earlier posts are not on the shelf.
    pub(super) lacking: Vec<UserId>,
    pub(super) state: HomeState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HomeState {
    /// Pushes arrive, but what was there before is still being read. Edges that change meanwhile are noted.
    Building { build: u64, turns: Vec<(UserId, Turn)> },
    /// All that was written up to that version and is above its floor is on the shelf.
    Built(Version),
    /// It is good for nothing.
    Stale,
}

/// What the disk has of a timeline.
pub(in crate::timeline::embedded) struct FoundHome {
    pub(in crate::timeline::embedded) version: Version,
    /// Sorted.
    pub(in crate::timeline::embedded) followed: Vec<UserId>,
    /// Newest first, all above the floor.
    pub(in crate::timeline::embedded) slots: Vec<Slot>,
    pub(in crate::timeline::embedded) floor: Place,
}

impl Home {
    pub(super) fn new(name: &str, build: u64, slots_max: usize) -> Self {
        Self {
            name: name.into(),
            shelf: Shelf::empty(slots_max),
            followed: Vec::new(),
            lacking: Vec::new(),
            state: HomeState::Building { build, turns: Vec::new() },
        }
    }

    pub(super) fn is_building(&self, which: u64) -> bool {
        matches!(self.state, HomeState::Building { build, .. } if build == which)
    }

    /// *building → built*, or *stale*.
    pub(super) fn install(&mut self, found: FoundHome, lacking_max: usize) {
        let FoundHome { version, followed, slots, floor } = found;
        let before = std::mem::replace(&mut self.state, HomeState::Built(version));
        self.followed = followed;
        self.shelf.merge(&slots, floor);
        if let HomeState::Building { turns, .. } = before {
            for (followee, turn) in turns {
                self.turn(followee, turn, lacking_max);
            }
        }
    }

    /// The user follows somebody from now on, or no more.
    pub(super) fn turn(&mut self, followee: UserId, turn: Turn, lacking_max: usize) {
        if let HomeState::Building { turns, .. } = &mut self.state {
            turns.push((followee, turn));
            if turns.len() > lacking_max {
                self.state = HomeState::Stale;
            }
            return;
        }
        match (self.followed.binary_search(&followee), turn) {
            (Err(at), Turn::Follow) => self.followed.insert(at, followee),
            (Ok(at), Turn::Unfollow) => {
                self.followed.remove(at);
            }
            (Ok(_), Turn::Follow) | (Err(_), Turn::Unfollow) => {}
        }
        if turn == Turn::Follow && !self.lacking.contains(&followee) {
            self.lacking.push(followee);
            if self.lacking.len() > lacking_max {
                self.state = HomeState::Stale;
            }
        }
    }

    pub(super) fn follows(&self, author: UserId) -> bool {
        self.followed.binary_search(&author).is_ok()
    }

    pub(super) fn followed(&self) -> &[UserId] {
        &self.followed
    }

    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.shelf.capacity_bytes()
            + (self.followed.capacity() + self.lacking.capacity()) * size_of::<UserId>()
            + 2 * self.name.len()
    }
}
