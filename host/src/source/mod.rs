//! Sources: from a database's log to the change log.
//!
//! In: a database that commits. Out: encoded changes, appended in commit order.
//!
//! Invariants, for every source:
//! - a place is confirmed to the database only after the change log has everything before it on disk;
//! - positions of one source only grow, and what the log already has is not appended again;
//! - past `limits::SOURCE_PENDING_BYTES_MAX`, and the change that reached it, the source stops reading; as much again
//!   is on its way into the log, and `limits::SOURCE_BUFFER_COUNT_MAX` messages wait before the decoder.
//!
//! Notifications are the exception that their file names: nobody keeps them for who does not listen.
//!
//! Absent on purpose: the meaning of a row, and every decision about it.
//!
//! To add a database: a folder beside `postgres` with files of the same names where the idea is the same, and a case
//! in `app.rs`.

pub mod postgres;

pub use postgres::{AskError, Asking, asking};
