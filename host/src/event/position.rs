//! Places: in a database's log, in the change log, in the history of messages.
//!
//! Invariant: each is totally ordered by its derived `Ord`, and none converts into another.

use std::fmt;

/// Where a source stands in its database's log: the transaction's own place there, and the change within it.
///
/// For PostgreSQL `commit` is the LSN of the commit record. A bare commit is not enough to resume on, since the
/// end of one transaction can equal the start of the next (debezium/dbz#76), and a crash can fall between two
/// changes of one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The transaction's place in the database's log.
    pub commit: u64,
    /// The change's number within the transaction, from 0.
    pub index: u32,
}

impl fmt::Display for Position {
    /// PostgreSQL's own notation of an LSN, then the index: `0/16B3748#2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}#{}", self.commit >> 32, self.commit & 0xFFFF_FFFF, self.index)
    }
}

/// One partition of the change log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u32);

/// A record's number in its partition of the change log, from 0, without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(pub u64);

impl Offset {
    /// The offset `count` records further on.
    #[must_use]
    pub fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A kept message's number in the history, from 1, without gaps; 0 is "before the first".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sequence(pub u64);

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One life of a history: sequences of different epochs cannot be compared. Drawn at random when a store is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}
