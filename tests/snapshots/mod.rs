//! Snapshots while many write: what the change log folds to is the table, no row comes twice, and of a key nothing older
//! comes after anything newer; over `kill -9`, for tables added later, without keys, and written anew meanwhile, and for
//! those that are read again (`running.rs`).

mod running;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::Value as Json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};
use twohop::event::{Change, Decoder, Offset, Operation, Partition, Value};
use twohop::log::ChangeLog;
use twohop::log::segments::{Config, Segments};
use twohop_tests::{Setup, Stand};
use xtask::services::host::Host;

const WITHIN: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// The most that a snapshot reads at once.
const CHUNK: usize = 8_192;
const WRITERS: i64 = 4;
/// Rows that are written to; the others are only there.
const HOT: i64 = 400;

/// A row's version only grows, also over its deletion. Every fifth body is stored out of line.
const THINGS: &str = "
    CREATE TABLE things (id bigint PRIMARY KEY, version bigint NOT NULL, body text NOT NULL);
    CREATE SEQUENCE versions;
    CREATE FUNCTION body(n bigint) RETURNS text LANGUAGE sql AS $$
        SELECT CASE WHEN n % 5 = 0
            THEN (SELECT string_agg(md5(m::text || n), '') FROM generate_series(1, 100) m) ELSE 'body ' || n END $$;";

fn rows(count: usize) -> String {
    format!(
        "INSERT INTO things SELECT n, nextval('versions'), CASE WHEN n <= {HOT} THEN body(n) ELSE 'cold ' || n END \
         FROM generate_series(1, {count}) n; ANALYZE things"
    )
}

/// A stand whose host has captured nothing yet and does not run.
fn stand(schema: &str, tables: &[&str]) -> Result<Stand> {
    let mut stand = Stand::start(&Setup { schema, tables, ..Setup::default() })?;
    stand.host.terminate();
    stand.postgres.psql("SELECT pg_drop_replication_slot('twohop_shop')")?;
    std::fs::remove_dir_all(&stand.data)?;
    Ok(stand)
}

/// Those who write, each to rows of its own.
struct Writers {
    stop: watch::Sender<bool>,
    written: watch::Receiver<u64>,
    tasks: JoinSet<Result<()>>,
}

impl Writers {
    fn start(url: &str) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (progress, written) = watch::channel(0);
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            tasks.spawn(write(url.to_owned(), writer, stopped.clone(), progress.clone()));
        }
        Self { stop, written, tasks }
    }

    async fn go_on(&mut self, transactions: u64) -> Result<()> {
        let wanted = *self.written.borrow() + transactions;
        let waited = tokio::time::timeout(WITHIN, self.written.wait_for(|written| *written >= wanted)).await;
        waited.context("the writers do not get on")?.context("the writers have ended")?;
        Ok(())
    }

    async fn finish(mut self) -> Result<()> {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("a writer panicked")??;
        }
        Ok(())
    }
}

async fn write(
    url: String,
    writer: i64,
    stopped: watch::Receiver<bool>,
    progress: watch::Sender<u64>,
) -> Result<()> {
    let mut random = u64::try_from(writer)?.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut below = move |bound: i64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.cast_signed().rem_euclid(bound)
    };
    let mut client = connect(&url).await;
    while !*stopped.borrow() {
        // Some within parts that are rolled back, some within parts that are not.
        let mut step = || {
            let id = 1 + writer + WRITERS * below(HOT / WRITERS);
            match below(4) {
                0 => format!("DELETE FROM things WHERE id = {id};"),
                1 => format!("UPDATE things SET version = nextval('versions') WHERE id = {id};"),
                _ => format!(
                    "INSERT INTO things VALUES ({id}, nextval('versions'), body({})) ON CONFLICT (id) DO UPDATE \
                     SET version = excluded.version, body = excluded.body;",
                    5 * id + below(5)
                ),
            }
        };
        let sql = format!(
            "BEGIN; {} SAVEPOINT a; {} RELEASE a; SAVEPOINT b; {} ROLLBACK TO b; {}",
            step(),
            step(),
            step(),
            step()
        );
        let end = if below(6) == 0 { "ROLLBACK" } else { "COMMIT" };
        if client.batch_execute(&(sql + end)).await.is_err() {
            client = connect(&url).await;
        }
        progress.send_modify(|written| *written += 1);
    }
    Ok(())
}

async fn connect(url: &str) -> Client {
    let mut tries = tokio::time::interval(LOOK_INTERVAL);
    loop {
        tries.tick().await;
        if let Ok((client, connection)) = tokio_postgres::connect(url, NoTls).await {
            tokio::spawn(connection);
            return client;
        }
    }
}

