//! Outboxes, captured and polled, and `NOTIFY`: what comes out are messages, each once, but for what nobody heard.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use twohop_tests::{Setup, Stand};
use xtask::services::host::refusal_within;
use xtask::services::postgres::{Options, WalLevel};

const WITHIN: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

const OUTBOX: &str = "CREATE TABLE outbox (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype text NOT NULL, \
                      aggregateid text NOT NULL, type text NOT NULL, payload jsonb, tenant int)";
const PENDING: &str = "CREATE TABLE jobs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, aggregatetype text NOT NULL, \
                       aggregateid text NOT NULL, type text NOT NULL, payload text, \
                       status text NOT NULL DEFAULT 'PENDING')";
const POLLING: &str = "kind = \"polling\"\noutbox = { table = \"jobs\" }\npolling = { interval = \"10ms\" }";

/// A server that cannot decode its log.
fn without_replication() -> Options {
    Options { wal_level: WalLevel::Replica, ..Options::default() }
}

fn polled() -> Result<Stand> {
    Stand::start(&Setup {
        schema: PENDING,
        whole_source: Some(POLLING),
        postgres: without_replication(),
        ..Setup::default()
    })
}

/// The messages in the change log, as `twohop changes` prints them.
fn messages(stand: &Stand) -> Result<Vec<Value>> {
    let said = stand.said(&["changes", "--last", "100000"])?;
    let changes = said.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    Ok(changes
        .into_iter()
        .filter(|change| change["operation"] == "message" && change["table"] != "$snapshot")
        .collect())
}

/// Looks until there are so many messages.
async fn wait_for(stand: &Stand, count: usize) -> Result<Vec<Value>> {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    let found = async {
        loop {
            looks.tick().await;
            let found = messages(stand)?;
            if found.len() >= count {
                return anyhow::Ok(found);
            }
        }
    };
    tokio::time::timeout(WITHIN, found).await.with_context(|| format!("there are not {count} messages"))?
}

/// Looks until a query has this answer.
async fn until(stand: &Stand, query: &str, answer: &str) -> Result<()> {
    let is_so = || Ok(stand.postgres.psql(query)?.trim() == answer);
    twohop_tests::until(&format!("`{query}` is {answer}"), WITHIN, is_so).await
}

fn add(count: u32) -> String {
    format!(
        "INSERT INTO jobs (aggregatetype, aggregateid, type, payload) \
         SELECT 'order', n % 7, 'paid', 'it''s ' || n FROM generate_series(1, {count}) n"
    )
}

const LEFT: &str = "SELECT count(*) FROM jobs WHERE status <> 'PUBLISHED'";

