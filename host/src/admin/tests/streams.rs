//! Answers that come bit by bit.

use serde_json::{Value, json};

use super::{AUTHORIZATION, Fixture};
use crate::deploy::tests::digest;
use crate::deploy::tests::{P, change};
use crate::event::{change_from_line, encode};
use crate::http::tests::{Client, PATIENCE};

async fn next(client: &mut Client) -> (String, Value) {
    let event = client.event().await.expect("the stream goes on");
    (event.event, serde_json::from_str(&event.data).expect("data is JSON"))
}

/// The next event of this name.
async fn wait_for(client: &mut Client, name: &str) -> Value {
    let found = async {
        loop {
            let (event, data) = next(client).await;
            if event == name {
                return data;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("it comes")
}

async fn activate(fixture: &Fixture, code: usize) {
    let body = json!({"digest": digest(code).to_string()}).to_string();
    fixture.json("POST", "/v1/plugins/p/activate", &body).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboards_stream_tells_what_happens() {
    let fixture = Fixture::start().await;
    let mut stream = Client::get(fixture.address(), "/v1/events", &[AUTHORIZATION]).await;
    assert_eq!(stream.header("content-type"), Some("text/event-stream"));
    let (event, status) = next(&mut stream).await;
    assert_eq!((event.as_str(), &status["pipeline"]["state"]), ("status", &json!("running")));
    activate(&fixture, 0).await;
    let entry = wait_for(&mut stream, "audit").await;
    assert_eq!((&entry["action"], &entry["plugin"]), (&json!("activated"), &json!("p")));
    fixture.server.judge(2).await;
    let status = wait_for(&mut stream, "status").await;
    assert_eq!(status["plugins"]["p"]["routes"], 2);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_are_there_and_come() {
    let fixture = Fixture::start().await;
    activate(&fixture, 0).await;
    // A name that begins with F writes ten thousand lines.
    let flood = encode(&change(&["F", "two:0", "three:0", "four:0"].map(str::to_owned)));
    let mut all = Client::get(fixture.address(), "/v1/events", &[AUTHORIZATION]).await;
    assert_eq!(next(&mut all).await.0, "status");
    fixture.server.log.append(P, vec![flood]).await.unwrap();
    let first = wait_for(&mut all, "line").await;
    assert_eq!(
        (&first["plugin"], &first["generation"], &first["level"]),
        (&json!("p"), &json!(1), &json!("info"))
    );
    let kept = fixture.get("/v1/plugins/p/logs").await;
    assert_eq!(kept["lines"][0], first);
    let target = format!("/v1/plugins/p/logs?follow=true&after={}", first["id"]);
    let mut own = Client::get(fixture.address(), &target, &[AUTHORIZATION]).await;
    let second = wait_for(&mut own, "line").await;
    assert_eq!(second["id"].as_u64(), first["id"].as_u64().map(|id| id + 1));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_changes_are_lines_that_can_be_read_again() {
    let fixture = Fixture::start().await;
    activate(&fixture, 0).await;
    fixture.server.judge(600).await;
    let mut client = Client::get(fixture.address(), "/v1/changes?last=500", &[AUTHORIZATION]).await;
    let body = client.rest().await;
    let lines: Vec<&str> = body.lines().collect();
    assert_eq!(lines.len(), 500);
    assert!(lines[0].contains("one:100") && lines[499].contains("one:599"), "{}", lines[0]);
    change_from_line(lines[0]).expect("a line is a change");
    let mut client = Client::get(fixture.address(), "/v1/changes?last=9999", &[AUTHORIZATION]).await;
    assert_eq!(client.rest().await.lines().count(), 600);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_the_streams() {
    let fixture = Fixture::start().await;
    let mut stream = Client::get(fixture.address(), "/v1/events", &[AUTHORIZATION]).await;
    assert_eq!(next(&mut stream).await.0, "status");
    fixture.stop().await;
    while stream.event().await.is_some() {}
}
