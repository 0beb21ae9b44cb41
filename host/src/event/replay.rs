//! Dead letters, as far as a change speaks of them: a change that is handed over once more says so.
//!
//! Invariant: the number of a letter is never given to another one.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::Arc;

use super::Offset;

/// A dead letter's number, in the order in which letters were set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId(pub u64);

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for LetterId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Of which dead letter a change is the replay. It meets all filters like any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// The letter: its replay has effects only while it is there.
    pub letter: LetterId,
    /// Where the change stood when it came from its source, in the same partition.
    pub first: Offset,
    /// The one plugin whose router gets it; all of them where none has seen the change yet, since a filter failed.
    pub router: Option<Arc<str>>,
}
