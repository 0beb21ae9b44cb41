//! PostgreSQL is told of a place only after the change log has everything before it: what it may forget is what it is told.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use twohop::event::{Offset, Partition, Position};
use twohop::log::segments::{Config, Segments};
use twohop::log::{ChangeLog, LogError, Record};
use twohop::source::postgres::{self, Beside, Gap, SnapshotMode};
use twohop_tests::until;
use xtask::services::Folder;
use xtask::services::postgres::Postgres;

const WITHIN: Duration = Duration::from_secs(30);

/// A log whose appends end when they are let.
struct Gated {
    log: Segments,
    is_open: watch::Sender<bool>,
    begun: watch::Sender<u64>,
}

#[async_trait]
impl ChangeLog for Gated {
    fn partition_count(&self) -> u32 {
        self.log.partition_count()
    }

    async fn append(
        &self,
        partition: Partition,
        records: Vec<bytes::Bytes>,
    ) -> Result<Range<Offset>, LogError> {
        self.begun.send_modify(|count| *count += 1);
        self.is_open.subscribe().wait_for(|is_open| *is_open).await.expect("it lives as long as the log");
        self.log.append(partition, records).await
    }

    async fn read(
        &self,
        partition: Partition,
        from: Offset,
        count_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, LogError> {
        self.log.read(partition, from, count_max, bytes_max).await
    }

    fn bounds(&self, partition: Partition) -> Range<Offset> {
        self.log.bounds(partition)
    }

    fn last_position(&self, source: &str) -> Option<Position> {
        self.log.last_position(source)
    }

    fn commit(&self, consumer: &str, partition: Partition, next: Offset) {
        self.log.commit(consumer, partition, next);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_is_confirmed_after_the_append_and_not_while_it_is_under_way() -> Result<()> {
    const STANDS_BEYOND: &str = "SELECT confirmed_flush_lsn > ";
    let server = Postgres::start(xtask::services::postgres::Options::default())?;
    server.psql("CREATE TABLE notes (n int PRIMARY KEY)")?;
    let folder = Folder::new("confirming")?;
    let log = Segments::open(Config::new(folder.path().join("log")))?;
    let log = Arc::new(Gated { log, is_open: watch::Sender::new(true), begun: watch::Sender::new(0) });
    let config = postgres::Config {
        name: "shop".to_owned(),
        url: server.url(),
        tables: vec!["notes".to_owned()],
        outbox: None,
        slot: None,
        publication: None,
        snapshot: SnapshotMode::None,
        gap: Gap::Halt,
        folder: folder.path().join("sources"),
        spill_bytes_max: 1 << 30,
        messages: Vec::new(),
        heartbeat: None,
    };
    let beside = Beside { asked: postgres::asking().1, figures: Arc::default() };
    let source = postgres::Postgres::prepare(config, log.clone(), beside).await?;
    let stop = CancellationToken::new();
    let run = tokio::spawn(source.run(stop.clone()));

    log.is_open.send_replace(false);
    let mut begun = log.begun.subscribe();
    begun.mark_unchanged();
    let before = server.psql("SELECT pg_current_wal_insert_lsn()")?;
    server.psql("INSERT INTO notes VALUES (1)")?;
    let after = server.psql("SELECT pg_current_wal_lsn()")?;
    tokio::time::timeout(WITHIN, begun.changed()).await.context("nothing is appended")??;
    // By then the server has heard from the source several times.
    let now = server.psql("SELECT clock_timestamp()")?;
    let heard = format!(
        "SELECT reply_time > '{}'::timestamptz + interval '2 s' FROM pg_stat_replication",
        now.trim()
    );
    let is_so = |sql: &str| Ok(server.psql(sql)?.trim() == "t");
    until("the server hears", WITHIN, || is_so(&heard)).await?;
    let slot = "FROM pg_replication_slots WHERE slot_name = 'twohop_shop'";
    let early = server.psql(&format!("{STANDS_BEYOND} '{}' {slot}", before.trim()))?;
    ensure!(early.trim() == "f", "the slot has been moved past what is not on the log's disk");

    log.is_open.send_replace(true);
    let beyond = format!("SELECT confirmed_flush_lsn >= '{}' {slot}", after.trim());
    until("what is appended is confirmed", WITHIN, || is_so(&beyond)).await?;
    stop.cancel();
    run.await??;
    Ok(())
}
