//! The end of a gateway: every stream at its own moment, and back at its own moment.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::memory_bus::MemoryBus;
use super::socket_client::Socket;
use super::{Config, Fixture};
use crate::gateway::hub::{Hub, SubscribeError};
use crate::gateway::mailbox::Own;
use crate::http::tests::{Client, PATIENCE};
use crate::telemetry::Face;

/// Waits for the end of a stream and gives when that was.
async fn end_of_events(mut client: Client) -> Instant {
    while client.block().await {}
    assert!(client.seen.contains("\n\nretry: "), "it is told when to come back: {}", client.seen);
    Instant::now()
}

async fn end_of_socket(mut socket: Socket) -> Instant {
    assert_eq!(socket.event().await["code"], 4200);
    assert_eq!(socket.ended().await, Some((4200, "shutting_down".to_owned())));
    Instant::now()
}

async fn end_of_poll(client: Client) -> Instant {
    assert_eq!(client.status(), "503");
    let after: u64 = client.header("retry-after").expect("it says when").parse().expect("in seconds");
    let error = client.json().await["error"].take();
    let delay = error["delay_ms"].as_u64().expect("it says when, exactly");
    assert_eq!((error["code"].as_u64(), after), (Some(4200), delay.div_ceil(1_000)));
    Instant::now()
}

#[tokio::test]
async fn every_stream_of_every_face_ends_at_its_own_moment_and_nobody_comes_in() {
    let fixture = Fixture::with(MemoryBus::new(1), |config| {
        config.drain_interval = Duration::from_millis(20);
        config.shutdown_time_max = PATIENCE;
    })
    .await;
    let address = fixture.address();
    let mut ends = JoinSet::new();
    for _ in 0..8 {
        ends.spawn(end_of_events(Client::get(address, "/v1/events?channel=a", &[]).await));
        ends.spawn(end_of_socket(Socket::open(address).await));
        ends.spawn(async move {
            end_of_poll(Client::get(address, "/v1/poll?channel=a&after=1.0&wait=50", &[]).await).await
        });
    }
    fixture.streams(24).await;
    fixture.stop.cancel();
    let first = ends.join_next().await.expect("somebody ends first").expect("as it should");
    assert!(TcpStream::connect(address).await.is_err(), "nobody is let in any more");
    let mut moments: Vec<_> = ends.join_all().await;
    moments.push(first);
    moments.sort();
    tokio::time::timeout(PATIENCE, fixture.gateway.stopped()).await.expect("it stops");
    // 23 intervals lie between them, however slow the machine is.
    let took = *moments.last().expect("there are some") - moments[0];
    assert!(took > Duration::from_millis(300), "they ended within {took:?}");
}

#[tokio::test]
async fn all_have_ended_within_the_grace_however_many_there_are() {
    let fixture =
        Fixture::with(MemoryBus::new(1), |config| config.drain_interval = Duration::from_secs(60)).await;
    let mut ends = JoinSet::new();
    for _ in 0..10 {
        ends.spawn(end_of_events(Client::get(fixture.address(), "/v1/events?channel=a", &[]).await));
    }
    fixture.streams(10).await;
    fixture.stop.cancel();
    tokio::time::timeout(PATIENCE, ends.join_all()).await.expect("each is told before it is cut");
    tokio::time::timeout(PATIENCE, fixture.gateway.stopped()).await.expect("it stops");
}

#[tokio::test]
async fn ten_thousand_clients_come_back_in_no_second_together() {
    let config = Config::new(([127, 0, 0, 1], 0).into());
    let (hub, _follower) = Hub::new(&config, MemoryBus::new(1), None);
    let join = |_| hub.join(Face::EventStream, Own::default()).expect("there is room");
    let clients: Vec<_> = (0..10_000).map(join).collect();
    hub.drain(Duration::ZERO).await;
    assert!(clients.iter().all(|client| client.is_closed()));
    let mut seconds: BTreeMap<u64, usize> = BTreeMap::new();
    for client in &clients {
        *seconds.entry(client.reconnect_delay().as_secs()).or_default() += 1;
    }
    assert!(seconds.values().all(|count| *count < 1_100), "{seconds:?}");
    assert!(matches!(hub.join(Face::WebSocket, Own::default()), Err(SubscribeError::Closed(_))));
}
