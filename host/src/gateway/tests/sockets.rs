//! What clients of `/v1/ws` see.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::Fixture;
use super::memory_bus::{MemoryBus, message};
use super::socket_client::{HANDSHAKE, Manners, Socket};
use crate::event::{Form, Retention, Sequence};
use crate::http::tests::{Client, PATIENCE};
use crate::limits::{CHANNELS_PER_CONNECTION_MAX, REPLAY_READ_COUNT_MAX, SOCKET_MESSAGE_BYTES_MAX};
use crate::telemetry::{CutReason, Face};

#[tokio::test]
async fn a_conversation_is_as_documented() {
    let fixture = Fixture::start().await;
    for payload in ["1", "2", "3"] {
        fixture.bus.publish("a", payload);
    }
    fixture.bus.forget(Sequence(1));
    // The hub has put what is there.
    let mut follower = Client::resume(fixture.address(), "/v1/events?channel=a", "9f3c.2").await;
    assert_eq!(follower.data(1).await, ["3"]);
    let mut socket = Socket::connect(fixture.address(), "/v1/ws", Manners::Good).await;
    let mut said = vec![socket.event().await];
    socket
        .send(r#"{"type":"subscribe","ref":1,"channels":[{"channel":"a","after":"9f3c.2"},{"channel":"b"},{"channel":"c","after":"9f3c.0"}]}"#)
        .await;
    for _ in 0..3 {
        said.push(socket.event().await);
    }
    fixture.bus.publish_message(crate::event::Message {
        form: Form::Json,
        ..message("b", "insert", r#"{"id":42}"#, Retention::Kept)
    });
    said.push(socket.event().await);
    fixture.bus.publish_message(message("b", "typing", "x", Retention::LiveOnly));
    said.push(socket.event().await);
    socket.send(r#"{"type":"unsubscribe","ref":2,"channels":["a"]}"#).await;
    said.push(socket.event().await);
    socket.send(r#"{"type":"ping","ref":3}"#).await;
    said.push(socket.event().await);
    socket.send(r#"{"type":"unsubscribe","ref":4,"channels":["a"]}"#).await;
    said.push(socket.event().await);
    insta::assert_snapshot!(said.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
}

#[tokio::test]
async fn a_socket_resumes_each_channel_from_its_own_id_and_goes_on_live() {
    let fixture = Fixture::start().await;
    let count = 3 * REPLAY_READ_COUNT_MAX;
    for nth in 0..count {
        fixture.bus.publish(["a", "b", "c"][nth % 3], &nth.to_string());
    }
    let mut socket = Socket::open(fixture.address()).await;
    socket.subscribe(&[("a", "9f3c.0"), ("b", "9f3c.100")]).await;
    fixture.bus.publish("a", "live");
    fixture.bus.publish("b", "live");
    fixture.bus.publish("c", "of nobody's interest");
    let (mut a, mut b) = (Vec::new(), Vec::new());
    while !(a.ends_with(&["live".to_owned()]) && b.ends_with(&["live".to_owned()])) {
        let event = socket.event().await;
        let texts = if event["channel"] == "a" { &mut a } else { &mut b };
        texts.push(event["text"].as_str().expect("it is text").to_owned());
    }
    let of = |rest: usize, from: usize| {
        let all = (from..count).filter(move |nth| nth % 3 == rest).map(|nth| nth.to_string());
        all.chain(["live".to_owned()]).collect::<Vec<_>>()
    };
    assert_eq!(a, of(0, 0));
    assert_eq!(b, of(1, 100));
}

#[tokio::test]
async fn a_client_that_is_ahead_of_the_hub_gets_nothing_twice() {
    let fixture = Fixture::start().await;
    let mut socket = Socket::open(fixture.address()).await;
    socket.subscribe(&[("b", "")]).await;
    fixture.bus.fail_reads(3);
    for payload in ["1", "2", "3"] {
        fixture.bus.publish("a", payload);
    }
    socket.subscribe(&[("a", "9f3c.2")]).await;
    fixture.bus.publish("b", "4");
    assert_eq!(socket.texts(2).await, ["3", "4"]);
}

#[tokio::test]
async fn after_the_answer_nothing_of_a_channel_that_was_left_comes() {
    let fixture = Fixture::start().await;
    let mut socket = Socket::open(fixture.address()).await;
    socket.subscribe(&[("a", ""), ("b", "")]).await;
    for _ in 0..50 {
        fixture.bus.publish("a", "before");
    }
    let answer = socket.ask(json!({"type": "unsubscribe", "channels": ["a"]})).await;
    assert_eq!(answer["type"], "unsubscribed");
    while socket.waiting() > 0 {
        assert_eq!(socket.event().await["text"], "before");
    }
    fixture.bus.publish("a", "after");
    fixture.bus.publish("b", "end");
    assert_eq!(socket.texts(1).await, ["end"]);
    assert_eq!(fixture.gateway.hub.channels_count(), 1);
}

#[tokio::test]
async fn a_command_that_is_refused_does_nothing_and_the_conversation_goes_on() {
    let fixture = Fixture::start().await;
    let mut socket = Socket::open(fixture.address()).await;
    socket.subscribe(&[("a", "")]).await;
    let many: Vec<_> =
        (0..CHANNELS_PER_CONNECTION_MAX).map(|nth| json!({"channel": nth.to_string()})).collect();
    let mut codes = Vec::new();
    for command in [
        json!({"type": "subscribe", "channels": [{"channel": "b"}, {"channel": "a"}]}),
        json!({"type": "subscribe", "channels": [{"channel": "b"}, {"channel": "b"}]}),
        json!({"type": "subscribe", "channels": [{"channel": "b"}, {"channel": "c", "after": "nonsense"}]}),
        json!({"type": "subscribe", "channels": many}),
        json!({"type": "unsubscribe", "channels": ["a", "b"]}),
        json!({"type": "publish", "channel": "a", "text": "x"}),
    ] {
        let answer = socket.ask(command).await;
        assert_eq!((&answer["type"], &answer["reconnect"]), (&json!("error"), &json!("never")));
        codes.push(answer["code"].as_u64().expect("a refusal has a code"));
    }
    assert_eq!(codes, [4009, 4009, 4006, 4005, 4010, 4024]);
    socket.send_frame(2, b"bytes").await;
    assert_eq!(socket.event().await["code"], 4008);
    assert_eq!(fixture.gateway.hub.channels_count(), 1);
    fixture.bus.publish("a", "still here");
    assert_eq!(socket.texts(1).await, ["still here"]);
}

#[tokio::test]
async fn what_is_no_handshake_is_told_what_one_is() {
    let fixture = Fixture::start().await;
    for left_out in 0..HANDSHAKE.len() {
        let headers: Vec<_> = HANDSHAKE
            .iter()
            .enumerate()
            .filter(|(nth, _)| *nth != left_out)
            .map(|(_, header)| *header)
            .collect();
        let client = Client::get(fixture.address(), "/v1/ws", &headers).await;
        assert_eq!((client.status(), client.header("upgrade")), ("426", Some("websocket")), "{headers:?}");
        assert_eq!(client.json().await["error"]["code"], 4007);
    }
    fixture.streams(0).await;
}

#[tokio::test]
async fn who_breaks_the_protocol_is_ended_with_its_code() {
    let fixture = Fixture::start().await;
    let too_long = vec![b' '; SOCKET_MESSAGE_BYTES_MAX + 1];
    for (code, opcode, payload) in
        [(1007, 1, &b"\xff\xfe"[..]), (1009, 1, &too_long), (1002, 3, b""), (1002, 9, &[0; 126])]
    {
        let mut socket = Socket::open(fixture.address()).await;
        socket.send_frame(opcode, payload).await;
        let ended = socket.ended().await.expect("it ends with a code");
        assert_eq!(ended.0, code, "{ended:?}");
    }
    let mut socket = Socket::open(fixture.address()).await;
    socket.send_raw(&[0x81, 0x02, b'{', b'}']).await;
    assert_eq!(socket.ended().await.expect("it ends with a code").0, 1002);
    fixture.streams(0).await;
}

#[tokio::test]
async fn who_gives_no_sign_of_life_is_ended_and_who_answers_pings_stays() {
    let fixture = Fixture::with(MemoryBus::new(1), |config| {
        config.heartbeat_interval = Duration::from_millis(50);
        config.silence_time_max = Duration::from_millis(400);
    })
    .await;
    let mut good = Socket::open(fixture.address()).await;
    good.subscribe(&[("a", "")]).await;
    let alive = async { while good.next().await.is_some() {} };
    let mut deaf = Socket::connect(fixture.address(), "/v1/ws", Manners::Deaf).await;
    tokio::select! {
        ended = deaf.ended() => assert_eq!(ended, Some((4102, "silent".to_owned()))),
        () = alive => panic!("who answers pings stays"),
    }
    fixture.streams(1).await;
    assert_eq!(fixture.metrics.gateway.listener.cuts(CutReason::Silent).load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn signs_of_life_move_the_ids_of_all_channels() {
    let fixture =
        Fixture::with(MemoryBus::new(1), |config| config.heartbeat_interval = Duration::from_millis(5)).await;
    let mut socket = Socket::open(fixture.address()).await;
    socket.subscribe(&[("a", "")]).await;
    for _ in 0..3 {
        fixture.bus.publish("b", "not for it");
    }
    let moved = async { while socket.next().await.expect("it lives")["id"] != "1.3" {} };
    tokio::time::timeout(PATIENCE, moved).await.expect("the id comes");
}

#[tokio::test]
async fn a_socket_that_takes_nothing_is_cut_alone_and_can_resume() {
    let fixture =
        Fixture::with(MemoryBus::new(1), |config| config.stall_time_max = Duration::from_millis(100)).await;
    let mut stuck = Socket::open(fixture.address()).await;
    stuck.subscribe(&[("a", "")]).await;
    let mut other = Socket::open(fixture.address()).await;
    other.subscribe(&[("b", "")]).await;
    // More than the sockets of both ends hold.
    let payload = "x".repeat(1 << 20);
    for _ in 0..24 {
        fixture.bus.publish("a", &payload);
    }
    fixture.streams(1).await;
    assert_eq!(fixture.metrics.gateway.listener.cuts(CutReason::Stalled).load(Ordering::Relaxed), 1);
    fixture.bus.publish("b", "still here");
    assert_eq!(other.texts(1).await, ["still here"]);
    let mut count = 0;
    // With so short a patience it may be cut again; what counts is that each return goes on where it was.
    while count < 24 {
        while let Some(event) = stuck.next().await {
            if event["type"] == "message" {
                count += 1;
                assert_eq!(event["id"], format!("1.{count}"));
            }
            if count == 24 {
                return;
            }
        }
        stuck = Socket::open(fixture.address()).await;
        stuck
            .send(
                &json!({"type": "subscribe", "channels": [{"channel": "a", "after": format!("1.{count}")}]})
                    .to_string(),
            )
            .await;
    }
}

#[tokio::test]
async fn a_socket_holds_its_connections_place_until_it_is_gone() {
    let fixture = Fixture::with(MemoryBus::new(1), |config| config.connections_count_max = 1).await;
    let mut socket = Socket::open(fixture.address()).await;
    socket.subscribe(&[("a", "")]).await;
    assert_eq!(Client::get(fixture.address(), "/healthz", &[]).await.status(), "503");
    drop(socket);
    fixture.streams(0).await;
    assert_eq!(fixture.gateway.hub.channels_count(), 0);
    let fits = async { while Client::get(fixture.address(), "/healthz", &[]).await.status() != "200" {} };
    tokio::time::timeout(PATIENCE, fits).await.expect("the place comes back");
}

#[tokio::test]
async fn a_stop_ends_every_socket_with_a_code_and_a_time_to_come_back() {
    let fixture = Fixture::start().await;
    let mut delays = std::collections::BTreeSet::new();
    let mut sockets = Vec::new();
    for _ in 0..32 {
        sockets.push(Socket::open(fixture.address()).await);
    }
    let began = std::time::Instant::now();
    fixture.stop.cancel();
    for socket in &mut sockets {
        let last = socket.event().await;
        assert_eq!((&last["code"], &last["reconnect"]), (&json!(4200), &json!("now")));
        delays.insert(last["delay_ms"].as_u64().expect("it says when to come back"));
        assert_eq!(socket.ended().await, Some((4200, "shutting_down".to_owned())));
    }
    drop(sockets);
    fixture.gateway.stopped().await;
    assert!(delays.len() > 10, "clients are told to come back at different times: {delays:?}");
    assert!(began.elapsed() < PATIENCE);
}

#[tokio::test]
async fn a_history_that_cannot_be_read_ends_the_socket_for_now() {
    let bus = MemoryBus::new(0x9f3c);
    bus.publish("a", "1");
    let fixture = Fixture::with(bus, |_| {}).await;
    fixture.bus.fail_replays(1);
    let mut socket = Socket::open(fixture.address()).await;
    socket.subscribe(&[("a", "9f3c.0")]).await;
    assert_eq!(socket.ended().await, Some((4101, "history_unavailable".to_owned())));
    let mut socket = Socket::open(fixture.address()).await;
    socket.subscribe(&[("a", "9f3c.0")]).await;
    assert_eq!(socket.texts(1).await, ["1"]);
}

#[tokio::test]
async fn what_clients_get_is_counted_by_face() {
    let fixture = Fixture::start().await;
    for payload in ["1", "2", "3"] {
        fixture.bus.publish("a", payload);
    }
    let mut events = Client::resume(fixture.address(), "/v1/events?channel=a", "9f3c.0").await;
    assert_eq!(events.data(3).await, ["1", "2", "3"]);
    let mut socket = Socket::open(fixture.address()).await;
    socket.subscribe(&[("a", "9f3c.2"), ("b", "77.1")]).await;
    assert_eq!(socket.texts(1).await, ["3"]);
    assert_eq!(socket.event().await["type"], "reset");
    let poll = Client::get(fixture.address(), "/v1/poll?channel=a&after=9f3c.1", &[]).await;
    assert_eq!(poll.json().await["messages"][1]["text"], "3");
    let counted = Face::ALL.map(|face| {
        let counters = fixture.metrics.gateway.face(face);
        [&counters.open, &counters.messages, &counters.resets].map(|counter| counter.load(Ordering::Relaxed))
    });
    assert_eq!(counted, [[1, 3, 0], [1, 1, 1], [0, 2, 0]]);
    drop((events, socket));
    fixture.streams(0).await;
    assert!(
        Face::ALL.iter().all(|face| fixture.metrics.gateway.face(*face).open.load(Ordering::Relaxed) == 0)
    );
}

#[tokio::test]
async fn bytes_are_marked_as_base64() {
    let fixture = Fixture::start().await;
    let mut socket = Socket::open(fixture.address()).await;
    socket.subscribe(&[("a", "")]).await;
    let mut bytes = message("a", "", "", Retention::Kept);
    (bytes.form, bytes.payload) = (Form::Base64, Bytes::from_static(b"AAE="));
    fixture.bus.publish_message(bytes);
    let event = socket.event().await;
    assert_eq!((&event["base64"], &event["text"]), (&json!("AAE="), &json!(null)));
}
