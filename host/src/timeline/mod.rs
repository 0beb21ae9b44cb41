//! Feeds: who follows whom, what was posted, and the timeline of every user, newest first.
//!
//! In: the writes of a batch ([`FeedWrite`](crate::event::FeedWrite)), who is connected, who reads. Out: facts about an
//! author's audience, pages of timelines, and what the history carries for those who are there (`live`).
//!
//! A user's timeline holds, of the posts that nobody took back, those of the authors whom the user follows now, and
//! those that were put into the user's inbox. Newest first: by time, and among equal times by when the post first came.
//!
//! Invariants:
//! - a timeline is a cache: the answer is the same whatever was pushed, evicted or lost, so a plan changes what
//!   something costs, never what it shows;
//! - writes are there as a whole with the batch that they follow from, once, or not at all;
//! - a page goes on where its cursor stands: no entry comes twice, and none is skipped, while new ones arrive.
//!
//! There is one store, `embedded`; with a second one its methods become a trait, with a contract that both pass.
//!
//! Absent on purpose: what a payload means, connections, who may read what (`gateway`).

pub mod embedded;
mod live;

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

#[cfg(test)]
pub(crate) use embedded::tests::{follow, in_folder, in_folder_with, retract, unfollow};
pub use embedded::{Activity, Asked, Census, Connected, Listeners, Sources, Timelines};
pub use live::{Source, channel_of, turned_in, user_of};

use crate::event::{Micros, Plan};

/// A user by a number that is given on first sight, in this store's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(pub u32);

/// Where an entry stands: older ones are less. The number tells apart what has the same time, and is the post's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The post's time.
    pub time: Micros,
    /// The post's number, by when it first came.
    pub number: u64,
}

impl Place {
    /// Older than any.
    const OLDEST: Self = Self { time: Micros(i64::MIN), number: 0 };
    /// Newer than any.
    const NEWEST: Self = Self { time: Micros(i64::MAX), number: u64::MAX };

    /// The least place above this one.
    fn above(self) -> Self {
        Self { number: self.number.saturating_add(1), ..self }
    }
}

/// The state of the store, counted in batches of writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version(pub u64);

/// Where a page ended: the next one begins below it. Its text is `TIME.NUMBER`, which clients should take as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(pub Place);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0.time.0, self.0.number)
    }
}

/// A text that is no cursor.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[error("this is no cursor: take `next` of a page as it is, or leave it out to begin with the newest")]
pub struct NoCursor;

impl FromStr for Cursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let (time, number) = text.split_once('.').ok_or(NoCursor)?;
        let time = time.parse().map_err(|_| NoCursor)?;
        let number = number.parse().map_err(|_| NoCursor)?;
        Ok(Self(Place { time: Micros(time), number }))
    }
}

/// Some of a timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Newest first.
    pub entries: Vec<Entry>,
    /// Where to go on; none at the end of the timeline.
    pub next: Option<Cursor>,
    /// The page shows all that was written up to here, and perhaps some of what was written later.
    pub version: Version,
}

/// A post as a timeline shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who made it known.
    pub author: Box<str>,
    /// Its id, the author's own.
    pub item: Box<str>,
    /// Where it stands.
    pub place: Place,
    /// How often it was edited.
    pub edits_count: u64,
    /// One JSON document.
    pub payload: Bytes,
}

/// What is known of a post's audience before it is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// How many follow the author.
    pub followers: u64,
    /// Of them, those with a connection.
    pub online: u64,
    /// Of them, those whose timeline is active.
    pub active: u64,
    /// The author's posts in the hour before, by commit times; counted up to
    /// [`TIMELINE_RATE_COUNT_MAX`](crate::limits::TIMELINE_RATE_COUNT_MAX).
    pub rate: u32,
    /// How the author's last post went.
    pub previous: Option<Plan>,
}

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum TimelineError {
    /// The store refuses.
    #[error("the store of timelines failed")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_its_text() {
        for place in [Place::OLDEST, Place::NEWEST, Place { time: Micros(-5), number: 7 }] {
            assert_eq!(Cursor(place).to_string().parse(), Ok(Cursor(place)));
        }
        for wrong in ["", ".", "1", "1.", ".1", "1.2.3", "a.1", "1.-1", "99999999999999999999.1"] {
            assert_eq!(wrong.parse::<Cursor>(), Err(NoCursor), "{wrong}");
        }
    }
}
