//! What clients of `/v1/poll` and of a channel's history see.

use std::time::Duration;

use serde_json::{Value, json};

use super::Fixture;
use super::memory_bus::{MemoryBus, message};
use crate::access::tests::{a_gate, by_tokens};
use crate::event::{Retention, Sequence};
use crate::http::tests::{Client, PATIENCE};
use crate::limits::{POLL_COUNT_MAX, REPLAY_READ_COUNT_MAX};

async fn get(fixture: &Fixture, target: &str) -> Value {
    Client::get(fixture.address(), target, &[]).await.json().await
}

fn texts(answer: &Value) -> Vec<&str> {
    let messages = answer["messages"].as_array().expect("an answer has messages");
    messages.iter().map(|message| message["text"].as_str().expect("the test's payloads are text")).collect()
}

#[tokio::test]
async fn a_poll_gets_what_is_there_at_once_and_its_id_goes_on_from_there() {
    let fixture = Fixture::start().await;
    for payload in ["1", "2", "3"] {
        fixture.bus.publish("a", payload);
    }
    fixture.bus.publish("b", "4");
    let answer = get(&fixture, "/v1/poll?channel=a&after=9f3c.1&wait=55").await;
    assert_eq!(
        answer["messages"][0],
        json!({"type": "message", "channel": "a", "id": "9f3c.2", "event": "e", "text": "2"})
    );
    assert_eq!(texts(&answer), ["2", "3"]);
    assert_eq!(answer["reset"], Value::Null);
    let id = answer["id"].as_str().expect("an answer has an id");
    let answer = get(&fixture, &format!("/v1/poll?channel=a&channel=b&after={id}&wait=0")).await;
    assert_eq!(texts(&answer), if id == "9f3c.4" { vec![] } else { vec!["4"] });
}

#[tokio::test]
async fn a_poll_without_an_id_is_told_where_it_begins() {
    let fixture = Fixture::start().await;
    let answer = get(&fixture, "/v1/poll?channel=a").await;
    assert_eq!(answer, json!({"messages": [], "id": "9f3c.0"}));
    fixture.bus.publish("a", "1");
    assert_eq!(texts(&get(&fixture, "/v1/poll?channel=a&after=9f3c.0").await), ["1"]);
}

#[tokio::test]
async fn a_poll_waits_for_the_first_message_and_not_longer_than_it_may() {
    let fixture = Fixture::start().await;
    let waiting = get(&fixture, "/v1/poll?channel=a&after=9f3c.0&wait=55");
    let publish = async {
        fixture.streams(1).await;
        fixture.bus.publish("a", "1");
    };
    let both = async { tokio::join!(waiting, publish).0 };
    let answer = tokio::time::timeout(PATIENCE, both).await.expect("it does not wait for its end");
    assert_eq!(answer["messages"][0]["text"], "1");
    assert_eq!(
        get(&fixture, "/v1/poll?channel=b&after=9f3c.1&wait=1").await,
        json!({"messages": [], "id": "9f3c.1"})
    );
    fixture.streams(0).await;
}

#[tokio::test]
async fn a_poll_that_may_not_read_what_was_before_waits_as_well() {
    let (access, _) = by_tokens(|_| {});
    access.put_gate::<std::io::Error>(Ok(Some(a_gate())));
    let fixture = Fixture::guarded(MemoryBus::new(0x9f3c), access, |_| {}).await;
    fixture.bus.publish("new-only", "1");
    let waiting = get(&fixture, "/v1/poll?channel=new-only&after=9f3c.0&wait=55");
    let publish = async {
        fixture.streams(1).await;
        // It is there, and would have been answered by now.
        tokio::time::sleep(Duration::from_millis(50)).await;
        fixture.bus.publish("new-only", "2");
    };
    let both = async { tokio::join!(waiting, publish).0 };
    let answer = tokio::time::timeout(PATIENCE, both).await.expect("it does not wait for its end");
    assert_eq!(texts(&answer), ["2"]);
    assert_eq!(answer["reset"], json!({"channels": ["new-only"], "reason": "withheld"}));
    assert_eq!(answer["id"], "9f3c.2");
}

