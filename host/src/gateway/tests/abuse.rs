//! What no client should do: each is answered with a code or sent away, is counted, and leaves nothing behind.
//!
//! That it costs no memory is seen in a process that does nothing else: `tests/abuse.rs` of the suite.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::Fixture;
use super::memory_bus::MemoryBus;
use super::socket_client::Socket;
use crate::http::tests::{Client, PATIENCE};
use crate::limits::{CONNECTION_BUFFER_BYTES_MAX, STREAMS_PER_CONNECTION_MAX};
use crate::telemetry::CutReason;

const HUNDRED_MEGABYTES: usize = 100 << 20;

impl Fixture {
    /// Waits until so many connections were cut for a reason.
    async fn cuts(&self, reason: CutReason, count: u64) {
        let counted = async {
            while self.metrics.gateway.listener.cuts(reason).load(Ordering::Relaxed) != count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, counted).await;
        waited.unwrap_or_else(|_| panic!("{count} are counted as {}", reason.name()));
    }

    /// Waits until no connection is there.
    async fn empty(&self) {
        let gone = async {
            while self.metrics.gateway.listener.connections.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect("every connection goes");
    }
}

/// Sends bytes as they are, as far as they are taken; gives the answer, which ends with the connection.
async fn say(address: SocketAddr, bytes: &[u8]) -> String {
    let socket = TcpStream::connect(address).await.expect("the server accepts");
    let (mut reader, mut writer) = socket.into_split();
    let answer = async {
        let (mut answer, mut part) = (Vec::new(), [0; 4_096]);
        while let Ok(count @ 1..) = reader.read(&mut part).await {
            answer.extend_from_slice(&part[..count]);
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    let both = async { tokio::join!(writer.write_all(bytes), answer).1 };
    tokio::time::timeout(PATIENCE, both).await.expect("the connection ends")
}

/// The same, with a head that asks for the end of the connection, and its status.
async fn ask(address: SocketAddr, target: &[u8], headers: &str) -> String {
    let head =
        [b"GET ", target, b" HTTP/1.1\r\nHost: test\r\nConnection: close\r\n", headers.as_bytes(), b"\r\n"];
    say(address, &head.concat()).await
}

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or("none")
}

fn code(answer: &str) -> Value {
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str::<Value>(body).map_or(Value::Null, |mut body| body["error"]["code"].take())
}

type Http2 = (SendRequest<Empty<Bytes>>, JoinHandle<hyper::Result<()>>);

async fn http2(address: SocketAddr) -> Http2 {
    let socket = TcpStream::connect(address).await.expect("the server accepts");
    let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await;
    let (requests, connection) = shaken.expect("the server speaks HTTP/2");
    (requests, tokio::spawn(connection))
}

fn request(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://test{path}")).body(Empty::new()).expect("it is a request")
}

#[tokio::test]
async fn who_says_its_head_drop_by_drop_is_sent_away_as_is_who_says_nothing() {
    let fixture =
        Fixture::with(MemoryBus::new(1), |c| c.request_head_time_max = Duration::from_millis(100)).await;
    let mut silent = TcpStream::connect(fixture.address()).await.expect("the server accepts");
    let mut drops = TcpStream::connect(fixture.address()).await.expect("the server accepts");
    let slowly = async {
        drops.write_all(b"GET /v1/events?channel=a HTTP/1.1\r\nHost: test\r\n").await?;
        loop {
            drops.write_all(b"X-Drop: 1\r\n").await?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let ended: std::io::Result<()> = tokio::time::timeout(PATIENCE, slowly).await.expect("it is sent away");
    ended.expect_err("it ends by the server");
    let mut nothing = [0; 1];
    let ended = tokio::time::timeout(PATIENCE, silent.read(&mut nothing)).await.expect("it is sent away");
    assert_eq!(ended.unwrap_or(0), 0);
    // What speaks HTTP/2 and asks nothing.
    let (_requests, connection) = http2(fixture.address()).await;
    tokio::time::timeout(PATIENCE, connection).await.expect("it is sent away").expect("nothing panics").ok();
    fixture.cuts(CutReason::Late, 3).await;
    fixture.empty().await;
}

#[tokio::test]
async fn heads_without_end_are_refused_before_they_are_read() {
    let fixture = Fixture::start().await;
    let filler = "x".repeat(HUNDRED_MEGABYTES);
    let heads = [
        format!("GET /v1/events?channel=a HTTP/1.1\r\nHost: test\r\nX-Large: {filler}\r\n\r\n"),
        format!("GET /v1/events?channel={filler} HTTP/1.1\r\nHost: test\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: test\r\n{}\r\n", "X-One: 1\r\n".repeat(1_000)),
    ];
    for head in heads {
        // Whoever does not stop sending may lose the answer with the connection.
        let answer = say(fixture.address(), head.as_bytes()).await;
        assert!(["431", "414", "none"].contains(&status(&answer)), "{answer}");
    }
    fixture.cuts(CutReason::Invalid, 3).await;
    // HTTP/2: the preface, no settings, and a block of headers that goes on and on.
    let mut endless = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec();
    endless.extend_from_slice(b"\x00\x00\x01\x01\x01\x00\x00\x00\x01\x82");
    for _ in 0..6_400 {
        endless.extend_from_slice(b"\x00\x40\x00\x09\x00\x00\x00\x00\x01");
        endless.extend(std::iter::repeat_n(0x82, 1 << 14));
    }
    say(fixture.address(), &endless).await;
    fixture.empty().await;
}

#[tokio::test]
async fn bodies_that_nobody_asked_for_are_not_read() {
    let fixture = Fixture::start().await;
    let body = vec![b'x'; HUNDRED_MEGABYTES];
    for (method, target, expected) in
        [("POST", "/v1/events?channel=a", "405"), ("GET", "/v1/channels", "200"), ("PUT", "/nowhere", "404")]
    {
        for length in [format!("Content-Length: {}", body.len()), "Transfer-Encoding: chunked".into()] {
            let head = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n{length}\r\n\r\n6400000\r\n");
            let answer = say(fixture.address(), &[head.as_bytes(), &body].concat()).await;
            assert!([expected, "none"].contains(&status(&answer)), "{method} {target} {length}: {answer}");
        }
    }
    fixture.empty().await;
}

#[tokio::test]
async fn what_is_no_text_or_no_path_of_ours_reaches_nothing() {
    let fixture = Fixture::start().await;
    let cases: [(&[u8], &str, Value); 12] = [
        (b"/v1/events?channel=%ff", "400", json!(4002)),
        (b"/v1/events?channel=a%00", "400", json!(4004)),
        (b"/v1/events?channel=a%0d%0aSet-Cookie:%20x", "400", json!(4004)),
        (b"/v1/events?channel=%24author:7", "400", json!(4004)),
        (b"/v1/events?channel=\xff", "400", Value::Null),
        (b"/v1/channels/a%00b/messages", "400", json!(4004)),
        (b"/v1/channels/%24author:7/messages", "400", json!(4004)),
        (b"/v1/../healthz", "404", json!(4000)),
        (b"/%2e%2e/%2e%2e/etc/passwd", "404", json!(4000)),
        (b"//v1/channels", "404", json!(4000)),
        (b"/theme.css%00.html", "404", json!(4000)),
        (b"/v1/channels%0d%0aX: y", "400", Value::Null),
    ];
    for (target, expected, number) in cases {
        let answer = ask(fixture.address(), target, "").await;
        let name = String::from_utf8_lossy(target);
        assert_eq!((status(&answer), code(&answer)), (expected, number), "{name}: {answer}");
        assert!(!answer.to_lowercase().contains("set-cookie: x"), "{name}: {answer}");
    }
    fixture.empty().await;
}

#[tokio::test]
async fn requests_that_two_servers_could_read_differently_are_refused() {
    let fixture = Fixture::start().await;
    for (headers, expected) in [
        ("Content-Length: 5\r\nContent-Length: 6\r\n", "400"),
        ("Content-Length: +5\r\n", "400"),
        ("Content-Length: 5, 6\r\n", "400"),
        ("Transfer-Encoding: chunked, identity\r\n", "400"),
        ("X-One: 1\r\n continued: 2\r\n", "400"),
        ("X-One : 1\r\n", "400"),
        ("X-\0One: 1\r\n", "400"),
        ("X-One: a\0b\r\n", "400"),
        ("X-One: a\rX-Two: b\r\n", "400"),
    ] {
        let answer = ask(fixture.address(), b"/v1/channels", headers).await;
        assert_eq!(status(&answer), expected, "{headers:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{headers:?}: {answer}");
    }
    fixture.empty().await;
}

#[tokio::test]
async fn a_flood_of_commands_is_answered_one_by_one_and_leaves_nothing() {
    const ROUNDS: usize = 2_000;
    let fixture = Fixture::start().await;
    let mut socket = Socket::open(fixture.address()).await;
    for round in 0..ROUNDS {
        let names: Vec<String> = (0..20).map(|nth| format!("c{}", round * 20 + nth)).collect();
        let wanted: Vec<Value> = names.iter().map(|name| json!({"channel": name})).collect();
        assert_eq!(socket.ask(json!({"type": "subscribe", "channels": wanted})).await["type"], "subscribed");
        assert_eq!(
            socket.ask(json!({"type": "unsubscribe", "channels": names})).await["type"],
            "unsubscribed"
        );
    }
    assert_eq!(fixture.gateway.hub.channels_count(), 0);
    socket.subscribe(&[("a", "")]).await;
    fixture.bus.publish("a", "still here");
    assert_eq!(socket.texts(1).await, ["still here"]);
}

#[tokio::test]
async fn who_floods_and_does_not_listen_is_cut() {
    let fixture =
        Fixture::with(MemoryBus::new(1), |config| config.stall_time_max = Duration::from_millis(200)).await;
    let mut socket = Socket::open(fixture.address()).await;
    let flood = async {
        loop {
            socket.flood(r#"{"type":"nonsense"}"#).await?;
        }
    };
    let ended: std::io::Result<()> = tokio::time::timeout(PATIENCE, flood).await.expect("it is cut");
    ended.expect_err("it ends by the server");
    fixture.cuts(CutReason::Stalled, 1).await;
    fixture.streams(0).await;
}

#[tokio::test]
async fn many_streams_share_one_connection_and_one_that_ends_ends_no_other() {
    let fixture = Fixture::start().await;
    let (mut requests, _connection) = http2(fixture.address()).await;
    let mut streams = Vec::new();
    for nth in 0..20 {
        let path = format!("/v1/events?channel=c{nth}");
        let answer = requests.send_request(request(&path)).await.expect("it is answered");
        assert_eq!(answer.status(), 200);
        streams.push(answer.into_body());
    }
    fixture.streams(20).await;
    assert_eq!(fixture.metrics.gateway.listener.connections.load(Ordering::Relaxed), 1);
    drop(streams.pop());
    fixture.streams(19).await;
    fixture.bus.publish("c18", "x");
    let stream = streams.last_mut().expect("it is there");
    let mut seen = String::new();
    while !seen.contains("data: x\n") {
        let frame = stream.frame().await.expect("it goes on").expect("nothing is wrong");
        seen.push_str(&String::from_utf8_lossy(&frame.into_data().expect("it is data")));
    }
    let refused = requests.send_request(request("/v1/ws")).await.expect("it is answered");
    assert_eq!(refused.status(), 426);
    let body = refused.into_body().collect().await.expect("it ends").to_bytes();
    assert_eq!(serde_json::from_slice::<Value>(&body).expect("it is JSON")["error"]["code"], 4007);
}

#[tokio::test]
async fn streams_that_are_ended_as_soon_as_they_are_begun_leave_nothing() {
    let fixture = Fixture::start().await;
    let (mut requests, connection) = http2(fixture.address()).await;
    for _ in 0..20 * STREAMS_PER_CONNECTION_MAX {
        let sent = requests.send_request(request("/v1/events?channel=a"));
        // It is on its way, and then reset.
        if tokio::time::timeout(Duration::ZERO, sent).await.is_ok_and(|answer| answer.is_err()) {
            break;
        }
        tokio::task::yield_now().await;
    }
    drop(requests);
    tokio::time::timeout(PATIENCE, connection)
        .await
        .expect("the connection ends")
        .expect("nothing panics")
        .ok();
    fixture.streams(0).await;
    fixture.empty().await;
    assert_eq!(Client::get(fixture.address(), "/healthz", &[]).await.status(), "200");
}

#[tokio::test]
async fn a_head_as_large_as_allowed_is_taken() {
    let fixture = Fixture::start().await;
    let large = "x".repeat(CONNECTION_BUFFER_BYTES_MAX / 2);
    let client = Client::get(fixture.address(), "/healthz", &[("X-Large", &large)]).await;
    assert_eq!(client.status(), "200");
}
