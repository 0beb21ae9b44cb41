//! What timelines tell those who are there, and how the history carries it.
//!
//! In: what a write did to a post, or to somebody's edges. Out: messages for the history, on channels of the server's own.
//!
//! A post, an edit and a retraction are one message each, on a channel of the *author*, however many follow: nothing is
//! appended for a follower. Who is told is found when it is told: live by intersecting the followers of the author with
//! those who have a connection, and for who comes back by reading the channels of all whom the user follows.
//!
//! Invariants:
//! - each message is told to one timeline at most once, so its sequence is a place to go on from in each;
//! - a batch that changed edges ends with one message that says so, and whoever is told of it reads the timeline anew:
//!   so between two of them the channels that a timeline is made of are the same ones.

use std::fmt::Write;
use std::str::FromStr;

use bytes::Bytes;

use super::{Entry, UserId, Version};
use crate::event::{Channel, Form, Message, Retention, write_json_string};

/// A post that is on the timeline from now on; if it was there already, it came in a second way.
pub(crate) const ENTRY: &str = "entry";
/// It says something else.
pub(crate) const EDIT: &str = "edit";
/// It is gone.
pub(crate) const RETRACT: &str = "retract";

const CHANNEL_PREFIX: &str = "timeline:";

/// The channel of a user's timeline, as clients name it.
#[must_use]
pub fn channel_of(user: &str) -> String {
    format!("{CHANNEL_PREFIX}{user}")
}

/// Whose timeline it is, if the channel is one's.
#[must_use]
pub fn user_of(channel: &Channel) -> Option<&str> {
    channel.as_str().strip_prefix(CHANNEL_PREFIX)
}

/// Of what a message tells, as its channel says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Of an author's post.
    Author(UserId),
    /// Of what is in a user's inbox.
    Inbox(UserId),
    /// Of edges that came and went.
    Edges,
}

impl Source {
    /// What it is carried on.
    #[must_use]
    pub fn channel(self) -> Channel {
        match self {
            Self::Author(UserId(author)) => Channel::reserved(&format!("author:{author}")),
            Self::Inbox(UserId(user)) => Channel::reserved(&format!("inbox:{user}")),
            Self::Edges => Channel::reserved("edges"),
        }
    }

    /// What a channel carries, if it is one of these.
    #[must_use]
    pub fn of(channel: &Channel) -> Option<Self> {
        let name = channel.as_reserved()?;
        match name.split_once(':') {
            None => (name == "edges").then_some(Self::Edges),
            Some(("author", author)) => Some(Self::Author(UserId(author.parse().ok()?))),
            Some(("inbox", user)) => Some(Self::Inbox(UserId(user.parse().ok()?))),
            Some(_) => None,
        }
    }

    fn message(self, event: &str, payload: String) -> Message {
        Message {
            channel: self.channel(),
            event: event.into(),
            payload: payload.into(),
            form: Form::Json,
            retention: Retention::Kept,
        }
    }

    /// That an entry came, or says something else.
    pub(crate) fn shows(self, event: &str, entry: &Entry) -> Message {
        let mut json = String::new();
        entry.to_json(&mut json);
        self.message(event, json)
    }

    /// That an entry is gone.
    pub(crate) fn retracts(self, author: &str, item: &str) -> Message {
        let mut json = String::new();
        write_names(author, item, &mut json);
        json.push('}');
        self.message(RETRACT, json)
    }
}

/// That edges changed in a batch.
pub(crate) fn turned(version: Version) -> Message {
    Source::Edges.message("", version.0.to_string())
}

/// In which batch edges changed, as a message says it.
#[must_use]
pub fn turned_in(payload: &Bytes) -> Option<Version> {
    std::str::from_utf8(payload).ok().and_then(|text| u64::from_str(text).ok()).map(Version)
}

impl Entry {
    /// Appends it as clients get it, on a page and live: `time` in microseconds since the Unix epoch.
    pub fn to_json(&self, out: &mut String) {
        write_names(&self.author, &self.item, out);
        write!(out, ",\"time\":{},\"edits\":{},\"payload\":", self.place.time.0, self.edits_count)
            .expect("writing to a string cannot fail");
        out.push_str(&String::from_utf8_lossy(&self.payload));
        out.push('}');
    }
}

fn write_names(author: &str, item: &str, out: &mut String) {
    out.push_str("{\"author\":");
    write_json_string(author, out);
    out.push_str(",\"item\":");
    write_json_string(item, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Micros;
    use crate::timeline::Place;

    #[test]
    fn a_source_is_its_channel_and_nobody_can_name_it() {
        for source in [Source::Author(UserId(7)), Source::Inbox(UserId(u32::MAX)), Source::Edges] {
            let channel = source.channel();
            assert_eq!(Source::of(&channel), Some(source));
            assert!(Channel::new(channel.as_str()).is_err());
        }
        for other in ["author", "author:", "author:-1", "edges:1", ""] {
            assert_eq!(Source::of(&Channel::reserved(other)), None, "{other}");
        }
        assert_eq!(Source::of(&Channel::new("author:7").unwrap()), None);
    }

    #[test]
    fn a_timeline_is_its_channel() {
        let channel = Channel::new(&channel_of("é/1")).unwrap();
        assert_eq!(user_of(&channel), Some("é/1"));
        assert_eq!(user_of(&Channel::new("timelines:1").unwrap()), None);
    }

    #[test]
    fn what_is_told_is_json_whatever_the_names_hold() {
        let entry = Entry {
            author: "a\"".into(),
            item: "1\\".into(),
            place: Place { time: Micros(-5), number: 7 },
            edits_count: 2,
            payload: Bytes::from_static(b"[1]"),
        };
        let shown = Source::Edges.shows(ENTRY, &entry).payload;
        assert_eq!(shown, r#"{"author":"a\"","item":"1\\","time":-5,"edits":2,"payload":[1]}"#);
        assert_eq!(Source::Edges.retracts("a\"", "1\\").payload, r#"{"author":"a\"","item":"1\\"}"#);
        assert_eq!(turned_in(&turned(Version(9)).payload), Some(Version(9)));
    }
}