#[tokio::test]
async fn a_poll_takes_no_more_than_its_bound_and_the_next_goes_on() {
    let fixture = Fixture::start().await;
    let count = 2 * POLL_COUNT_MAX + 3;
    for nth in 0..count {
        fixture.bus.publish("a", &nth.to_string());
    }
    let (mut id, mut all) = ("9f3c.0".to_owned(), Vec::new());
    while all.len() < count {
        let answer = get(&fixture, &format!("/v1/poll?channel=a&after={id}")).await;
        assert!(texts(&answer).len() <= POLL_COUNT_MAX);
        all.extend(texts(&answer).into_iter().map(str::to_owned));
        id = answer["id"].as_str().expect("an answer has an id").to_owned();
    }
    assert_eq!(all, (0..count).map(|nth| nth.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_poll_whose_id_is_lost_gets_a_reset_at_once() {
    let fixture = Fixture::start().await;
    for payload in ["1", "2", "3"] {
        fixture.bus.publish("a", payload);
    }
    let mut follower = Client::resume(fixture.address(), "/v1/events?channel=a", "9f3c.2").await;
    assert_eq!(follower.data(1).await, ["3"]);
    fixture.bus.forget(Sequence(2));
    let answer = get(&fixture, "/v1/poll?channel=a&after=9f3c.1").await;
    assert_eq!(
        answer,
        json!({"messages": [], "id": "9f3c.3", "reset": {"channels": ["a"], "reason": "expired"}})
    );
}

#[tokio::test]
async fn a_stop_ends_a_poll() {
    let fixture = Fixture::start().await;
    let waiting = get(&fixture, "/v1/poll?channel=a&after=9f3c.0&wait=55");
    let stop = async {
        fixture.streams(1).await;
        fixture.stop.cancel();
    };
    let (answer, ()) = tokio::join!(waiting, stop);
    assert_eq!(answer["error"]["code"], 4200);
}

#[tokio::test]
async fn a_client_that_leaves_its_poll_leaves_nothing_behind() {
    let fixture = Fixture::start().await;
    let waiting = Client::get(fixture.address(), "/v1/poll?channel=a&after=9f3c.0&wait=55", &[]);
    tokio::select! {
        _ = waiting => panic!("there is nothing to get"),
        () = fixture.streams(1) => {}
    }
    fixture.streams(0).await;
    assert_eq!(fixture.gateway.hub.channels_count(), 0);
}

#[tokio::test]
async fn a_history_comes_in_pages_from_its_oldest_message() {
    let fixture = Fixture::start().await;
    for nth in 0..5 {
        fixture.bus.publish(["größe/1", "b"][nth % 2], &nth.to_string());
    }
    fixture.bus.publish_message(message("größe/1", "", "passing", Retention::LiveOnly));
    let target = "/v1/channels/gr%C3%B6%C3%9Fe%2F1/messages";
    let first = get(&fixture, &format!("{target}?limit=2")).await;
    assert_eq!(
        (texts(&first), &first["id"], &first["more"]),
        (vec!["0", "2"], &json!("9f3c.3"), &json!(true))
    );
    let last = get(&fixture, &format!("{target}?limit=2&after=9f3c.3")).await;
    assert_eq!((texts(&last), &last["id"], &last["more"]), (vec!["4"], &json!("9f3c.5"), &json!(false)));
    let none = get(&fixture, "/v1/channels/none/messages").await;
    assert_eq!(none, json!({"messages": [], "id": "9f3c.5", "more": false}));
}

#[tokio::test]
async fn a_history_that_lost_what_an_id_names_says_so_and_gives_what_it_has() {
    let fixture = Fixture::start().await;
    for nth in 1..=4 {
        fixture.bus.publish("a", &nth.to_string());
    }
    fixture.bus.forget(Sequence(2));
    let answer = get(&fixture, "/v1/channels/a/messages?after=9f3c.1").await;
    assert_eq!(texts(&answer), ["3", "4"]);
    assert_eq!(answer["reset"], json!({"channels": ["a"], "reason": "expired"}));
    let answer = get(&fixture, "/v1/channels/a/messages").await;
    assert_eq!((texts(&answer), &answer["reset"]), (vec!["3", "4"], &Value::Null));
}

#[tokio::test]
async fn retention_that_overtakes_a_page_is_told() {
    let fixture = Fixture::start().await;
    for nth in 0..2 * REPLAY_READ_COUNT_MAX {
        fixture.bus.publish("a", &nth.to_string());
    }
    fixture.bus.forget_in_replay_after(0);
    let answer = get(&fixture, "/v1/channels/a/messages?after=9f3c.1").await;
    assert_eq!(answer["reset"]["reason"], "expired");
    assert_eq!((texts(&answer), &answer["id"]), (vec![], &json!("9f3c.128")));
}

#[tokio::test]
async fn what_cannot_be_pulled_is_refused() {
    let fixture =
        Fixture::with(MemoryBus::new(0x9f3c), |c| c.heartbeat_interval = Duration::from_secs(1)).await;
    let mut all = Vec::new();
    for target in [
        "/v1/poll",
        "/v1/poll?channel=a&wait=56",
        "/v1/poll?channel=a&wait=-1",
        "/v1/poll?channel=a&after=x",
        "/v1/channels/a/messages?limit=0",
        "/v1/channels/a/messages?after=9f3c",
        "/v1/channels/%FF/messages",
        "/v1/channels/%0A/messages",
    ] {
        let client = Client::get(fixture.address(), target, &[]).await;
        let status = client.status().to_owned();
        let error = client.json().await["error"].take();
        all.push(format!(
            "{target} → {status} {}: {}",
            error["code"],
            error["message"].as_str().unwrap_or("")
        ));
    }
    fixture.bus.publish("a", "1");
    fixture.bus.fail_replays(2);
    for target in ["/v1/channels/a/messages", "/v1/poll?channel=a&after=9f3c.0"] {
        all.push(format!("{target} → {}", get(&fixture, target).await["error"]["code"]));
    }
    insta::assert_snapshot!(all.join("\n"));
}
