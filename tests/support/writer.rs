//! An oracle's other half: writes numbered rows in transactions, and knows which of them committed.
//!
//! Each transaction inserts one to three rows of `notes`, with consecutive numbers; every fifth is rolled back. A
//! transaction whose commit was not answered (the server went away) is looked up afterwards: the database decides.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

/// The table that is written to. `number` is in the order of commits, since there is one writer.
pub const SCHEMA: &str = "CREATE TABLE notes (number bigint PRIMARY KEY, transaction bigint NOT NULL, \
                          row_count int NOT NULL, body text NOT NULL)";

const RECONNECT_INTERVAL: Duration = Duration::from_millis(50);

/// Writes in the background until told to stop.
pub struct Writer {
    stop: watch::Sender<bool>,
    written: watch::Receiver<u64>,
    task: JoinHandle<Result<()>>,
}

impl Writer {
    /// Begins. `pause` is between two transactions.
    #[must_use]
    pub fn start(url: String, pause: Duration) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (progress, written) = watch::channel(0);
        let task = tokio::spawn(write(url, pause, stopped, progress));
        Self { stop, written, task }
    }

    /// Waits until so many transactions have been tried since the start.
    ///
    /// # Errors
    /// If they are not within a minute, or the writer has failed.
    pub async fn wait_for(&mut self, transaction_count: u64) -> Result<()> {
        let wait = self.written.wait_for(|written| *written >= transaction_count);
        let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
        waited.context("the writer does not get on")?.context("the writer has failed")?;
        Ok(())
    }

    /// How many transactions have been tried.
    #[must_use]
    pub fn written(&self) -> u64 {
        *self.written.borrow()
    }

    /// Ends, and returns what the table holds: every committed row, in order.
    ///
    /// # Errors
    /// If the writer has failed, or the database does not answer.
    pub async fn finish(self, url: &str) -> Result<Vec<Row>> {
        self.stop.send_replace(true);
        self.task.await.context("the writer panicked")??;
        let client = connect(url).await?;
        let rows = client.query("SELECT number FROM notes ORDER BY number", &[]).await?;
        Ok(rows.iter().map(|row| Row { number: row.get(0) }).collect())
    }
}

/// A committed row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Its number.
    pub number: i64,
}

async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn write(
    url: String,
    pause: Duration,
    stopped: watch::Receiver<bool>,
    progress: watch::Sender<u64>,
) -> Result<()> {
    let mut client = connect(&url).await?;
    let mut number: i64 = 0;
    let mut pace = tokio::time::interval(pause);
    for transaction in 1_i64.. {
        if *stopped.borrow() {
            break;
        }
        pace.tick().await;
        let count = (transaction % 3 + 1) as i32;
        if attempt(&client, number, transaction, count).await.is_err() {
            client = reconnect(&url).await;
        }
        // Numbers are never used twice, so a transaction whose fate is unknown needs no second try.
        number += i64::from(count);
        progress.send_modify(|written| *written += 1);
    }
    Ok(())
}

async fn attempt(client: &Client, number: i64, transaction: i64, count: i32) -> Result<()> {
    let end = if transaction % 5 == 0 { "ROLLBACK" } else { "COMMIT" };
    let rows: Vec<_> = (0..i64::from(count))
        .map(|nth| format!("({}, {transaction}, {count}, 'note {}')", number + nth, number + nth))
        .collect();
    let insert = format!("INSERT INTO notes VALUES {}", rows.join(", "));
    client.batch_execute(&format!("BEGIN; {insert}; {end}")).await?;
    Ok(())
}

async fn reconnect(url: &str) -> Client {
    let mut tries = tokio::time::interval(RECONNECT_INTERVAL);
    loop {
        tries.tick().await;
        if let Ok(client) = connect(url).await {
            return client;
        }
    }
}
