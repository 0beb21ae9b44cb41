//! What happened to a row or table, and its number in the interface.

use std::fmt;

/// What a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Operation {
    /// A row that was there when the source began.
    Snapshot = 0,
    /// A new row.
    Insert = 1,
    /// A row with new values.
    Update = 2,
    /// A row that is gone.
    Delete = 3,
    /// All rows of the table are gone.
    Truncate = 4,
    /// The table has other columns.
    Schema = 5,
    /// A message of a client or of the database, in one of the virtual tables.
    Message = 6,
}

impl Operation {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Snapshot,
        Self::Insert,
        Self::Update,
        Self::Delete,
        Self::Truncate,
        Self::Schema,
        Self::Message,
    ];

    /// The operations on rows: all but `Schema` and `Message`.
    pub const ROWS: [Self; 5] = [Self::Snapshot, Self::Insert, Self::Update, Self::Delete, Self::Truncate];

    /// Its name in lower case, which serves as the event of a message.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
            Self::Schema => "schema",
            Self::Message => "message",
        }
    }

    /// All names in one text, with which the arena of an outcome begins: then an event that is an operation costs no
    /// copy.
    pub(crate) const NAMES: &str = "snapshotinsertupdatedeletetruncateschemamessage";

    /// The span of its name in [`Self::NAMES`].
    pub(crate) const fn span(self) -> u64 {
        const STARTS: [u64; 7] = [0, 8, 14, 20, 26, 34, 40];
        STARTS[self as usize] | (self.name().len() as u64) << 32
    }

    /// The operation of that number.
    ///
    /// # Panics
    /// Where there is none: then the host is of a later interface than it says.
    pub(crate) fn from_number(number: u8) -> Self {
        match Self::ALL.get(usize::from(number)) {
            Some(operation) => *operation,
            None => panic!("the host sent the operation {number}, which this SDK does not know"),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_found_by_its_number() {
        for operation in Operation::ALL {
            assert_eq!(Operation::from_number(operation as u8), operation);
        }
    }

    #[test]
    fn the_span_of_every_operation_is_its_name() {
        for operation in Operation::ALL {
            let (start, length) = crate::cells::bounds(operation.span());
            assert_eq!(&Operation::NAMES[start..start + length], operation.name());
        }
    }
}
