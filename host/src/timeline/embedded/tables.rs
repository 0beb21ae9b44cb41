//! The tables of users and posts, and every statement that writes to them.
//!
//! In: a connection of the state within a transaction, and the writes of a batch. Out: what they changed, for who keeps
//! some of it in memory, and what there is to tell of it.
//!
//! Invariants:
//! - an author's item is one row, whichever way it came; its time and number never change;
//! - a row that was retracted stays, without its payload, so that what comes for it later does nothing.

use super::edges::{self, Turn};
use super::shelf::{Reasons, Slot};
use crate::event::{FeedPost, FeedWrite, Message, Micros, Plan};
use crate::limits::TIMELINE_RATE_COUNT_MAX;
use crate::state::sql::{Connection, OptionalExtension, Result, params};
use crate::timeline::live::{self, Source};
use crate::timeline::{Entry, Place, UserId, Version};

/// Put into some inboxes, and not made known to followers.
pub(super) const INBOX_ONLY: u8 = 0;
/// For the followers of its author.
pub(super) const PUBLIC: u8 = 1;
/// Taken back.
pub(super) const RETRACTED: u8 = 2;

const HOUR: i64 = 3_600_000_000;

/// What writes changed.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) version: Version,
    pub(super) deeds: Vec<Deed>,
    /// Who was not known before.
    pub(super) new_users: Vec<(Box<str>, UserId)>,
    /// Of which edges came or went: who follows, and whom.
    pub(super) turned: Vec<(Box<str>, Box<str>)>,
    /// What there is to tell.
    pub(super) news: Vec<Message>,
}

/// One thing that changed.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Deed {
    /// A post is for the followers of its author from now on.
    Published { slot: Slot, plan: Plan },
    /// A post is in a user's inbox from now on.
    Inboxed { user: UserId, slot: Slot },
    /// A post says something else.
    Edited { slot: Slot },
    /// A post is gone.
    Retracted { slot: Slot },
    /// An edge came or went.
    Turned { follower: UserId, followee: UserId, turn: Turn },
}

pub(super) fn create(connection: &Connection) -> Result<Version> {
    edges::create(connection)?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS feeds (version INTEGER NOT NULL) STRICT;
         INSERT INTO feeds SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM feeds);
         CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, plan INTEGER) STRICT;
         CREATE TABLE IF NOT EXISTS turns (user INTEGER PRIMARY KEY, version INTEGER NOT NULL) STRICT;
         CREATE TABLE IF NOT EXISTS posts (
             number INTEGER PRIMARY KEY,
             author INTEGER NOT NULL,
             item TEXT NOT NULL,
             time INTEGER NOT NULL,
             committed_at INTEGER NOT NULL,
             state INTEGER NOT NULL,
             edits_count INTEGER NOT NULL,
             payload BLOB NOT NULL,
             UNIQUE (author, item)
         ) STRICT;
         CREATE INDEX IF NOT EXISTS posts_by_time ON posts (author, time) WHERE state = 1;
         CREATE INDEX IF NOT EXISTS posts_by_commit ON posts (author, committed_at) WHERE state = 1;
         CREATE TABLE IF NOT EXISTS inbox (
             user INTEGER NOT NULL, time INTEGER NOT NULL, number INTEGER NOT NULL, author INTEGER NOT NULL,
             PRIMARY KEY (user, time, number)
         ) STRICT, WITHOUT ROWID;
         CREATE INDEX IF NOT EXISTS inbox_by_number ON inbox (number);",
    )?;
    version(connection)
}

pub(super) fn version(connection: &Connection) -> Result<Version> {
    connection
        .prepare_cached("SELECT version FROM feeds")?
        .query_row([], |row| Ok(Version(row.get::<_, i64>(0)?.cast_unsigned())))
}

/// Makes the writes of a batch.
pub(super) fn write(connection: &Connection, writes: &[FeedWrite]) -> Result<Written> {
    connection.prepare_cached("UPDATE feeds SET version = version + 1")?.execute([])?;
    let version = version(connection)?;
    let written =
        Written { version, deeds: Vec::new(), new_users: Vec::new(), turned: Vec::new(), news: Vec::new() };
    let mut writer = Writer { connection, written };
    for write in writes {
        if let Some(deed) = writer.write(write)? {
            writer.written.deeds.push(deed);
        }
    }
    let mut written = writer.written;
    if !written.turned.is_empty() {
        written.news.push(live::turned(version));
    }
    Ok(written)
}

struct Writer<'c> {
    connection: &'c Connection,
    written: Written,
}

/// A post that is there.
struct Found {
    place: Place,
    state: u8,
}

