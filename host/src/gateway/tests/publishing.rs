//! What clients say, by HTTP and by WebSocket. The gate of these tests goes by the first letter of a message: `k` and
//! objects are kept, `e` is ephemeral, all else is forbidden.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Fixture;
use super::memory_bus::MemoryBus;
use super::socket_client::{Manners, Socket};
use crate::access::tests::{a_gate, by_tokens, open_to_all, token_for};
use crate::access::{Access, Gate};
use crate::bus::Bus;
use crate::event::{Change, Sequence, Value as Cell};
use crate::http::Rate;
use crate::http::tests::Client;
use crate::intake::tests::{MemoryLog, served};
use crate::limits::CLIENT_MESSAGE_BYTES_MAX;

const ROOM: &str = "/v1/channels/room%3A7";
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// Everybody with a token may listen to their own; a gate lets them speak.
fn guarded() -> Access {
    let (access, _) = by_tokens(|settings| settings.origins = vec!["https://shop.example".into()]);
    access.put_gate::<std::io::Error>(Ok(Some(a_gate())));
    access
}

/// A gateway whose clients are heard, and where it goes.
async fn heard() -> (Fixture, Arc<MemoryLog>) {
    let log = MemoryLog::new();
    (Fixture::hearing(guarded(), served(log.clone()).await, |_| {}).await, log)
}

fn bearer(subject: &str) -> String {
    format!("Bearer {}", token_for(subject, 600))
}

struct Answer {
    status: String,
    retry_after: Option<String>,
    json: Value,
}

impl Answer {
    fn refusal(&self) -> (&str, u64) {
        (&self.status, self.json["error"]["code"].as_u64().unwrap_or_default())
    }
}

async fn post(fixture: &Fixture, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let client = Client::send(fixture.address(), "POST", target, headers, Some(body.as_bytes())).await;
    let (status, retry_after) = (client.status().to_owned(), client.header("retry-after").map(Into::into));
    Answer { status, retry_after, json: client.json().await }
}

/// As one with a token, with JSON.
async fn say(fixture: &Fixture, target: &str, subject: &str, body: &Value) -> Answer {
    let bearer = bearer(subject);
    post(fixture, target, &[("Authorization", &bearer), JSON], &body.to_string()).await
}

async fn socket_of(fixture: &Fixture, subject: &str) -> Socket {
    let bearer = bearer(subject);
    let answer =
        Client::request(fixture.address(), "POST", "/v1/tickets", &[("Authorization", &bearer)]).await;
    let answer = answer.json().await;
    let target = format!("/v1/ws?ticket={}", answer["ticket"].as_str().expect("it is a text"));
    let mut socket = Socket::connect(fixture.address(), &target, Manners::Good).await;
    assert_eq!(socket.event().await["type"], "hello");
    socket
}

fn cell(change: &Change, column: &str) -> String {
    let at = change.table.column(column).expect("the table of clients has it");
    match change.row().expect("a message has a row").value(at) {
        Cell::Text(text) => text.to_owned(),
        other => format!("{other:?}"),
    }
}

fn outcomes(fixture: &Fixture) -> Vec<(&'static str, u64)> {
    fixture.metrics.client_messages.read()
}

