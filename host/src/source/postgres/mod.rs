//! PostgreSQL: every change of the named tables, through logical replication, and among them the rows that they have.
//!
//! ```text
//! connect ─► preflight ─► server ─► publication ─► slot ─► stream: wire ─► decode ─► assemble ─► append
//!                                                                             snapshot ──┘
//! ```
//! In: a [`Config`]. Out: changes in the change log, each once, in the order of commits.
//!
//! Invariants:
//! - what is confirmed to the server is on the log's disk, so a crash of either side loses nothing;
//! - the log's last position is where the source goes on, to the change, so nothing is appended twice;
//! - what is wrong at the start is an error of [`Postgres::prepare`]; later, what heals by itself is tried again.
//!
//! Two ways more lead from a PostgreSQL into the log: `polling` asks an outbox for its rows, `notify` listens. `outbox` says
//! how a table's rows are messages.
//!
//! Absent on purpose: several hosts for one source; prepared transactions before their commit.

mod append;
mod asked;
mod assemble;
mod choice;
mod connect;
mod decode;
mod doctor;
mod error;
mod health;
mod heartbeat;
mod json_file;
mod messages;
mod notify;
mod opening;
mod outage;
mod outbox;
mod polling;
mod preflight;
mod publication;
mod reached;
mod relation;
mod seen;
mod server;
mod slot;
mod snapshot;
mod spill;
mod stream;
mod table;
mod touched;
mod transport;
mod url;
mod values;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use asked::{AskError, Asked, Asking, asking};
pub use assemble::AssembleError;
pub use decode::DecodeError;
pub use doctor::{Examination, examine};
pub use error::{Disposition, Said, SourceError, disposition};
pub use health::Warning;
pub use heartbeat::PREFIX as HEARTBEAT;
pub use notify::{Notify, NotifyConfig, examine_notify};
pub use outbox::{OutboxColumns, OutboxError};
pub use polling::{Polling, PollingConfig, examine_polling};
pub use preflight::Problem;
pub use relation::{RelationError, TooManyRelations};
pub use spill::SpillError;

use append::Appender;
use assemble::Assembler;
use choice::Choice;
use connect::{Control, Target};
use heartbeat::Heartbeat;
use messages::Messages;
use outage::Outage;
use outbox::Outbox;
use reached::Reached;
use seen::Seen;
use snapshot::rounds::Rounds;
use snapshot::{Snapshots, Streamed};
use spill::Spill;
use table::{Captured, TableName};
use wire::{Streaming, Wire};

use crate::backoff::Backoff;
use crate::limits::{POSTGRES_NAME_BYTES_MAX, RETRY_DELAY_MAX, SOURCE_NAME_BYTES_MAX};
use crate::log::ChangeLog;
use crate::telemetry::SnapshotMetrics;

