//! What a channel stands at: who is told of its value, where, and when not.

use serde_json::{Value, json};

use super::Fixture;
use super::memory_bus::{MemoryBus, message};
use super::socket_client::Socket;
use crate::access::tests::{a_gate, open_to_all, shut};
use crate::event::{Retention, Sequence};
use crate::http::tests::Client;
use crate::limits::POLL_BYTES_MAX;

/// Five kept messages, of which the third is the value of `a`; the hub has put all of them.
async fn fixture() -> Fixture {
    let fixture = Fixture::start().await;
    fixture.bus.set("a", "1");
    fixture.bus.publish("a", "2");
    fixture.bus.set("a", "3");
    fixture.bus.publish("a", "4");
    fixture.bus.publish("b", "5");
    settle(&fixture).await;
    fixture
}

/// Waits until the hub has put what is there: a stream that begins at its position has nothing to come.
async fn settle(fixture: &Fixture) {
    let head = format!("9f3c.{}", fixture.bus.publish("settle", ""));
    let mut client = Client::get(fixture.address(), "/v1/events?channel=settle", &[]).await;
    while client.last_id != head {
        assert!(client.block().await);
    }
}

async fn poll(fixture: &Fixture, query: &str) -> Value {
    Client::get(fixture.address(), &format!("/v1/poll?{query}"), &[]).await.json().await
}

fn value() -> Value {
    json!({"type": "message", "channel": "a", "id": "9f3c.3", "event": "e", "value": true, "text": "3"})
}

#[tokio::test]
async fn who_comes_new_gets_the_value_under_its_own_id_then_its_place_and_then_what_comes() {
    let fixture = fixture().await;
    let mut events = Client::get(fixture.address(), "/v1/events?channel=a&channel=b", &[]).await;
    let mut socket = Socket::open(fixture.address()).await;
    let answer = socket.subscribe(&[("a", ""), ("b", "")]).await;
    assert_eq!(answer["channels"], json!([{"channel": "a"}, {"channel": "b", "id": "9f3c.6"}]));
    assert_eq!(socket.next().await, Some(value()));
    assert_eq!(socket.next().await, Some(json!({"type": "alive", "id": "9f3c.6"})));
    while events.last_id != "9f3c.6" {
        assert!(events.block().await);
    }
    assert_eq!(
        events.seen,
        "retry: 2000\n\nevent: e\nchannel: a\nid: 9f3c.3\nencoding: text\nvalue: true\ndata: 3\n\n:\nid: 9f3c.6\n\n"
    );
    let answer = poll(&fixture, "channel=a&channel=b").await;
    assert_eq!(answer, json!({"messages": [value()], "id": "9f3c.6"}));
    fixture.bus.set("a", "7");
    assert_eq!(socket.texts(1).await, ["7"]);
    assert_eq!(events.data(2).await, ["3", "7"]);
    assert!(
        events.seen.ends_with("event: e\nchannel: a\nid: 9f3c.7\nencoding: text\ndata: 7\n\n"),
        "it comes as a message"
    );
}

#[tokio::test]
async fn who_resumes_gets_messages_and_no_value() {
    let fixture = fixture().await;
    let mut socket = Socket::open(fixture.address()).await;
    socket.subscribe(&[("a", "9f3c.3")]).await;
    assert_eq!(socket.texts(1).await, ["4"]);
    let mut events = Client::resume(fixture.address(), "/v1/events?channel=a", "9f3c.2").await;
    assert_eq!(events.data(2).await, ["3", "4"]);
    assert!(!events.seen.contains("value"));
    let answer = poll(&fixture, "channel=a&after=9f3c.2").await;
    let expected = json!({"type": "message", "channel": "a", "id": "9f3c.3", "event": "e", "text": "3"});
    assert_eq!(answer["messages"][0], expected);
}

#[tokio::test]
async fn after_a_reset_the_value_comes_although_its_message_left_the_history() {
    let fixture = fixture().await;
    fixture.bus.forget(Sequence(4));
    let mut socket = Socket::open(fixture.address()).await;
    socket.subscribe(&[("a", "9f3c.1"), ("b", "9f3c.4")]).await;
    assert_eq!(socket.texts(1).await, ["5"]);
    let reset = json!({"type": "reset", "channels": ["a"], "reason": "expired"});
    assert_eq!(socket.next().await, Some(reset), "without an id, which would cover the value");
    assert_eq!(socket.next().await, Some(value()));
    assert_eq!(socket.next().await, Some(json!({"type": "alive", "id": "9f3c.6"})));
    let mut events = Client::resume(fixture.address(), "/v1/events?channel=a&channel=b", "9f3c.1").await;
    while events.last_id != "9f3c.6" {
        assert!(events.block().await);
    }
    assert!(events.seen.starts_with("retry: 2000\n\nevent: reset\ndata: "), "{}", events.seen);
    assert_eq!(events.data(2).await[1], "3");
    let answer = poll(&fixture, "channel=a&channel=b&after=9f3c.1").await;
    let reset = json!({"channels": ["a", "b"], "reason": "expired"});
    assert_eq!(answer, json!({"messages": [value()], "id": "9f3c.6", "reset": reset}));
}