impl Writer<'_> {
    fn write(&mut self, write: &FeedWrite) -> Result<Option<Deed>> {
        match write {
            FeedWrite::Post { post, plan } => self.post(post, *plan),
            FeedWrite::Inbox { user, post } => self.inbox(user, post),
            FeedWrite::Retract { author, item } => self.retract(author, item),
            FeedWrite::Follow { follower, followee } => self.turn(follower, followee, Turn::Follow),
            FeedWrite::Unfollow { follower, followee } => self.turn(follower, followee, Turn::Unfollow),
        }
    }

    fn post(&mut self, post: &FeedPost, plan: Plan) -> Result<Option<Deed>> {
        let author = self.intern(&post.author)?;
        let place = match self.find(author, &post.item)? {
            None => {
                let place = self.insert(author, post, PUBLIC)?;
                if plan.notify {
                    self.show(Source::Author(author), live::ENTRY, post, place, 0);
                }
                place
            }
            Some(Found { state: RETRACTED, .. }) => return Ok(None),
            Some(Found { place, state }) => {
                let edits_count = self.edit(place, post)?;
                self.show_edit(author, post, place, edits_count, state)?;
                if state == PUBLIC {
                    return Ok(Some(Deed::Edited { slot: Slot::new(place, author, Reasons::FOLLOWED) }));
                }
                self.connection
                    .prepare_cached("UPDATE posts SET state = 1, committed_at = ?2 WHERE number = ?1")?
                    .execute(params![place.number.cast_signed(), post.committed_at.0])?;
                if plan.notify {
                    self.show(Source::Author(author), live::ENTRY, post, place, edits_count);
                }
                place
            }
        };
        self.connection
            .prepare_cached("UPDATE users SET plan = ?2 WHERE id = ?1")?
            .execute(params![author.0, plan.number()])?;
        Ok(Some(Deed::Published { slot: Slot::new(place, author, Reasons::FOLLOWED), plan }))
    }

    fn inbox(&mut self, user: &str, post: &FeedPost) -> Result<Option<Deed>> {
        let author = self.intern(&post.author)?;
        let (place, edits_count, state) = match self.find(author, &post.item)? {
            None => (self.insert(author, post, INBOX_ONLY)?, 0, INBOX_ONLY),
            Some(Found { state: RETRACTED, .. }) => return Ok(None),
            Some(Found { place, state }) => {
                let edits_count = self.edit(place, post)?;
                self.show_edit(author, post, place, edits_count, state)?;
                (place, edits_count, state)
            }
        };
        let user = self.intern(user)?;
        let slot = Slot::new(place, author, Reasons::INBOX);
        let added = self
            .connection
            .prepare_cached("INSERT INTO inbox VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING")?
            .execute(params![user.0, place.time.0, place.number.cast_signed(), author.0])?;
        if added > 0 && !(state == PUBLIC && edges::has(self.connection, user, author)?) {
            self.show(Source::Inbox(user), live::ENTRY, post, place, edits_count);
        }
        Ok(Some(if added == 0 { Deed::Edited { slot } } else { Deed::Inboxed { user, slot } }))
    }

    fn retract(&mut self, name: &str, item: &str) -> Result<Option<Deed>> {
        let author = self.intern(name)?;
        match self.find(author, item)? {
            None => {
                self.connection
                    .prepare_cached(
                        "INSERT INTO posts (author, item, time, committed_at, state, edits_count, payload)
                         VALUES (?1, ?2, 0, 0, 2, 0, x'')",
                    )?
                    .execute(params![author.0, item])?;
                Ok(None)
            }
            Some(Found { state: RETRACTED, .. }) => Ok(None),
            Some(Found { place, state }) => {
                for source in self.sources_of(author, place, state)? {
                    self.written.news.push(source.retracts(name, item));
                }
                self.connection
                    .prepare_cached("UPDATE posts SET state = 2, payload = x'' WHERE number = ?1")?
                    .execute([place.number.cast_signed()])?;
                Ok(Some(Deed::Retracted { slot: Slot::new(place, author, Reasons::FOLLOWED) }))
            }
        }
    }

    fn turn(&mut self, from: &str, to: &str, turn: Turn) -> Result<Option<Deed>> {
        let (follower, followee) = (self.intern(from)?, self.intern(to)?);
        let changed = edges::turn(self.connection, follower, followee, turn)?;
        if changed {
            self.written.turned.push((from.into(), to.into()));
            self.connection
                .prepare_cached("INSERT INTO turns VALUES (?1, ?2) ON CONFLICT DO UPDATE SET version = ?2")?
                .execute(params![follower.0, self.written.version.0.cast_signed()])?;
        }
        Ok(changed.then_some(Deed::Turned { follower, followee, turn }))
    }

    /// By which messages each timeline that may have a post is told of it once: that of its author, and for inboxes those
    /// of their users who do not hear it from the author.
    fn sources_of(&self, author: UserId, place: Place, state: u8) -> Result<Vec<Source>> {
        let mut holders = self.connection.prepare_cached("SELECT user FROM inbox WHERE number = ?1")?;
        let holders = holders.query_map([place.number.cast_signed()], |row| Ok(UserId(row.get(0)?)))?;
        let is_public = state == PUBLIC;
        let mut sources: Vec<Source> = is_public.then_some(Source::Author(author)).into_iter().collect();
        for holder in holders {
            let holder = holder?;
            if !(is_public && edges::has(self.connection, holder, author)?) {
                sources.push(Source::Inbox(holder));
            }
        }
        Ok(sources)
    }

    fn show_edit(
        &mut self,
        author: UserId,
        post: &FeedPost,
        place: Place,
        edits_count: u64,
        state: u8,
    ) -> Result<()> {
        for source in self.sources_of(author, place, state)? {
            self.show(source, live::EDIT, post, place, edits_count);
        }
        Ok(())
    }

    fn show(&mut self, source: Source, event: &str, post: &FeedPost, place: Place, edits_count: u64) {
        let FeedPost { author, item, payload, .. } = post.clone();
        let entry = Entry { author, item, place, edits_count, payload };
        self.written.news.push(source.shows(event, &entry));
    }

    fn intern(&mut self, name: &str) -> Result<UserId> {
        if let Some(user) = user(self.connection, name)? {
            return Ok(user);
        }
        self.connection.prepare_cached("INSERT INTO users (name) VALUES (?1)")?.execute([name])?;
        let user = UserId(self.connection.last_insert_rowid() as u32);
        self.written.new_users.push((name.into(), user));
        Ok(user)
    }

    fn find(&self, author: UserId, item: &str) -> Result<Option<Found>> {
        self.connection
            .prepare_cached("SELECT number, time, state FROM posts WHERE author = ?1 AND item = ?2")?
            .query_row(params![author.0, item], |row| {
                let number = row.get::<_, i64>(0)?.cast_unsigned();
                Ok(Found { place: Place { time: Micros(row.get(1)?), number }, state: row.get(2)? })
            })
            .optional()
    }

    fn insert(&self, author: UserId, post: &FeedPost, state: u8) -> Result<Place> {
        self.connection
            .prepare_cached(
                "INSERT INTO posts (author, item, time, committed_at, state, edits_count, payload)
                 VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6)",
            )?
            .execute(params![
                author.0,
                &*post.item,
                post.time.0,
                post.committed_at.0,
                state,
                &*post.payload
            ])?;
        let number = self.connection.last_insert_rowid().cast_unsigned();
        Ok(Place { time: post.time, number })
    }

    /// Says how often it was edited.
    fn edit(&self, place: Place, post: &FeedPost) -> Result<u64> {
        self.connection
            .prepare_cached(
                "UPDATE posts SET payload = ?2, edits_count = edits_count + 1 WHERE number = ?1
                 RETURNING edits_count",
            )?
            .query_row(params![place.number.cast_signed(), &*post.payload], |row| {
                Ok(row.get::<_, i64>(0)?.cast_unsigned())
            })
    }
}

