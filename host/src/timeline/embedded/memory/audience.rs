//! Who follows an author, and what an author posted, as long as it is of use.

use roaring::RoaringBitmap;

use crate::timeline::UserId;
use crate::timeline::embedded::edges::Turn;
use crate::timeline::embedded::shelf::Shelf;

/// An author's followers.
pub(super) struct Audience {
    pub(super) followers: RoaringBitmap,
    pub(super) building: Option<Building>,
}

/// Being read; edges that change meanwhile are noted.
pub(super) struct Building {
    build: u64,
    turns: Vec<(UserId, Turn)>,
}

impl Audience {
    pub(super) fn new(build: u64) -> Self {
        Self { followers: RoaringBitmap::new(), building: Some(Building { build, turns: Vec::new() }) }
    }

    pub(super) fn is_building(&self, which: u64) -> bool {
        self.building.as_ref().is_some_and(|building| building.build == which)
    }

    pub(super) fn install(&mut self, found: RoaringBitmap) {
        self.followers = found;
        for (follower, turn) in self.building.take().map_or(Vec::new(), |building| building.turns) {
            self.turn(follower, turn);
        }
    }

    pub(super) fn turn(&mut self, follower: UserId, turn: Turn) {
        match (&mut self.building, turn) {
            (Some(building), turn) => building.turns.push((follower, turn)),
            (None, Turn::Follow) => {
                self.followers.insert(follower.0);
            }
            (None, Turn::Unfollow) => {
                self.followers.remove(follower.0);
            }
        }
    }
}

/// An author's newest posts.
pub(super) struct Outbox {
    pub(super) shelf: Shelf,
    /// Being read; posts arrive already.
    pub(super) building: Option<u64>,
}

impl Outbox {
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.shelf.capacity_bytes()
    }
}