#[tokio::test]
async fn a_value_that_ended_is_for_nobody() {
    let fixture = fixture().await;
    fixture.bus.publish_message(message("a", "delete", "gone", Retention::Forget));
    settle(&fixture).await;
    assert_eq!(poll(&fixture, "channel=a").await, json!({"messages": [], "id": "9f3c.8"}));
    let answer = poll(&fixture, "channel=a&after=9f3c.6").await;
    assert_eq!(answer["messages"][0]["text"], "gone", "whoever is there is told");
}

#[tokio::test]
async fn who_may_not_read_what_was_gets_no_value_whether_it_is_new_or_was_reset() {
    let access = shut();
    access.put_gate::<std::io::Error>(Ok(Some(a_gate())));
    let fixture = Fixture::guarded(MemoryBus::new(0x9f3c), access, |_| {}).await;
    // The gate grants `n…` without the history, and `a…` with it.
    fixture.bus.set("n", "1");
    fixture.bus.set("a", "2");
    while poll(&fixture, "channel=a").await["id"] != "9f3c.2" {}
    let answer = poll(&fixture, "channel=a&channel=n").await;
    assert_eq!((&answer["messages"][0]["text"], &answer["messages"][1]), (&json!("2"), &Value::Null));
    let mut socket = Socket::open(fixture.address()).await;
    let answer = socket.subscribe(&[("n", "")]).await;
    assert_eq!(answer["channels"], json!([{"channel": "n", "id": "9f3c.2"}]));
    socket.ask(json!({"type": "unsubscribe", "channels": ["n"]})).await;
    socket.subscribe(&[("n", "9f3c.0")]).await;
    let reset = json!({"type": "reset", "channels": ["n"], "id": "9f3c.2", "reason": "withheld"});
    assert_eq!(socket.next().await, Some(reset));
    fixture.bus.publish("n", "live");
    assert_eq!(socket.texts(1).await, ["live"]);
}

#[tokio::test]
async fn a_value_beyond_the_hub_comes_live_and_once() {
    let fixture = Fixture::start().await;
    let mut first = Client::get(fixture.address(), "/v1/events?channel=a", &[]).await;
    assert!(first.block().await);
    // The hub is held up while the bus is at 2.
    fixture.bus.fail_reads(2);
    fixture.bus.set("a", "1");
    fixture.bus.set("a", "2");
    let mut socket = Socket::open(fixture.address()).await;
    let answer = socket.subscribe(&[("a", "")]).await;
    assert_eq!(answer["channels"], json!([{"channel": "a", "id": "9f3c.0"}]));
    assert_eq!(socket.texts(2).await, ["1", "2"]);
    fixture.bus.publish("a", "3");
    assert_eq!(socket.texts(1).await, ["3"]);
}

#[tokio::test]
async fn values_that_cannot_be_read_end_the_stream_so_that_the_client_comes_back_without_an_id() {
    let fixture = fixture().await;
    fixture.bus.fail_values(1);
    let mut events = Client::get(fixture.address(), "/v1/events?channel=a", &[]).await;
    assert_eq!((events.event().await, events.last_id.as_str()), (None, ""));
    fixture.bus.fail_values(1);
    let mut socket = Socket::open(fixture.address()).await;
    let answer = socket.subscribe(&[("a", "")]).await;
    assert_eq!(answer["channels"], json!([{"channel": "a"}]));
    assert_eq!(socket.event().await["reason"], "history_unavailable");
    fixture.bus.fail_values(1);
    assert_eq!(poll(&fixture, "channel=a").await["error"]["code"], 4101);
    assert_eq!(poll(&fixture, "channel=a").await["messages"], json!([value()]));
}

#[tokio::test]
async fn an_answer_holds_all_values_however_large() {
    let fixture = Fixture::guarded(MemoryBus::new(0x9f3c), open_to_all(), |_| {}).await;
    let large = "x".repeat(POLL_BYTES_MAX / 2 + 1);
    let names: Vec<_> = (0..4).map(|nth| format!("c{nth}")).collect();
    for name in &names {
        fixture.bus.set(name, &large);
    }
    settle(&fixture).await;
    let query: Vec<_> = names.iter().map(|name| format!("channel={name}")).collect();
    let answer = poll(&fixture, &query.join("&")).await;
    assert_eq!(answer["messages"].as_array().map(Vec::len), Some(4));
}

#[tokio::test]
async fn of_a_channel_that_is_left_no_value_comes() {
    let fixture = fixture().await;
    fixture.bus.set("b", "b's");
    settle(&fixture).await;
    let mut socket = Socket::open(fixture.address()).await;
    // Both commands are there before anything is told.
    socket.send(r#"{"type":"subscribe","channels":[{"channel":"a"},{"channel":"b"}]}"#).await;
    socket.send(r#"{"type":"unsubscribe","channels":["a"],"ref":1}"#).await;
    let mut said = Vec::new();
    while said.last().is_none_or(|last: &Value| last["text"] != "b's") {
        said.push(socket.next().await.expect("the conversation goes on"));
    }
    let left = said.iter().position(|value| value["type"] == "unsubscribed");
    let told = said.iter().position(|value| value["text"] == "3");
    assert!(told.is_none() || left.is_none() || told < left, "{said:?}");
}
