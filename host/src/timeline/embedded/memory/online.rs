//! Who has a connection. A user whom the store has never seen is kept by name until a write brings the number.

use std::collections::HashMap;
use std::sync::Arc;

use roaring::RoaringBitmap;
use rustc_hash::FxHashMap;

use crate::timeline::{UserId, channel_of};

#[derive(Default)]
pub(in crate::timeline::embedded) struct Online {
    by_name: HashMap<Box<str>, Present>,
    users: RoaringBitmap,
    channels: FxHashMap<UserId, Arc<str>>,
    /// Whose edges changed since somebody asked, whether they are there or not: they may come before it is told.
    turned: RoaringBitmap,
}

struct Present {
    connections_count: u32,
    user: Option<UserId>,
}

impl Online {
    pub(in crate::timeline::embedded) fn enter(&mut self, name: &str) {
        match self.by_name.get_mut(name) {
            Some(present) => present.connections_count += 1,
            None => {
                self.by_name.insert(name.into(), Present { connections_count: 1, user: None });
            }
        }
    }

    /// That user has this number.
    pub(in crate::timeline::embedded) fn know(&mut self, name: &str, user: UserId) {
        if let Some(present) = self.by_name.get_mut(name)
            && present.user.replace(user).is_none()
        {
            self.users.insert(user.0);
            self.channels.insert(user, channel_of(name).into());
        }
    }

    pub(in crate::timeline::embedded) fn leave(&mut self, name: &str) {
        let Some(present) = self.by_name.get_mut(name) else { return };
        present.connections_count -= 1;
        if present.connections_count == 0
            && let Some(user) = self.by_name.remove(name).and_then(|present| present.user)
        {
            self.users.remove(user.0);
            self.channels.remove(&user);
        }
    }

    pub(in crate::timeline::embedded) fn users(&self) -> &RoaringBitmap {
        &self.users
    }

    /// The channel of the timeline of one who is there.
    pub(in crate::timeline::embedded) fn channel(&self, user: UserId) -> Option<Arc<str>> {
        self.channels.get(&user).cloned()
    }

    /// Whom a user follows has changed.
    pub(super) fn turn(&mut self, user: UserId) {
        self.turned.insert(user.0);
    }

    /// Those who are there and whose edges changed since this was asked.
    pub(super) fn take_turned(&mut self) -> RoaringBitmap {
        std::mem::take(&mut self.turned) & &self.users
    }
}
