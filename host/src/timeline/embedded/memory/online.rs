//! Who has a connection. A user whom the store has never seen is kept by name until a write brings the number.

use std::collections::HashMap;

use roaring::RoaringBitmap;

use crate::timeline::UserId;

#[derive(Default)]
pub(in crate::timeline::embedded) struct Online {
    by_name: HashMap<Box<str>, Present>,
    users: RoaringBitmap,
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
        if let Some(present) = self.by_name.get_mut(name) {
            present.user = Some(user);
            self.users.insert(user.0);
        }
    }

    pub(in crate::timeline::embedded) fn leave(&mut self, name: &str) {
        let Some(present) = self.by_name.get_mut(name) else { return };
        present.connections_count -= 1;
        if present.connections_count == 0
            && let Some(user) = self.by_name.remove(name).and_then(|present| present.user)
        {
            self.users.remove(user.0);
        }
    }

    pub(super) fn users(&self) -> &RoaringBitmap {
        &self.users
    }
}
