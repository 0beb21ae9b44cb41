//! How many may come: connections, streams, requests; by address, by subject, behind proxies.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use super::Fixture;
use super::memory_bus::MemoryBus;
use super::socket_client::Socket;
use crate::access::tests::{by_tokens, token_for};
use crate::http::tests::{Client, PATIENCE};
use crate::http::{Proxies, Rate};
use crate::telemetry::Limit;

/// What is refused, and how long to wait.
async fn refusal(client: Client) -> (String, Value, Option<String>) {
    let (status, after) = (client.status().to_owned(), client.header("retry-after").map(str::to_owned));
    (status, client.json().await["error"]["code"].take(), after)
}

fn limited(fixture: &Fixture, limit: Limit) -> u64 {
    fixture.metrics.gateway.listener.limited(limit).load(Ordering::Relaxed)
}

/// Behind a proxy on this machine.
fn behind_proxy() -> Proxies {
    Proxies { trusted: vec!["127.0.0.0/8".parse().expect("it is a prefix")], ..Proxies::default() }
}

#[tokio::test]
async fn an_address_has_as_many_connections_as_it_may() {
    let fixture =
        Fixture::with(MemoryBus::new(1), |config| config.connections_per_address_max = Some(2)).await;
    let first = Client::get(fixture.address(), "/v1/events?channel=a", &[]).await;
    let _second = Socket::open(fixture.address()).await;
    let refused = refusal(Client::get(fixture.address(), "/healthz", &[]).await).await;
    assert_eq!(refused, ("429".into(), 4130.into(), Some("2".into())));
    assert_eq!(limited(&fixture, Limit::ConnectionsPerAddress), 1);
    drop(first);
    let fits = async { while Client::get(fixture.address(), "/healthz", &[]).await.status() != "200" {} };
    tokio::time::timeout(PATIENCE, fits).await.expect("the place comes back");
}

#[tokio::test]
async fn the_connections_of_a_trusted_proxy_are_not_one_clients() {
    let fixture = Fixture::with(MemoryBus::new(1), |config| {
        config.connections_per_address_max = Some(1);
        config.streams_per_address_max = Some(1);
        config.proxies = behind_proxy();
    })
    .await;
    let address = fixture.address();
    let from = |client: &'static str| async move {
        Client::get(address, "/v1/events?channel=a", &[("X-Forwarded-For", client)]).await
    };
    let one = from("203.0.113.9, 198.51.100.1").await;
    let other = from("2001:db8::1").await;
    assert_eq!((one.status(), other.status()), ("200", "200"));
    for again in ["198.51.100.1", "203.0.113.7, 198.51.100.1", "2001:db8::2"] {
        let refused = refusal(from(again).await).await;
        assert_eq!(refused, ("429".into(), 4131.into(), Some("2".into())), "{again}");
    }
}

#[tokio::test]
async fn every_face_counts_as_a_stream_of_its_address() {
    let fixture = Fixture::with(MemoryBus::new(1), |config| config.streams_per_address_max = Some(3)).await;
    let address = fixture.address();
    let events = Client::get(address, "/v1/events?channel=a", &[]).await;
    let _socket = Socket::open(address).await;
    let poll = tokio::spawn(async move {
        Client::get(address, "/v1/poll?channel=a&after=1.0&wait=50", &[]).await;
    });
    fixture.streams(3).await;
    for path in ["/v1/events?channel=a", "/v1/poll?channel=a&after=1.0"] {
        assert_eq!(refusal(Client::get(address, path, &[]).await).await.1, 4131);
    }
    let handshake = Client::get(address, "/v1/ws", super::socket_client::HANDSHAKE).await;
    assert_eq!(refusal(handshake).await.1, 4131);
    assert_eq!(limited(&fixture, Limit::StreamsPerAddress), 3);
    drop(events);
    fixture.streams(2).await;
    let again = async { while Client::get(address, "/v1/events?channel=a", &[]).await.status() != "200" {} };
    tokio::time::timeout(PATIENCE, again).await.expect("the seat comes back");
    poll.abort();
}

