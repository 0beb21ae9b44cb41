//! The listener: refusals, bounds, the end.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;

use super::memory_bus::MemoryBus;
use super::{Config, Fixture, Gateway, Neighbours};
use crate::access::tests::{by_tokens, open_to_all};
use crate::http::tests::{Client, PATIENCE};
use crate::intake::tests::closed;
use crate::limits::{CHANNELS_PER_CONNECTION_MAX, CONNECTION_BUFFER_BYTES_MAX};

async fn refusal(fixture: &Fixture, method: &str, target: &str, headers: &[(&str, &str)]) -> String {
    let client = Client::request(fixture.address(), method, target, headers).await;
    let status = client.status().to_owned();
    assert_eq!(client.header("content-type"), Some("application/json"), "{target}");
    let error = &client.json().await["error"];
    format!(
        "{status} {} {} {}: {}",
        error["code"],
        error["reason"].as_str().expect("a refusal has a reason"),
        error["reconnect"].as_str().expect("a refusal says whether to come back"),
        error["message"].as_str().expect("a refusal has a message"),
    )
}

#[tokio::test]
async fn every_refusal_has_a_number_a_reason_and_a_sentence() {
    let fixture = Fixture::start().await;
    let many: Vec<String> = (0..=CHANNELS_PER_CONNECTION_MAX).map(|nth| format!("channel={nth}")).collect();
    let long = format!("/v1/events?channel={}", "x".repeat(256));
    let mut all = Vec::new();
    for (method, target, headers) in [
        ("GET", "/nowhere", &[][..]),
        ("GET", "/v1/events/more?channel=a", &[]),
        ("POST", "/v1/events?channel=a", &[]),
        ("DELETE", "/", &[]),
        ("GET", "/v1/events", &[]),
        ("GET", "/v1/events?channel=", &[]),
        ("GET", "/v1/events?channel=a%0Ab", &[]),
        ("GET", long.as_str(), &[]),
        ("GET", &format!("/v1/events?{}", many.join("&")), &[]),
        ("GET", "/v1/events?channel=a&last_event_id=nonsense", &[]),
        ("GET", "/v1/events?channel=a", &[("Last-Event-ID", "9f3c.x")]),
        ("GET", "/v1/events?channel=a", &[("Last-Event-ID", "\u{e9}")]),
        ("GET", "/v1/channels?limit=0", &[]),
        ("GET", "/v1/channels?limit=1001", &[]),
    ] {
        all.push(refusal(&fixture, method, target, headers).await);
    }
    insta::assert_snapshot!(all.join("\n"));
    assert_eq!(fixture.gateway.streams_count(), 0);
}

#[tokio::test]
async fn as_many_channels_as_allowed_are_taken_and_doubles_count_once() {
    let fixture = Fixture::start().await;
    let mut query: Vec<String> =
        (0..CHANNELS_PER_CONNECTION_MAX).map(|nth| format!("channel={nth}")).collect();
    query.extend(query.clone());
    let client = Client::get(fixture.address(), &format!("/v1/events?{}", query.join("&")), &[]).await;
    assert_eq!(client.status(), "200");
    assert_eq!(fixture.gateway.hub.channels_count(), CHANNELS_PER_CONNECTION_MAX);
}

#[tokio::test]
async fn channels_are_listed_in_pages() {
    let fixture = Fixture::start().await;
    for channel in ["orders", "orders:1", "orders:2", "users"] {
        fixture.bus.publish(channel, "x");
    }
    let mut pages = Vec::new();
    for target in [
        "/v1/channels",
        "/v1/channels?prefix=orders&limit=2",
        "/v1/channels?prefix=orders&limit=2&after=orders%3A1",
        "/v1/channels?prefix=none",
    ] {
        pages.push(Client::get(fixture.address(), target, &[]).await.text().await);
    }
    assert_eq!(
        pages,
        [
            r#"{"channels":["orders","orders:1","orders:2","users"],"next":null}"#,
            r#"{"channels":["orders","orders:1"],"next":"orders:1"}"#,
            r#"{"channels":["orders:2"],"next":null}"#,
            r#"{"channels":[],"next":null}"#,
        ]
    );
}

