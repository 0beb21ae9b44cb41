//! Why a source cannot go on, and what to do about it.
//!
//! Invariants: a message says what happened, where, and what to do; none holds a password or a row's value.
//!
//! To add an error: a variant here and, only if it heals by itself, an arm in [`disposition`].

use std::error::Error;
use std::fmt::{self, Write as _};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::assemble::AssembleError;
use super::decode::DecodeError;
use super::outbox::OutboxError;
use super::preflight::Problem;
use super::relation::{RelationError, TooManyRelations};
use super::spill::SpillError;
use crate::event::Position;
use crate::limits::CHANGE_BYTES_MAX;
use crate::log::LogError;

/// What the server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Its SQLSTATE, or nothing.
    pub code: String,
    /// Its words.
    pub message: String,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.code.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{} (SQLSTATE {})", self.message, self.code)
    }
}

/// Why a source cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(String),
    /// There is no encrypted connection as the URL asks for it.
    #[error("no encrypted connection to PostgreSQL at {address} (sslmode={mode}): {what}")]
    Encryption {
        /// Host and port.
        address: String,
        /// What the URL asks for.
        mode: &'static str,
        /// Why, and what to do.
        what: String,
    },
    /// The password would be sent so that others could read it.
    #[error(
        "PostgreSQL at {address} asks for the password of `{user}` in clear on a connection that is not encrypted: add \
         sslmode=verify-full to the source's URL, or have pg_hba.conf say scram-sha-256 instead of password"
    )]
    Cleartext {
        /// Host and port.
        address: String,
        /// The role.
        user: String,
    },
    /// Nobody answers.
    #[error(
        "cannot reach PostgreSQL at {address}: check that it runs, that host and port are right, that \
         listen_addresses lets it listen there, and that no firewall is between"
    )]
    Unreachable {
        /// Host and port, or the socket's folder.
        address: String,
        /// What the operating system said.
        #[source]
        cause: io::Error,
    },
    /// The password is wrong or missing.
    #[error(
        "PostgreSQL at {address} does not accept the password of `{user}`: check user and password in the source's URL ({said})"
    )]
    Password {
        /// Host and port.
        address: String,
        /// The role.
        user: String,
        /// The server's words.
        said: Said,
    },
    /// No such database.
    #[error("PostgreSQL at {address} has no database `{database}`: check the end of the source's URL")]
    DatabaseUnknown {
        /// Host and port.
        address: String,
        /// Its name.
        database: String,
    },
    /// The server does not let this role in.
    #[error(
        "PostgreSQL at {address} refuses the connection of `{user}`: {said}: check that the role exists and may log \
         in, and that pg_hba.conf has a line for it, this database and this host"
    )]
    Refused {
        /// Host and port.
        address: String,
        /// The role.
        user: String,
        /// The server's words.
        said: Said,
    },
    /// The database is not set up for this.
    #[error("{}", list(.0))]
    NotReady(Vec<Problem>),
    /// The role lacks a right.
    #[error(
        "PostgreSQL denies {doing}: {said}: grant it to the role of the source's URL, or do it as an owner"
    )]
    Denied {
        /// What was tried.
        doing: String,
        /// The server's words.
        said: Said,
    },
    /// Somebody else reads from the slot.
    #[error(
        "replication slot `{slot}` is in use by the server's process {pid}: another Twohop with the same source name \
         may be running; stop it, or give this source another `slot`. To see who it is: SELECT * FROM \
         pg_stat_activity WHERE pid = {pid}"
    )]
    SlotInUse {
        /// Its name.
        slot: String,
        /// The server's process that holds it.
        pid: i32,
    },
    /// The slot is not one of ours.
    #[error(
        "replication slot `{slot}` belongs to {owner}: give this source another `slot`, or drop that one with \
         SELECT pg_drop_replication_slot('{slot}') if nobody needs it"
    )]
    SlotForeign {
        /// Its name.
        slot: String,
        /// Its kind, plugin or database.
        owner: String,
    },
    /// The slot is there, but the change log knows nothing of it.
    #[error(
        "replication slot `{slot}` is there already, but this change log did not make it: it may belong to another \
         program, or to a change log that is gone. If nobody needs it: SELECT pg_drop_replication_slot('{slot}'), and \
         start again; else give this source another `slot`"
    )]
    SlotUnknown {
        /// Its name.
        slot: String,
    },
    /// Another source of this configuration has it.
    #[error(
        "its {what} is `{name}`, which source `{other}` has on that server too: give one of them another `{what}`"
    )]
    Shared {
        /// `slot` or `publication`.
        what: &'static str,
        /// Its name.
        name: String,
        /// The other source's name.
        other: String,
    },
    /// The slot is gone, but the change log goes on from it.
    #[error(
        "replication slot `{slot}` is gone, but the change log has this source up to {position}: changes since then \
         may be lost. To begin anew with a snapshot, set on_gap = \"resnapshot\", or give the source another `name`"
    )]
    SlotMissing {
        /// Its name.
        slot: String,
        /// Where the change log stands.
        position: Position,
    },
    /// The server has thrown away what the slot needs.
    #[error(
        "PostgreSQL has removed the log that replication slot `{slot}` still needs (max_slot_wal_keep_size): changes \
         are lost. To begin anew with a snapshot, set on_gap = \"resnapshot\"; or SELECT \
         pg_drop_replication_slot('{slot}'), and give the source another `name`"
    )]
    SlotLost {
        /// Its name.
        slot: String,
    },
    /// The slot stands where this source never was.
    #[error(
        "replication slot `{slot}` stands at {found}, and this source confirmed nothing beyond {known}: it was moved \
         forward, or dropped and made again, and changes in between are lost. To begin anew with a snapshot, set on_gap \
         = \"resnapshot\"; or SELECT pg_drop_replication_slot('{slot}'), and give the source another `name`"
    )]
    SlotMoved {
        /// Its name.
        slot: String,
        /// Where it stands, in the server's notation.
        found: String,
        /// Where it may stand at most, likewise.
        known: String,
    },
    /// A table is there that the source is to capture and does not yet.
    #[error("table `{table}` is new")]
    TableAdded {
        /// Its name.
        table: String,
    },
    /// A table was dropped since it was looked at.
    #[error("table `{table}` was dropped a moment ago")]
    TableGone {
        /// Its name.
        table: String,
    },
    /// All slots are taken.
    #[error(
        "PostgreSQL has no free replication slot: drop one that nobody needs (SELECT slot_name, active FROM \
         pg_replication_slots), or ALTER SYSTEM SET max_replication_slots to a larger number and restart it"
    )]
    NoFreeSlot,
    /// All senders are taken.
    #[error(
        "PostgreSQL has no free replication connection: ALTER SYSTEM SET max_wal_senders to a larger number and \
         restart it, or stop another replica (SELECT * FROM pg_stat_replication)"
    )]
    NoFreeSender,
    /// The server is older than what was read from it.
    #[error(
        "the change log has this source up to {position}, but PostgreSQL has written only up to {written}: it is \
         another server, or was restored from a backup. Point the URL to the right one, or remove the change log to \
         begin anew with a snapshot"
    )]
    ServerBehind {
        /// Where the change log stands.
        position: Position,
        /// Where the server stands, in its own notation.
        written: String,
    },
    /// It is not the server that was read from.
    #[error(
        "the change log has this source up to {position} of the PostgreSQL with system identifier {known}, but this \
         one is {found}: point the URL to the right one. To begin anew with a snapshot of this one, give the source \
         another `name`"
    )]
    OtherServer {
        /// The system identifier of the one that was read from.
        known: String,
        /// The system identifier of this one.
        found: String,
        /// Where the change log stands.
        position: Position,
    },
    /// The server was promoted without all that was read from its predecessor.
    #[error(
        "the change log has this source up to {position} of timeline {known}, but this PostgreSQL, on timeline {found}, \
         left that one at {left}: what was read after that is not in it, or it is the old primary. Point the URL to \
         the server that went on. To begin anew with a snapshot of this one, give the source another `name`"
    )]
    Diverged {
        /// The timeline that was read from.
        known: u32,
        /// The timeline of this server.
        found: u32,
        /// Where the change log stands.
        position: Position,
        /// Where this server left the known timeline, in the server's notation.
        left: String,
    },
    /// What is remembered of the server cannot be used.
    #[error(
        "cannot use {}, which says what server this source reads from, or how far: see to it that this user may write there; \
         if its content is broken, remove it, and make sure that the URL is right",
        path.display()
    )]
    ServerFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// What a polling source is about to take cannot be kept.
    #[error(
        "cannot use {}, which says what rows of the outbox this source was about to take: see to it that this user may \
         write there; if its content is broken, remove it, and rows that were appended but not marked come again",
        path.display()
    )]
    ClaimFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The change log takes no notifications.
    #[error(
        "the change log has taken no notifications for too long: what is notified from now on is lost until it does"
    )]
    Unheard,
    /// The server refuses for another reason.
    #[error("PostgreSQL refuses {doing}: {said}")]
    Server {
        /// What was tried.
        doing: String,
        /// The server's words.
        said: Said,
    },
    /// The connection broke.
    #[error("the connection to PostgreSQL broke during {doing}")]
    Lost {
        /// What was under way.
        doing: String,
        /// Why.
        #[source]
        cause: Box<dyn Error + Send + Sync>,
    },
    /// The server has said nothing for too long.
    #[error("PostgreSQL has said nothing for {} s", .0.as_secs())]
    Silent(Duration),
    /// One change is too large.
    #[error(
        "a change of {bytes} bytes is above the limit of {CHANGE_BYTES_MAX}. To go on without it, and without \
         everything else up to now: SELECT pg_replication_slot_advance('{slot}', pg_current_wal_lsn())"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The slot that stands before it.
        slot: String,
    },
    /// One row of a snapshot is too large.
    #[error(
        "a row of {table} has {bytes} bytes, above the limit of {CHANGE_BYTES_MAX}: take the table out of the \
         source's `tables`, or set snapshot = \"none\""
    )]
    RowTooLarge {
        /// Its table.
        table: String,
        /// Its size.
        bytes: usize,
    },
    /// The server does not speak the protocol.
    #[error("PostgreSQL sent what this program does not understand during {doing}: {what}")]
    Protocol {
        /// What was under way.
        doing: String,
        /// What is wrong.
        what: String,
    },
    /// A message of the stream is malformed.
    #[error("a message of the replication stream cannot be decoded")]
    Decode(#[from] DecodeError),
    /// A message of the stream does not fit those before it.
    #[error("a message of the replication stream does not fit those before it")]
    Assemble(#[from] AssembleError),
    /// The outbox is none any more.
    #[error(transparent)]
    Outbox(OutboxError),
    /// The stream has announced too much; a new connection begins anew.
    #[error(transparent)]
    Relations(#[from] TooManyRelations),
    /// Transactions in progress cannot be kept.
    #[error(transparent)]
    Spill(#[from] SpillError),
    /// A snapshot has more rows than an index can count.
    #[error(
        "the tables have more than {} rows, which is more than one snapshot can hold: set snapshot = \"none\"",
        u32::MAX
    )]
    TooManyRows,
    /// The change log refuses.
    #[error("the change log does not take the changes")]
    Log(#[source] LogError),
}

impl From<RelationError> for SourceError {
    fn from(error: RelationError) -> Self {
        match error {
            RelationError::TooMany(error) => Self::Relations(error),
            RelationError::Outbox(error) => Self::Outbox(error),
        }
    }
}

impl From<tokio_postgres::Error> for Said {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(said) => Self { code: said.code().code().to_owned(), message: said.message().to_owned() },
            None => Self { code: String::new(), message: error.to_string() },
        }
    }
}

