//! PostgreSQL: a snapshot of the named tables, then every change of them, through logical replication.
//!
//! ```text
//! connect ─► preflight ─► publication ─► slot ─┬─► snapshot ─┐
//!                                              └─────────────┴─► stream: wire ─► decode ─► assemble ─► append
//! ```
//! In: a [`Config`]. Out: changes in the change log, each once, in the order of commits.
//!
//! Invariants:
//! - what is confirmed to the server is on the log's disk, so a crash of either side loses nothing;
//! - the log's last position is where the source goes on, to the change, so nothing is appended twice;
//! - what is wrong at the start is an error of [`Postgres::prepare`]; later, what heals by itself is tried again.
//!
//! Absent on purpose: encrypted connections, several hosts, transactions in progress (protocol version 2 and above).

mod append;
mod assemble;
mod connect;
mod decode;
mod error;
mod outage;
mod preflight;
mod publication;
mod relation;
mod slot;
mod snapshot;
mod stream;
mod table;
mod values;
mod wire;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use assemble::AssembleError;
pub use decode::DecodeError;
pub use error::{Disposition, Said, SourceError, disposition};
pub use preflight::Problem;
pub use relation::TooManyRelations;

use append::Appender;
use connect::{Control, Target};
use outage::Outage;
use slot::{Created, Plan};
use table::{Captured, TableName};
use wire::Wire;

use crate::backoff::Backoff;
use crate::limits::RETRY_DELAY_MAX;
use crate::log::ChangeLog;

/// The server's limit for names, in bytes.
const NAME_BYTES_MAX: usize = 63;

