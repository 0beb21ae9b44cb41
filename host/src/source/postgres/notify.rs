//! `LISTEN`: what others say by `NOTIFY`, as messages.
//!
//! In: a [`NotifyConfig`]. Out: a `message` of the table `$notify` for each notification, in the order in which the server
//! sends them.
//!
//! Nothing is replayed: PostgreSQL keeps no notification for who does not listen. So what is said while this source is
//! not connected is lost, and it says that in its log. What was appended is as durable as any change.
//!
//! Invariant: a server's queue of notifications, which all of its sessions share, is not held up for longer than
//! [`NOTIFY_STALL_TIME_MAX`]: while the change log takes nothing, the source does not listen.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tokio_postgres::{AsyncMessage, Client};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::append::{Appended, Appender, Batch};
use super::assemble::virtual_table;
use super::connect::{Target, quoted};
use super::error::{Disposition, SourceError, disposition};
use super::outage::Outage;
use super::stream::now;
use crate::backoff::Backoff;
use crate::event::{Change, Operation, Origin, Position, RowBuilder, Rows, Table, Value};
use crate::limits::{
    NOTIFY_QUEUE_COUNT_MAX, NOTIFY_STALL_TIME_MAX, POSTGRES_NAME_BYTES_MAX, RETRY_DELAY_MAX,
};
use crate::log::ChangeLog;

const DOING: &str = "`LISTEN`";

