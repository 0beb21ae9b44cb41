//! Who writes: several at once, each key with a sequence of its own.
//!
//! A transaction moves one to three keys. Each move takes the key's next sequence (from a table that is not captured,
//! whose lock makes the order of the sequences that of the commits) and is kept in `moves`, with its part of the
//! transaction's parts; the key's row in `cells` is put, touched or deleted. Every fifth transaction or so is rolled
//! back, some are large. A transaction whose commit was not answered may be there or not: the database knows.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

use super::schedule::Random;

pub(super) const SCHEMA: &str = "
    CREATE TABLE counters (key int PRIMARY KEY, sequence bigint NOT NULL);
    INSERT INTO counters SELECT n, 3000 FROM generate_series(1, 12) n;
    CREATE TABLE moves (key int, sequence bigint, part int NOT NULL, parts int NOT NULL, checksum bigint NOT NULL,
        PRIMARY KEY (key, sequence));
    CREATE TABLE cells (key int PRIMARY KEY, sequence bigint NOT NULL, checksum bigint NOT NULL, body text NOT NULL);
    CREATE FUNCTION checksum(key int, sequence bigint) RETURNS bigint IMMUTABLE LANGUAGE sql
        AS 'SELECT (key * 1000003::bigint + sequence * 7919) % 2147483647';
    CREATE FUNCTION move(k int, times int, before int, parts int, kind int, body text) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE s bigint;
    BEGIN
        FOR n IN 1..times LOOP
            UPDATE counters SET sequence = sequence + 1 WHERE key = k RETURNING sequence INTO s;
            INSERT INTO moves VALUES (k, s, before + n, parts, checksum(k, s));
        END LOOP;
        IF kind = 0 THEN
            DELETE FROM cells WHERE key = k;
        ELSIF kind = 1 THEN
            UPDATE cells SET sequence = s, checksum = checksum(k, s) WHERE key = k;
        ELSE
            INSERT INTO cells VALUES (k, s, checksum(k, s), body) ON CONFLICT (key) DO UPDATE
                SET sequence = excluded.sequence, checksum = excluded.checksum, body = excluded.body;
        END IF;
    END $$;
    INSERT INTO moves SELECT k, n, 1, 1, checksum(k, n) FROM generate_series(1, 12) k, generate_series(1, 3000) n;
    INSERT INTO cells SELECT k, 3000, checksum(k, 3000),
        (SELECT string_agg(md5(n::text || k), '') FROM generate_series(1, 200) n) FROM generate_series(1, 12) k;";

/// Moves of each key before the writers begin.
pub(super) const MOVED_BEFORE: i64 = 3_000;

/// As the function of the schema.
pub(super) fn checksum(key: i64, sequence: i64) -> i64 {
    (key * 1_000_003 + sequence * 7_919) % 2_147_483_647
}

const KEYS: u64 = 12;
const WRITERS: u64 = 3;
/// Moves of a large transaction: more than the server of the tests keeps in memory.
const LARGE: u64 = 600;
const RECONNECT_INTERVAL: Duration = Duration::from_millis(50);
const WITHIN: Duration = Duration::from_secs(60);

/// Those who write, until told to stop.
pub(super) struct Writers {
    stop: watch::Sender<bool>,
    written: watch::Receiver<u64>,
    tasks: JoinSet<()>,
}

impl Writers {
    pub(super) fn start(url: &str, seed: u64) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (progress, written) = watch::channel(0);
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            let random = Random(seed.wrapping_mul(WRITERS).wrapping_add(writer));
            tasks.spawn(write(url.to_owned(), random, stopped.clone(), progress.clone()));
        }
        Self { stop, written, tasks }
    }

    /// Waits until so many further transactions have been tried.
    pub(super) async fn go_on(&mut self, transactions: u64) -> Result<()> {
        let wanted = *self.written.borrow() + transactions;
        let waited = tokio::time::timeout(WITHIN, self.written.wait_for(|written| *written >= wanted)).await;
        waited.context("the writers do not get on")?.context("the writers have ended")?;
        Ok(())
    }

    pub(super) async fn finish(mut self) -> Result<()> {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a writer panicked")?;
        }
        Ok(())
    }
}

pub(super) async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn write(
    url: String,
    mut random: Random,
    stopped: watch::Receiver<bool>,
    progress: watch::Sender<u64>,
) {
    let mut tries = tokio::time::interval(RECONNECT_INTERVAL);
    while !*stopped.borrow() {
        tries.tick().await;
        let Ok(client) = connect(&url).await else { continue };
        while !*stopped.borrow() {
            if client.batch_execute(&transaction(&mut random)).await.is_err() {
                break;
            }
            progress.send_modify(|written| *written += 1);
        }
    }
}

fn transaction(random: &mut Random) -> String {
    let mut keys: Vec<_> = (0..=random.below(3)).map(|_| 1 + random.below(KEYS)).collect();
    // In one order, so that no two wait for each other.
    keys.sort_unstable();
    keys.dedup();
    let times: Vec<_> =
        keys.iter().map(|_| if random.below(40) == 0 { LARGE } else { 1 + random.below(2) }).collect();
    let parts: u64 = times.iter().sum();
    let mut sql = String::from("BEGIN;");
    let mut before = 0;
    for (key, times) in keys.iter().zip(times) {
        // Sometimes a body that PostgreSQL stores out of line, and so does not send when only the rest is touched.
        let body = if random.below(4) == 0 {
            format!("(SELECT string_agg(md5(n::text || {key}), '') FROM generate_series(1, 200) n)")
        } else {
            format!("'body {}'", random.below(1_000_000))
        };
        sql += &format!("SELECT move({key}, {times}, {before}, {parts}, {}, {body});", random.below(4));
        before += times;
    }
    sql + if random.below(5) == 0 { "ROLLBACK" } else { "COMMIT" }
}
