//! The writer: transactions on a fixed schedule, whatever becomes of them.
//!
//! In: a rate and a time. Out: committed transactions, each noted in the ledger right before its commit is sent, and
//! how far behind the schedule it ended.
//! Always: the schedule does not wait for slow commits (an open loop): one that is late is sent at once, and the next
//! keep their times.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

use super::ledger::{Ledger, payload};

/// The table that is written to; a channel of the host has its name.
pub(super) const TABLE: &str = "measured";
/// The channel of `NOTIFY`.
pub(super) const NOTIFICATIONS: &str = "floor";
/// Connections are made and the clocks of all started.
const BEGIN_AFTER: Duration = Duration::from_millis(500);

/// What is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) per_second: u32,
    /// Before it counts.
    pub(super) warm_up: Duration,
    pub(super) measured: Duration,
    pub(super) connections_count: usize,
}

/// How the writing went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    /// How late the last transaction of the latest connection began.
    pub(super) behind: Duration,
    pub(super) per_second: f64,
}

impl Load {
    fn count_in(&self, time: Duration) -> usize {
        let count = time.as_nanos() * u128::from(self.per_second) / Duration::from_secs(1).as_nanos();
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// Of the whole run.
    pub(super) fn transactions_count(&self) -> usize {
        self.count_in(self.warm_up + self.measured)
    }

    /// The first transaction that counts.
    pub(super) fn first_measured(&self) -> usize {
        self.count_in(self.warm_up)
    }

    /// When a transaction is to begin, after the first.
    fn due(&self, number: usize) -> Duration {
        Duration::from_secs(1) * u32::try_from(number).unwrap_or(u32::MAX) / self.per_second
    }

    /// Writes all of it.
    pub(super) async fn write(self, url: &str, ledger: &Arc<Ledger>) -> Result<Written> {
        let mut clients = Vec::new();
        for _ in 0..self.connections_count {
            clients.push(connect(url).await?);
        }
        let begin = Instant::now() + BEGIN_AFTER;
        let mut writers = JoinSet::new();
        for (first, client) in clients.into_iter().enumerate() {
            writers.spawn(self.write_every(first, client, begin, ledger.clone()));
        }
        let mut behind = Duration::ZERO;
        while let Some(written) = writers.join_next().await {
            behind = behind.max(written.context("a writer panicked")??);
        }
        let per_second = self.transactions_count() as f64 / begin.elapsed().as_secs_f64();
        Ok(Written { behind, per_second })
    }

    /// One connection's share: `first`, and every so many after it. Gives how late its last one began.
    async fn write_every(
        self,
        first: usize,
        client: Client,
        begin: Instant,
        ledger: Arc<Ledger>,
    ) -> Result<Duration> {
        let mut behind = Duration::ZERO;
        for number in (first..self.transactions_count()).step_by(self.connections_count) {
            let due = begin + self.due(number);
            tokio::time::sleep_until(due.into()).await;
            behind = due.elapsed();
            let payload = payload(number);
            let body = format!(
                "BEGIN; INSERT INTO {TABLE} (id, payload) VALUES ({number}, '{payload}'); \
                 NOTIFY {NOTIFICATIONS}, '{payload}'"
            );
            client.batch_execute(&body).await.context("could not write to PostgreSQL")?;
            ledger.sent(number);
            client.batch_execute("COMMIT").await.context("could not commit")?;
        }
        Ok(behind)
    }
}

/// Makes the table.
pub(super) async fn prepare(url: &str) -> Result<()> {
    let table = format!("CREATE TABLE {TABLE} (id bigint PRIMARY KEY, payload text NOT NULL)");
    connect(url).await?.batch_execute(&table).await.context("could not make the table")
}

/// A connection that ends with its client.
pub(super) async fn connect(url: &str) -> Result<Client> {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.context("could not reach PostgreSQL")?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            eprintln!("warning: a connection to PostgreSQL broke: {error}");
        }
    });
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_even_and_the_warm_up_comes_first() {
        let load = Load {
            per_second: 1_000,
            warm_up: Duration::from_secs(2),
            measured: Duration::from_secs(30),
            connections_count: 16,
        };
        assert_eq!((load.transactions_count(), load.first_measured()), (32_000, 2_000));
        assert_eq!(load.due(0), Duration::ZERO);
        assert_eq!(load.due(1_500), Duration::from_millis(1_500));
    }
}
