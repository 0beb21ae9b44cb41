//! Columns that change in the midst of a stream: each change has the columns that its row had, on each server, and who
//! has to know is told.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use twohop::event::{Change, Operation, Value};
use twohop_tests::{Follower, Setup, Stand, servers};
use xtask::place;

use crate::hostile::guest::Guest;

const WITHIN: Duration = Duration::from_secs(60);

fn of_notes(change: &Change) -> bool {
    change.table.schema.as_ref() == "public" && change.operation != Operation::Snapshot
}

/// A change for people: its operation, and its columns with their values, or with their types where it has no row.
fn shown(change: &Change) -> String {
    let columns: Vec<_> = match change.row() {
        Some(row) => {
            row.columns().map(|(column, value)| format!("{}={}", column.name, text(value))).collect()
        }
        None => change
            .table
            .columns
            .iter()
            .map(|column| format!("{}:{}", column.name, column.type_name))
            .collect(),
    };
    format!("{} {}", change.operation.name(), columns.join(" "))
}

fn text(value: Value<'_>) -> String {
    match value {
        Value::Text(text) => format!("'{text}'"),
        Value::Integer(value) => value.to_string(),
        other => format!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_has_the_columns_of_its_moment_and_each_change_of_columns_is_told_once() -> Result<()> {
    for server in servers() {
        let on = server.major;
        columns_change(Setup { postgres: server, ..Setup::default() })
            .await
            .with_context(|| format!("on PostgreSQL {on:?}"))?;
    }
    Ok(())
}

async fn columns_change(setup: Setup<'_>) -> Result<()> {
    let schema = "CREATE TABLE notes (id int PRIMARY KEY, body text, size int)";
    let mut stand = Stand::start(&Setup { schema, ..setup })?;
    stand.postgres.psql("INSERT INTO notes VALUES (1, 'a', 1)")?;
    // Added before a transaction; dropped, renamed and retyped within one.
    stand.postgres.psql("ALTER TABLE notes ADD COLUMN mood text DEFAULT 'fine'")?;
    stand.postgres.psql("INSERT INTO notes VALUES (2, 'b', 2)")?;
    stand.postgres.psql(
        "BEGIN; INSERT INTO notes VALUES (3, 'c', 3, 'so'); ALTER TABLE notes DROP COLUMN size; \
         INSERT INTO notes VALUES (4, 'd'); ALTER TABLE notes RENAME COLUMN body TO remark; \
         INSERT INTO notes VALUES (5, 'e'); UPDATE notes SET remark = 'f' WHERE id = 5; \
         ALTER TABLE notes ALTER COLUMN id TYPE numeric; INSERT INTO notes VALUES (6, 'g'); COMMIT",
    )?;
    // Rolled back, it was never there.
    stand
        .postgres
        .psql("BEGIN; ALTER TABLE notes DROP COLUMN mood; INSERT INTO notes VALUES (7, 'x'); ROLLBACK")?;
    let mut expected = vec![
        "insert id=1 body='a' size=1",
        "schema id:int4 body:text size:int4 mood:text",
        "insert id=2 body='b' size=2 mood='fine'",
        "insert id=3 body='c' size=3 mood='so'",
        "schema id:int4 body:text mood:text",
        "insert id=4 body='d' mood='fine'",
        "schema id:int4 remark:text mood:text",
        "insert id=5 remark='e' mood='fine'",
        "update id=5 remark='f' mood='fine'",
        "schema id:numeric remark:text mood:text",
        "insert id='6' remark='g' mood='fine'",
    ];
    stand.wait_for_changes("all of the first part", WITHIN, of_notes, expected.len()).await?;
    // While nobody reads, and over every kind of restart.
    stand.host.terminate();
    stand.postgres.psql("INSERT INTO notes VALUES (8, 'h'); ALTER TABLE notes ADD COLUMN later bool")?;
    stand.postgres.psql("INSERT INTO notes VALUES (9, 'i', 'up', true)")?;
    stand.host.restart()?;
    expected.extend([
        "insert id='8' remark='h' mood='fine'",
        "schema id:numeric remark:text mood:text later:bool",
        "insert id='9' remark='i' mood='up' later=Boolean(true)",
    ]);
    stand.wait_for_changes("what was altered meanwhile", WITHIN, of_notes, expected.len()).await?;
    stand.host.kill9();
    stand.host.restart()?;
    stand.postgres.psql("INSERT INTO notes VALUES (10, 'j')")?;
    expected.push("insert id='10' remark='j' mood='fine' later=Null");
    let changes = stand.wait_for_changes("what came last", WITHIN, of_notes, expected.len()).await?;
    let shown: Vec<_> = changes.iter().map(shown).collect();
    ensure!(shown == expected, "{shown:#?}");
    ensure!(changes.iter().filter(|change| change.last).all(|change| change.operation != Operation::Schema));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_columns_during_a_streamed_transaction_comes_with_it_or_not_at_all() -> Result<()> {
    for mut server in servers() {
        let on = server.major;
        server.settings.push(("logical_decoding_work_mem".to_owned(), "64kB".to_owned()));
        streamed(Setup { postgres: server, ..Setup::default() })
            .await
            .with_context(|| format!("on PostgreSQL {on:?}"))?;
    }
    Ok(())
}

/// A transaction that is streamed, in which columns change within parts that are rolled back and one that is not.
async fn streamed(setup: Setup<'_>) -> Result<()> {
    const ROWS: i64 = 3_000;
    let schema = "CREATE TABLE notes (id int PRIMARY KEY, body text)";
    let stand = Stand::start(&Setup { schema, ..setup })?;
    let many = |from: i64| {
        format!(
            "INSERT INTO notes SELECT n, 'note ' || n FROM generate_series({from}, {}) n;",
            from + ROWS - 1
        )
    };
    stand.postgres.psql(&format!(
        "BEGIN; SAVEPOINT a; ALTER TABLE notes ADD COLUMN gone int; {} ROLLBACK TO a; {} \
         SAVEPOINT b; ALTER TABLE notes ADD COLUMN kept int; {} RELEASE b; {} COMMIT",
        many(1),
        many(10_001),
        many(20_001),
        many(30_001),
    ))?;
    let count = usize::try_from(3 * ROWS + 1)?;
    let changes = stand.wait_for_changes("the transaction", WITHIN, of_notes, count).await?;
    let schemas: Vec<_> =
        changes.iter().enumerate().filter(|(_, change)| change.operation == Operation::Schema).collect();
    let [(at, schema)] = schemas[..] else { anyhow::bail!("{} changes of columns", schemas.len()) };
    ensure!(shown(schema) == "schema id:int4 body:text kept:int4", "{}", shown(schema));
    ensure!(at == usize::try_from(ROWS)?, "it stands at {at}");
    let widths = |changes: &[Change], width| changes.iter().all(|change| change.table.columns.len() == width);
    ensure!(
        widths(&changes[..at], 2) && widths(&changes[at..], 3),
        "a row has other columns than its table had"
    );
    let indexes = changes.iter().filter(|change| change.operation == Operation::Insert);
    ensure!(
        indexes.map(|change| change.position.index).eq(0..u32::try_from(3 * ROWS)?),
        "an index is left out"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_columns_reaches_a_plugin_that_subscribed_to_it_and_whom_it_tells() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let wasm = folder.path().join("told.wasm");
    std::fs::write(&wasm, Guest::subscribed("notes", &[Operation::Schema as u8], &["$table"]).component())?;
    let further = format!("[plugin.told]\nfile = \"{}\"\n", wasm.display());
    let stand = Stand::start(&Setup { further: &further, ..Setup::default() })?;
    let mut follower = Follower::connect(stand.address(), &["notes"]).await?;
    stand.postgres.psql("INSERT INTO notes VALUES (1, 1, 1, 'a')")?;
    stand
        .postgres
        .psql("ALTER TABLE notes ADD COLUMN more int; INSERT INTO notes VALUES (2, 1, 1, 'b', 7)")?;
    let events = follower.wait_until("three messages", WITHIN, |events| events.len() >= 3).await?;
    let told: Vec<_> = events.iter().map(|event| (&*event.event, &*event.data)).collect();
    // The guest sends without an event's name to the channel that the table's name is.
    ensure!(told[1] == ("message", "null"), "{told:?}");
    ensure!(told[0].0 == "insert" && told[2].0 == "insert" && told[2].1.contains("\"more\":7"), "{told:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_plugins_column_is_gone_is_in_its_lines_and_in_the_metrics() -> Result<()> {
    let mask = place::plugin("mask-columns")?;
    let further = format!(
        "[plugin.mask-columns]\nfile = \"{}\"\nsettings = {{ columns = \"notes.body\" }}\n",
        mask.display()
    );
    let stand = Stand::start(&Setup { further: &further, ..Setup::default() })?;
    stand.postgres.psql("INSERT INTO notes VALUES (1, 1, 1, 'a')")?;
    let of_notes = |change: &Change| &*change.table.name == "notes";
    stand.wait_for_changes("the row before", WITHIN, of_notes, 1).await?;
    stand
        .postgres
        .psql("ALTER TABLE notes RENAME COLUMN body TO remark; INSERT INTO notes VALUES (2, 1, 1, 'b')")?;
    stand.wait_for_log(0, "subscribed to the column `body`", WITHIN).await?;
    let lines = stand.said(&["plugin", "logs", "mask-columns"])?;
    ensure!(lines.contains("which the table `public.notes` does not have"), "{lines}");
    let (_, plugin) = stand.ask("GET", "/v1/plugins/mask-columns", &[])?;
    ensure!(plugin["counters"]["missing_columns"] == 1, "{plugin}");
    Ok(())
}
