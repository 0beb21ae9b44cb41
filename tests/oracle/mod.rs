//! The oracle of capture: many write, host, server, connection and disk fail at random, and in the end the change log
//! is what the database committed: nothing lost, nothing twice, transactions whole, in order.
//!
//! A schedule is drawn from a seed, which a failure names: `XTASK_TEST_SEED=17 cargo xtask test schedules` runs that one
//! again. The suite has the same twenty each time, the long one two hundred others.
//!
//! `schedule` says what happens, `writers` who writes, `fold` what has to hold.

mod fold;
mod schedule;
mod writers;

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use twohop::event::{Change, Decoder, Offset, Partition};
use twohop::log::ChangeLog;
use twohop::log::segments::{Config, Segments};
use twohop_tests::{Setup, SmallDisk, Stand};
use xtask::services::host::refusal_within;
use xtask::services::postgres;
use xtask::test::LONG_VARIABLE;

use fold::{Tables, fold};
use schedule::{End, Fault, Random, Schedule};
use writers::{Writers, connect};

const WITHIN: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
const SEED_VARIABLE: &str = "XTASK_TEST_SEED";
const SEEDS: Range<u64> = 0..20;
const LONG_COUNT: u64 = 200;
/// Two schedules share the machine.
const AT_ONCE: usize = 2;
const READ_COUNT: usize = 4_096;
const READ_BYTES: usize = 16 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn random_schedules_of_faults_lose_nothing_repeat_nothing_and_keep_order() -> Result<()> {
    futures_util::stream::iter(seeds()?)
        .map(|seed| async move { tokio::spawn(run(Schedule::of(seed))).await? })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

fn seeds() -> Result<Range<u64>> {
    if let Ok(seed) = std::env::var(SEED_VARIABLE) {
        let seed = seed.parse().with_context(|| format!("{SEED_VARIABLE} is a number"))?;
        return Ok(seed..seed + 1);
    }
    if std::env::var_os(LONG_VARIABLE).is_none() {
        return Ok(SEEDS);
    }
    let first = 1_000 * Random(u64::from(std::process::id())).below(1 << 40);
    println!("seeds from {first}");
    Ok(first..first + LONG_COUNT)
}

async fn run(schedule: Schedule) -> Result<()> {
    let failed = || format!("{SEED_VARIABLE}={}: {schedule:?}", schedule.seed);
    let disk = SmallDisk::new()?;
    let mut stand = start(&disk)?;
    let ended = go_through(&schedule, &mut stand, &disk).await;
    ended.with_context(failed).with_context(|| format!("the host said:\n{}", stand.host.stderr()))
}

fn start(disk: &SmallDisk) -> Result<Stand> {
    let settings = [("logical_decoding_work_mem".to_owned(), "64kB".to_owned())].to_vec();
    Stand::start(&Setup {
        schema: writers::SCHEMA,
        tables: &["cells", "moves"],
        data: Some(&disk.path().join("data")),
        postgres: postgres::Options { settings, ..postgres::Options::default() },
        ..Setup::default()
    })
}

async fn go_through(schedule: &Schedule, stand: &mut Stand, disk: &SmallDisk) -> Result<()> {
    let mut writers = Writers::start(&stand.postgres.url(), schedule.seed);
    let mut random = Random(!schedule.seed);
    for (transactions, fault) in &schedule.faults {
        writers.go_on(*transactions).await?;
        let struck = strike(*fault, stand, disk, &mut writers, 10 + random.below(50)).await;
        struck.with_context(|| format!("{fault:?}"))?;
    }
    writers.go_on(20).await?;
    match schedule.end {
        End::Whole => {
            writers.finish().await?;
            stand.wait_for_snapshot(WITHIN).await?;
            caught_up(stand).await?;
            ensure!(stand.host.ended().is_none(), "the host has ended");
            let status = stand.host.terminate().context("the host had to be killed")?;
            ensure!(status.success(), "the host ended badly: {status}");
            let (log, database) = (fold(&changes(&stand.data).await?)?, tables(stand).await?);
            ensure!(log.is_complete, "the snapshot is not complete");
            ensure!(database.moves.len() > 50, "too little was written to say anything");
            compare(&log, &database)
        }
        End::SlotDropped | End::SlotMadeAgain => lose_the_slot(schedule.end, stand, writers).await,
    }
}

/// Lets a fault come and pass, with so many transactions meanwhile.
async fn strike(
    fault: Fault,
    stand: &mut Stand,
    disk: &SmallDisk,
    writers: &mut Writers,
    transactions: u64,
) -> Result<()> {
    match fault {
        Fault::HostKilled => {
            stand.host.kill9();
            stand.host.restart()
        }
        Fault::HostRestarted => stand.host.restart(),
        Fault::HostPaused | Fault::HostPausedThenKilled => {
            let host = stand.host.pid().context("the host runs")?;
            kill(host, Signal::SIGSTOP)?;
            writers.go_on(transactions).await?;
            if fault == Fault::HostPaused {
                return Ok(kill(host, Signal::SIGCONT)?);
            }
            stand.host.kill9();
            stand.host.restart()
        }
        Fault::ServerKilled => {
            stand.postgres.kill9();
            stand.postgres.restart()
        }
        Fault::ServerRestarted => stand.postgres.restart(),
        Fault::SenderPaused => {
            let sender = Pid::from_raw(sender(stand).await?);
            kill(sender, Signal::SIGSTOP)?;
            let went_on = writers.go_on(transactions).await;
            kill(sender, Signal::SIGCONT)?;
            went_on
        }
        Fault::SenderEnded => {
            let sender = sender(stand).await?;
            stand.postgres.psql(&format!("SELECT pg_terminate_backend({sender})")).map(drop)
        }
        Fault::DiskFull | Fault::DiskFullThenKilled => {
            // What a fault before this one said comes first.
            caught_up(stand).await?;
            let said = stand.host.stderr().len();
            let ballast = disk.fill()?;
            stand.wait_for_log(said, "the disk of the change log is full", WITHIN).await?;
            let begun = stand.postgres.psql("SELECT clock_timestamp()")?;
            writers.go_on(transactions).await?;
            // Whatever the host wrongly takes for safe is confirmed by then.
            let passed = format!("clock_timestamp() > timestamptz '{}' + interval '1500 ms'", begun.trim());
            until(stand, &format!("SELECT 1 WHERE {passed}")).await?;
            if fault == Fault::DiskFullThenKilled {
                stand.host.kill9();
                std::fs::remove_file(ballast)?;
                return stand.host.restart();
            }
            std::fs::remove_file(ballast)?;
            stand.wait_for_log(said, "reading again", WITHIN).await
        }
    }
}

/// The server's process that sends to the host, once there is one.
async fn sender(stand: &Stand) -> Result<i32> {
    let client = connect(&stand.postgres.url()).await?;
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    let found = async {
        loop {
            looks.tick().await;
            let senders = client.query("SELECT pid FROM pg_stat_replication", &[]).await?;
            if let Some(sender) = senders.first() {
                return anyhow::Ok(sender.get(0));
            }
        }
    };
    tokio::time::timeout(WITHIN, found).await.context("nobody sends")?
}

/// Waits until the host has confirmed everything that is committed now.
async fn caught_up(stand: &Stand) -> Result<()> {
    let client = connect(&stand.postgres.url()).await?;
    let written: String = client.query_one("SELECT pg_current_wal_lsn()::text", &[]).await?.get(0);
    until(stand, &format!("SELECT 1 FROM pg_replication_slots WHERE confirmed_flush_lsn >= '{written}'"))
        .await
}

/// Waits until a query has an answer.
async fn until(stand: &Stand, query: &str) -> Result<()> {
    let client = connect(&stand.postgres.url()).await?;
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    let answered = async {
        while client.query(query, &[]).await?.is_empty() {
            looks.tick().await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(WITHIN, answered).await.with_context(|| format!("no answer to {query}"))?
}

/// The host refuses to go on, and says why; what it has is what was committed up to some transaction.
async fn lose_the_slot(end: End, stand: &mut Stand, mut writers: Writers) -> Result<()> {
    stand.wait_for_snapshot(WITHIN).await?;
    let before = tables(stand).await?;
    caught_up(stand).await?;
    stand.host.kill9();
    drop_slot(stand).await?;
    writers.go_on(20).await?;
    writers.finish().await?;
    let named = match end {
        End::SlotMadeAgain => {
            stand.postgres.psql("SELECT pg_create_logical_replication_slot('twohop_shop', 'pgoutput')")?;
            "was moved forward, or dropped and made again"
        }
        End::SlotDropped | End::Whole => "replication slot `twohop_shop` is gone",
    };
    let refusal = refusal_within(&stand.options, WITHIN)?;
    ensure!(refusal.status.code() == Some(1) && refusal.stderr.contains(named), "no `{named}`: {refusal:?}");
    // Killed in the midst of an append, it may have a part of a transaction, and nobody who sends the rest.
    let all = changes(&stand.data).await?;
    let whole = all.iter().rposition(|change| change.last).map_or(0, |last| last + 1);
    let log = fold(&all[..whole])?;
    let after = tables(stand).await?;
    let lost = before.moves.difference(&log.moves).next();
    ensure!(lost.is_none(), "{lost:?} was confirmed and is lost");
    let made_up = log.moves.difference(&after.moves).next();
    ensure!(made_up.is_none(), "{made_up:?} was never committed");
    Ok(())
}

/// Drops the slot as soon as the server has noticed that the host is gone.
async fn drop_slot(stand: &Stand) -> Result<()> {
    let client = connect(&stand.postgres.url()).await?;
    let drop_it = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active";
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    let dropped = async {
        while client.query(drop_it, &[]).await.is_ok_and(|dropped| dropped.is_empty()) {
            looks.tick().await;
        }
    };
    tokio::time::timeout(WITHIN, dropped).await.context("the slot is still in use")
}

/// What is in the change log of a host that has ended.
async fn changes(data: &Path) -> Result<Vec<Change>> {
    let log = Segments::open(Config::new(data.join("log")))?;
    let kept = log.bounds(Partition(0));
    ensure!(kept.start == Offset(0), "the log begins at {}", kept.start);
    let mut decoder = Decoder::default();
    let mut changes = Vec::new();
    while (changes.len() as u64) < kept.end.0 {
        let from = Offset(changes.len() as u64);
        for record in log.read(Partition(0), from, READ_COUNT, READ_BYTES).await? {
            changes.push(decoder.decode(&record.payload)?);
        }
    }
    Ok(changes)
}

async fn tables(stand: &Stand) -> Result<Tables> {
    let client = connect(&stand.postgres.url()).await?;
    let cells = client.query("SELECT key::int8, sequence, body FROM cells", &[]).await?;
    let moves = client.query("SELECT key::int8, sequence FROM moves", &[]).await?;
    Ok(Tables {
        cells: cells.iter().map(|row| (row.get(0), (row.get(1), Some(row.get(2))))).collect(),
        moves: moves.iter().map(|row| (row.get(0), row.get(1))).collect(),
        ..Tables::default()
    })
}

fn compare(log: &Tables, database: &Tables) -> Result<()> {
    let lost: Vec<_> = database.moves.difference(&log.moves).take(5).collect();
    ensure!(lost.is_empty(), "lost, of {}: {lost:?}", database.moves.len());
    let made_up: Vec<_> = log.moves.difference(&database.moves).take(5).collect();
    ensure!(made_up.is_empty(), "never committed: {made_up:?}");
    let differ: Vec<_> =
        database.cells.iter().filter(|(key, cell)| log.cells.get(key) != Some(cell)).collect();
    ensure!(differ.is_empty() && log.cells.len() == database.cells.len(), "rows differ: {differ:?}");
    Ok(())
}
