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
mod assemble;
mod connect;
mod decode;
mod doctor;
mod error;
mod health;
mod heartbeat;
mod json_file;
mod messages;
mod notify;
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

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use assemble::AssembleError;
pub use decode::DecodeError;
pub use doctor::{Examination, examine};
pub use error::{Disposition, Said, SourceError, disposition};
pub use health::Warning;
pub use heartbeat::PREFIX as HEARTBEAT;
pub use notify::{Notify, NotifyConfig};
pub use outbox::{OutboxColumns, OutboxError};
pub use polling::{Polling, PollingConfig};
pub use preflight::Problem;
pub use relation::{RelationError, TooManyRelations};
pub use spill::SpillError;

use append::Appender;
use assemble::Assembler;
use connect::{Control, Target};
use heartbeat::Heartbeat;
use messages::Messages;
use outage::Outage;
use outbox::Outbox;
use reached::Reached;
use seen::{Seen, Shape};
use slot::Plan;
use snapshot::rounds::Rounds;
use snapshot::{Snapshots, Streamed};
use spill::Spill;
use table::{Captured, TableName};
use wire::{Streaming, Wire};

use crate::backoff::Backoff;
use crate::event::encode;
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
    /// `schema.table`, or `table` for the schema `public`; exactly as the catalog has the names.
    pub tables: Vec<String>,
    /// A further table, whose rows are messages.
    pub outbox: Option<(String, OutboxColumns)>,
    /// The replication slot; `twohop_NAME` if it is not given.
    pub slot: Option<String>,
    /// The publication; `twohop_NAME` if it is not given.
    pub publication: Option<String>,
    /// Whether to begin with the rows that are there.
    pub snapshot: SnapshotMode,
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
        let Self { name, url: _, tables, outbox, slot, publication, snapshot, .. } = self;
        let Self { folder, spill_bytes_max, .. } = self;
        f.debug_struct("Config")
            .field("name", name)
            .field("tables", tables)
            .field("outbox", outbox)
            .field("slot", slot)
            .field("publication", publication)
            .field("snapshot", snapshot)
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

/// A source that is connected, checked, and about to read.
pub struct Postgres {
    plan: Plans,
    log: Arc<dyn ChangeLog>,
    session: Option<Session>,
}

/// The configuration, checked.
struct Plans {
    config: Config,
    target: Target,
    tables: Vec<TableName>,
    outbox: Option<Outbox>,
    slot: String,
    publication: String,
    figures: Arc<SnapshotMetrics>,
}

