//! What a batch of changes writes to feeds: posts, edges, retractions.
//!
//! Plain values, so that a bus carries them without a word to the store that takes them: both are one commit.

use bytes::Bytes;

use super::{Micros, Plan};

/// One write, in the order of the changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedWrite {
    /// A post for the followers of its author; with an item that is there, an edit of it.
    Post {
        /// What it says.
        post: FeedPost,
        /// How it reaches them. An edit goes the way of its post.
        plan: Plan,
    },
    /// A post for the timeline of one user, whoever that user follows.
    Inbox {
        /// The user.
        user: Box<str>,
        /// What it says.
        post: FeedPost,
    },
    /// Takes a post back, for ever: what comes for it later does nothing.
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
}

/// A post as it is written. An author's item is one post, by whichever way it comes: the last payload is that of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedPost {
    /// Who made it known.
    pub author: Box<str>,
    /// Its id, the author's own.
    pub item: Box<str>,
    /// One JSON document.
    pub payload: Bytes,
    /// Where it stands in timelines. An edit does not move it.
    pub time: Micros,
    /// When the change was committed in its database.
    pub committed_at: Micros,
}