/// In which batch whom a user follows changed last.
pub(super) fn turned(connection: &Connection, user: UserId) -> Result<Version> {
    let version: Option<i64> = connection
        .prepare_cached("SELECT version FROM turns WHERE user = ?1")?
        .query_row([user.0], |row| row.get(0))
        .optional()?;
    Ok(Version(version.unwrap_or(0).cast_unsigned()))
}

/// The number of a user who has been seen.
pub(super) fn user(connection: &Connection, name: &str) -> Result<Option<UserId>> {
    connection
        .prepare_cached("SELECT id FROM users WHERE name = ?1")?
        .query_row([name], |row| Ok(UserId(row.get(0)?)))
        .optional()
}

/// What is kept of a post's author.
pub(super) struct Author {
    pub(super) user: UserId,
    pub(super) rate: u32,
    pub(super) previous: Option<Plan>,
}

/// Whether a post is not known to followers yet, nor taken back.
pub(super) fn is_new(connection: &Connection, author: UserId, item: &str) -> Result<bool> {
    let state: Option<u8> = connection
        .prepare_cached("SELECT state FROM posts WHERE author = ?1 AND item = ?2")?
        .query_row(params![author.0, item], |row| row.get(0))
        .optional()?;
    Ok(state.is_none_or(|state| state == INBOX_ONLY))
}

/// An author, with the rate of posts in the hour before a commit.
pub(super) fn author(connection: &Connection, name: &str, committed_at: Micros) -> Result<Option<Author>> {
    let found: Option<(u32, Option<u8>)> = connection
        .prepare_cached("SELECT id, plan FROM users WHERE name = ?1")?
        .query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((user, plan)) = found else { return Ok(None) };
    let rate = connection
        .prepare_cached(
            "SELECT count(*) FROM (
                 SELECT 1 FROM posts WHERE state = 1 AND author = ?1 AND committed_at > ?2 AND committed_at <= ?3
                 LIMIT ?4)",
        )?
        .query_row(
            params![user, committed_at.0.saturating_sub(HOUR), committed_at.0, TIMELINE_RATE_COUNT_MAX],
            |row| row.get(0),
        )?;
    Ok(Some(Author { user: UserId(user), rate, previous: plan.and_then(Plan::from_number) }))
}
