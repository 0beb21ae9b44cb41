//! A row committed in PostgreSQL reaches a client through a policy.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use twohop_tests::{Follower, Setup, Stand};
use xtask::sse::Event;

const WITHIN: Duration = Duration::from_secs(20);

fn data(event: &Event) -> Value {
    serde_json::from_str(&event.data).expect("payloads of row-router are JSON")
}

fn numbers(events: &[Event]) -> Vec<i64> {
    events.iter().map(|event| data(event)["number"].as_i64().expect("a note has a number")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_three_rows_arrives_whole_and_in_order() -> Result<()> {
    let stand = Stand::start(&Setup::default())?;
    let mut follower = Follower::connect(stand.address(), &["notes"]).await?;
    stand.postgres.psql(
        "BEGIN; INSERT INTO notes VALUES (3, 1, 3, 'c'); INSERT INTO notes VALUES (1, 1, 3, 'a'); \
         INSERT INTO notes VALUES (2, 1, 3, 'b'); COMMIT",
    )?;
    let events = follower.wait_until("three rows", WITHIN, |events| events.len() >= 3).await?;
    assert_eq!(numbers(&events), [3, 1, 2]);
    assert!(events.iter().all(|event| event.event == "insert" && event.id.is_some()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolled_back_transaction_is_never_seen() -> Result<()> {
    let stand = Stand::start(&Setup::default())?;
    let mut follower = Follower::connect(stand.address(), &["notes"]).await?;
    stand.postgres.psql("BEGIN; INSERT INTO notes VALUES (1, 1, 1, 'gone'); ROLLBACK")?;
    stand.postgres.psql(
        "BEGIN; INSERT INTO notes VALUES (2, 2, 1, 'kept'); SAVEPOINT s; INSERT INTO notes VALUES (3, 2, 1, 'gone'); \
         ROLLBACK TO s; COMMIT",
    )?;
    stand.postgres.psql("INSERT INTO notes VALUES (4, 3, 1, 'last')")?;
    let events = follower.wait_until("the last row", WITHIN, |events| events.len() >= 2).await?;
    assert_eq!(numbers(&events), [2, 4]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_reaches_the_tables_channel_and_the_rows_own() -> Result<()> {
    let stand = Stand::start(&Setup::default())?;
    let mut table = Follower::connect(stand.address(), &["notes"]).await?;
    let mut row = Follower::connect(stand.address(), &["notes:7"]).await?;
    let mut renamed = Follower::connect(stand.address(), &["notes:8"]).await?;
    for sql in [
        "INSERT INTO notes VALUES (7, 1, 1, 'new')",
        "UPDATE notes SET body = 'changed' WHERE number = 7",
        "UPDATE notes SET number = 8 WHERE number = 7",
        "DELETE FROM notes WHERE number = 8",
        "TRUNCATE notes",
    ] {
        stand.postgres.psql(sql)?;
    }
    let names = |events: &[Event]| events.iter().map(|event| event.event.clone()).collect::<Vec<_>>();
    let events = table.wait_until("six changes", WITHIN, |events| events.len() >= 6).await?;
    // A change of the key is a delete of the one row and an insert of the other.
    assert_eq!(names(&events), ["insert", "update", "delete", "insert", "delete", "truncate"]);
    assert_eq!(data(&events[1])["body"], "changed");
    assert_eq!(data(&events[2])["number"], 7);
    assert_eq!(data(&events[3])["number"], 8);
    assert_eq!(data(&events[5]), Value::Null);
    let events = row.wait_until("the row's three", WITHIN, |events| events.len() >= 3).await?;
    assert_eq!(names(&events), ["insert", "update", "delete"]);
    let events = renamed.wait_until("the renamed row's two", WITHIN, |events| events.len() >= 2).await?;
    assert_eq!(names(&events), ["insert", "delete"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_there_at_the_first_start_come_as_a_snapshot_once() -> Result<()> {
    let schema = format!(
        "{}; INSERT INTO notes SELECT n, 0, 1000, 'old' FROM generate_series(1, 1000) n",
        twohop_tests::SCHEMA
    );
    let mut stand = Stand::start(&Setup { schema: &schema, ..Setup::default() })?;
    // The snapshot may be under way already, so this client asks for everything from the beginning.
    let epoch = first_id(&stand).await?;
    let path = format!("/v1/events?channel=notes&last_event_id={}.0", epoch);
    let mut client = xtask::sse::SseClient::connect(stand.address(), &path, None).await?;
    let mut seen = Vec::new();
    let mut probes = Vec::new();
    while seen.len() < 1000 || probes.len() < 2 {
        let event = tokio::time::timeout(WITHIN, client.next()).await??.expect("the stream goes on");
        if event.event != "snapshot" {
            // The stream goes on meanwhile.
            probes.push(event.event);
            continue;
        }
        seen.push(data(&event)["number"].as_i64().expect("a note has a number"));
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=1000).collect::<Vec<_>>());

    assert_eq!(probes, ["insert", "delete"]);
    let last = client.last_event_id().expect("events have ids").to_owned();
    stand.host.restart()?;
    stand.postgres.psql("INSERT INTO notes VALUES (1001, 1, 1, 'new')")?;
    let mut client =
        xtask::sse::SseClient::connect(stand.address(), "/v1/events?channel=notes", Some(&last)).await?;
    let event = tokio::time::timeout(WITHIN, client.next()).await??.expect("the stream goes on");
    assert_eq!((event.event.as_str(), data(&event)["number"].as_i64()), ("insert", Some(1001)));
    Ok(())
}

/// The epoch of the history, from the id that every stream begins with.
async fn first_id(stand: &Stand) -> Result<String> {
    let mut follower = Follower::connect(stand.address(), &["notes"]).await?;
    stand
        .postgres
        .psql("INSERT INTO notes VALUES (-1, 0, 1, 'probe'); DELETE FROM notes WHERE number = -1")?;
    let events = follower.wait_until("the probe", WITHIN, |events| events.iter().any(is_probe)).await?;
    let id = events.last().and_then(|event| event.id.clone()).expect("events have ids");
    Ok(id.split_once('.').expect("an id is EPOCH.SEQUENCE").0.to_owned())
}

fn is_probe(event: &Event) -> bool {
    event.event == "delete"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_resumes_from_history_that_survives_a_restart() -> Result<()> {
    let mut stand = Stand::start(&Setup::default())?;
    let mut follower = Follower::connect(stand.address(), &["notes"]).await?;
    stand.postgres.psql("INSERT INTO notes VALUES (1, 1, 1, 'one')")?;
    let events = follower.wait_until("the first row", WITHIN, |events| !events.is_empty()).await?;
    let id = events[0].id.clone().expect("a kept message has an id");
    drop(follower);
    stand.postgres.psql("INSERT INTO notes VALUES (2, 2, 1, 'two')")?;
    stand.host.restart()?;
    stand.postgres.psql("INSERT INTO notes VALUES (3, 3, 1, 'three')")?;

    for place in ["header", "last_event_id", "lastEventId"] {
        let (path, header) = match place {
            "header" => ("/v1/events?channel=notes".to_owned(), Some(id.as_str())),
            parameter => (format!("/v1/events?channel=notes&{parameter}={id}"), None),
        };
        let mut client = xtask::sse::SseClient::connect(stand.address(), &path, header).await?;
        let mut bodies = Vec::new();
        while bodies.len() < 2 {
            let event = tokio::time::timeout(WITHIN, client.next()).await??.expect("the stream goes on");
            bodies.push(data(&event)["body"].as_str().expect("a note has a body").to_owned());
        }
        assert_eq!(bodies, ["two", "three"], "resumed by {place}");
    }
    Ok(())
}