impl SourceError {
    /// Whether changes are lost that the same server had.
    #[must_use]
    pub fn is_gap(&self) -> bool {
        matches!(self, Self::SlotMissing { .. } | Self::SlotLost { .. } | Self::SlotMoved { .. })
    }

    /// What the server said to something that was tried.
    pub(super) fn said(doing: &str, said: Said) -> Self {
        let doing = doing.to_owned();
        match said.code.as_str() {
            "42501" => Self::Denied { doing, said },
            "53400" if said.message.contains("slot") => Self::NoFreeSlot,
            "53300" if said.message.contains("max_wal_senders") => Self::NoFreeSender,
            _ => Self::Server { doing, said },
        }
    }

    /// What went wrong on the control connection.
    pub(super) fn control(doing: &str, error: tokio_postgres::Error) -> Self {
        if error.as_db_error().is_some() {
            return Self::said(doing, error.into());
        }
        let doing = doing.to_owned();
        let is_io = error.source().is_some_and(|cause| cause.is::<io::Error>());
        if is_io || error.is_closed() {
            return Self::Lost { doing, cause: Box::new(error) };
        }
        Self::Protocol { doing, what: with_causes(&error) }
    }
}

/// What to do about an error once the source has run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It may heal by itself: try again, later and later.
    Retry,
    /// A person has to do something.
    Halt,
}