#[tokio::test]
async fn a_list_of_channels_that_cannot_be_read_is_refused_for_now() {
    let fixture = Fixture::start().await;
    fixture.bus.fail_lists();
    assert_eq!(
        refusal(&fixture, "GET", "/v1/channels", &[]).await,
        "503 4101 history_unavailable later: the history cannot be read at the moment"
    );
}

#[tokio::test]
async fn the_page_is_whole_and_forbids_everything_from_elsewhere() {
    let fixture = Fixture::start().await;
    for (target, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/feed.js", "text/javascript; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/theme.css", "text/css; charset=utf-8"),
        ("/events.js", "text/javascript; charset=utf-8"),
    ] {
        let client = Client::get(fixture.address(), target, &[]).await;
        assert_eq!((client.status(), client.header("content-type")), ("200", Some(kind)), "{target}");
        let policy = client.header("content-security-policy").expect("every file has the policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert_eq!(client.header("x-content-type-options"), Some("nosniff"));
        let text = client.text().await;
        let text = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains("://"), "{target} names another origin");
        assert!(!text.contains("innerHTML"), "{target} makes markup of data");
    }
    let health = Client::get(fixture.address(), "/healthz", &[]).await;
    assert_eq!((health.status().to_owned(), health.text().await), ("200".into(), "ok\n".into()));
    assert_eq!(Client::request(fixture.address(), "HEAD", "/", &[]).await.status(), "200");
}

#[tokio::test]
async fn the_client_and_its_types_are_had_once_for_each_version_and_by_listed_pages() {
    let access = by_tokens(|settings| settings.origins = vec!["https://shop.example".into()]).0;
    let fixture = Fixture::guarded(MemoryBus::new(1), access, |_| {}).await;
    for (target, kind) in
        [("/twohop.js", "text/javascript; charset=utf-8"), ("/twohop.d.ts", "text/plain; charset=utf-8")]
    {
        let client = Client::get(fixture.address(), target, &[("Origin", "https://shop.example")]).await;
        assert_eq!((client.status(), client.header("content-type")), ("200", Some(kind)), "{target}");
        assert_eq!(client.header("access-control-allow-origin"), Some("https://shop.example"));
        assert_eq!(client.header("cache-control"), Some("no-cache"));
        // It is also the script of a worker, to which the page's policy would apply.
        assert_eq!(client.header("content-security-policy"), None);
        let tag = client.header("etag").expect("it has a name").to_owned();
        assert!(client.text().await.contains("connect"), "{target}");
        for (known, status) in
            [(tag.clone(), "304"), (format!("\"x\", W/{tag}"), "304"), ("\"x\"".into(), "200")]
        {
            let again = Client::get(fixture.address(), target, &[("If-None-Match", &known)]).await;
            assert_eq!(again.status(), status, "{target} {known}");
            assert_eq!(again.header("etag"), Some(tag.as_str()));
        }
    }
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_the_next_one_fits_again() {
    let fixture = Fixture::with(MemoryBus::new(1), |config| config.connections_count_max = 1).await;
    let first = Client::get(fixture.address(), "/v1/events?channel=a", &[]).await;
    assert_eq!(
        refusal(&fixture, "GET", "/v1/events?channel=a", &[]).await,
        "503 4100 overloaded later: the server has as many connections as it may"
    );
    drop(first);
    fixture.streams(0).await;
    let fits = async { while Client::get(fixture.address(), "/healthz", &[]).await.status() != "200" {} };
    tokio::time::timeout(PATIENCE, fits).await.expect("the place comes back");
}

#[tokio::test]
async fn a_client_that_asks_nothing_is_sent_away() {
    for begun in ["", "GET /v1/ev", "GET / HTTP/1.1\r\nHost: te"] {
        let fixture =
            Fixture::with(MemoryBus::new(1), |c| c.request_head_time_max = Duration::from_millis(30)).await;
        let mut socket = TcpStream::connect(fixture.address()).await.expect("the gateway accepts");
        tokio::io::AsyncWriteExt::write_all(&mut socket, begun.as_bytes()).await.expect("the gateway reads");
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "after {begun:?} it is still there");
    }
}

