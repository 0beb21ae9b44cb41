//! What a router answers: where a change goes, and what travels with it.
//!
//! Plain types, read by `answer` out of numbers that were checked. Each shows itself as one line for people, as `check`
//! and comparisons print it.
//!
//! Invariant: names keep to the lengths of `limits`; only an event, the key of a topic and a prefix of cache keys may
//! be empty. To add a kind of route, change [`Route`], [`Kind`], `answer` and, for what may be granted, `grants`.

use std::fmt;

use bytes::Bytes;

use crate::event::{Channel, EventName, Micros, Retention};
use crate::limits::SHOWN_PAYLOAD_BYTES_MAX;

use super::error::one_line;

/// Where a change goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To those who listen on a channel.
    Channel {
        /// The channel.
        channel: Channel,
        /// The event's name as clients see it, may be empty.
        event: EventName,
        /// What they get.
        payload: Payload,
        /// For whom it is kept.
        retention: Retention,
    },
    /// To the followers of its author, as the fan-out stage says.
    Audience(Box<Entry>),
    /// Into the timeline of one user, whoever that user follows.
    Inbox {
        /// The user.
        user: Box<str>,
        /// What is new there.
        entry: Box<Entry>,
    },
    /// Takes a post back.
    Retract {
        /// Who made it known.
        author: Box<str>,
        /// Its id.
        item: Box<str>,
    },
    /// One user follows another from now on.
    Follow {
        /// Who follows.
        follower: Box<str>,
        /// Whom.
        followee: Box<str>,
    },
    /// No more.
    Unfollow {
        /// Who followed.
        follower: Box<str>,
        /// Whom.
        followee: Box<str>,
    },
    /// Deletes from the cache.
    Cache(CacheKeys),
    /// For other services.
    Topic {
        /// The topic.
        topic: Box<str>,
        /// What orders records of the topic, may be empty.
        key: Box<str>,
        /// What they get.
        payload: Payload,
    },
}

/// The kinds of routes, as the interface numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// [`Route::Channel`].
    Channel,
    /// [`Route::Audience`].
    Audience,
    /// [`Route::Inbox`].
    Inbox,
    /// [`Route::Retract`].
    Retract,
    /// [`Route::Follow`].
    Follow,
    /// [`Route::Unfollow`].
    Unfollow,
    /// [`Route::Cache`].
    Cache,
    /// [`Route::Topic`].
    Topic,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Channel,
        Self::Audience,
        Self::Inbox,
        Self::Retract,
        Self::Follow,
        Self::Unfollow,
        Self::Cache,
        Self::Topic,
    ];

    /// The kind of that number.
    pub(super) fn of(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Whether it is for feeds: posts, edges and timelines.
    #[must_use]
    pub fn is_for_feeds(self) -> bool {
        match self {
            Self::Audience | Self::Inbox | Self::Retract | Self::Follow | Self::Unfollow => true,
            Self::Channel | Self::Cache | Self::Topic => false,
        }
    }
}

/// One post in timelines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who made it known.
    pub author: Box<str>,
    /// Its id, the author's own.
    pub item: Box<str>,
    /// What readers get.
    pub payload: Payload,
    /// Where it stands in a timeline.
    pub time: Micros,
}

/// Which keys of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheKeys {
    /// This one.
    One(Box<str>),
    /// All that begin so; all there are, if it is empty.
    Prefix(Box<str>),
}

/// What travels with a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// The row as JSON: the new one, the old one of a delete, else `null`. The host has it, or makes it once.
    Row,
    /// The change as Debezium's envelope. The host makes it once.
    Envelope,
    /// Nothing.
    Nothing,
    /// A JSON document of the plugin, checked.
    Json(Bytes),
    /// Text of the plugin, UTF-8.
    Text(Bytes),
    /// Bytes of the plugin.
    Bytes(Bytes),
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel { channel, event, payload, retention } => {
                let kept = match retention {
                    Retention::Kept => "",
                    Retention::LiveOnly => ", live only",
                    Retention::Value => ", the channel's value",
                    Retention::Forget => ", ends the channel's value",
                };
                write!(f, "channel {channel}, event `{}`, {payload}{kept}", &**event)
            }
            Self::Audience(entry) => write!(f, "audience of {entry}"),
            Self::Inbox { user, entry } => write!(f, "inbox of {}: {entry}", shown(user)),
            Self::Retract { author, item } => write!(f, "retract {} of {}", shown(item), shown(author)),
            Self::Follow { follower, followee } => {
                write!(f, "{} follows {}", shown(follower), shown(followee))
            }
            Self::Unfollow { follower, followee } => {
                write!(f, "{} follows {} no more", shown(follower), shown(followee))
            }
            Self::Cache(CacheKeys::One(key)) => write!(f, "delete the cache key {}", shown(key)),
            Self::Cache(CacheKeys::Prefix(prefix)) => write!(f, "delete the cache keys {}*", shown(prefix)),
            Self::Topic { topic, key, payload } => {
                write!(f, "topic {}, key `{}`, {payload}", shown(topic), shown(key))
            }
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { author, item, payload, time } = self;
        write!(f, "{}, item {}, at {}, {payload}", shown(author), shown(item), time.0)
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row => f.write_str("the row"),
            Self::Envelope => f.write_str("the envelope"),
            Self::Nothing => f.write_str("no payload"),
            Self::Json(json) => write!(f, "JSON {}", shown(&String::from_utf8_lossy(json))),
            Self::Text(text) => write!(f, "text `{}`", shown(&String::from_utf8_lossy(text))),
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
        }
    }
}

fn shown(text: &str) -> String {
    one_line(text, SHOWN_PAYLOAD_BYTES_MAX)
}