/// What to do about an error once the source has run. What is retried is a short list on purpose: a retry that
/// cannot help hides what is wrong.
#[must_use]
pub fn disposition(error: &SourceError) -> Disposition {
    let heals = match error {
        SourceError::Unreachable { .. }
        | SourceError::Lost { .. }
        | SourceError::Silent(_)
        | SourceError::SlotInUse { .. }
        | SourceError::NoFreeSender
        | SourceError::TableAdded { .. }
        | SourceError::TableGone { .. }
        | SourceError::Unheard
        | SourceError::Relations(_)
        | SourceError::Log(LogError::DiskFull { .. } | LogError::Full { .. }) => true,
        SourceError::Server { said, .. } => server_heals(&said.code),
        SourceError::Spill(error) => error.is_full(),
        SourceError::ClaimFile { cause, .. } => cause.kind() == io::ErrorKind::StorageFull,
        // At a failover the next primary is a standby until it is promoted.
        SourceError::NotReady(problems) => {
            !problems.is_empty() && problems.iter().all(|problem| *problem == Problem::Standby)
        }
        _ => false,
    };
    if heals { Disposition::Retry } else { Disposition::Halt }
}

/// Whether what the server said passes: connections broken (08), its disk, memory or connections used up, an object
/// in use, a server or session that an operator ends or that starts, and a table or schema that was dropped since it was
/// looked at: the next attempt looks again, and says what is missing.
fn server_heals(code: &str) -> bool {
    const PASSING: [&str; 10] =
        ["3F000", "42P01", "53100", "53200", "53300", "55006", "57014", "57P01", "57P02", "57P03"];
    code.starts_with("08") || PASSING.contains(&code)
}