#[tokio::test]
async fn a_stream_outlives_the_time_for_a_head() {
    let fixture = Fixture::with(MemoryBus::new(1), |config| {
        config.request_head_time_max = Duration::from_millis(500);
        config.heartbeat_interval = Duration::from_millis(100);
    })
    .await;
    let mut client = Client::get(fixture.address(), "/v1/events?channel=a", &[]).await;
    for _ in 0..10 {
        assert!(client.block().await);
    }
    fixture.bus.publish("a", "x");
    assert_eq!(client.data(1).await, ["x"]);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let fixture = Fixture::start().await;
    let large = "x".repeat(CONNECTION_BUFFER_BYTES_MAX);
    let client = Client::get(fixture.address(), "/healthz", &[("X-Large", &large)]).await;
    assert_eq!(client.status(), "431");
}

#[tokio::test]
async fn a_stop_ends_every_stream_and_gives_the_port_back() {
    let fixture = Fixture::start().await;
    let address = fixture.address();
    fixture.bus.publish("a", "x");
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(Client::get(address, "/v1/events?channel=a", &[]).await);
    }
    let idle = Client::get(address, "/healthz", &[]).await;
    fixture.streams(20).await;
    fixture.stop.cancel();
    tokio::time::timeout(PATIENCE, fixture.gateway.stopped()).await.expect("it stops");
    let mut delays = std::collections::BTreeSet::new();
    for stream in &mut streams {
        while stream.event().await.is_some() {}
        delays.insert(stream.retry);
    }
    assert!(delays.len() > 10, "clients are told to come back at different times: {delays:?}");
    drop(idle);
    TcpListener::bind(address).await.expect("the port is free again");
}

#[tokio::test]
async fn a_stop_waits_for_a_stuck_client_only_so_long() {
    let fixture = Fixture::start().await;
    let mut stuck = Client::get(fixture.address(), "/v1/events?channel=a", &[]).await;
    assert!(stuck.block().await);
    for _ in 0..24 {
        fixture.bus.publish("a", &"x".repeat(1 << 20));
    }
    fixture.stop.cancel();
    tokio::time::timeout(PATIENCE, fixture.gateway.stopped()).await.expect("it stops");
}

fn alone() -> Neighbours {
    Neighbours { bus: MemoryBus::new(1), timelines: None, access: open_to_all(), intake: closed() }
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_what_to_do() {
    let taken = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port is there");
    let address = taken.local_addr().expect("it has an address");
    let started = Gateway::start(Config::new(address), alone(), CancellationToken::new()).await;
    assert_eq!(
        started.expect_err("the port is taken").to_string(),
        format!("another program listens on {address}: stop it, or set gateway.listen")
    );
    let elsewhere: SocketAddr = "192.0.2.1:80".parse().expect("an address");
    let started = Gateway::start(Config::new(elsewhere), alone(), CancellationToken::new()).await;
    assert_eq!(
        started.expect_err("the address is of another machine").to_string(),
        "cannot listen on 192.0.2.1:80: set gateway.listen to an address of this machine"
    );
}

#[tokio::test]
async fn an_answer_that_is_on_its_way_comes_whole_before_a_stream_takes_its_connection_over() {
    let fixture = Fixture::start().await;
    fixture.bus.publish("large", &"x".repeat(16 << 20));
    let socket = TcpSocket::new_v4().expect("a socket can be made");
    socket.set_recv_buffer_size(4_096).expect("it may be small");
    let mut socket = socket.connect(fixture.address()).await.expect("the server accepts");
    // With a body that nobody reads: so HTTP may go on before the answer is on its way.
    let asks = "GET /v1/channels/large/messages HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello\
                GET /v1/events?channel=a HTTP/1.1\r\nHost: test\r\n\r\n";
    socket.write_all(asks.as_bytes()).await.expect("the server reads");
    let mut read = Vec::new();
    let mut both = async || {
        let end = |read: &[u8]| read.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
        let mut body = None;
        loop {
            assert_ne!(socket.read_buf(&mut read).await.expect("it goes on"), 0, "{} bytes came", read.len());
            if body.is_none()
                && let Some(at) = end(&read)
            {
                let head = String::from_utf8(read[..at].to_vec()).expect("a head is ASCII");
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                body = Some(at + length.expect("it has a length").parse::<usize>().expect("it is a number"));
            }
            if let Some(second) = body.and_then(|at| read.get(at..))
                && end(second).is_some()
            {
                return String::from_utf8(second.to_vec()).expect("a head is ASCII");
            }
        }
    };
    let second = tokio::time::timeout(PATIENCE, both()).await.expect("both are answered");
    assert!(second.starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream"), "{second}");
}
