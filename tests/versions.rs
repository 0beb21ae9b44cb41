//! What depends on PostgreSQL's version, on the oldest, the system's and the newest; in the long suite on all.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use twohop::event::{Change, Operation, Value};
use twohop_tests::{Follower, Setup, Stand, servers};
use xtask::place;
use xtask::sse::Event;

const WITHIN: Duration = Duration::from_secs(60);

/// One table for each way in which rows can be known again, and one that another publication's origin could be of.
const SCHEMA: &str = "
    CREATE TABLE by_key (id int PRIMARY KEY, note text, large text);
    CREATE TABLE by_index (id int, code text NOT NULL, note text, large text);
    CREATE UNIQUE INDEX by_code ON by_index (code); ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_code;
    CREATE TABLE by_row (id int PRIMARY KEY, note text, large text); ALTER TABLE by_row REPLICA IDENTITY FULL;
    ALTER TABLE by_key ALTER COLUMN large SET STORAGE EXTERNAL;
    ALTER TABLE by_index ALTER COLUMN large SET STORAGE EXTERNAL;
    ALTER TABLE by_row ALTER COLUMN large SET STORAGE EXTERNAL;
    INSERT INTO by_key VALUES (0, 'there before', NULL)";

const TABLES: [&str; 3] = ["by_key", "by_index", "by_row"];

/// A value that is kept out of line, so that an update of other columns does not send it.
const LARGE: &str = "repeat('x', 10000)";

fn shown(change: &Change) -> String {
    let row = |row: Option<twohop::event::Row<'_>>| {
        row.map(|row| {
            let values: Vec<_> = row.columns().map(|(_, value)| cell(value)).collect();
            values.join(",")
        })
    };
    let (new, old) = (row(change.row()), row(change.old()));
    let of = format!("{} {}", change.table.name, change.operation.name());
    let part = |name: &str, row: Option<String>| row.map_or(String::new(), |row| format!(" {name} {row}"));
    format!("{of}{}{}", part("new", new), part("old", old))
}