/// An error with everything that caused it, on one line.
pub(super) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        write!(text, ": {error}").expect("writing to a string cannot fail");
        cause = error.source();
    }
    text
}

fn list(problems: &[Problem]) -> String {
    match problems {
        [one] => one.to_string(),
        many => {
            let mut text = format!("the database is not ready, for {} reasons:", many.len());
            for problem in many {
                write!(text, "\n  - {problem}").expect("writing to a string cannot fail");
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: &str) -> SourceError {
        let said = Said { code: code.to_owned(), message: "no".to_owned() };
        SourceError::said("a query", said)
    }

    #[test]
    fn what_heals_by_itself_is_retried() {
        let lost = || SourceError::Lost { doing: "x".to_owned(), cause: "gone".into() };
        let cause = io::Error::from(io::ErrorKind::ConnectionRefused);
        let errors = [
            lost(),
            SourceError::Unreachable { address: "a:1".to_owned(), cause },
            SourceError::Silent(Duration::from_secs(60)),
            SourceError::SlotInUse { slot: "s".to_owned(), pid: 1 },
            SourceError::Log(LogError::DiskFull { path: "p".to_owned() }),
            SourceError::Log(LogError::Full { bytes: 1, consumer: "c".to_owned() }),
            SourceError::NotReady(vec![Problem::Standby]),
            SourceError::Spill(SpillError::DiskFull("p".into())),
            SourceError::Spill(SpillError::Full("1 bytes".to_owned())),
            server("57P01"),
            server("57P03"),
            server("53300"),
            server("08006"),
        ];
        for error in errors {
            assert_eq!(disposition(&error), Disposition::Retry, "{error}");
        }
    }

    #[test]
    fn what_a_person_has_to_mend_halts() {
        let position = Position { commit: 1, index: 0 };
        let damaged = LogError::Damaged { path: "p".to_owned(), at: 0, what: "w".to_owned() };
        let cause = io::Error::from(io::ErrorKind::Other);
        let io = LogError::Io { path: "p".to_owned(), source: cause.into() };
        let errors = [
            SourceError::SlotMissing { slot: "s".to_owned(), position },
            SourceError::SlotLost { slot: "s".to_owned() },
            SourceError::NoFreeSlot,
            SourceError::SlotUnknown { slot: "s".to_owned() },
            SourceError::SlotMoved { slot: "s".to_owned(), found: "0/9".to_owned(), known: "0/8".to_owned() },
            SourceError::NotReady(vec![]),
            SourceError::NotReady(vec![Problem::Standby, Problem::Encoding]),
            SourceError::Decode(DecodeError::Kind(0)),
            SourceError::Log(damaged),
            SourceError::Log(io),
            server("42501"),
            server("42704"),
            server("28P01"),
        ];
        for error in errors {
            assert_eq!(disposition(&error), Disposition::Halt, "{error}");
        }
    }

    #[test]
    fn limits_of_the_server_have_errors_of_their_own() {
        let said = |code: &str, message: &str| {
            SourceError::said("x", Said { code: code.to_owned(), message: message.to_owned() })
        };
        assert!(matches!(said("53400", "all replication slots are in use"), SourceError::NoFreeSlot));
        let senders = "number of requested standby connections exceeds max_wal_senders (currently 1)";
        assert!(matches!(said("53300", senders), SourceError::NoFreeSender));
        assert!(matches!(said("53300", "too many connections"), SourceError::Server { .. }));
    }

    #[test]
    fn an_error_is_told_with_its_causes() {
        let cause = io::Error::other("broken pipe");
        let error = SourceError::Lost { doing: "streaming".to_owned(), cause: cause.into() };
        assert_eq!(with_causes(&error), "the connection to PostgreSQL broke during streaming: broken pipe");
    }
}
