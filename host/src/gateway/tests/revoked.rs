//! What was granted and ends while a client listens: nothing is told after that but the end.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::Fixture;
use super::memory_bus::MemoryBus;
use super::socket_client::{Manners, Socket};
use crate::access::tests::{Follows, a_gate, by_graph, by_tokens, token_for};
use crate::access::{Access, Gate};
use crate::http::tests::Client;

const NO_GATE: Result<Option<Gate>, std::io::Error> = Ok(None);

async fn events(address: SocketAddr, channels: &str) -> Client {
    let bearer = format!("Bearer {}", token_for("ann", 600));
    Client::get(address, &format!("/v1/events?{channels}"), &[("Authorization", &bearer)]).await
}

async fn socket(address: SocketAddr) -> Socket {
    let bearer = format!("Bearer {}", token_for("ann", 600));
    let answer = Client::request(address, "POST", "/v1/tickets", &[("Authorization", &bearer)]).await;
    let answer = answer.json().await;
    let ticket = answer["ticket"].as_str().expect("it is a text");
    let mut socket = Socket::connect(address, &format!("/v1/ws?ticket={ticket}"), Manners::Good).await;
    assert_eq!(socket.next().await.expect("a greeting comes")["type"], "hello");
    socket
}

/// A gateway at which ann follows bob and eve.
async fn followed() -> (Fixture, Access, Arc<Follows>) {
    let (access, follows, _) = by_graph();
    for followee in ["bob", "eve"] {
        follows.turn(&access, "ann", followee, true);
    }
    (Fixture::guarded(MemoryBus::new(0x9f3c), access.clone(), |_| {}).await, access, follows)
}

#[tokio::test]
async fn an_unfollow_ends_an_event_stream_before_the_next_message_and_no_other() {
    let (fixture, access, follows) = followed().await;
    let mut of_bob = events(fixture.address(), "channel=Followers:bob").await;
    let mut of_eve = events(fixture.address(), "channel=Followers:eve").await;
    assert!(of_bob.block().await && of_eve.block().await);
    fixture.bus.publish("Followers:bob", "1");
    assert_eq!(of_bob.data(1).await, ["1"]);
    follows.turn(&access, "ann", "bob", false);
    fixture.bus.publish("Followers:bob", "2");
    let end = of_bob.event().await.expect("the end is said");
    assert_eq!((end.event.as_str(), end.data.contains("\"code\":4024")), ("refused", true), "{}", end.data);
    assert_eq!(of_bob.event().await, None);
    fixture.bus.publish("Followers:eve", "3");
    assert_eq!(of_eve.data(1).await, ["3"]);
    fixture.streams(1).await;
    assert_eq!(events(fixture.address(), "channel=Followers:bob").await.status(), "403");
    follows.turn(&access, "ann", "bob", true);
    assert_eq!(events(fixture.address(), "channel=Followers:bob").await.status(), "200");
}

#[tokio::test]
async fn an_edge_that_is_there_again_when_the_gate_answers_loses_nothing() {
    let (fixture, access, follows) = followed().await;
    let mut client = events(fixture.address(), "channel=Followers:bob").await;
    assert!(client.block().await);
    for nth in 0..20 {
        follows.turn(&access, "ann", "bob", false);
        fixture.bus.publish("Followers:bob", &nth.to_string());
        follows.turn(&access, "ann", "bob", true);
        assert_eq!(client.data(1).await, [nth.to_string()]);
    }
}

#[tokio::test]
async fn an_unfollow_ends_a_socket_and_a_poll_that_waits() {
    let (fixture, access, follows) = followed().await;
    let address = fixture.address();
    let mut socket = socket(address).await;
    socket.subscribe(&[("Followers:eve", "")]).await;
    socket.subscribe(&[("Followers:bob", "")]).await;
    let poll = tokio::spawn(async move {
        let bearer = format!("Bearer {}", token_for("ann", 600));
        let target = "/v1/poll?channel=Followers:bob&after=9f3c.0&wait=50";
        Client::get(address, target, &[("Authorization", &bearer)]).await.json().await
    });
    fixture.streams(2).await;
    // One that is left does not end it.
    assert_eq!(
        socket.ask(json!({"type": "unsubscribe", "channels": ["Followers:eve"]})).await["type"],
        "unsubscribed"
    );
    follows.turn(&access, "ann", "eve", false);
    fixture.bus.publish("Followers:eve", "not hers");
    assert_eq!(socket.ask(json!({"type": "ping"})).await["type"], "pong");
    follows.turn(&access, "ann", "bob", false);
    fixture.bus.publish("Followers:bob", "nor this");
    let end = socket.event().await;
    assert_eq!((&end["type"], &end["code"]), (&Value::from("error"), &Value::from(4024)), "{end}");
    assert_eq!(socket.ended().await.expect("it says why").0, 4024);
    let answer = poll.await.expect("no panic");
    assert_eq!(answer["error"]["code"], 4024, "{answer}");
    fixture.streams(0).await;
}

#[tokio::test]
async fn what_is_on_its_way_when_a_gate_goes_is_not_told() {
    for nth in 0..20 {
        let (access, _) = by_tokens(|_| {});
        access.put_gate::<std::io::Error>(Ok(Some(a_gate())));
        let fixture = Fixture::guarded(MemoryBus::new(0x9f3c), access.clone(), |_| {}).await;
        let mut client = events(fixture.address(), "channel=allowed").await;
        assert!(client.block().await);
        fixture.bus.publish("allowed", "1");
        assert_eq!(client.data(1).await, ["1"]);
        // Whoever runs next is the hub, which would write it.
        fixture.bus.publish("allowed", "2");
        access.put_gate(NO_GATE);
        let end = client.event().await.expect("the end is said");
        assert_eq!(end.event, "refused", "{nth}: {end:?}");
    }
}
