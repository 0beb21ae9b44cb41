//! What is read while the host runs: tables that are made then, tables that somebody asks for, and all of them once changes
//! are lost.

use super::*;

/// A stand that captures what is there and what is made later.
fn stand_of(tables: &str, schema: &str, further: &str) -> Result<Stand> {
    let source = format!("tables = [{tables}]\n{further}");
    Stand::start(&Setup {
        schema,
        tables: &["notes", "things"],
        whole_source: Some(&source),
        ..Setup::default()
    })
}

/// The snapshot of these has begun; gives the length of what had been said before.
async fn begun(stand: &Stand, after: usize, table: &str) -> Result<()> {
    stand.wait_for_log(after, &format!("the snapshot of public.{table} begins"), WITHIN).await
}

fn rows_of<'a>(changes: &'a [Change], table: &str) -> impl Iterator<Item = &'a Change> {
    changes.iter().filter(move |change| &*change.table.name == table)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_made_while_the_host_runs_is_captured_with_its_rows_and_over_kill_9() -> Result<()> {
    let mut stand = stand_of("\"public.*\"", twohop_tests::SCHEMA, "")?;
    stand.wait_for_snapshot(WITHIN).await?;
    stand.postgres.psql(&format!("BEGIN; {THINGS} {}; COMMIT", rows(60_000)))?;
    let writers = Writers::start(&stand.postgres.url());
    begun(&stand, 0, "things").await?;
    until(&stand, "rows", |rounds, rows| rounds == 0 || rows > 5_000).await?;
    ensure!(progress(&stand).is_some_and(|(rounds, _)| rounds > 0), "it was over too soon");
    stand.host.kill9();
    stand.host.restart()?;
    stand.wait_for_snapshot(WITHIN).await?;
    let (_, fold) = folded(&mut stand, writers).await?;
    ensure!(fold.snapshot_rows > 59_000, "only {} rows came", fold.snapshot_rows);
    ensure!(fold.again <= 3 * CHUNK, "{} rows came again", fold.again);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_table_that_cannot_be_captured_is_named_and_stops_nothing_until_it_can_be() -> Result<()> {
    let mut stand = stand_of("\"notes\", \"th*\"", twohop_tests::SCHEMA, "")?;
    stand.wait_for_snapshot(WITHIN).await?;
    stand.postgres.psql(
        "CREATE TABLE that (n int); INSERT INTO that VALUES (1), (2); CREATE TABLE other (n int PRIMARY KEY); \
         CREATE TABLE this (n int PRIMARY KEY); INSERT INTO this VALUES (3)",
    )?;
    begun(&stand, 0, "this").await?;
    stand.wait_for_log(0, "table `public.that` is left out, with its changes: ", WITHIN).await?;
    stand.postgres.psql("ALTER TABLE that REPLICA IDENTITY FULL")?;
    begun(&stand, 0, "that").await?;
    stand.wait_for_snapshot(WITHIN).await?;
    // Another table of a name that is known.
    let said = stand.host.stderr().len();
    stand
        .postgres
        .psql("DROP TABLE this; CREATE TABLE this (n int PRIMARY KEY); INSERT INTO this VALUES (4)")?;
    begun(&stand, said, "this").await?;
    stand.wait_for_snapshot(WITHIN).await?;
    let changes = finish(&mut stand).await?;
    let came = |table: &str| rows_of(&changes, table).map(|change| change.operation).collect::<Vec<_>>();
    assert_eq!(came("that"), [Operation::Snapshot; 2]);
    assert_eq!(came("this"), [Operation::Snapshot; 2]);
    assert_eq!(came("other"), []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_are_dropped_while_they_are_looked_at_stop_nothing() -> Result<()> {
    let mut stand = stand_of("\"notes\", \"tmp_*\"", twohop_tests::SCHEMA, "")?;
    stand.wait_for_snapshot(WITHIN).await?;
    // Each lives as long as a connection takes to begin, so most are gone when it comes to them.
    stand.postgres.psql(
        "DO $$ BEGIN FOR nth IN 1..250 LOOP \
           EXECUTE format('CREATE TABLE tmp_%s (n int PRIMARY KEY)', nth); COMMIT; PERFORM pg_sleep(0.02); \
           EXECUTE format('DROP TABLE tmp_%s', nth); COMMIT; \
         END LOOP; END $$",
    )?;
    stand.postgres.psql("CREATE TABLE tmp_last (n int PRIMARY KEY); INSERT INTO tmp_last VALUES (1)")?;
    begun(&stand, 0, "tmp_last").await?;
    stand.wait_for_snapshot(WITHIN).await?;
    let changes = finish(&mut stand).await?;
    let came: Vec<_> = rows_of(&changes, "tmp_last").map(|change| change.operation).collect();
    assert_eq!(came, [Operation::Snapshot]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_somebody_asks_for_is_read_again_although_the_host_dies_then() -> Result<()> {
    let schema = format!("{THINGS} {} ; {}", rows(30_000), twohop_tests::SCHEMA);
    let mut stand = stand_of("\"notes\", \"things\"", &schema, "")?;
    stand.wait_for_snapshot(WITHIN).await?;
    for (arguments, says) in [
        (["shopp", "things"], "there is no source `shopp` that reads tables: there is `shop`"),
        (
            ["shop", "thinks"],
            "does not read the rows of table `public.thinks`: it has `public.notes`, `public.things`",
        ),
        (["shop", "public."], "`public.` is no table"),
    ] {
        let refused = stand.refused(&["sources", "snapshot", arguments[0], arguments[1]])?;
        ensure!(refused.contains(says), "{refused}");
    }
    let (status, body) = stand.ask("GET", "/v1/sources/shop/snapshot", b"")?;
    assert_eq!((status, &body["error"]["code"]), (405, &"method_not_allowed".into()));
    let mut writers = Writers::start(&stand.postgres.url());
    writers.go_on(20).await?;
    let said = stand.said(&["sources", "snapshot", "shop", "things"])?;
    stand.host.kill9();
    assert_eq!(said, "all rows of public.things are read again: `twohop sources` shows how far that is\n");
    stand.host.restart()?;
    stand.wait_for_snapshot(WITHIN).await?;
    writers.go_on(20).await?;
    // While nothing dies, and twice at once.
    let (status, body) = stand.ask("POST", "/v1/sources/shop/snapshot", br#"{"table":"public.things"}"#)?;
    assert_eq!((status, &body["table"]), (200, &"public.things".into()), "{body}");
    stand.said(&["sources", "snapshot", "shop", "things"])?;
    ensure!(stand.said(&["sources"])?.contains("under way"), "nobody is told that it is read");
    stand.wait_for_snapshot(WITHIN).await?;
    let (changes, fold) = folded(&mut stand, writers).await?;
    ensure!(fold.snapshot_rows > 3 * 29_000, "only {} rows came", fold.snapshot_rows);
    let notes = rows_of(&changes, "notes").count();
    ensure!(notes == 0, "{notes} rows of another table came");
    Ok(())
}

/// What the change log has since changes were lost last.
fn since_gap(changes: &[Change], count: usize) -> Result<&[Change]> {
    let is_gap = |change: &Change| {
        let state =
            change.row().and_then(|row| row.columns().next().map(|(_, value)| value == Value::Text("gap")));
        &*change.table.name == "$snapshot" && state == Some(true)
    };
    let gaps: Vec<_> = (0..changes.len()).filter(|at| is_gap(&changes[*at])).collect();
    ensure!(gaps.len() == count, "{} gaps, not {count}", gaps.len());
    Ok(&changes[*gaps.last().context("there is a gap")?..])
}

#[tokio::test(flavor = "multi_thread")]
async fn where_changes_are_lost_everything_is_read_again_with_a_new_slot_if_it_is_told_so() -> Result<()> {
    const LOST: &str = "changes are lost, and all rows of all tables are read again with a new slot";
    let schema = format!("{THINGS} {} ; {}", rows(10_000), twohop_tests::SCHEMA);
    let mut stand = stand_of("\"notes\", \"things\"", &schema, "on_gap = \"resnapshot\"")?;
    stand.wait_for_snapshot(WITHIN).await?;
    for (count, harm) in [
        "SELECT pg_drop_replication_slot('twohop_shop')",
        "SELECT pg_replication_slot_advance('twohop_shop', pg_current_wal_lsn())",
        "SELECT pg_drop_replication_slot('twohop_shop'); SELECT pg_create_logical_replication_slot('twohop_shop', 'pgoutput')",
    ]
    .into_iter()
    .enumerate()
    {
        stand.host.terminate();
        let said = stand.host.stderr().len();
        stand.postgres.psql("DELETE FROM things WHERE id % 7 = 0; UPDATE things SET version = nextval('versions') WHERE id % 7 = 1")?;
        stand.postgres.psql(harm)?;
        stand.postgres.psql("UPDATE things SET version = nextval('versions') WHERE id % 7 = 2")?;
        let mut writers = Writers::start(&stand.postgres.url());
        stand.host.restart()?;
        stand.wait_for_log(said, LOST, WITHIN).await?;
        stand.wait_for_snapshot(WITHIN).await?;
        writers.go_on(20).await?;
        writers.finish().await?;
        let metrics = stand.metrics()?;
        ensure!(metrics.contains("twohop_source_gaps_total{source=\"shop\"} 1\n"), "{metrics}");
        let changes = finish(&mut stand).await?;
        fold(since_gap(&changes, count + 1)?)?.check(&stand).await.with_context(|| harm.to_owned())?;
        stand.host.restart()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_goes_while_the_host_runs_is_made_anew_although_the_host_dies_then() -> Result<()> {
    let schema = format!("{THINGS} {} ; {}", rows(20_000), twohop_tests::SCHEMA);
    let mut stand = stand_of("\"notes\", \"things\"", &schema, "on_gap = \"resnapshot\"")?;
    stand.wait_for_snapshot(WITHIN).await?;
    // The host may be back before the slot is gone.
    stand.postgres.psql(
        "DO $$ BEGIN LOOP BEGIN \
           PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'twohop_shop'; \
           PERFORM pg_drop_replication_slot('twohop_shop'); RETURN; \
         EXCEPTION WHEN object_in_use THEN NULL; END; END LOOP; END $$",
    )?;
    until(&stand, "the new snapshot", |rounds, rows| rounds == 1 && rows > 0).await?;
    stand.host.kill9();
    stand.host.restart()?;
    stand.wait_for_snapshot(WITHIN).await?;
    let changes = finish(&mut stand).await?;
    fold(since_gap(&changes, 1)?)?.check(&stand).await
}
