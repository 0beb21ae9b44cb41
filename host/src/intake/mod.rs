//! What clients say, on its way into the change log.
//!
//! In: messages that the gate lets in and that are to be kept. Out: a receipt for each, once it is on disk.
//!
//! ```text
//! gateway ─► Intake ─► queue ─► Desk ─► log        one append under way, while the next messages gather
//!    ▲                            │
//!    └───────── receipt ◄─────────┘
//! ```
//! A message is a change of the operation `message` in the virtual table `$client`, of a source of that name, which no
//! configuration can give to another. So it has a place in the order like any other change, and the places of the
//! databases stay where they are.
//!
//! Invariants:
//! - a receipt is given only after the append has returned;
//! - positions of the source grow: one desk gives them, and appends in their order. A position is the microseconds since
//!   1970 at which the desk took the message, or one more than the last one;
//! - a message with the same subject, channel and id as one that was kept is not kept again, as long as that one is
//!   remembered (`ids`), and gets its receipt.
//!
//! Absent on purpose: who may say what (`access`), how often (`gateway`), and what becomes of it (`policy`).

mod ids;
mod message;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::ids::{Ids, Key};
use self::message::Tables;
pub use self::message::{Body, ClientMessage};
use crate::event::{Micros, Partition, encode};
use crate::limits::{CLIENT_MESSAGE_TIME_MAX, CLIENT_QUEUE_COUNT_MAX};
use crate::log::{ChangeLog, LogError};

/// The name of the source that clients are.
const SOURCE: &str = "$client";

/// That a message is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Which of all that clients said: no two messages have the same number.
    pub number: u64,
    /// Whether it had been kept before.
    pub is_repeated: bool,
}

/// Why a message has no receipt.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IntakeError {
    /// It is not kept: too many wait.
    #[error("too many messages wait to be kept")]
    Busy,
    /// It is not kept: the change log does not take it.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Nobody knows whether it is kept.
    #[error("the change log has not answered in time: the message may be kept or not")]
    Unknown,
    /// It is not kept: the program stops.
    #[error("the server is stopping")]
    Closed,
}

type Reply = oneshot::Sender<Result<Receipt, IntakeError>>;

/// A message that waits for the desk.
#[derive(Debug)]
struct Job {
    message: ClientMessage,
    /// Nobody may be there any more.
    reply: Reply,
}

/// Where messages are handed in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Intake {
    queue: mpsc::Sender<Job>,
    /// How long one waits.
    time_max: Duration,
}

impl Intake {
    /// Hands a message in, and waits until it is kept. Cancelling leaves it open whether it is.
    ///
    /// # Errors
    /// If it is not kept, or nobody knows.
    pub async fn take(&self, message: ClientMessage) -> Result<Receipt, IntakeError> {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(Job { message, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => IntakeError::Busy,
            mpsc::error::TrySendError::Closed(_) => IntakeError::Closed,
        })?;
        let answer = timeout(self.time_max, answer).await.map_err(|_| IntakeError::Unknown)?;
        // A desk that is gone without an answer may have been in the midst of it.
        answer.unwrap_or(Err(IntakeError::Unknown))
    }
}

/// The one who appends. See the head of this file.
pub struct Desk {
    log: Arc<dyn ChangeLog>,
    partition: Partition,
    tables: Tables,
    /// The last number that was given.
    last: u64,
    ids: Ids,
    queue: mpsc::Receiver<Job>,
    /// Whether the log took nothing the last time, so that it is said once.
    is_refused: bool,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk")
            .field("partition", &self.partition)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

/// What is appended once, and who waits for it: several, where a message came twice in a moment.
struct Entry {
    number: u64,
    key: Option<Arc<Key>>,
    replies: Vec<Reply>,
}

impl Desk {
    /// A desk for a partition of a log, in which it looks for what clients said last.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn open(log: Arc<dyn ChangeLog>, partition: Partition) -> Result<(Intake, Self), LogError> {
        let last = log.last_position(SOURCE).map_or(0, |position| position.commit);
        let ids = ids::recall(&*log, partition, now()).await?;
        let (sender, queue) = mpsc::channel(CLIENT_QUEUE_COUNT_MAX);
        let desk = Self { log, partition, tables: Tables::new(), last, ids, queue, is_refused: false };
        Ok((Intake { queue: sender, time_max: CLIENT_MESSAGE_TIME_MAX }, desk))
    }

    /// Appends what comes, until stopped; then what was handed in before, and nothing more.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut jobs = Vec::new();
        loop {
            let count = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                count = self.queue.recv_many(&mut jobs, CLIENT_QUEUE_COUNT_MAX) => count,
            };
            if count == 0 {
                return;
            }
            self.take(&mut jobs).await;
        }
        self.queue.close();
        while self.queue.recv_many(&mut jobs, CLIENT_QUEUE_COUNT_MAX).await > 0 {
            self.take(&mut jobs).await;
        }
    }

    /// Appends all that is new of these, as one, and answers all.
    async fn take(&mut self, jobs: &mut Vec<Job>) {
        let now = now();
        self.ids.forget_before(now);
        let (mut entries, mut records) = (Vec::<Entry>::new(), Vec::new());
        let mut places = HashMap::<Arc<Key>, usize>::new();
        for Job { message, reply } in jobs.drain(..) {
            let key = Key::of(&message).map(Arc::new);
            if let Some(number) = key.as_ref().and_then(|key| self.ids.number(key)) {
                // Who does not wait any more does not want to know; likewise below.
                let _ = reply.send(Ok(Receipt { number, is_repeated: true }));
                continue;
            }
            if let Some(place) = key.as_ref().and_then(|key| places.get(key)) {
                entries[*place].replies.push(reply);
                continue;
            }
            self.last = now.max(self.last + 1);
            records.push(encode(&message.into_change(&self.tables, self.last)));
            places.extend(key.clone().map(|key| (key, entries.len())));
            entries.push(Entry { number: self.last, key, replies: vec![reply] });
        }
        if records.is_empty() {
            return;
        }
        let appended = self.log.append(self.partition, records).await;
        self.say(appended.as_ref().err());
        for Entry { number, key, replies } in entries {
            if appended.is_ok() {
                key.into_iter().for_each(|key| self.ids.add(key, number));
            }
            for (nth, reply) in replies.into_iter().enumerate() {
                let receipt = Receipt { number, is_repeated: nth > 0 };
                let answer = appended.as_ref().map(|_| receipt).map_err(|error| error.clone().into());
                let _ = reply.send(answer);
            }
        }
    }

    /// Tells people, once, that nothing is kept, and once that it is again.
    fn say(&mut self, error: Option<&LogError>) {
        match error {
            Some(error) if !self.is_refused => {
                warn!(
                    error = error as &dyn std::error::Error,
                    "messages of clients cannot be kept, and are refused"
                );
            }
            None if self.is_refused => info!("messages of clients are kept again"),
            _ => {}
        }
        self.is_refused = error.is_some();
    }
}

/// On this machine's clock.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// A number as the time that it is.
fn time(number: u64) -> Micros {
    Micros(i64::try_from(number).unwrap_or(i64::MAX))
}