/// What a source is told.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// The source's name, 1 to 255 bytes; changes carry it, and positions in the change log are found by it.
    pub name: String,
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`.
    pub url: String,
    /// `schema.table`, or `table` for the schema `public`; exactly as the catalog has the names.
    pub tables: Vec<String>,
    /// The replication slot; `twohop_NAME` if it is not given.
    pub slot: Option<String>,
    /// The publication; `twohop_NAME` if it is not given.
    pub publication: Option<String>,
    /// Whether to begin with the rows that are there.
    pub snapshot: SnapshotMode,
}

impl fmt::Debug for Config {
    /// Without the URL, which has a password in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, url: _, tables, slot, publication, snapshot } = self;
        f.debug_struct("Config")
            .field("name", name)
            .field("tables", tables)
            .field("slot", slot)
            .field("publication", publication)
            .field("snapshot", snapshot)
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
    slot: String,
    publication: String,
}

/// A pair of connections.
struct Session {
    control: Control,
    wire: Wire,
    tables: Vec<Captured>,
    /// A slot that was made just now, whose snapshot is to be read first.
    created: Option<Created>,
}

impl Postgres {
    /// Connects, checks the database, makes publication and slot if they are not there, and, unless a snapshot comes
    /// first, starts the stream. May wait for transactions that are open in the database.
    ///
    /// Cancelling leaves nothing that a later start could not use.
    ///
    /// # Errors
    /// Anything that is wrong now, whether or not it might heal by itself: a person is looking.
    pub async fn prepare(config: Config, log: Arc<dyn ChangeLog>) -> Result<Self, SourceError> {
        let plan = Plans::new(config)?;
        let session = Some(plan.open(&*log).await?);
        Ok(Self { plan, log, session })
    }

    /// Reads until told to stop: first the snapshot, if the slot is new, then the stream. What may heal by itself (a
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
        loop {
            let began_at = Instant::now();
            let attempt = plan.attempt(session.take(), &*log, &mut appender, &outage, &stop);
            let ended = Box::pin(attempt).await;
            // The next attempt asks the log where it stands, so nothing may be on its way there.
            let settled = appender.settle().await.map(drop);
            let Err(error) = settled.and(ended) else { return Ok(()) };
            if disposition(&error) == Disposition::Halt {
                return Err(error);
            }
            outage.server_is_lost(&error);
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
        if !(1..=255).contains(&config.name.len()) {
            return Err(SourceError::Config("a source's `name` has 1 to 255 bytes".to_owned()));
        }
        let target = Target::parse(&config.url)?;
        let mut tables =
            config.tables.iter().map(|name| TableName::parse(name)).collect::<Result<Vec<_>, _>>()?;
        tables.sort();
        tables.dedup();
        if tables.is_empty() {
            return Err(SourceError::Config("the source's `tables` names no table".to_owned()));
        }
        let slot = config.slot.clone().unwrap_or_else(|| default_name(&config.name));
        let publication = config.publication.clone().unwrap_or_else(|| default_name(&config.name));
        for (what, name) in [("slot", &slot), ("publication", &publication)] {
            check_name(what, name)?;
        }
        Ok(Self { config, target, tables, slot, publication })
    }

    /// Opens both connections and sees to it that publication and slot are there.
    async fn open(&self, log: &dyn ChangeLog) -> Result<Session, SourceError> {
        let application = format!("twohop {}", self.config.name);
        let control = self.target.connect(&application).await?;
        let tables = preflight::check(&control, &self.config, &self.target.user, &self.tables).await?;
        let publication = publication::ensure(&control, &self.publication, &tables).await?;
        let last = log.last_position(&self.config.name);
        // First, since another server lacks the slot too, and that would be the lesser truth.
        if let Some(last) = last {
            slot::check_written(&control, last).await?;
        }
        let state = slot::free(&control, &self.slot).await?;
        let plan = slot::plan(&self.slot, state.as_ref(), last, self.config.snapshot)?;
        let from = match plan {
            Plan::Resume { from } => from,
            Plan::Create => 0,
            Plan::Recreate => {
                info!(source = self.config.name, "the snapshot was not complete and begins again");
                slot::drop_slot(&control, &self.slot).await?;
                0
            }
        };
        let mut wire = Wire::connect(&self.target, &application, &self.slot, &self.publication, from).await?;
        let created = match plan {
            Plan::Resume { .. } => {
                self.warn_of_added(&publication);
                None
            }
            Plan::Create | Plan::Recreate => {
                let created = slot::create(&mut wire, &self.slot, self.config.snapshot).await?;
                info!(source = self.config.name, slot = self.slot, "made the replication slot");
                Some(created)
            }
        };
        match created.as_ref().and_then(|created| created.snapshot.as_deref()) {
            Some(snapshot) => snapshot::import(&control, snapshot).await?,
            None => wire.start().await?,
        }
        let created = created.filter(|created| created.snapshot.is_some());
        Ok(Session { control, wire, tables, created })
    }

    fn warn_of_added(&self, publication: &publication::Outcome) {
        let publication::Outcome::Kept { added } = publication else { return };
        for table in added {
            warn!(
                source = self.config.name,
                "table `{table}` is new: its changes are read from now on, the rows that it has now are not"
            );
        }
    }

    /// One life of a pair of connections, until told to stop.
    async fn attempt(
        &self,
        session: Option<Session>,
        log: &dyn ChangeLog,
        appender: &mut Appender,
        outage: &Outage,
        stop: &CancellationToken,
    ) -> Result<(), SourceError> {
        let session = match session {
            Some(session) => session,
            None => tokio::select! {
                session = self.open(log) => session?,
                () = stop.cancelled() => return Ok(()),
            },
        };
        outage.server_is_back();
        let source = &self.config.name;
        let Session { control, mut wire, tables, created } = session;
        if let Some(created) = created {
            let copied = snapshot::copy(&control, source, &tables, &created, appender, stop).await?;
            if copied == snapshot::Outcome::Stopped {
                return Ok(());
            }
            wire.start().await?;
        }
        let after = log.last_position(source);
        info!(source, slot = self.slot, "reading the changes of {} tables", tables.len());
        stream::Stream::new(control, wire, appender, source, after).run(stop).await
    }
}

/// `twohop_` and the name, in the letters that the server allows.
fn default_name(source: &str) -> String {
    let letter = |letter: char| match letter.to_ascii_lowercase() {
        allowed @ ('a'..='z' | '0'..='9' | '_') => allowed,
        _ => '_',
    };
    let name: String = "twohop_".chars().chain(source.chars().map(letter)).collect();
    name[..name.len().min(NAME_BYTES_MAX)].to_owned()
}

fn check_name(what: &str, name: &str) -> Result<(), SourceError> {
    let allowed = |letter: char| matches!(letter, 'a'..='z' | '0'..='9' | '_');
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    Err(SourceError::Config(format!(
        "`{name}` cannot be the source's `{what}`: it has 1 to {NAME_BYTES_MAX} of the letters a-z, 0-9 and _"
    )))
}
