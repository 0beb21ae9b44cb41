//! Transactions in progress, on their way before they commit; slots that are quiet, gone, or not what they were.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use tokio_postgres::{Client, NoTls};
use twohop_tests::{Follower, Setup, Stand, until};
use xtask::services::host::refusal_within;
use xtask::services::postgres;
use xtask::sse::Event;

const WITHIN: Duration = Duration::from_secs(60);
/// Two hundred thousand rows take a while in a build that is not optimized.
const ALL_WITHIN: Duration = Duration::from_secs(240);
const ROWS: i64 = 200_000;
/// Bytes on our disk that show that a transaction is streamed.
const STREAMED: u64 = 256 << 10;
/// More than the server keeps in memory.
const MORE: i64 = 5_000;

/// A server that streams what is larger than a few hundred rows, and gives us up soon.
fn server() -> postgres::Options {
    let settings = [("logical_decoding_work_mem", "64kB"), ("wal_sender_timeout", "2s")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    postgres::Options { settings, ..postgres::Options::default() }
}

fn stand(source: &str) -> Result<Stand> {
    Stand::start(&Setup { source, postgres: server(), ..Setup::default() })
}

/// A session whose transaction a test holds open.
async fn session(stand: &Stand) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(&stand.postgres.url(), NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn insert(numbers: &str) -> String {
    format!("INSERT INTO notes SELECT n, 1, 1, 'note ' || n FROM generate_series({numbers}) n")
}

fn bytes_in(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|its| its.len()).sum()
}

fn spill(stand: &Stand) -> PathBuf {
    stand.data.join("sources/shop.spill")
}

fn numbers(events: &[Event]) -> Vec<i64> {
    let number = |event: &Event| serde_json::from_str::<Value>(&event.data).ok()?["number"].as_i64();
    events.iter().map(|event| number(event).expect("a note has a number")).collect()
}

/// Exactly these, in this order; says little of what it got instead, which is large.
fn check(received: &[i64], expected: impl IntoIterator<Item = i64>) -> Result<()> {
    let expected: Vec<_> = expected.into_iter().collect();
    let differ = received.iter().zip(&expected).position(|(received, expected)| received != expected);
    ensure!(
        differ.is_none(),
        "at {differ:?}: {:?} instead of {:?}",
        received[differ.unwrap_or(0)],
        expected[differ.unwrap_or(0)]
    );
    ensure!(received.len() == expected.len(), "{} rows instead of {}", received.len(), expected.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_waits_on_disk_while_another_that_commits_first_comes_first() -> Result<()> {
    let stand = stand("")?;
    let mut follower = Follower::connect(stand.address(), &["notes"]).await?;
    let large = session(&stand).await?;
    large.batch_execute(&format!("BEGIN; {}", insert(&format!("1, {ROWS}")))).await?;
    until("the transaction is on our disk", WITHIN, || Ok(bytes_in(&spill(&stand)) > STREAMED)).await?;
    // A part that is rolled back once it was streamed, and a part within it.
    let parts = ["400001, 410000", "410001, 420000"].map(insert);
    large.batch_execute(&format!("SAVEPOINT a; {}; SAVEPOINT b; {}", parts[0], parts[1])).await?;
    large
        .batch_execute(&format!("ROLLBACK TO a; {}", insert(&format!("{}, {}", ROWS + 1, ROWS + 9))))
        .await?;
    stand.postgres.psql(&insert("1000000, 1000000"))?;
    follower.wait_until("the small one", WITHIN, |events| !events.is_empty()).await?;
    large.batch_execute("COMMIT").await?;
    let count = usize::try_from(ROWS + 10)?;
    let events = follower.wait_until("the large one", ALL_WITHIN, |events| events.len() >= count).await?;
    check(&numbers(&events), [1_000_000].into_iter().chain(1..=ROWS + 9))?;
    until("nothing is left on disk", WITHIN, || Ok(bytes_in(&spill(&stand)) == 0)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_rolled_back_after_it_was_streamed_is_never_seen() -> Result<()> {
    let stand = stand("")?;
    let mut follower = Follower::connect(stand.address(), &["notes"]).await?;
    let large = session(&stand).await?;
    large.batch_execute(&format!("BEGIN; {}", insert("1, 20000"))).await?;
    until("the transaction is on our disk", WITHIN, || Ok(bytes_in(&spill(&stand)) > STREAMED)).await?;
    large.batch_execute("ROLLBACK").await?;
    until("nothing is left on disk", WITHIN, || Ok(bytes_in(&spill(&stand)) == 0)).await?;
    stand.postgres.psql(&insert("7, 7"))?;
    let events = follower.wait_until("the row after it", WITHIN, |events| !events.is_empty()).await?;
    check(&numbers(&events), [7])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_beyond_the_budget_is_read_at_its_commit_and_it_is_said() -> Result<()> {
    let stand = stand("spill_bytes_max = \"256KiB\"")?;
    let mut follower = Follower::connect(stand.address(), &["notes"]).await?;
    let large = session(&stand).await?;
    large.batch_execute(&format!("BEGIN; {}", insert("1, 20000"))).await?;
    stand.wait_for_log(0, "262144 bytes (`spill_bytes_max`)", WITHIN).await?;
    stand.wait_for_log(0, "reading again", WITHIN).await?;
    stand.postgres.psql(&insert("1000000, 1000000"))?;
    follower.wait_until("the small one", WITHIN, |events| !events.is_empty()).await?;
    large.batch_execute("COMMIT").await?;
    let events = follower.wait_until("the large one", ALL_WITHIN, |events| events.len() > 20_000).await?;
    check(&numbers(&events), [1_000_000].into_iter().chain(1..=20_000))
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_in_the_midst_of_a_streamed_transaction_loses_nothing_and_repeats_nothing() -> Result<()> {
    let mut stand = stand("")?;
    let mut follower = Follower::connect(stand.address(), &["notes"]).await?;
    let log = stand.data.join("log/0");
    let large = session(&stand).await?;
    large.batch_execute(&format!("BEGIN; {}", insert(&format!("1, {ROWS}")))).await?;
    until("the transaction is on our disk", WITHIN, || Ok(bytes_in(&spill(&stand)) > STREAMED)).await?;
    // Once before its commit, when all of it has to be sent again, then while it is appended.
    stand.host.kill9();
    stand.host.restart()?;
    // What the server had confirmed is streamed again only with what comes after it.
    large.batch_execute(&insert(&format!("{}, {}", ROWS + 1, ROWS + MORE))).await?;
    until("the transaction is on our disk again", WITHIN, || Ok(bytes_in(&spill(&stand)) > STREAMED)).await?;
    large.batch_execute("COMMIT").await?;
    for part in 1..=3 {
        // A row takes more than a hundred bytes of the change log.
        until("a further part is appended", WITHIN, || Ok(bytes_in(&log) > part * (4 << 20))).await?;
        stand.host.kill9();
        ensure!(bytes_in(&log) < ROWS.cast_unsigned() * 100, "it was appended before it could be killed");
        stand.host.restart()?;
    }
    let count = usize::try_from(ROWS + MORE)?;
    let events = follower.wait_until("all of it", ALL_WITHIN, |events| events.len() >= count).await?;
    check(&numbers(&events), 1..=ROWS + MORE)
}

/// The server's process that sends to us.
fn sender(stand: &Stand) -> Result<String> {
    stand.postgres.psql("SELECT pid FROM pg_stat_replication")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_slot_advances_and_its_connection_outlives_the_servers_time_limit() -> Result<()> {
    let stand = stand("")?;
    until("the stream runs", WITHIN, || Ok(!sender(&stand)?.is_empty())).await?;
    let before = sender(&stand)?;
    let begun = stand.postgres.psql("SELECT clock_timestamp()")?;
    stand
        .postgres
        .psql("CREATE TABLE elsewhere AS SELECT n, repeat('x', 100) FROM generate_series(1, 50000) n")?;
    let written = stand.postgres.psql("SELECT pg_current_wal_lsn()")?;
    let advanced = format!("SELECT confirmed_flush_lsn >= '{}' FROM pg_replication_slots", written.trim());
    until("the slot is past what does not concern it", WITHIN, || {
        Ok(stand.postgres.psql(&advanced)?.trim() == "t")
    })
    .await?;
    let elapsed = format!("SELECT clock_timestamp() - '{}' > interval '5 s'", begun.trim());
    until("the server's time limit is over twice", WITHIN, || {
        Ok(stand.postgres.psql(&elapsed)?.trim() == "t")
    })
    .await?;
    assert_eq!(sender(&stand)?, before, "it is the same connection");
    assert!(!stand.postgres.log_text().contains("terminating walsender"), "{}", stand.postgres.log_text());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_advances_where_nobody_writes_anything_by_the_sources_own_heartbeat() -> Result<()> {
    let stand = stand("messages = [\"*\"]\nheartbeat = \"100ms\"")?;
    // The server writes a little by itself, every 15 seconds at most: not ten times.
    for _ in 0..10 {
        let written = stand.postgres.psql("SELECT pg_current_wal_lsn()")?;
        let advanced = format!("SELECT confirmed_flush_lsn > '{}' FROM pg_replication_slots", written.trim());
        until("the slot is past it", WITHIN, || Ok(stand.postgres.psql(&advanced)?.trim() == "t")).await?;
    }
    let changes = stand.changes()?;
    ensure!(
        changes.iter().all(|change| &*change.table.name == "$snapshot"),
        "it became a change: {changes:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_loses_its_identity_has_its_inserts_read_and_postgresql_refuses_the_rest() -> Result<()>
{
    let stand = stand("")?;
    let mut follower = Follower::connect(stand.address(), &["notes"]).await?;
    stand.postgres.psql(&insert("1, 1"))?;
    stand.postgres.psql("ALTER TABLE notes REPLICA IDENTITY NOTHING")?;
    for sql in ["UPDATE notes SET number = 7", "DELETE FROM notes"] {
        let refused = stand.postgres.psql(sql).expect_err("it has no identity");
        assert!(format!("{refused:#}").contains("does not have a replica identity"), "{refused:#}");
    }
    stand.postgres.psql(&insert("2, 2"))?;
    stand.postgres.psql("ALTER TABLE notes REPLICA IDENTITY DEFAULT")?;
    stand.postgres.psql(&insert("3, 3"))?;
    let events = follower.wait_until("the rows", WITHIN, |events| events.len() >= 3).await?;
    check(&numbers(&events), [1, 2, 3])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_was_dropped_and_made_again_is_named() -> Result<()> {
    let mut stand = stand("")?;
    let mut follower = Follower::connect(stand.address(), &["notes"]).await?;
    stand.postgres.psql(&insert("1, 9"))?;
    follower.wait_until("nine rows", WITHIN, |events| events.len() >= 9).await?;
    stand.host.terminate();
    stand.postgres.psql("SELECT pg_drop_replication_slot('twohop_shop')")?;
    let gone = refusal_within(&stand.options, WITHIN)?;
    assert!(gone.stderr.contains("replication slot `twohop_shop` is gone"), "{}", gone.stderr);
    stand.postgres.psql(&insert("10, 19"))?;
    stand.postgres.psql("SELECT pg_create_logical_replication_slot('twohop_shop', 'pgoutput')")?;
    let moved = refusal_within(&stand.options, WITHIN)?;
    assert_eq!(moved.status.code(), Some(1), "{}", moved.stderr);
    assert!(moved.stderr.contains("was moved forward, or dropped and made again"), "{}", moved.stderr);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_somebody_moved_forward_is_named() -> Result<()> {
    let mut stand = stand("")?;
    let mut follower = Follower::connect(stand.address(), &["notes"]).await?;
    stand.postgres.psql(&insert("1, 9"))?;
    // The snapshot is over.
    follower.wait_until("nine rows", WITHIN, |events| events.len() >= 9).await?;
    stand.host.terminate();
    stand.postgres.psql(&insert("10, 19"))?;
    stand.postgres.psql("SELECT pg_replication_slot_advance('twohop_shop', pg_current_wal_lsn())")?;
    let moved = refusal_within(&stand.options, WITHIN)?;
    assert_eq!(moved.status.code(), Some(1), "{}", moved.stderr);
    assert!(moved.stderr.contains("was moved forward, or dropped and made again"), "{}", moved.stderr);
    Ok(())
}