/// What there is to be read, and the rows that were; nothing before the first snapshot.
fn progress(stand: &Stand) -> Option<(usize, u64)> {
    let text = std::fs::read_to_string(stand.data.join("sources/shop.snapshot")).ok()?;
    let file: Json = serde_json::from_str(&text).ok()?;
    let rounds = file["rounds"].as_array()?;
    let tables = rounds.iter().filter_map(|round| round["tables"].as_array()).flatten();
    Some((rounds.len(), tables.filter_map(|table| table["rows"].as_u64()).sum()))
}

async fn until(stand: &Stand, what: &str, is_so: impl Fn(usize, u64) -> bool) -> Result<()> {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    let seen = async {
        while !progress(stand).is_some_and(|(rounds, rows)| is_so(rounds, rows)) {
            looks.tick().await;
        }
    };
    let waited = tokio::time::timeout(WITHIN, seen).await;
    waited.with_context(|| format!("{what}: {:?}\n{}", progress(stand), stand.host.stderr()))
}

/// Ends the host once it has all that is committed, and gives what its log has.
async fn finish(stand: &mut Stand) -> Result<Vec<Change>> {
    let written = stand.postgres.psql("SELECT pg_current_wal_lsn()")?;
    let caught_up = format!(
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'twohop_shop' AND confirmed_flush_lsn >= '{}'",
        written.trim()
    );
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    let passed = async {
        while stand.postgres.psql(&caught_up)?.trim() != "1" {
            looks.tick().await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(WITHIN, passed).await.with_context(|| stand.host.stderr())??;
    let status = stand.host.terminate().context("the host had to be killed")?;
    ensure!(status.success(), "{status}: {}", stand.host.stderr());
    changes(&stand.data).await
}

async fn changes(data: &Path) -> Result<Vec<Change>> {
    let log = Segments::open(Config::new(data.join("log")))?;
    let end = log.bounds(Partition(0)).end.0;
    let (mut changes, mut decoder) = (Vec::new(), Decoder::default());
    while (changes.len() as u64) < end {
        let from = Offset(changes.len() as u64);
        for record in log.read(Partition(0), from, CHUNK, 16 << 20).await? {
            changes.push(decoder.decode(&record.payload)?);
        }
    }
    Ok(changes)
}

/// What the log makes of `things`.
#[derive(Default)]
struct Fold {
    /// The last version of each row, and its body, as far as they have come; no version where it is deleted.
    rows: HashMap<i64, (Option<i64>, Option<String>)>,
    /// The newest version that has come of each row.
    newest: HashMap<i64, i64>,
    /// Rows of which a change came without the body: they come once more, as a whole.
    partial: HashSet<i64>,
    snapshot_rows: usize,
    /// Rows of the snapshot that had come before, as they were.
    again: usize,
    /// Changes of the stream before the last row of the snapshot.
    meanwhile: usize,
}

/// Lets the writers go on a little, ends them and the host, and gives what came, which is what the table has.
async fn folded(stand: &mut Stand, mut writers: Writers) -> Result<(Vec<Change>, Fold)> {
    writers.go_on(20).await?;
    writers.finish().await?;
    let changes = finish(stand).await?;
    let fold = fold(&changes)?;
    fold.check(stand).await?;
    Ok((changes, fold))
}

fn fold(changes: &[Change]) -> Result<Fold> {
    let mut fold = Fold::default();
    let mut streamed = 0;
    let mut before = None;
    for change in changes.iter().filter(|change| change.operation != Operation::Schema) {
        ensure!(before < Some(change.position), "{} after {before:?}", change.position);
        before = Some(change.position);
        if &*change.table.name != "things" {
            continue;
        }
        if change.operation == Operation::Snapshot {
            fold.meanwhile = streamed;
            fold.snapshot_rows += 1;
        } else {
            streamed += 1;
        }
        fold.take(change).with_context(|| format!("{:?} at {}", change.operation, change.position))?;
    }
    Ok(fold)
}

impl Fold {
    fn take(&mut self, change: &Change) -> Result<()> {
        let row = change.key_row().context("it has no row")?;
        let at = |name| change.table.column(name).context("a column is not there");
        let Value::Integer(id) = row.value(at("id")?) else { bail!("it has no id") };
        if change.operation == Operation::Delete {
            self.rows.insert(id, (None, None));
            return Ok(());
        }
        let version = match row.value(at("version")?) {
            Value::Integer(version) => version,
            Value::Text(version) => version.parse()?,
            other => bail!("its version is {other:?}"),
        };
        let body = match row.value(at("body")?) {
            Value::Text(body) => Some(body.to_owned()),
            _ => {
                self.partial.insert(id);
                self.rows.get(&id).and_then(|(_, body)| body.clone())
            }
        };
        let newest = self.newest.insert(id, version);
        if change.operation == Operation::Snapshot && newest == Some(version) {
            let known = self.rows.get(&id).context("it is not there")?;
            ensure!(known.0 == Some(version), "row {id} was deleted");
            self.again += usize::from(!self.partial.contains(&id));
        } else {
            ensure!(newest < Some(version), "row {id}: {version} after {newest:?}");
        }
        self.rows.insert(id, (Some(version), body));
        Ok(())
    }

    /// Sees that it is the table.
    async fn check(&self, stand: &Stand) -> Result<()> {
        let client = connect(&stand.postgres.url()).await;
        let rows = client.query("SELECT id, version::int8, body FROM things", &[]).await?;
        let here = self.rows.values().filter(|(version, _)| version.is_some()).count();
        for row in &rows {
            let id: i64 = row.get(0);
            let wanted = (Some(row.get::<_, i64>(1)), Some(row.get::<_, String>(2)));
            ensure!(
                self.rows.get(&id) == Some(&wanted),
                "row {id}: {:?}, not {wanted:?}",
                self.rows.get(&id)
            );
        }
        ensure!(here == rows.len(), "{here} rows, not {}", rows.len());
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_once_among_the_changes_of_those_who_write_meanwhile() -> Result<()> {
    let mut stand = stand(&format!("{THINGS} {}", rows(60_000)), &["things"])?;
    let mut writers = Writers::start(&stand.postgres.url());
    writers.go_on(20).await?;
    stand.host.restart()?;
    stand.wait_for_snapshot(WITHIN).await?;
    let (changes, fold) = folded(&mut stand, writers).await?;
    ensure!(fold.again == 0, "{} rows came twice", fold.again);
    ensure!(fold.meanwhile > 0, "nothing streamed meanwhile");
    let marks: Vec<_> = changes.iter().filter(|change| &*change.table.name == "$snapshot").collect();
    ensure!(marks.len() == 2, "{marks:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_the_stream_brings_later_and_without_its_large_value_comes_as_a_whole() -> Result<()> {
    let mut stand = stand(&format!("{THINGS} {}", rows(20_000)), &["things"])?;
    stand.postgres.psql("UPDATE things SET body = body(5) WHERE id = 20000")?;
    stand.host.restart()?;
    until(&stand, "rows", |_, rows| rows > 0).await?;
    let sender =
        stand.postgres.psql("SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'twohop_shop'")?;
    let sender = Pid::from_raw(sender.trim().parse()?);
    signal::kill(sender, Signal::SIGSTOP)?;
    stand.postgres.psql("UPDATE things SET version = nextval('versions') WHERE id = 20000")?;
    // The last chunk has been read: it waits for the stream, or it was taken for all there is.
    let idle = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'twohop shop snapshot' AND query NOT LIKE \
         '%pg_logical_emit_message%'";
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    let read = async {
        while stand.postgres.psql(idle)?.trim() != "0" {
            looks.tick().await;
        }
        anyhow::Ok(())
    };
    let read = tokio::time::timeout(WITHIN, read).await;
    signal::kill(sender, Signal::SIGCONT)?;
    read.context("the last chunk is not read")??;
    stand.wait_for_snapshot(WITHIN).await?;
    let fold = fold(&finish(&mut stand).await?)?;
    fold.check(&stand).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_killed_goes_on_where_it_was() -> Result<()> {
    let mut stand = stand(&format!("{THINGS} {}", rows(150_000)), &["things"])?;
    let writers = Writers::start(&stand.postgres.url());
    stand.host.restart()?;
    let mut killed = 0;
    for wanted in [1, 20_000, 50_000, 80_000] {
        until(&stand, "rows", |rounds, rows| rounds == 0 || rows > wanted).await?;
        if progress(&stand).is_some_and(|(rounds, _)| rounds == 0) {
            break;
        }
        killed += 1;
        if killed == 3 {
            stand.postgres.kill9();
            stand.postgres.restart()?;
            continue;
        }
        stand.host.kill9();
        stand.host.restart()?;
    }
    ensure!(killed >= 2, "the snapshot was over too soon");
    stand.wait_for_snapshot(WITHIN).await?;
    let (_, fold) = folded(&mut stand, writers).await?;
    // A chunk that was read, and the one before it, of which it was not written down that it was appended.
    ensure!(fold.again <= killed * 3 * CHUNK, "{} rows came again after {killed} kills", fold.again);
    ensure!(fold.again < 75_000, "{} rows came again: it began anew", fold.again);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_was_read_and_not_appended_is_read_again() -> Result<()> {
    let mut stand = stand(&format!("{THINGS} {}", rows(20_000)), &["things"])?;
    let mut dying = stand.options.clone();
    dying.environment.push(("TWOHOP_FAILPOINT".to_owned(), "snapshot-chunk-read:3".to_owned()));
    // It may die before it is ready.
    if let Ok(mut host) = Host::start(dying) {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        let ended = async {
            while host.ended().is_none() {
                looks.tick().await;
            }
        };
        tokio::time::timeout(WITHIN, ended).await.context("the failpoint is not there")?;
    }
    let (rounds, _) = progress(&stand).context("the snapshot had not begun")?;
    ensure!(rounds == 1, "it was over");
    stand.host.restart()?;
    stand.wait_for_snapshot(WITHIN).await?;
    let fold = fold(&finish(&mut stand).await?)?;
    fold.check(&stand).await?;
    ensure!(fold.again <= CHUNK, "{} rows came again", fold.again);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_added_later_is_read_while_others_write_to_it() -> Result<()> {
    let schema = format!("{THINGS} {} ; {}", rows(30_000), twohop_tests::SCHEMA);
    let mut stand = Stand::start(&Setup { schema: &schema, tables: &["notes"], ..Setup::default() })?;
    let mut writers = Writers::start(&stand.postgres.url());
    writers.go_on(20).await?;
    let config = std::fs::read_to_string(&stand.options.config)?;
    let added = config.replace("tables = [\"notes\"]", "tables = [\"notes\", \"things\"]");
    ensure!(added != config, "{config}");
    std::fs::write(&stand.options.config, added)?;
    stand.host.restart()?;
    stand.wait_for_snapshot(WITHIN).await?;
    // What was written while it was added came by the stream, too.
    let (_, fold) = folded(&mut stand, writers).await?;
    ensure!(fold.snapshot_rows > 29_000, "only {} rows came", fold.snapshot_rows);
    let slots = stand.postgres.psql("SELECT count(*) FROM pg_replication_slots")?;
    ensure!(slots.trim() == "1", "{slots} slots are left");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_written_anew_meanwhile_lacks_nothing() -> Result<()> {
    let mut stand = stand(&format!("{THINGS} {}", rows(60_000)), &["things"])?;
    let writers = Writers::start(&stand.postgres.url());
    stand.host.restart()?;
    until(&stand, "rows", |rounds, rows| rounds == 0 || rows > 0).await?;
    stand.postgres.psql("ALTER TABLE things ALTER version TYPE numeric")?;
    stand.wait_for_snapshot(WITHIN).await?;
    folded(&mut stand, writers).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_without_keys_and_with_large_rows_and_partitions_are_read_whole() -> Result<()> {
    let schema = "CREATE TABLE loose (n int, body text); ALTER TABLE loose REPLICA IDENTITY FULL; \
         INSERT INTO loose SELECT n / 2, 'row' FROM generate_series(1, 20000) n; \
         CREATE TABLE large (a text COLLATE \"C\", b int, body text, PRIMARY KEY (b, a)); \
         INSERT INTO large SELECT E'it''s \\\\ ' || n, n % 7, repeat(md5(n::text), 20000) FROM generate_series(1, 40) n; \
         CREATE TABLE parts (k int PRIMARY KEY, v text) PARTITION BY RANGE (k); \
         CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (1000); \
         CREATE TABLE parts_high (v text, k int NOT NULL); \
         ALTER TABLE parts ATTACH PARTITION parts_high FOR VALUES FROM (1000) TO (9000); \
         INSERT INTO parts SELECT n, 'v' FROM generate_series(0, 4999) n";
    let tables = ["loose", "large", "parts"];
    let mut stand = Stand::start(&Setup { schema, tables: &tables, ..Setup::default() })?;
    stand.wait_for_snapshot(WITHIN).await?;
    let changes = finish(&mut stand).await?;
    let count = |table: &str| {
        let rows = changes.iter().filter(|change| &*change.table.name == table);
        rows.filter(|change| change.operation == Operation::Snapshot).count()
    };
    assert_eq!(tables.map(count), [20_000, 40, 5_000]);
    Ok(())
}