fn ids(messages: &[Value]) -> Vec<i64> {
    messages.iter().filter_map(|message| message["row"]["id"].as_i64()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_of_a_captured_outbox_are_messages_whether_they_are_deleted_or_kept() -> Result<()> {
    let schema = format!("{OUTBOX}; INSERT INTO outbox VALUES (DEFAULT, 'order', '1', 'old', '{{}}', 1)");
    let stand = Stand::start(&Setup {
        schema: &schema,
        whole_source: Some("outbox = { table = \"outbox\" }"),
        ..Setup::default()
    })?;
    let write = "INSERT INTO outbox (aggregatetype, aggregateid, type, payload, tenant) VALUES";
    stand.postgres.psql(&format!(
        "BEGIN; {write} ('order', '7', 'paid', '{{\"total\": 5}}', 3), ('mail', 'a,b', 'sent', NULL, NULL); \
         DELETE FROM outbox WHERE aggregatetype <> 'mail'; COMMIT"
    ))?;
    stand.postgres.psql("UPDATE outbox SET tenant = 9")?;
    stand.postgres.psql("TRUNCATE outbox")?;
    stand.postgres.psql(&format!("{write} ('order', '8', 'end', '1', 1)"))?;
    let found = wait_for(&stand, 3).await?;
    let told = |at: usize, part: &str| found[at]["row"][part].clone();
    let parts = |at| ["channel", "subject", "event", "body", "tenant"].map(|part| told(at, part));
    assert_eq!(
        found.len(),
        3,
        "neither a delete, an update, a truncate nor what was there before: {found:?}"
    );
    assert_eq!(parts(0), [json!("order"), json!("7"), json!("paid"), json!("{\"total\": 5}"), json!(3)]);
    assert_eq!(parts(1), [json!("mail"), json!("a,b"), json!("sent"), Value::Null, Value::Null]);
    assert_eq!(told(2, "event"), "end");
    assert_eq!((&found[0]["table"], &found[0]["key"]), (&json!("outbox"), &json!(["subject"])));
    // The delete came last, and is none.
    assert_eq!((&found[0]["last"], &found[1]["last"]), (&json!(false), &json!(true)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_is_polled_without_logical_replication_each_row_once_in_the_order_of_ids() -> Result<()> {
    let stand = polled()?;
    stand.postgres.psql(&format!("{}; UPDATE jobs SET status = 'PUBLISHED' WHERE id <= 3", add(1_203)))?;
    until(&stand, LEFT, "0").await?;
    let found = messages(&stand)?;
    // Those that somebody had published by the time of the first look may be there or not.
    let found: Vec<_> = found.into_iter().filter(|message| message["row"]["id"].as_i64() > Some(3)).collect();
    assert_eq!(ids(&found), (4..=1_203).collect::<Vec<_>>());
    let row = &found[0]["row"];
    assert_eq!((&row["channel"], &row["subject"]), (&json!("order"), &json!("4")));
    assert_eq!(
        (&row["event"], &row["body"], &row["status"]),
        (&json!("paid"), &json!("it's 4"), &Value::Null)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_append_and_mark_repeats_nothing() -> Result<()> {
    let mut stand = polled()?;
    // Whoever marks a row waits for the lock that we hold.
    let (client, connection) = tokio_postgres::connect(&stand.postgres.url(), tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    client
        .batch_execute(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END'; \
             CREATE TRIGGER wait BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION wait(); SELECT pg_advisory_lock(1)",
        )
        .await?;
    stand.postgres.psql(&add(20))?;
    wait_for(&stand, 20).await?;
    stand.host.kill9();
    client.batch_execute("DELETE FROM jobs WHERE false; SELECT pg_advisory_unlock(1)").await?;
    // The server may mark them yet for who is gone, or not: both are one case to the host.
    stand.host.restart()?;
    stand.postgres.psql(&add(5))?;
    until(&stand, LEFT, "0").await?;
    assert_eq!(ids(&messages(&stand)?), (1..=25).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_host_and_server_while_an_outbox_is_polled_lose_nothing_and_repeat_nothing() -> Result<()> {
    let mut stand = polled()?;
    for round in 0..6 {
        stand.postgres.psql(&add(700))?;
        wait_for(&stand, round * 700 + 100 * round + 1).await?;
        if round % 3 == 2 {
            stand.postgres.kill9();
            stand.postgres.restart()?;
        } else {
            stand.host.kill9();
            stand.host.restart()?;
        }
    }
    until(&stand, LEFT, "0").await?;
    let mut found = ids(&messages(&stand)?);
    found.sort_unstable();
    let expected = stand.postgres.psql("SELECT id FROM jobs ORDER BY id")?;
    assert_eq!(found, expected.lines().map(str::parse).collect::<Result<Vec<i64>, _>>()?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_outbox_is_refused_with_what_to_do() -> Result<()> {
    let mut stand = polled()?;
    stand.host.terminate();
    for (sql, said) in [
        (
            "ALTER TABLE jobs RENAME COLUMN type TO what",
            "has no column `type`: add it, or name another by `outbox.event`",
        ),
        ("ALTER TABLE jobs RENAME COLUMN status TO state", "or name another by `polling.status`"),
        ("DROP TABLE jobs", "the outbox public.jobs does not exist"),
    ] {
        stand.postgres.psql(sql)?;
        let refusal = refusal_within(&stand.options, WITHIN)?;
        ensure!(refusal.stderr.contains(said), "no `{said}` in: {}", refusal.stderr);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_are_messages_and_what_is_said_while_nobody_listens_is_said_to_be_lost() -> Result<()> {
    let mut stand = Stand::start(&Setup {
        schema: "SELECT 1",
        whole_source: Some("kind = \"notify\"\nchannels = [\"orders\", \"Mails \\\"x\\\"\"]"),
        postgres: without_replication(),
        ..Setup::default()
    })?;
    stand.postgres.psql(
        "NOTIFY orders, 'one'; NOTIFY \"Mails \"\"x\"\"\", '{\"a\": 1}'; NOTIFY others, 'no'; NOTIFY orders",
    )?;
    let found = wait_for(&stand, 3).await?;
    let told = |message: &Value| ["channel", "body", "subject"].map(|part| message["row"][part].clone());
    assert_eq!(told(&found[0]), [json!("orders"), json!("one"), Value::Null]);
    assert_eq!(told(&found[1]), [json!("Mails \"x\""), json!("{\"a\": 1}"), Value::Null]);
    assert_eq!(told(&found[2]), [json!("orders"), json!(""), Value::Null]);
    assert_eq!(found[0]["table"], "$notify");

    let listeners = "SELECT pid FROM pg_stat_activity WHERE application_name = 'twohop shop'";
    stand.postgres.psql(&format!("SELECT pg_terminate_backend(pid) FROM ({listeners}) its"))?;
    stand.wait_for_log(0, "listens again; what was notified meanwhile is lost", WITHIN).await?;
    stand.postgres.psql("NOTIFY orders, 'two'")?;
    wait_for(&stand, 4).await?;

    stand.host.kill9();
    stand.postgres.psql("NOTIFY orders, 'unheard'")?;
    stand.host.restart()?;
    stand.postgres.psql("NOTIFY orders, 'three'")?;
    let found = wait_for(&stand, 5).await?;
    let bodies: Vec<_> = found[3..].iter().map(|message| &message["row"]["body"]).collect();
    assert_eq!(bodies, ["two", "three"]);
    Ok(())
}