/// What a source of notifications is told.
#[derive(Clone, PartialEq, Eq)]
pub struct NotifyConfig {
    /// The source's name.
    pub name: String,
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`.
    pub url: String,
    /// The channels, exactly as `NOTIFY` has their names.
    pub channels: Vec<String>,
}

impl fmt::Debug for NotifyConfig {
    /// Without the URL, which has a password in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotifyConfig")
            .field("name", &self.name)
            .field("channels", &self.channels)
            .finish_non_exhaustive()
    }
}

/// A source that listens.
pub struct Notify {
    config: NotifyConfig,
    target: Target,
    log: Arc<dyn ChangeLog>,
    listener: Option<Listener>,
}

/// A connection that listens. Dropping it closes it.
struct Listener {
    /// Gone, it would take the connection with it.
    _client: Client,
    heard: mpsc::Receiver<Result<(String, String), tokio_postgres::Error>>,
    driver: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// What was heard and is not appended yet.
struct Hearing {
    table: Arc<Table>,
    next: u64,
    batch: Batch,
}

/// Sees that a source of notifications can begin, as a start does.
///
/// # Errors
/// What is wrong.
pub async fn examine_notify(config: &NotifyConfig) -> Result<(), SourceError> {
    begin(config).await.map(drop)
}

async fn begin(config: &NotifyConfig) -> Result<(Target, Listener), SourceError> {
    let target = Target::parse(&config.url)?;
    for channel in &config.channels {
        if !(1..=POSTGRES_NAME_BYTES_MAX).contains(&channel.len()) {
            let what = format!("a channel of NOTIFY has 1 to {POSTGRES_NAME_BYTES_MAX} bytes");
            return Err(SourceError::Config(what));
        }
    }
    let listener = Listener::start(&target, config).await?;
    Ok((target, listener))
}

impl Notify {
    /// Connects and listens.
    ///
    /// # Errors
    /// Anything that is wrong now: a person is looking.
    pub async fn prepare(config: NotifyConfig, log: Arc<dyn ChangeLog>) -> Result<Self, SourceError> {
        let (target, listener) = begin(&config).await?;
        Ok(Self { config, target, log, listener: Some(listener) })
    }

    /// Listens until told to stop; connects anew for ever, and says once what that means.
    ///
    /// # Errors
    /// What a person has to mend.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), SourceError> {
        let name = self.config.name.clone();
        let outage = Arc::new(Outage::new(&name));
        let mut appender = Appender::new(self.log.clone(), outage.clone(), stop.clone());
        let columns = ["channel", "subject", "event", "id", "body"];
        let mut hearing = Hearing {
            table: Arc::new(virtual_table(&name, "$notify", columns)),
            next: self.log.last_position(&name).map_or(1, |last| last.commit + 1),
            batch: Batch::default(),
        };
        let mut backoff = Backoff::default();
        loop {
            let began_at = Instant::now();
            let ended = self.attempt(&mut hearing, &mut appender, &outage, &stop).await;
            let error = match ended {
                Ok(()) => return hearing.finish(&mut appender).await,
                Err(error) if disposition(&error) == Disposition::Halt => return Err(error),
                Err(error) => error,
            };
            outage.server_is_lost(&error);
            // The log takes it first; nobody listens meanwhile.
            appender.settle().await?;
            if began_at.elapsed() > RETRY_DELAY_MAX {
                backoff = Backoff::default();
            }
            if stop.run_until_cancelled(backoff.wait()).await.is_none() {
                return hearing.finish(&mut appender).await;
            }
        }
    }

    /// One life of a connection, until told to stop.
    async fn attempt(
        &mut self,
        hearing: &mut Hearing,
        appender: &mut Appender,
        outage: &Outage,
        stop: &CancellationToken,
    ) -> Result<(), SourceError> {
        let mut listener = match self.listener.take() {
            Some(listener) => listener,
            None => {
                let started = stop.run_until_cancelled(Listener::start(&self.target, &self.config)).await;
                let Some(listener) = started.transpose()? else { return Ok(()) };
                warn!(source = self.config.name, "listens again; what was notified meanwhile is lost");
                listener
            }
        };
        outage.server_is_back();
        let mut stalled_at = None;
        loop {
            if appender.is_idle() && !hearing.batch.is_empty() {
                appender.begin(std::mem::take(&mut hearing.batch));
            }
            let has_room = !hearing.batch.is_full();
            stalled_at = if has_room { None } else { stalled_at.or_else(|| Some(Instant::now())) };
            let stalled_until = stalled_at.unwrap_or_else(Instant::now) + NOTIFY_STALL_TIME_MAX;
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                appended = appender.ended() => {
                    if appended? == Appended::GivenUp {
                        return Ok(());
                    }
                }
                heard = listener.heard.recv(), if has_room => hearing.take(heard)?,
                () = sleep_until(stalled_until), if !has_room => return Err(SourceError::Unheard),
            }
        }
    }
}

impl Listener {
    async fn start(target: &Target, config: &NotifyConfig) -> Result<Self, SourceError> {
        let (client, mut connection) = target.dialed(&format!("twohop {}", config.name)).await?;
        let (sender, heard) = mpsc::channel(NOTIFY_QUEUE_COUNT_MAX);
        let driver = tokio::spawn(async move {
            while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                let told = match message {
                    Ok(AsyncMessage::Notification(told)) => {
                        Ok((told.channel().to_owned(), told.payload().to_owned()))
                    }
                    Ok(_) => continue,
                    Err(error) => Err(error),
                };
                // Who listened is gone.
                if sender.send(told).await.is_err() {
                    return;
                }
            }
        });
        let listen: Vec<_> =
            config.channels.iter().map(|channel| format!("LISTEN {}", quoted(channel))).collect();
        let listener = Self { _client: client, heard, driver };
        let listened = listener._client.batch_execute(&listen.join("; ")).await;
        listened.map_err(|error| SourceError::control(DOING, error))?;
        info!(source = config.name, "listens to {} channels; nothing is replayed", config.channels.len());
        Ok(listener)
    }
}

impl Hearing {
    fn take(
        &mut self,
        heard: Option<Result<(String, String), tokio_postgres::Error>>,
    ) -> Result<(), SourceError> {
        let (channel, payload) = match heard {
            Some(heard) => heard.map_err(|error| SourceError::control(DOING, error))?,
            None => {
                let cause = Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionAborted));
                return Err(SourceError::Lost { doing: DOING.to_owned(), cause });
            }
        };
        self.batch.push(&self.change(&channel, &payload));
        self.next += 1;
        Ok(())
    }

    fn change(&self, channel: &str, payload: &str) -> Change {
        let mut builder = RowBuilder::default();
        builder.push(Value::Text(channel));
        for _ in 0..3 {
            builder.push(Value::Null);
        }
        builder.push(Value::Text(payload));
        let origin = Origin {
            table: self.table.clone(),
            operation: Operation::Message,
            position: Position { commit: self.next, index: 0 },
            last: true,
            transaction: 0,
            committed_at: now(),
        };
        builder.finish(origin, Rows::New)
    }

    /// Appends what was heard before the order to stop, unless the log takes nothing.
    async fn finish(self, appender: &mut Appender) -> Result<(), SourceError> {
        if appender.settle().await? == Appended::GivenUp || self.batch.is_empty() {
            return Ok(());
        }
        appender.begin(self.batch);
        appender.settle().await.map(drop)
    }
}