/// What a source is told.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// The source's name, 1 to [`SOURCE_NAME_BYTES_MAX`] bytes; changes carry it, and positions in the change log are found by it.
    pub name: String,
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`.
    pub url: String,
    /// `schema.table`, or `table` for the schema `public`; exactly as the catalog has the names. One that ends in `*` stands
    /// for all that begin so, also those that are yet to be made.
    pub tables: Vec<String>,
    /// A further table, whose rows are messages.
    pub outbox: Option<(String, OutboxColumns)>,
    /// The replication slot; `twohop_NAME` if it is not given.
    pub slot: Option<String>,
    /// The publication; `twohop_NAME` if it is not given.
    pub publication: Option<String>,
    /// Whether to begin with the rows that are there.
    pub snapshot: SnapshotMode,
    /// What is done where changes are lost.
    pub gap: Gap,
    /// Where the source remembers which server it reads from, in a file of its name; made if it is not there. It goes
    /// with the change log.
    pub folder: PathBuf,
    /// What transactions in progress may take on disk, in a folder of that folder.
    pub spill_bytes_max: u64,
    /// Prefixes of messages that become changes; one that ends in `*` stands for all that begin so. [`HEARTBEAT`]'s
    /// never do.
    pub messages: Vec<String>,
    /// How often the source writes a message of its own, so that an idle database's log moves.
    pub heartbeat: Option<Duration>,
}

impl fmt::Debug for Config {
    /// Without the URL, which has a password in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, url: _, tables, outbox, slot, publication, snapshot, gap, .. } = self;
        let Self { folder, spill_bytes_max, .. } = self;
        f.debug_struct("Config")
            .field("name", name)
            .field("tables", tables)
            .field("outbox", outbox)
            .field("slot", slot)
            .field("publication", publication)
            .field("snapshot", snapshot)
            .field("gap", gap)
            .field("folder", folder)
            .field("spill_bytes_max", spill_bytes_max)
            .field("messages", &self.messages)
            .field("heartbeat", &self.heartbeat)
            .finish_non_exhaustive()
    }
}

/// Whether a source begins with the rows that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotMode {
    /// It does.
    Initial,
    /// It sends only what changes from now on.
    None,
}

/// What is done where changes are lost: the slot is gone, is another one, or the server has removed what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// The source ends, and a person decides.
    Halt,
    /// A new slot is made, and all rows of all tables are read again.
    Resnapshot,
}

/// What stands beside a source.
pub struct Beside {
    /// What people ask of it.
    pub asked: Asked,
    /// How far its snapshots are.
    pub figures: Arc<SnapshotMetrics>,
}

/// A source that is connected, checked, and about to read.
pub struct Postgres {
    plan: Plans,
    log: Arc<dyn ChangeLog>,
    asked: Asked,
    session: Option<Session>,
}

/// The configuration, checked.
struct Plans {
    config: Config,
    target: Target,
    choice: Choice,
    outbox: Option<Outbox>,
    slot: String,
    publication: String,
    figures: Arc<SnapshotMetrics>,
    /// Tables of which it was said that they are left out.
    left_out: Mutex<HashSet<TableName>>,
}

/// What all lives of a source's connections share.
struct Life<'a> {
    appender: &'a mut Appender,
    asked: &'a mut Asked,
    outage: &'a Outage,
    stop: &'a CancellationToken,
}

/// A pair of connections.
struct Session {
    control: Arc<Control>,
    wire: Wire,
    tables: Vec<Captured>,
    /// The stream has started.
    reached: Reached,
    /// Where it did.
    start: u64,
    rounds: Rounds,
    streamed: Streamed,
}

/// Sees that a source shares neither slot nor publication with others of the same configuration: they would take each
/// other's changes, or each other's tables out of the publication.
///
/// # Errors
/// [`SourceError::Shared`] if it does; anything that is wrong with one of the configurations.
pub fn check_apart(config: &Config, others: &[Config]) -> Result<(), SourceError> {
    let ours = Plans::new(config.clone())?;
    for other in others {
        let Plans { target, slot, publication, .. } = Plans::new(other.clone())?;
        let shared = |what, name: &str| {
            Err(SourceError::Shared { what, name: name.to_owned(), other: other.name.clone() })
        };
        if target.address() != ours.target.address() {
            continue;
        }
        if slot == ours.slot {
            return shared("slot", &slot);
        }
        if publication == ours.publication && target.database == ours.target.database {
            return shared("publication", &publication);
        }
    }
    Ok(())
}

impl Postgres {
    /// Connects, checks the database, makes publication and slot if they are not there, and starts the stream. May wait for transactions that are open in the database.
    ///
    /// Cancelling leaves nothing that a later start could not use.
    ///
    /// # Errors
    /// Anything that is wrong now, whether or not it might heal by itself: a person is looking.
    pub async fn prepare(
        config: Config,
        log: Arc<dyn ChangeLog>,
        Beside { asked, figures }: Beside,
    ) -> Result<Self, SourceError> {
        let plan = Plans { figures, ..Plans::new(config)? };
        let session = plan.open(&*log, Streaming::On).await?;
        plan.warn(&session.control).await?;
        Ok(Self { plan, log, asked, session: Some(session) })
    }

    /// Reads until told to stop: the stream, and in between the rows that tables have, as far as they are to be read. What may heal by itself (a
    /// server that restarts, a connection that breaks, a change log that is full) is tried again for ever, and said
    /// once. An append that is under way when the order to stop comes is finished and confirmed.
    ///
    /// # Errors
    /// What a person has to mend; see [`disposition`].
    pub async fn run(self, stop: CancellationToken) -> Result<(), SourceError> {
        let Self { plan, log, mut asked, mut session } = self;
        let outage = Arc::new(Outage::new(&plan.config.name));
        let mut appender = Appender::new(log.clone(), outage.clone(), stop.clone());
        let mut backoff = Backoff::default();
        let mut streaming = Streaming::On;
        loop {
            let began_at = Instant::now();
            let life = Life { appender: &mut appender, asked: &mut asked, outage: &outage, stop: &stop };
            let ended = Box::pin(plan.attempt(session.take(), streaming, &*log, life)).await;
            // The next attempt asks the log where it stands, so nothing may be on its way there.
            let settled = appender.settle().await.map(drop);
            let Err(error) = settled.and(ended) else { return Ok(()) };
            if disposition(&error) == Disposition::Halt {
                return Err(error);
            }
            if let SourceError::TableAdded { table } = &error {
                info!(
                    source = plan.config.name,
                    "table `{table}` is new: the source connects anew to capture it"
                );
                continue;
            }
            outage.server_is_lost(&error);
            // What does not fit here fits the server, for the life of one connection.
            streaming = if matches!(error, SourceError::Spill(_)) { Streaming::Off } else { Streaming::On };
            if began_at.elapsed() > RETRY_DELAY_MAX {
                backoff = Backoff::default();
            }
            tokio::select! {
                () = backoff.wait() => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }
}

impl Plans {
    fn new(config: Config) -> Result<Self, SourceError> {
        if !(1..=SOURCE_NAME_BYTES_MAX).contains(&config.name.len()) {
            let what = format!("a source's `name` has 1 to {SOURCE_NAME_BYTES_MAX} bytes");
            return Err(SourceError::Config(what));
        }
        let target = Target::parse(&config.url)?;
        let outbox = config.outbox.as_ref().map(|(table, columns)| {
            Ok::<_, SourceError>(Outbox { table: TableName::parse(table)?, columns: columns.clone() })
        });
        let outbox = outbox.transpose()?;
        let mut choice = Choice::parse(&config.tables)?;
        outbox.iter().for_each(|outbox| choice.add(outbox.table.clone()));
        if choice.is_empty() {
            return Err(SourceError::Config("the source's `tables` names no table".to_owned()));
        }
        let (slot, publication) = slot_and_publication(&config)?;
        let (figures, left_out) = (Arc::default(), Mutex::default());
        Ok(Self { config, target, choice, outbox, slot, publication, figures, left_out })
    }

    /// Says what stops nothing now, and will if nobody mends it.
    async fn warn(&self, control: &Control) -> Result<(), SourceError> {
        let Self { config, target, slot, publication, .. } = self;
        for warning in health::look(control, &target.user, slot, publication).await? {
            warn!(source = config.name, "{warning}");
        }
        Ok(())
    }

    /// One life of a pair of connections, until told to stop.
    async fn attempt(
        &self,
        session: Option<Session>,
        streaming: Streaming,
        log: &dyn ChangeLog,
        Life { appender, asked, outage, stop }: Life<'_>,
    ) -> Result<(), SourceError> {
        let session = match session {
            Some(session) => session,
            None => tokio::select! {
                session = self.open(log, streaming) => session?,
                () = stop.cancelled() => return Ok(()),
            },
        };
        outage.server_is_back();
        let source = &self.config.name;
        let Session { control, wire, tables, reached, start, rounds, streamed } = session;
        let after = log.last_position(source);
        info!(source, slot = self.slot, "reading the changes of {} tables", tables.len());
        let folder = self.config.folder.join(format!("{source}.spill"));
        let spill = Spill::open(folder, self.config.spill_bytes_max).await?;
        let seen = Seen::open(seen::path(&self.config.folder, source))?;
        let messages = Messages::new(&self.config.messages);
        let mut assembler = Assembler::new(source, after, seen, messages, self.outbox.clone());
        let (choice, publication) = (self.choice.clone(), self.publication.clone());
        let watch = choice::watch(control.clone(), choice, publication, self.config.snapshot, tables.clone());
        let heartbeat = Heartbeat::new(self.config.heartbeat);
        let beside = stream::Beside { heartbeat, asked, watch: watch.boxed() };
        let begin = snapshot::Begin {
            target: self.target.clone(),
            source: source.as_str().into(),
            slot: self.slot.clone(),
            tables: self.with_rows(&tables),
            file: self.rounds_file(),
            rounds,
            streamed,
            after,
            start,
            figures: self.figures.clone(),
        };
        let snapshots = Snapshots::begin(begin, &mut assembler);
        let stream = stream::Stream::new(control, wire, appender, assembler, spill, reached, snapshots);
        stream.run(beside, stop).await
    }
}

/// Those of the configuration, or those of the source's name.
fn slot_and_publication(config: &Config) -> Result<(String, String), SourceError> {
    let slot = config.slot.clone().unwrap_or_else(|| default_name(&config.name));
    let publication = config.publication.clone().unwrap_or_else(|| default_name(&config.name));
    for (what, name) in [("slot", &slot), ("publication", &publication)] {
        check_name(what, name)?;
    }
    Ok((slot, publication))
}

/// `twohop_` and the name, in the letters that the server allows.
fn default_name(source: &str) -> String {
    let letter = |letter: char| match letter.to_ascii_lowercase() {
        allowed @ ('a'..='z' | '0'..='9' | '_') => allowed,
        _ => '_',
    };
    let name: String = "twohop_".chars().chain(source.chars().map(letter)).collect();
    name[..name.len().min(POSTGRES_NAME_BYTES_MAX)].to_owned()
}

fn check_name(what: &str, name: &str) -> Result<(), SourceError> {
    let allowed = |letter: char| matches!(letter, 'a'..='z' | '0'..='9' | '_');
    if (1..=POSTGRES_NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    Err(SourceError::Config(format!(
        "`{name}` cannot be the source's `{what}`: it has 1 to {POSTGRES_NAME_BYTES_MAX} of the letters a-z, 0-9 and _"
    )))
}
