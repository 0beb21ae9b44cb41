//! Who is there, and of whom they hear.
//!
//! In: connections that come and go; what the history carries of timelines (`live`). Out: whom to tell it, by
//! intersecting followers with those who have a connection, whether the post was pushed or is pulled; and of which channels
//! the history is to be read for one who comes back.

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::edges::{self, Side};
use super::{Building, Timelines, What, tables};
use crate::event::Channel;
use crate::state::sql::{self, Connection};
use crate::timeline::{Source, TimelineError, UserId, Version};

/// A connection of a user.
pub struct Connected {
    timelines: Timelines,
    user: Box<str>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.timelines.memory().online().leave(&self.user);
    }
}

/// What a timeline is made of, in the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// Of whom the user follows, of the inbox, and of edges.
    pub channels: Vec<Channel>,
    /// The batch in which whom the user follows changed last: before it, the channels were others.
    pub turned: Version,
}

/// Users with a connection who are to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Listeners {
    users: RoaringBitmap,
    /// Where to go on; none at the end.
    next: Option<u32>,
}

impl Listeners {
    fn new(users: RoaringBitmap) -> Self {
        Self { users, next: Some(0) }
    }

    /// How many there are, those included who were named already.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.users.len()
    }
}

impl Timelines {
    /// Notes a connection of a user, whose timeline becomes active, until what is returned is dropped.
    ///
    /// # Errors
    /// If the state refuses.
    pub async fn connect(&self, user: &str) -> Result<Connected, TimelineError> {
        // Before the look: a write that makes the user known tells who is here already.
        self.memory().online().enter(user);
        let connected = Connected { timelines: self.clone(), user: user.into() };
        if let Some(id) = self.user(user).await? {
            let is_active = {
                let mut memory = self.memory();
                memory.online().know(user, id);
                memory.is_active(id)
            };
            if !is_active {
                self.build_home(id, user).await?;
            }
        }
        Ok(connected)
    }

    /// Where the history has what a user's timeline tells, as it is now.
    ///
    /// # Errors
    /// If the state refuses.
    pub async fn sources(&self, user: &str) -> Result<Sources, TimelineError> {
        let Some(id) = self.user(user).await? else {
            return Ok(Sources { channels: vec![Source::Edges.channel()], turned: Version(0) });
        };
        let look = move |connection: &Connection| {
            let followed = edges::set(connection, Side::Followed, id)?;
            sql::Result::Ok((followed, tables::turned(connection, id)?))
        };
        let (followed, turned) = self.0.state.read(look).await?;
        let authors = followed.iter().map(|author| Source::Author(UserId(author)));
        let sources = authors.chain([Source::Inbox(id), Source::Edges]);
        Ok(Sources { channels: sources.map(Source::channel).collect(), turned })
    }

    /// Those with a connection whose timelines hear of a source. Of edges it is each user only once for each change: one
    /// gateway asks.
    ///
    /// # Errors
    /// If the state refuses.
    pub async fn listeners(&self, source: Source) -> Result<Listeners, TimelineError> {
        match source {
            Source::Author(author) => Ok(Listeners::new(self.online_followers(author).await?)),
            Source::Inbox(user) => {
                let mut users = RoaringBitmap::new();
                if self.memory().online().users().contains(user.0) {
                    users.insert(user.0);
                }
                Ok(Listeners::new(users))
            }
            Source::Edges => Ok(Listeners::new(self.memory().take_turned())),
        }
    }

    async fn online_followers(&self, author: UserId) -> Result<RoaringBitmap, TimelineError> {
        {
            let mut memory = self.memory();
            if memory.online().users().is_empty() {
                return Ok(RoaringBitmap::new());
            }
            if let Some(users) = memory.online_followers(author) {
                return Ok(users);
            }
        }
        let found = self.build_audience(author).await?;
        let mut memory = self.memory();
        // It may have been evicted at once.
        Ok(memory.online_followers(author).unwrap_or_else(|| &found & memory.online().users()))
    }

    /// Looks the followers of an author up, and keeps them if there is room.
    pub(super) async fn build_audience(&self, author: UserId) -> Result<RoaringBitmap, TimelineError> {
        let begun = self.memory().begin_audience(author);
        let building = begun.map(|build| Building { of: self, what: What::Audience(author), build });
        let set = move |connection: &Connection| edges::set(connection, Side::Followers, author);
        let found = self.0.state.read(set).await?;
        if let Some(build) = begun {
            self.memory().install_audience(author, build, found.clone());
        }
        drop(building);
        Ok(found)
    }

    /// The channels of the next listeners, at most so many; none at the end. Who has left is left out.
    pub fn next_channels(&self, listeners: &mut Listeners, count_max: usize) -> Option<Vec<Arc<str>>> {
        let mut users = listeners.users.iter();
        users.advance_to(listeners.next?);
        let mut memory = self.memory();
        let online = memory.online();
        let mut channels = Vec::new();
        let mut last = None;
        for user in users.take(count_max) {
            last = Some(user);
            channels.extend(online.channel(UserId(user)));
        }
        listeners.next = last.and_then(|last| last.checked_add(1));
        last.map(|_| channels)
    }
}