fn cell(value: Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Unchanged => "unchanged".to_owned(),
        Value::Integer(value) => value.to_string(),
        Value::Text(text) if text.len() == 10_000 => "large".to_owned(),
        Value::Text(text) => text.to_owned(),
        other => format!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_and_every_replica_identity_is_understood_on_each_server() -> Result<()> {
    for mut server in servers() {
        let on = server.major;
        let settings = [("logical_decoding_work_mem", "64kB"), ("wal_sender_timeout", "2s")];
        server.settings.extend(settings.map(|(name, value)| (name.to_owned(), value.to_owned())));
        understood(Setup { postgres: server, ..Setup::default() })
            .await
            .with_context(|| format!("on PostgreSQL {on:?}"))?;
    }
    Ok(())
}

async fn understood(setup: Setup<'_>) -> Result<()> {
    let source = "messages = [\"mail*\"]\nheartbeat = \"200ms\"";
    let mut stand = Stand::start(&Setup { schema: SCHEMA, tables: &TABLES, source, ..setup })?;
    stand.wait_for_snapshot(WITHIN).await?;
    let mut follower = Follower::connect(stand.address(), &["by_key"]).await?;
    check_the_doctor(&stand)?;
    for table in TABLES {
        let code = if table == "by_index" { "'k1', " } else { "" };
        stand.postgres.psql(&format!("INSERT INTO {table} VALUES (1, {code}'a', {LARGE})"))?;
        stand.postgres.psql(&format!("UPDATE {table} SET note = 'b'"))?;
    }
    // Keys that change, the large value untouched; then the ends.
    stand.postgres.psql("DELETE FROM by_key WHERE id = 0; UPDATE by_key SET id = 2")?;
    stand.postgres.psql("UPDATE by_index SET code = 'k2'; UPDATE by_row SET id = 2")?;
    for table in TABLES {
        stand.postgres.psql(&format!("DELETE FROM {table}"))?;
    }
    stand.postgres.psql("TRUNCATE by_key, by_row")?;
    stand.postgres.psql("SELECT pg_logical_emit_message(true, 'mail.sent', 'within'), pg_logical_emit_message(true, 'other', 'x')")?;
    stand.postgres.psql("SELECT pg_logical_emit_message(false, 'mail', 'outside')")?;
    // From elsewhere, as a replica of another server would write it.
    stand.postgres.psql(
        "SELECT pg_replication_origin_create('elsewhere'); SELECT pg_replication_origin_session_setup('elsewhere'); \
         BEGIN; SELECT pg_replication_origin_xact_setup('0/1234', now()); INSERT INTO by_key VALUES (3, 'from elsewhere'); COMMIT",
    )?;
    let expected = [
        "by_key snapshot new 0,there before,null",
        "by_key insert new 1,a,large",
        "by_key update new 0,b,null",
        "by_key update new 1,b,unchanged",
        "by_index insert new 1,k1,a,large",
        "by_index update new 1,k1,b,unchanged",
        "by_row insert new 1,a,large",
        "by_row update new 1,b,large old 1,a,large",
        "by_key delete old 0,unchanged,unchanged",
        "by_key delete old 1,unchanged,unchanged",
        "by_key insert new 2,b,unchanged",
        "by_index delete old unchanged,k1,unchanged,unchanged",
        "by_index insert new 1,k2,b,unchanged",
        "by_row delete old 1,b,large",
        "by_row insert new 2,b,large",
        "by_key delete old 2,unchanged,unchanged",
        "by_index delete old unchanged,k2,unchanged,unchanged",
        "by_row delete old 2,b,large",
        "by_key truncate",
        "by_row truncate",
        "$logical message new mail.sent,null,null,null,within",
        "$logical message new mail,null,null,null,outside",
        "by_key insert new 3,from elsewhere,null",
    ];
    let all = |change: &Change| &*change.table.name != "$snapshot";
    let changes = stand.wait_for_changes("each change", WITHIN, all, expected.len()).await?;
    let shown: Vec<_> = changes.iter().map(shown).collect();
    ensure!(shown == expected, "{shown:#?}");
    stand.host.kill9();
    stand.host.restart()?;
    large_transactions(&stand, &mut follower).await?;
    ensure!(!stand.postgres.log_text().contains("terminating walsender"), "{}", stand.postgres.log_text());
    Ok(())
}

/// One that is streamed and rolled back, and one that is streamed and commits.
async fn large_transactions(stand: &Stand, follower: &mut Follower) -> Result<()> {
    let before = stand.changes()?.len();
    let rows = "SELECT n, 'note ' || n FROM generate_series(1001, 6000) n";
    stand.postgres.psql(&format!("BEGIN; INSERT INTO by_key {rows}; ROLLBACK"))?;
    stand.postgres.psql(&format!(
        "BEGIN; SAVEPOINT a; INSERT INTO by_key {rows}; ROLLBACK TO a; INSERT INTO by_key {rows}; COMMIT"
    ))?;
    let of_these = |change: &Change| {
        let id = change.row().map(|row| row.value(0));
        change.operation == Operation::Insert && matches!(id, Some(Value::Integer(1_001..)))
    };
    let changes = stand.wait_for_changes("a large transaction", WITHIN, of_these, 5_000).await?;
    ensure!(changes.iter().map(|change| change.position.index).eq(0..5_000), "an index is left out");
    ensure!(stand.changes()?.len() == before + 5_000, "something came that was rolled back");
    let is_last = |event: &Event| event.data.contains("note 6000");
    follower.wait_until("the last of them", WITHIN, |events| events.last().is_some_and(is_last)).await?;
    Ok(())
}

fn check_the_doctor(stand: &Stand) -> Result<()> {
    let output = Command::new(place::host_binary()?).arg("doctor").arg(stand.postgres.url()).output()?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(output.status.success() && said.contains("wrong 0"), "{said}");
    Ok(())
}
