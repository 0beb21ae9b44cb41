//! A timeline as the disk has it: the posts of all whom a user follows, and the inbox, merged newest first.
//!
//! In: a snapshot of the state, a user, a place. Out: entries below the place, one by one. It reads from each author
//! only as far as the merge goes.

use std::collections::{BinaryHeap, VecDeque};

use bytes::Bytes;

use super::edges::{self, Side};
use super::shelf::{Reasons, Slot};
use super::tables::RETRACTED;
use crate::event::Micros;
use crate::limits::TIMELINE_MERGE_READ_COUNT_MAX;
use crate::state::sql::{Connection, OptionalExtension, Result, Row, params};
use crate::timeline::{Entry, Place, UserId};

pub(super) struct Merge<'c> {
    connection: &'c Connection,
    sources: Vec<Source>,
    /// The next of each source that has one.
    heads: BinaryHeap<(Place, usize)>,
}

enum Of {
    Author(UserId),
    Inbox(UserId),
}

struct Source {
    of: Of,
    read: VecDeque<Slot>,
    /// Below it nothing is read yet; none at the end.
    rest: Option<Place>,
    /// How many to read next.
    count: usize,
}

impl<'c> Merge<'c> {
    /// The timeline of a user who follows those.
    pub(super) fn new(
        connection: &'c Connection,
        user: UserId,
        followed: impl IntoIterator<Item = UserId>,
        before: Place,
    ) -> Result<Self> {
        let sources = followed.into_iter().map(Of::Author).chain([Of::Inbox(user)]);
        Self::of(connection, sources, before)
    }

    /// One author's posts.
    pub(super) fn of_author(connection: &'c Connection, author: UserId) -> Result<Self> {
        Self::of(connection, [Of::Author(author)], Place::NEWEST)
    }

    fn of(connection: &'c Connection, of: impl IntoIterator<Item = Of>, before: Place) -> Result<Self> {
        let source = |of| Source { of, read: VecDeque::new(), rest: Some(before), count: 8 };
        let mut merge =
            Self { connection, sources: of.into_iter().map(source).collect(), heads: BinaryHeap::new() };
        for at in 0..merge.sources.len() {
            merge.read(at)?;
        }
        Ok(merge)
    }

    /// The next entry, which may have been taken back.
    pub(super) fn next(&mut self) -> Result<Option<Slot>> {
        let Some(mut slot) = self.pop()? else { return Ok(None) };
        while self.heads.peek().is_some_and(|(place, _)| *place == slot.place()) {
            if let Some(same) = self.pop()? {
                slot.merge(same);
            }
        }
        Ok(Some(slot))
    }

    fn pop(&mut self) -> Result<Option<Slot>> {
        let Some((_, at)) = self.heads.pop() else { return Ok(None) };
        let Some(slot) = self.sources[at].read.pop_front() else { return Ok(None) };
        match self.sources[at].read.front() {
            Some(next) => self.heads.push((next.place(), at)),
            None => self.read(at)?,
        }
        Ok(Some(slot))
    }

    fn read(&mut self, at: usize) -> Result<()> {
        let Source { of, read, rest, count } = &mut self.sources[at];
        let Some(before) = *rest else { return Ok(()) };
        let (sql, user, reasons) = match of {
            Of::Author(author) => (
                "SELECT time, number, author FROM posts
                 WHERE state = 1 AND author = ?1 AND (time, number) < (?2, ?3)
                 ORDER BY time DESC, number DESC LIMIT ?4",
                *author,
                Reasons::FOLLOWED,
            ),
            Of::Inbox(user) => (
                "SELECT time, number, author FROM inbox WHERE user = ?1 AND (time, number) < (?2, ?3)
                 ORDER BY time DESC, number DESC LIMIT ?4",
                *user,
                Reasons::INBOX,
            ),
        };
        let number = i64::try_from(before.number).unwrap_or(i64::MAX);
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = params![user.0, before.time.0, number, count.cast_signed()];
        for slot in statement.query_map(rows, |row| slot(row, reasons))? {
            read.push_back(slot?);
        }
        *rest = read.back().filter(|_| read.len() == *count).map(|last| last.place());
        *count = (*count * 4).min(TIMELINE_MERGE_READ_COUNT_MAX);
        if let Some(first) = read.front() {
            self.heads.push((first.place(), at));
        }
        Ok(())
    }
}

fn slot(row: &Row<'_>, reasons: Reasons) -> Result<Slot> {
    let place = Place { time: Micros(row.get(0)?), number: row.get::<_, i64>(1)?.cast_unsigned() };
    Ok(Slot::new(place, UserId(row.get(2)?), reasons))
}

/// Some of a timeline, found on the disk alone.
pub(super) fn page(
    connection: &Connection,
    user: UserId,
    before: Place,
    count_max: usize,
) -> Result<Vec<Entry>> {
    let followed = edges::set(connection, Side::Followed, user)?;
    let mut merge = Merge::new(connection, user, followed.iter().map(UserId), before)?;
    let mut entries = Vec::new();
    while entries.len() < count_max {
        let mut numbers = Vec::new();
        while numbers.len() < count_max - entries.len()
            && let Some(slot) = merge.next()?
        {
            numbers.push(slot.place().number);
        }
        if numbers.is_empty() {
            break;
        }
        entries.extend(posts(connection, &numbers)?);
    }
    Ok(entries)
}

/// So many of the newest entries, newest first: all above the place.
pub(super) fn newest(mut merge: Merge<'_>, count_max: usize) -> Result<(Vec<Slot>, Place)> {
    let mut slots = Vec::new();
    while slots.len() < count_max {
        let Some(slot) = merge.next()? else { return Ok((slots, Place::OLDEST)) };
        slots.push(slot);
    }
    let floor = slots.pop().map_or(Place::OLDEST, Slot::place);
    Ok((slots, floor))
}

/// Posts with all that a page says of them, without those that were taken back.
pub(super) fn posts(connection: &Connection, numbers: &[u64]) -> Result<Vec<Entry>> {
    let mut statement = connection.prepare_cached(
        "SELECT users.name, posts.item, posts.time, posts.edits_count, posts.payload
         FROM posts JOIN users ON users.id = posts.author WHERE posts.number = ?1 AND posts.state <> ?2",
    )?;
    let mut post = |number: u64| {
        let entry = |row: &Row<'_>| {
            Ok(Entry {
                author: row.get_ref(0)?.as_str()?.into(),
                item: row.get_ref(1)?.as_str()?.into(),
                place: Place { time: Micros(row.get(2)?), number },
                edits_count: row.get::<_, i64>(3)?.cast_unsigned(),
                payload: Bytes::copy_from_slice(row.get_ref(4)?.as_blob()?),
            })
        };
        statement.query_row(params![number.cast_signed(), RETRACTED], entry).optional()
    };
    numbers.iter().filter_map(|number| post(*number).transpose()).collect()
}