#[tokio::test]
async fn a_subject_has_as_many_streams_as_it_may_wherever_it_is() {
    let (access, _) = by_tokens(|_| {});
    let fixture = Fixture::guarded(MemoryBus::new(1), access, |config| {
        config.streams_per_subject_max = Some(1);
        config.proxies = behind_proxy();
    })
    .await;
    let of = |subject: &'static str, from: &'static str| {
        let (address, bearer) = (fixture.address(), format!("Bearer {}", token_for(subject, 60)));
        async move {
            let headers = [("Authorization", bearer.as_str()), ("X-Forwarded-For", from)];
            Client::get(address, "/v1/events?channel=public:a", &headers).await
        }
    };
    let ann = of("ann", "192.0.2.1").await;
    let bob = of("bob", "192.0.2.1").await;
    assert_eq!((ann.status(), bob.status()), ("200", "200"));
    assert_eq!(refusal(of("ann", "192.0.2.2").await).await.1, 4131);
    assert_eq!(limited(&fixture, Limit::StreamsPerSubject), 1);
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_ask_again() {
    let fixture = Fixture::with(MemoryBus::new(1), |config| {
        config.requests = Some(Rate { per_second: 1, burst: 3 });
        config.proxies = behind_proxy();
    })
    .await;
    let ask = |from: &'static str| {
        let address = fixture.address();
        async move { Client::get(address, "/v1/channels", &[("X-Forwarded-For", from)]).await }
    };
    for _ in 0..3 {
        assert_eq!(ask("192.0.2.1").await.status(), "200");
    }
    let refused = ask("192.0.2.1").await;
    assert_eq!((refused.status(), refused.header("retry-after")), ("429", Some("1")));
    let error = refused.json().await["error"].take();
    assert_eq!((&error["code"], &error["reconnect"]), (&4132.into(), &"later".into()));
    assert!((1..=1_000).contains(&error["delay_ms"].as_u64().expect("it says how long")), "{error}");
    assert_eq!(ask("192.0.2.2").await.status(), "200", "others may");
    assert_eq!(limited(&fixture, Limit::RequestsPerAddress), 1);
    let again = async { while ask("192.0.2.1").await.status() != "200" {} };
    tokio::time::timeout(PATIENCE, again).await.expect("it may again");
}

#[tokio::test]
async fn a_page_of_a_listed_origin_may_read_that_it_asks_too_often() {
    let (access, _) = by_tokens(|settings| settings.origins = vec!["https://shop.example".into()]);
    let fixture = Fixture::guarded(MemoryBus::new(1), access, |config| {
        config.requests = Some(Rate { per_second: 1, burst: 1 });
        config.proxies = behind_proxy();
    })
    .await;
    let (listed, other) = ("https://shop.example", "https://evil.example");
    for (origin, from, allowed) in [(listed, "192.0.2.1", Some(listed)), (other, "192.0.2.2", None)] {
        let headers = [("Origin", origin), ("X-Forwarded-For", from)];
        let ask = || Client::get(fixture.address(), "/v1/channels?prefix=public:", &headers);
        assert_eq!(ask().await.status(), "200");
        let refused = ask().await;
        assert_eq!((refused.status(), refused.header("vary")), ("429", Some("Origin")));
        assert_eq!(refused.header("access-control-allow-origin"), allowed);
    }
}

#[tokio::test]
async fn the_time_that_frames_wait_is_counted_and_so_is_who_comes_back() {
    let fixture = Fixture::start().await;
    let mut live = Client::get(fixture.address(), "/v1/events?channel=a", &[]).await;
    fixture.streams(1).await;
    assert!(live.block().await);
    fixture.bus.publish("a", "1");
    assert_eq!(live.data(1).await, ["1"]);
    let (_, count, waited) = fixture.metrics.gateway.deliveries.waits.read();
    assert_eq!(count, 1);
    assert!(waited < PATIENCE && waited < Duration::from_secs(60));
    let mut back = Client::resume(fixture.address(), "/v1/events?channel=a", "9f3c.0").await;
    assert_eq!(back.data(1).await, ["1"]);
    let resumes = &fixture.metrics.gateway.face(crate::telemetry::Face::EventStream).resumes;
    assert_eq!(resumes.load(Ordering::Relaxed), 1);
}