/// A pair of connections.
struct Session {
    control: Control,
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
        figures: Arc<SnapshotMetrics>,
    ) -> Result<Self, SourceError> {
        let plan = Plans { figures, ..Plans::new(config)? };
        let session = plan.open(&*log, Streaming::On).await?;
        plan.warn(&session.control).await?;
        Ok(Self { plan, log, session: Some(session) })
    }

    /// Reads until told to stop: the stream, and in between the rows that tables have, as far as they are to be read. What may heal by itself (a
    /// server that restarts, a connection that breaks, a change log that is full) is tried again for ever, and said
    /// once. An append that is under way when the order to stop comes is finished and confirmed.
    ///
    /// # Errors
    /// What a person has to mend; see [`disposition`].
    pub async fn run(self, stop: CancellationToken) -> Result<(), SourceError> {
        let Self { plan, log, mut session } = self;
        let outage = Arc::new(Outage::new(&plan.config.name));
        let mut appender = Appender::new(log.clone(), outage.clone(), stop.clone());
        let mut backoff = Backoff::default();
        let mut streaming = Streaming::On;
        loop {
            let began_at = Instant::now();
            let attempt = plan.attempt(session.take(), streaming, &*log, &mut appender, &outage, &stop);
            let ended = Box::pin(attempt).await;
            // The next attempt asks the log where it stands, so nothing may be on its way there.
            let settled = appender.settle().await.map(drop);
            let Err(error) = settled.and(ended) else { return Ok(()) };
            if disposition(&error) == Disposition::Halt {
                return Err(error);
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
        let mut tables = table::parse_all(&config.tables)?;
        tables.extend(outbox.as_ref().map(|outbox| outbox.table.clone()));
        tables.sort();
        tables.dedup();
        if tables.is_empty() {
            return Err(SourceError::Config("the source's `tables` names no table".to_owned()));
        }
        let (slot, publication) = slot_and_publication(&config)?;
        Ok(Self { config, target, tables, outbox, slot, publication, figures: Arc::default() })
    }

    /// Opens both connections and sees to it that publication and slot are there.
    async fn open(&self, log: &dyn ChangeLog, streaming: Streaming) -> Result<Session, SourceError> {
        let application = format!("twohop {}", self.config.name);
        let control = self.target.connect(&application).await?;
        let tables =
            preflight::check(&control, self.config.snapshot, &self.target.user, &self.tables).await?;
        self.check_outbox(&control, &tables).await?;
        let last = log.last_position(&self.config.name);
        let state = slot::free(&control, &self.slot).await?;
        let mut rounds = Rounds::read(&self.rounds_file())?;
        let begun = if rounds.is_some() { slot::Snapshot::Begun } else { slot::Snapshot::Unknown };
        let plan = slot::plan(&self.slot, state.as_ref(), last, self.config.snapshot, begun);
        let from = if let Ok(Plan::Resume { from }) = plan { from } else { 0 };
        let mut wire = Wire::connect(&self.target, &application, &self.slot, from).await?;
        // First, since another server lacks the slot too, and that would be the lesser truth.
        if let Some(last) = last {
            let file = server::path(&self.config.folder, &self.config.name);
            server::check(&file, &mut wire, last).await?;
            slot::check_written(&control, last).await?;
        }
        let mut streamed = Streamed::Something;
        match plan? {
            Plan::Resume { .. } => {
                let added = publication::missing(&control, &self.publication, &tables).await?;
                rounds = Some(self.add(rounds, &tables, &added)?);
                publication::ensure(&control, &self.publication, &tables).await?;
            }
            plan => {
                publication::ensure(&control, &self.publication, &tables).await?;
                rounds = Some(self.create(&control, &mut wire, &tables, log, plan).await?);
                streamed = Streamed::Nothing;
            }
        }
        let rounds = rounds.unwrap_or_default();
        let (reached, start) = self.start(&control, &mut wire, log, streaming).await?;
        Ok(Session { control, wire, tables, reached, start, rounds, streamed })
    }

    /// Makes the slot, and notes what there is to be read.
    async fn create(
        &self,
        control: &Control,
        wire: &mut Wire,
        tables: &[Captured],
        log: &dyn ChangeLog,
        plan: Plan,
    ) -> Result<Rounds, SourceError> {
        self.begin(control, wire, tables, log).await?;
        if plan == Plan::Recreate {
            info!(source = self.config.name, "the snapshot had not begun and begins again");
            slot::drop_slot(control, &self.slot).await?;
        }
        let kind = slot::Kind::Kept(self.config.snapshot);
        let created = slot::create(wire, control, &self.slot, kind).await?;
        info!(source = self.config.name, slot = self.slot, "made the replication slot");
        let rounds = match created.snapshot {
            Some(snapshot) => snapshot::first(control, &snapshot, &self.with_rows(tables)).await?,
            None => Rounds::default(),
        };
        // Also where there is nothing to be read: it says that the slot is ours.
        rounds.write(&self.rounds_file())?;
        Ok(rounds)
    }

    /// Those whose rows are to be read: what an outbox had before anybody listened is no message.
    fn with_rows(&self, tables: &[Captured]) -> Vec<Captured> {
        let is_outbox = |table: &&Captured| self.outbox.as_ref().is_some_and(|its| its.table == table.name);
        tables.iter().filter(|table| !is_outbox(table)).cloned().collect()
    }

    /// Notes, before the server sends their changes, that tables are to be read, unless none is.
    fn add(
        &self,
        before: Option<Rounds>,
        tables: &[Captured],
        added: &[TableName],
    ) -> Result<Rounds, SourceError> {
        let mut rounds = before.clone().unwrap_or_default();
        rounds.keep_only(tables);
        let mut added: Vec<_> =
            self.with_rows(tables).into_iter().filter(|table| added.contains(&table.name)).collect();
        if self.config.snapshot == SnapshotMode::None {
            for Captured { name, .. } in added.drain(..) {
                warn!(
                    source = self.config.name,
                    "table `{name}` is new: its changes are read from now on, the rows that it has now are not"
                );
            }
        }
        rounds.add(&added);
        if before.as_ref() != Some(&rounds) {
            rounds.write(&self.rounds_file())?;
        }
        Ok(rounds)
    }

    fn rounds_file(&self) -> PathBuf {
        snapshot::rounds::path(&self.config.folder, &self.config.name)
    }

    /// Starts the stream, and sees that the server did not go forward past what the change log has.
    async fn start(
        &self,
        control: &Control,
        wire: &mut Wire,
        log: &dyn ChangeLog,
        streaming: Streaming,
    ) -> Result<(Reached, u64), SourceError> {
        wire.start(&self.publication, streaming).await?;
        let path = reached::path(&self.config.folder, &self.config.name);
        // The log has everything that committed before its last transaction.
        let last = log.last_position(&self.config.name).map_or(0, |last| last.commit);
        let known = reached::read(&path)?.map(|known| known.max(last));
        let place = slot::check_reached(control, &self.slot, known).await?;
        Ok((Reached::begin(path, place)?, place))
    }

    /// Writes down, before there is a slot, that it will be ours and on which server.
    async fn begin(
        &self,
        control: &Control,
        wire: &Wire,
        tables: &[Captured],
        log: &dyn ChangeLog,
    ) -> Result<(), SourceError> {
        server::write(&server::path(&self.config.folder, &self.config.name), &wire.server)?;
        reached::forget(&reached::path(&self.config.folder, &self.config.name))?;
        snapshot::rounds::forget(&self.rounds_file())?;
        let mut shapes = Vec::new();
        for captured in tables {
            let (table, _) = table::describe(control, &self.config.name, captured).await?;
            shapes.push((captured.oid, Shape::of(&table)));
        }
        Seen::begin(seen::path(&self.config.folder, &self.config.name), shapes)?;
        let mark = match self.config.snapshot {
            SnapshotMode::Initial => snapshot::Mark::Began,
            SnapshotMode::None => snapshot::Mark::Skipped,
        };
        let (position, now) = (slot::begin(control).await?, snapshot::server_time(control).await?);
        let names = tables.iter().map(|table| table.name.to_string());
        let record = encode(&snapshot::mark(&self.config.name, names, mark, position, now));
        log.append(append::PARTITION, vec![record]).await.map(drop).map_err(SourceError::Log)
    }

    /// Says what stops nothing now, and will if nobody mends it.
    async fn warn(&self, control: &Control) -> Result<(), SourceError> {
        let Self { config, target, slot, publication, .. } = self;
        for warning in health::look(control, &target.user, slot, publication).await? {
            warn!(source = config.name, "{warning}");
        }
        Ok(())
    }

    /// Sees that the outbox has the columns of one.
    async fn check_outbox(&self, control: &Control, tables: &[Captured]) -> Result<(), SourceError> {
        let Some(outbox) = &self.outbox else { return Ok(()) };
        let Some(captured) = tables.iter().find(|table| table.name == outbox.table) else { return Ok(()) };
        let (table, _) = table::describe(control, &self.config.name, captured).await?;
        outbox.messages(&table).map(drop).map_err(SourceError::Outbox)
    }

    /// One life of a pair of connections, until told to stop.
    async fn attempt(
        &self,
        session: Option<Session>,
        streaming: Streaming,
        log: &dyn ChangeLog,
        appender: &mut Appender,
        outage: &Outage,
        stop: &CancellationToken,
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
        let heartbeat = Heartbeat::new(self.config.heartbeat);
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
        stream.run(heartbeat, stop).await
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
