//! Who is here, as clients on every face see it.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::presence::PresenceConfig;
use super::Fixture;
use super::memory_bus::MemoryBus;
use super::socket_client::{Manners, Socket};
use crate::access::Patterns;
use crate::access::tests::{by_tokens, token_for};
use crate::http::tests::Client;

const LONG: Duration = Duration::from_secs(300);

async fn fixture(grace: Duration, queue_count_max: usize) -> Fixture {
    let (access, _) = by_tokens(|settings| settings.channels.push("room:*".into()));
    Fixture::guarded(MemoryBus::new(0x9f3c), access, |config| {
        let channels = Patterns::new(&["room:*".into(), "public:*".into()]).expect("they are right");
        config.presence = PresenceConfig { channels, grace, interval: Duration::from_millis(2) };
        config.queue_count_max = queue_count_max;
        config.direct_bytes_max = 0;
    })
    .await
}

fn bearer(subject: &str) -> String {
    format!("Bearer {}", token_for(subject, 600))
}

async fn get(fixture: &Fixture, target: &str, subject: &str) -> Client {
    Client::get(fixture.address(), target, &[("Authorization", &bearer(subject))]).await
}

async fn socket(fixture: &Fixture, subject: &str) -> Socket {
    let headers = [("Authorization", &*bearer(subject))];
    let ticket = Client::request(fixture.address(), "POST", "/v1/tickets", &headers).await.json().await;
    let target = format!("/v1/ws?ticket={}", ticket["ticket"].as_str().expect("it is a ticket"));
    let mut socket = Socket::connect(fixture.address(), &target, Manners::Good).await;
    assert_eq!(socket.event().await["type"], "hello");
    socket
}

fn frame(rest: Value) -> Value {
    let mut frame = json!({"type": "presence", "channel": "room:1"});
    frame.as_object_mut().expect("it is one").extend(rest.as_object().expect("it is one").clone());
    frame
}

#[tokio::test]
async fn who_is_here_is_told_on_every_face_and_a_lost_connection_leaves_after_the_grace() {
    let fixture = fixture(Duration::from_millis(20), 99).await;
    let mut ann = socket(&fixture, "ann").await;
    ann.subscribe(&[("room:1", "")]).await;
    assert_eq!(ann.event().await, frame(json!({"here": ["ann"], "count": 1})));
    let mut bob = get(&fixture, "/v1/events?channel=room:1", "bob").await;
    let told = bob.event().await.expect("the stream goes on");
    assert_eq!((told.event.as_str(), told.channel.as_str()), ("presence", "room:1"));
    assert_eq!(told.data, r#"{"channel":"room:1","count":2,"here":["ann","bob"]}"#);
    assert!(bob.seen.contains("\n\nevent: presence\nchannel: room:1\ndata: "), "without an id: {}", bob.seen);
    assert_eq!(ann.event().await, frame(json!({"join": ["bob"], "count": 2})));
    drop(bob);
    assert_eq!(ann.event().await, frame(json!({"leave": ["bob"], "count": 1})));
    let answer = get(&fixture, "/v1/poll?channel=room:1&channel=room:2", "cat").await.json().await;
    let here =
        |channel: &str, names: &[&str]| json!({"channel": channel, "here": names, "count": names.len()});
    assert_eq!(answer["presence"], json!([here("room:1", &["ann", "cat"]), here("room:2", &["cat"])]));
    fixture.bus.publish("room:1", "a message");
    while ann.event().await["text"] != "a message" {}
}

#[tokio::test]
async fn connections_of_one_subject_are_one_member_and_a_channel_that_is_left_is_left_at_once() {
    let fixture = fixture(LONG, 99).await;
    let mut watcher = socket(&fixture, "watcher").await;
    watcher.subscribe(&[("room:1", "")]).await;
    assert_eq!(watcher.event().await, frame(json!({"here": ["watcher"], "count": 1})));
    let mut ann = [socket(&fixture, "ann").await, socket(&fixture, "ann").await];
    for ann in &mut ann {
        ann.subscribe(&[("room:1", "")]).await;
        assert_eq!(ann.event().await, frame(json!({"here": ["ann", "watcher"], "count": 2})));
    }
    assert_eq!(watcher.event().await, frame(json!({"join": ["ann"], "count": 2})));
    let unsubscribe = || json!({"type": "unsubscribe", "channels": ["room:1"]});
    ann[0].ask(unsubscribe()).await;
    // A lost connection, and one that comes back within the grace, are no news.
    drop(ann);
    fixture.streams(1).await;
    let mut back = socket(&fixture, "ann").await;
    back.subscribe(&[("room:1", "")]).await;
    assert_eq!(back.event().await, frame(json!({"here": ["ann", "watcher"], "count": 2})));
    let answer = back.ask(unsubscribe()).await;
    assert_eq!(answer["type"], "unsubscribed");
    assert_eq!(watcher.event().await, frame(json!({"leave": ["ann"], "count": 1})));
    back.send(r#"{"type":"ping"}"#).await;
    assert_eq!(back.event().await["type"], "pong", "nothing comes of a channel that was left");
}

#[tokio::test]
async fn another_token_is_seen_as_its_own_subject() {
    let fixture = fixture(LONG, 99).await;
    let mut watcher = socket(&fixture, "watcher").await;
    watcher.subscribe(&[("room:1", "")]).await;
    assert_eq!(watcher.event().await["count"], 1);
    let mut ann = socket(&fixture, "ann").await;
    ann.subscribe(&[("room:1", "")]).await;
    assert_eq!(watcher.event().await, frame(json!({"join": ["ann"], "count": 2})));
    for subject in ["ann", "bob"] {
        let answer = ann.ask(json!({"type": "refresh", "token": token_for(subject, 600)})).await;
        assert_eq!(answer["type"], "refreshed");
    }
    assert_eq!(watcher.event().await["join"], json!(["bob"]), "the same subject is no news");
}

#[tokio::test]
async fn who_is_nobody_known_neither_sees_nor_is_seen() {
    let fixture = fixture(LONG, 99).await;
    let mut nobody = Client::get(fixture.address(), "/v1/events?channel=public:1", &[]).await;
    assert!(nobody.block().await);
    let answer = Client::get(fixture.address(), "/v1/poll?channel=public:1", &[]).await.json().await;
    assert_eq!(answer, json!({"messages": [], "id": "9f3c.0"}));
    fixture.bus.publish("public:1", "a message");
    assert_eq!(nobody.data(1).await, ["a message"]);
    let answer = get(&fixture, "/v1/poll?channel=user:ann", "ann").await.json().await;
    assert_eq!(answer["presence"], Value::Null, "a channel that is not configured for it");
}

#[tokio::test]
async fn a_client_that_was_slower_than_its_queue_is_told_all_anew() {
    let fixture = fixture(LONG, 1).await;
    let mut ann = socket(&fixture, "ann").await;
    ann.subscribe(&[("room:1", "")]).await;
    assert_eq!(ann.event().await["here"], json!(["ann"]));
    // Nothing runs between these lines: they are more than the queue holds.
    for nth in 0..9 {
        fixture.bus.publish("room:1", &nth.to_string());
    }
    let mut anew = 0;
    let mut texts = 0;
    while anew == 0 || texts < 9 {
        let event = ann.event().await;
        texts += usize::from(event["type"] == "message");
        anew += usize::from(event["here"] == json!(["ann"]));
    }
}
