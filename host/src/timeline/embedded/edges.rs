//! Sets of users on disk: a compressed bitmap for each stretch of 65,536 numbers that has members.
//!
//! A follow changes one small record, whether the author has ten followers or a hundred million; and a whole set is
//! read in a few thousand rows at most.

use roaring::RoaringBitmap;

use crate::state::sql::{Connection, Error, OptionalExtension, Result, params};
use crate::timeline::UserId;

/// Which of a user's sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Followers,
    Followed,
}

/// What becomes of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Follow,
    Unfollow,
}

pub(super) fn create(connection: &Connection) -> Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS followers (
             user INTEGER NOT NULL, stretch INTEGER NOT NULL, users BLOB NOT NULL, PRIMARY KEY (user, stretch)
         ) STRICT, WITHOUT ROWID;
         CREATE TABLE IF NOT EXISTS followed (
             user INTEGER NOT NULL, stretch INTEGER NOT NULL, users BLOB NOT NULL, PRIMARY KEY (user, stretch)
         ) STRICT, WITHOUT ROWID;",
    )
}

/// Puts an edge there or takes it away, on both sides. Says whether that changed anything.
pub(super) fn turn(connection: &Connection, follower: UserId, followee: UserId, turn: Turn) -> Result<bool> {
    Ok(turn_side(connection, Side::Followers, followee, follower, turn)?
        && turn_side(connection, Side::Followed, follower, followee, turn)?)
}

fn turn_side(connection: &Connection, side: Side, of: UserId, other: UserId, turn: Turn) -> Result<bool> {
    let stretch = other.0 >> 16;
    let [get, put, delete] = match side {
        Side::Followers => [
            "SELECT users FROM followers WHERE user = ?1 AND stretch = ?2",
            "INSERT INTO followers VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET users = ?3",
            "DELETE FROM followers WHERE user = ?1 AND stretch = ?2",
        ],
        Side::Followed => [
            "SELECT users FROM followed WHERE user = ?1 AND stretch = ?2",
            "INSERT INTO followed VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET users = ?3",
            "DELETE FROM followed WHERE user = ?1 AND stretch = ?2",
        ],
    };
    let mut users = connection
        .prepare_cached(get)?
        .query_row(params![of.0, stretch], |row| read(row.get_ref(0)?.as_blob()?))
        .optional()?
        .unwrap_or_default();
    let changed = match turn {
        Turn::Follow => users.insert(other.0),
        Turn::Unfollow => users.remove(other.0),
    };
    if changed && users.is_empty() {
        connection.prepare_cached(delete)?.execute(params![of.0, stretch])?;
    } else if changed {
        connection.prepare_cached(put)?.execute(params![of.0, stretch, bytes(&users)])?;
    }
    Ok(changed)
}

/// Whether one follows the other.
pub(super) fn has(connection: &Connection, follower: UserId, followee: UserId) -> Result<bool> {
    let users: Option<RoaringBitmap> = connection
        .prepare_cached("SELECT users FROM followed WHERE user = ?1 AND stretch = ?2")?
        .query_row(params![follower.0, followee.0 >> 16], |row| read(row.get_ref(0)?.as_blob()?))
        .optional()?;
    Ok(users.is_some_and(|users| users.contains(followee.0)))
}

/// A whole set.
pub(super) fn set(connection: &Connection, side: Side, of: UserId) -> Result<RoaringBitmap> {
    let get = match side {
        Side::Followers => "SELECT users FROM followers WHERE user = ?1 ORDER BY stretch",
        Side::Followed => "SELECT users FROM followed WHERE user = ?1 ORDER BY stretch",
    };
    let mut statement = connection.prepare_cached(get)?;
    let mut rows = statement.query([of.0])?;
    let mut all = RoaringBitmap::new();
    while let Some(row) = rows.next()? {
        all |= read(row.get_ref(0)?.as_blob()?)?;
    }
    Ok(all)
}

/// Tells of each author who is followed how many do so.
pub(super) fn count_followers(connection: &Connection, mut tell: impl FnMut(u64)) -> Result<()> {
    let mut statement = connection.prepare("SELECT user, users FROM followers ORDER BY user")?;
    let mut rows = statement.query([])?;
    let mut counted: Option<(u32, u64)> = None;
    while let Some(row) = rows.next()? {
        let (author, count) = (row.get(0)?, read(row.get_ref(1)?.as_blob()?)?.len());
        match &mut counted {
            Some((last, sum)) if *last == author => *sum += count,
            counted => {
                if let Some((_, sum)) = counted.replace((author, count)) {
                    tell(sum);
                }
            }
        }
    }
    if let Some((_, sum)) = counted {
        tell(sum);
    }
    Ok(())
}

fn read(bytes: &[u8]) -> Result<RoaringBitmap> {
    RoaringBitmap::deserialize_from(bytes)
        .map_err(|error| Error::FromSqlConversionFailure(0, crate::state::sql::Type::Blob, Box::new(error)))
}

fn bytes(users: &RoaringBitmap) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(users.serialized_size());
    users.serialize_into(&mut bytes).expect("memory takes all that is written to it");
    bytes
}