#[tokio::test]
async fn a_message_that_the_gate_keeps_is_in_the_change_log_before_it_is_acknowledged() {
    let (fixture, log) = heard().await;
    let answer = say(&fixture, ROOM, "ann", &json!({"event": "said", "json": {"text": "hi"}})).await;
    assert_eq!((&*answer.status, &answer.json["kept"]), ("202", &json!(true)), "{}", answer.json);
    let changes = log.changes();
    let [change] = &changes[..] else { panic!("{changes:?}") };
    let row = ["channel", "subject", "event", "id", "body", "form"].map(|column| cell(change, column));
    assert_eq!(row, ["room:7", "ann", "said", "Null", r#"{"text":"hi"}"#, "json"]);
    let receipt = u64::from_str_radix(answer.json["receipt"].as_str().expect("it is a text"), 16);
    assert_eq!(receipt, Ok(change.position.commit));

    let mut socket = socket_of(&fixture, "bob").await;
    let published = socket.ask(json!({"type": "publish", "channel": "room:7", "text": "keep this"})).await;
    assert_eq!((&published["type"], &published["kept"]), (&json!("published"), &json!(true)));
    let bytes = json!({"type": "publish", "channel": "room:7", "event": "file", "base64": "awD/"});
    assert_eq!(socket.ask(bytes).await["kept"], true);
    let changes = log.changes();
    assert_eq!(
        ["subject", "body", "form"].map(|column| cell(&changes[1], column)),
        ["bob", "keep this", "text"]
    );
    assert_eq!(cell(&changes[2], "body"), format!("{:?}", Cell::Bytes(b"k\0\xFF")));
    assert_eq!(outcomes(&fixture), [("kept", 3)]);
    assert_eq!(*fixture.bus.head().borrow(), Sequence(0), "what becomes of it is the policy's to say");
}

#[tokio::test]
async fn what_is_ephemeral_goes_to_those_who_listen_and_nowhere_else() {
    let (fixture, log) = heard().await;
    let bob = bearer("bob");
    let mut stream =
        Client::get(fixture.address(), "/v1/events?channel=user:bob", &[("Authorization", &bob)]).await;
    assert!(stream.block().await);
    let mut socket = socket_of(&fixture, "bob").await;
    socket.subscribe(&[("user:bob", "")]).await;
    let answer =
        say(&fixture, "/v1/channels/user%3Abob", "ann", &json!({"event": "typing", "text": "ephemeral"}))
            .await;
    assert_eq!((&*answer.status, answer.json), ("202", json!({"kept": false})));
    let place = stream.last_id.clone();
    let event = stream.event().await.expect("the stream goes on");
    assert_eq!((&*event.event, &*event.data), ("typing", "ephemeral"));
    assert_eq!(event.id, place, "it has no id of its own");
    let expected = json!({"type": "message", "channel": "user:bob", "event": "typing", "text": "ephemeral"});
    assert_eq!(socket.event().await, expected);
    // Who says it gets it as well, after the answer or before.
    let told = socket.ask(json!({"type": "publish", "channel": "user:bob", "base64": "ZQ=="})).await;
    assert_eq!(told, json!({"type": "published", "kept": false, "ref": 77}));
    assert_eq!(socket.event().await, json!({"type": "message", "channel": "user:bob", "base64": "ZQ=="}));
    assert!(log.changes().is_empty());
    assert_eq!(*fixture.bus.head().borrow(), Sequence(0));
    assert_eq!(outcomes(&fixture), [("ephemeral", 2)]);
}

#[tokio::test]
async fn a_message_that_is_sent_again_has_the_answer_of_the_first() {
    let (fixture, log) = heard().await;
    let ann = bearer("ann");
    let body = json!({"text": "keep"}).to_string();
    let mut answers = Vec::new();
    for id in ["a1", "\"a1\"", "a2"] {
        let headers = [("Authorization", &*ann), JSON, ("Idempotency-Key", id)];
        answers.push(post(&fixture, ROOM, &headers, &body).await.json);
    }
    assert_eq!(answers[0], answers[1]);
    assert_ne!(answers[0], answers[2]);
    // However it is sent.
    let mut socket = socket_of(&fixture, "ann").await;
    let again = socket.ask(json!({"type": "publish", "channel": "room:7", "id": "a1", "text": "keep"})).await;
    assert_eq!(again["receipt"], answers[0]["receipt"]);
    let other = say(&fixture, ROOM, "bob", &json!({"id": "a1", "text": "keep"})).await;
    assert_ne!(other.json["receipt"], answers[0]["receipt"]);
    assert_eq!(log.changes().len(), 3);
    assert_eq!(outcomes(&fixture), [("kept", 3), ("repeated", 2)]);
}

#[tokio::test]
async fn nobody_may_say_anything_without_a_gate_that_lets_them() {
    let gone: fn() -> Result<Option<Gate>, std::io::Error> = || Ok(None);
    for access in [open_to_all(), by_tokens(|_| {}).0] {
        access.put_gate(gone());
        let log = MemoryLog::new();
        let fixture = Fixture::hearing(access, served(log.clone()).await, |_| {}).await;
        let answer = say(&fixture, ROOM, "ann", &json!({"text": "keep"})).await;
        assert_eq!(answer.refusal(), ("403", 4024));
        assert!(log.changes().is_empty());
    }
    let (fixture, log) = heard().await;
    let answer = say(&fixture, ROOM, "ann", &json!({"text": "spam"})).await;
    assert_eq!((answer.refusal(), &answer.json["error"]["message"]), (("403", 4024), &json!("spam")));
    // A gate that fails denies.
    let answer = say(&fixture, ROOM, "ann", &json!({"base64": "/w=="})).await;
    assert_eq!(answer.refusal(), ("403", 4024));
    assert!(log.changes().is_empty());
    assert_eq!(outcomes(&fixture), [("channel_forbidden", 2)]);
}

#[tokio::test]
async fn a_socket_whose_token_has_expired_says_nothing_more() {
    let (fixture, log) = heard().await;
    let mut socket = Socket::connect(fixture.address(), "/v1/ws", Manners::Good).await;
    socket.event().await;
    let short = socket.ask(json!({"type": "refresh", "token": token_for("ann", 1)})).await;
    assert_eq!(short["type"], "refreshed");
    let publish = json!({"type": "publish", "channel": "room:7", "text": "keep"});
    // The leeway of these tests is none, so within a second or so.
    let refused = loop {
        let answer = socket.ask(publish.clone()).await;
        if answer["type"] == "error" {
            break answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(refused["code"], 4022);
    let kept = log.changes().len();
    assert_eq!(socket.ask(publish).await["code"], 4022);
    assert_eq!(log.changes().len(), kept);
}

#[tokio::test]
async fn what_cannot_be_said_is_refused_with_a_number_a_reason_and_a_sentence() {
    let (fixture, log) = heard().await;
    let ann = bearer("ann");
    let (auth, large) = (("Authorization", &*ann), "x".repeat(CLIENT_MESSAGE_BYTES_MAX));
    let large = json!({"text": large}).to_string();
    let plain = r#"{"text":"keep"}"#;
    let mut all = Vec::new();
    for (target, headers, body) in [
        (ROOM, &[JSON][..], r#"{"text":"forbidden"}"#),
        (ROOM, &[("Authorization", "Bearer a.b.c"), JSON], plain),
        (ROOM, &[auth], plain),
        (ROOM, &[auth, ("Content-Type", "text/plain")], plain),
        (ROOM, &[auth, JSON], "keep"),
        (ROOM, &[auth, JSON], r#"{"text":"keep","event":"reset"}"#),
        (ROOM, &[auth, JSON, ("Idempotency-Key", "a"), ("Idempotency-Key", "b")], plain),
        (ROOM, &[auth, JSON, ("Idempotency-Key", "\"\"")], plain),
        (ROOM, &[auth, JSON], &large),
        ("/v1/channels/%24author%3A7", &[auth, JSON], plain),
        ("/v1/channels/timeline%3Aann", &[auth, JSON], plain),
        ("/v1/channels/a%0Ab", &[auth, JSON], plain),
    ] {
        let answer = post(&fixture, target, headers, body).await;
        let error = &answer.json["error"];
        all.push(format!("{} {} {} {}", answer.status, error["code"], error["reason"], error["message"]));
    }
    insta::assert_snapshot!(all.join("\n"));
    assert!(log.changes().is_empty());
    let other = Client::request(fixture.address(), "GET", ROOM, &[]).await;
    assert_eq!((other.status(), other.header("allow")), ("405", Some("POST")));
    let mut socket = socket_of(&fixture, "ann").await;
    for (field, code) in [("timeline:ann", 4004), ("$a", 4004), ("room:7", 4014)] {
        let answer =
            socket.ask(json!({"type": "publish", "channel": field, "text": "keep", "event": "a\nb"})).await;
        let code = if field == "timeline:ann" { 4014 } else { code };
        assert_eq!(answer["code"], code, "{answer}");
    }
    let answer = socket.ask(json!({"type": "publish", "channel": "timeline:ann", "text": "keep"})).await;
    assert_eq!(answer["code"], 4004, "{answer}");
}

#[tokio::test]
async fn who_says_too_much_is_told_how_long_to_wait() {
    let log = MemoryLog::new();
    let limited = |config: &mut super::Config| config.messages = Rate { per_second: 1, burst: 2 };
    let fixture = Fixture::hearing(guarded(), served(log.clone()).await, limited).await;
    for _ in 0..2 {
        assert_eq!(say(&fixture, ROOM, "ann", &json!({"text": "keep"})).await.status, "202");
    }
    let answer = say(&fixture, "/v1/channels/elsewhere", "ann", &json!({"text": "keep"})).await;
    assert_eq!((answer.refusal(), answer.retry_after.as_deref()), (("429", 4122), Some("1")));
    assert_eq!(answer.json["error"]["reconnect"], "later");
    let mut socket = socket_of(&fixture, "ann").await;
    let refused = socket.ask(json!({"type": "publish", "channel": "room:7", "text": "keep"})).await;
    assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!(4122)));
    assert!(refused["delay_ms"].as_u64().is_some_and(|delay| (1..=1_000).contains(&delay)), "{refused}");
    // The others do not wait for her.
    assert_eq!(say(&fixture, ROOM, "bob", &json!({"text": "keep"})).await.status, "202");
    assert_eq!(log.changes().len(), 3);
    assert_eq!(outcomes(&fixture), [("kept", 3), ("messages_too_many", 2)]);
}

#[tokio::test]
async fn a_log_that_takes_nothing_acknowledges_nothing() {
    let (fixture, log) = heard().await;
    log.fill();
    let mut socket = socket_of(&fixture, "ann").await;
    let message = json!({"id": "1", "text": "keep"});
    let refused = say(&fixture, ROOM, "ann", &message).await;
    assert_eq!((refused.refusal(), refused.retry_after.as_deref()), (("503", 4103), Some("2")));
    let publish = json!({"type": "publish", "channel": "room:7", "text": "keep"});
    assert_eq!(socket.ask(publish.clone()).await["code"], 4103);
    log.make_room();
    assert_eq!(say(&fixture, ROOM, "ann", &message).await.status, "202");
    assert_eq!(socket.ask(publish).await["kept"], true);
    assert_eq!(log.changes().len(), 2);
    assert_eq!(outcomes(&fixture), [("kept", 2), ("log_unavailable", 2)]);
}

#[tokio::test]
async fn while_the_server_stops_nothing_is_kept() {
    let fixture = Fixture::guarded(MemoryBus::new(1), guarded(), |_| {}).await;
    let answer = say(&fixture, ROOM, "ann", &json!({"text": "keep"})).await;
    assert_eq!((answer.refusal(), answer.retry_after.as_deref()), (("503", 4200), Some("0")));
}

#[tokio::test]
async fn pages_of_listed_origins_may_say_something_and_are_asked_beforehand() {
    let (fixture, _) = heard().await;
    let listed = ("Origin", "https://shop.example");
    let asked = [
        listed,
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization,content-type,idempotency-key"),
    ];
    let answer = Client::request(fixture.address(), "OPTIONS", ROOM, &asked).await;
    assert_eq!((answer.status(), answer.header("access-control-allow-methods")), ("204", Some("GET, POST")));
    let names = answer.header("access-control-allow-headers").expect("it is there");
    assert!(["content-type", "idempotency-key"].iter().all(|name| names.contains(name)), "{names}");
    let ann = bearer("ann");
    let headers = [("Authorization", &*ann), JSON, listed];
    let body = r#"{"text":"keep"}"#;
    let answer = Client::send(fixture.address(), "POST", ROOM, &headers, Some(body.as_bytes())).await;
    assert_eq!((answer.status(), answer.header("access-control-allow-origin")), ("202", Some(listed.1)));
}
