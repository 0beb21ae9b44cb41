//! What clients of `/v1/events` see.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::Fixture;
use super::memory_bus::{MemoryBus, message};
use crate::event::{Retention, Sequence};
use crate::http::tests::{Client, Event, PATIENCE};
use crate::limits::{HISTORY_READ_COUNT_MAX, REPLAY_READ_COUNT_MAX};

#[tokio::test]
async fn a_new_stream_tells_its_place_and_then_what_comes() {
    let bus = MemoryBus::new(0x9f3c);
    bus.publish("orders", "old");
    let fixture = Fixture::with(bus, |_| {}).await;
    let mut client = Client::get(fixture.address(), "/v1/events?channel=orders", &[]).await;
    assert_eq!(client.status(), "200");
    assert_eq!(client.header("content-type"), Some("text/event-stream"));
    assert_eq!(client.header("cache-control"), Some("no-cache, no-transform"));
    assert_eq!(client.header("x-accel-buffering"), Some("no"));
    assert_eq!(client.header("access-control-allow-origin"), None);
    assert!(client.block().await);
    fixture.bus.publish_message(message("orders", "insert", "{\"id\":1}", Retention::Kept));
    fixture.bus.publish("customers", "of nobody's interest");
    fixture.bus.publish_message(message("orders", "", "two\nlines", Retention::Kept));
    assert_eq!(client.data(2).await, ["{\"id\":1}", "two\nlines"]);
    assert_eq!(
        client.seen,
        "retry: 2000\nid: 9f3c.1\n\n\
         event: insert\nchannel: orders\nid: 9f3c.2\nencoding: text\ndata: {\"id\":1}\n\n\
         channel: orders\nid: 9f3c.4\nencoding: text\ndata: two\ndata: lines\n\n"
    );
}

#[tokio::test]
async fn a_client_that_leaves_before_its_first_message_can_resume() {
    let fixture = Fixture::start().await;
    let mut client = Client::get(fixture.address(), "/v1/events?channel=a", &[]).await;
    assert!(client.block().await);
    let id = client.last_id.clone();
    drop(client);
    fixture.bus.publish("a", "missed");
    let mut client = Client::resume(fixture.address(), "/v1/events?channel=a", &id).await;
    assert_eq!(client.data(1).await, ["missed"]);
}

#[tokio::test]
async fn a_client_that_resumes_gets_every_kept_message_of_its_channels_once_in_order() {
    let fixture = Fixture::start().await;
    // More than a page of the replay and more than a page of the hub.
    let count = HISTORY_READ_COUNT_MAX + REPLAY_READ_COUNT_MAX + 7;
    for nth in 0..count {
        fixture.bus.publish(["a", "b", "c"][nth % 3], &nth.to_string());
    }
    let target = "/v1/events?channel=a&channel=c&channel=a";
    let mut client = Client::resume(fixture.address(), target, "9f3c.4").await;
    let expected: Vec<String> = (4..count).filter(|nth| nth % 3 != 1).map(|nth| nth.to_string()).collect();
    assert_eq!(client.data(expected.len()).await, expected);
    fixture.bus.publish("c", "live");
    assert_eq!(
        client.event().await,
        Some(Event {
            event: "e".into(),
            channel: "c".into(),
            id: format!("9f3c.{}", count + 1),
            data: "live".into(),
            value: false,
        })
    );
}

#[tokio::test]
async fn the_id_may_come_as_a_parameter_but_the_header_wins() {
    let fixture = Fixture::start().await;
    for payload in ["1", "2", "3"] {
        fixture.bus.publish("a", payload);
    }
    for (target, id, expected) in [
        ("/v1/events?channel=a&last_event_id=9f3c.1", None, "2"),
        ("/v1/events?channel=a&lastEventId=9f3c.1", None, "2"),
        ("/v1/events?channel=a&last_event_id=9f3c.0", Some("9f3c.2"), "3"),
        ("/v1/events?channel=a&last_event_id=9f3c.1", Some(""), "2"),
    ] {
        let headers: Vec<_> = id.iter().map(|id| ("Last-Event-ID", *id)).collect();
        let mut client = Client::get(fixture.address(), target, &headers).await;
        assert_eq!(client.data(1).await, [expected], "{target}");
    }
}

#[tokio::test]
async fn an_id_that_the_history_does_not_reach_gives_a_reset_and_the_stream_goes_on() {
    let fixture = Fixture::start().await;
    for payload in ["1", "2", "3", "4"] {
        fixture.bus.publish("a", payload);
    }
    fixture.bus.forget(Sequence(2));
    for (id, reason) in
        [("9f3c.1", "expired"), ("9f3c.5", "ahead"), ("77.3", "epoch"), ("9f3c.3,3", "shards")]
    {
        let mut follower = Client::resume(fixture.address(), "/v1/events?channel=a", "9f3c.3").await;
        assert_eq!(follower.data(1).await, ["4"]);
        let mut client = Client::resume(fixture.address(), "/v1/events?channel=a&channel=b", id).await;
        let reset = client.event().await.expect("a reset comes");
        assert_eq!(reset.event, "reset");
        assert_eq!(reset.data, format!(r#"{{"channels":["a","b"],"reason":"{reason}"}}"#));
        assert_eq!(reset.id, "9f3c.4");
        fixture.bus.publish_message(message("b", "", "live", Retention::LiveOnly));
        assert_eq!(client.data(1).await, ["live"]);
    }
}

#[tokio::test]
async fn retention_that_overtakes_a_replay_gives_a_reset_and_never_a_hole() {
    let fixture = Fixture::start().await;
    for nth in 0..3 * REPLAY_READ_COUNT_MAX {
        fixture.bus.publish("a", &nth.to_string());
    }
    let mut follower = Client::get(fixture.address(), "/v1/events?channel=b", &[]).await;
    fixture.bus.publish("b", "the hub is here");
    assert_eq!(follower.data(1).await, ["the hub is here"]);
    fixture.bus.forget_in_replay_after(1);
    let mut client = Client::resume(fixture.address(), "/v1/events?channel=a", "9f3c.0").await;
    for nth in 0..REPLAY_READ_COUNT_MAX {
        assert_eq!(client.data(1).await, [nth.to_string()]);
    }
    let reset = client.event().await.expect("a reset comes");
    assert_eq!((reset.event.as_str(), reset.id.as_str()), ("reset", "9f3c.193"));
    fixture.bus.publish("a", "live");
    assert_eq!(client.data(1).await, ["live"]);
}

#[tokio::test]
async fn retention_that_overtakes_the_hub_gives_a_reset_and_never_a_hole() {
    let fixture = Fixture::start().await;
    let mut client = Client::get(fixture.address(), "/v1/events?channel=a", &[]).await;
    assert!(client.block().await);
    // Nothing runs between these lines: the hub finds all of it done.
    for payload in ["1", "2", "3", "4", "5"] {
        fixture.bus.publish("a", payload);
    }
    fixture.bus.forget(Sequence(3));
    let reset = client.event().await.expect("a reset comes");
    assert_eq!(reset.event, "reset");
    fixture.bus.publish("a", "6");
    let from: u64 = reset.id.strip_prefix("9f3c.").expect("our epoch").parse().expect("a sequence");
    assert!(from >= 3, "the client would go on from {from}, which is gone");
    for payload in from + 1..=6 {
        assert_eq!(client.data(1).await, [payload.to_string()]);
    }
}

#[tokio::test]
async fn live_only_messages_have_no_id_and_do_not_move_the_clients() {
    let fixture = Fixture::start().await;
    let mut client = Client::get(fixture.address(), "/v1/events?channel=a", &[]).await;
    assert!(client.block().await);
    fixture.bus.publish("a", "kept");
    assert_eq!(client.data(1).await, ["kept"]);
    fixture.bus.publish_message(message("a", "typing", "x", Retention::LiveOnly));
    let event = client.event().await.expect("a live message comes");
    assert_eq!((event.event.as_str(), event.data.as_str(), event.id.as_str()), ("typing", "x", "9f3c.1"));
    assert!(client.seen.ends_with("event: typing\nchannel: a\nencoding: text\ndata: x\n\n"));
}

#[tokio::test]
async fn a_hostile_payload_cannot_forge_an_event() {
    let fixture = Fixture::start().await;
    let mut client = Client::get(fixture.address(), "/v1/events?channel=a", &[]).await;
    assert!(client.block().await);
    let payload = "x\r\revent: reset\rid: 0.0\n\ndata: forged\r\n\r\n:";
    fixture.bus.publish("a", payload);
    fixture.bus.publish("a", "after");
    let event = client.event().await.expect("the payload comes");
    assert_eq!(event.data, payload.replace("\r\n", "\n").replace('\r', "\n"));
    assert_eq!((event.event.as_str(), event.id.as_str()), ("e", "9f3c.1"));
    assert_eq!(client.data(1).await, ["after"]);
}

#[tokio::test]
async fn heartbeats_move_the_id_of_a_client_that_hears_nothing() {
    let fixture =
        Fixture::with(MemoryBus::new(1), |config| config.heartbeat_interval = Duration::from_millis(5)).await;
    let mut client = Client::get(fixture.address(), "/v1/events?channel=a", &[]).await;
    for _ in 0..3 {
        fixture.bus.publish("b", "not for it");
    }
    while client.last_id != "1.3" {
        assert!(client.block().await);
    }
    assert!(client.seen.ends_with(":\nid: 1.3\n\n"), "{}", client.seen);
}

#[tokio::test]
async fn a_client_that_reads_but_is_slower_than_its_queue_loses_nothing() {
    let fixture = Fixture::with(MemoryBus::new(1), |config| {
        config.queue_count_max = 2;
        config.direct_bytes_max = 0;
    })
    .await;
    let mut client = Client::get(fixture.address(), "/v1/events?channel=a", &[]).await;
    assert!(client.block().await);
    let payloads: Vec<String> = (0..2_000).map(|nth| nth.to_string()).collect();
    for payload in &payloads {
        fixture.bus.publish("a", payload);
    }
    assert_eq!(client.data(payloads.len()).await, payloads);
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_alone_and_can_resume() {
    let fixture =
        Fixture::with(MemoryBus::new(1), |config| config.stall_time_max = Duration::from_millis(100)).await;
    let mut stuck = Client::get(fixture.address(), "/v1/events?channel=a", &[]).await;
    assert!(stuck.block().await);
    let mut other = Client::get(fixture.address(), "/v1/events?channel=b", &[]).await;
    assert!(other.block().await);
    fixture.streams(2).await;
    // More than the sockets of both ends hold.
    let payload = "x".repeat(1 << 20);
    for _ in 0..24 {
        fixture.bus.publish("a", &payload);
    }
    fixture.streams(1).await;
    fixture.bus.publish("b", "still here");
    assert_eq!(other.data(1).await, ["still here"]);
    let mut count = 0;
    while let Some(event) = stuck.event().await {
        assert_eq!(event.data.len(), payload.len());
        count += 1;
    }
    assert!(count < 24);
    // With so short a patience it may be cut again; what counts is that each return goes on where it was.
    let mut id = stuck.last_id;
    while count < 24 {
        let mut back = Client::resume(fixture.address(), "/v1/events?channel=a", &id).await;
        while count < 24 {
            let Some(event) = back.event().await else { break };
            count += 1;
            assert_eq!((event.data.len(), event.id), (payload.len(), format!("1.{count}")));
        }
        id = back.last_id;
    }
}

#[tokio::test]
async fn a_client_that_leaves_leaves_nothing_behind() {
    let fixture = Fixture::start().await;
    let clients = [
        Client::get(fixture.address(), "/v1/events?channel=a&channel=b", &[]).await,
        Client::get(fixture.address(), "/v1/events?channel=b&channel=c", &[]).await,
    ];
    fixture.streams(2).await;
    assert_eq!(fixture.gateway.hub.channels_count(), 3);
    let [first, second] = clients;
    drop(first);
    fixture.streams(1).await;
    assert_eq!(fixture.gateway.hub.channels_count(), 2);
    drop(second);
    fixture.streams(0).await;
    assert_eq!(fixture.gateway.hub.channels_count(), 0);
}

#[tokio::test]
async fn a_history_that_fails_for_a_while_delays_messages_but_loses_none() {
    let fixture = Fixture::start().await;
    let mut client = Client::get(fixture.address(), "/v1/events?channel=a", &[]).await;
    assert!(client.block().await);
    fixture.bus.fail_reads(2);
    fixture.bus.publish("a", "1");
    fixture.bus.publish("a", "2");
    assert_eq!(client.data(2).await, ["1", "2"]);
}

#[tokio::test]
async fn a_replay_that_fails_ends_its_stream_so_that_the_client_resumes() {
    let bus = MemoryBus::new(0x9f3c);
    bus.publish("a", "1");
    let fixture = Fixture::with(bus, |_| {}).await;
    fixture.bus.fail_replays(1);
    let mut client = Client::resume(fixture.address(), "/v1/events?channel=a", "9f3c.0").await;
    assert_eq!(client.event().await, None);
    let mut client = Client::resume(fixture.address(), "/v1/events?channel=a", &client.last_id).await;
    assert_eq!(client.data(1).await, ["1"]);
}

/// What happens in one run of the property below.
#[derive(Debug, Clone)]
struct Plan {
    queue_count_max: usize,
    messages: Vec<usize>,
    /// Which channels a client has, and after how many events it leaves and resumes, again and again.
    clients: Vec<(Vec<usize>, usize)>,
}

const CHANNELS: [&str; 3] = ["a", "b", "c"];

fn plan() -> impl Strategy<Value = Plan> {
    let channels = prop::sample::subsequence(vec![0_usize, 1, 2], 1..=3);
    (
        1_usize..12,
        prop::collection::vec(0_usize..3, 1..600),
        prop::collection::vec((channels, 1_usize..90), 1..6),
    )
        .prop_map(|(queue_count_max, messages, clients)| Plan { queue_count_max, messages, clients })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The model: a client sees the messages of its channels, filtered from all, however often it came back while
    /// they were published.
    #[test]
    fn no_client_has_a_gap_or_a_double_whenever_it_leaves_and_resumes(plan in plan()) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime starts");
        runtime.block_on(run_plan(plan));
    }
}

async fn run_plan(plan: Plan) {
    let queue_count_max = plan.queue_count_max;
    let fixture = Fixture::with(MemoryBus::new(5), |config| {
        config.queue_count_max = queue_count_max;
        if queue_count_max.is_multiple_of(2) {
            config.direct_bytes_max = 0;
        }
        config.heartbeat_interval = Duration::from_millis(1);
    })
    .await;
    let address = fixture.address();
    let mut clients = tokio::task::JoinSet::new();
    for (channels, leave_after) in plan.clients.clone() {
        let expected: Vec<String> = (0..plan.messages.len())
            .filter(|nth| channels.contains(&plan.messages[*nth]))
            .map(|nth| nth.to_string())
            .collect();
        clients.spawn(async move {
            let query: Vec<String> =
                channels.iter().map(|nth| format!("channel={}", CHANNELS[*nth])).collect();
            let target = format!("/v1/events?{}", query.join("&"));
            let mut got = Vec::new();
            let mut id = "5.0".to_owned();
            while got.len() < expected.len() {
                let mut client = Client::resume(address, &target, &id).await;
                let wanted = leave_after.min(expected.len() - got.len());
                got.extend(client.data(wanted).await);
                id = client.last_id;
            }
            assert_eq!(got, expected);
        });
    }
    let bus = Arc::clone(&fixture.bus);
    let publisher = tokio::spawn(async move {
        for (nth, channel) in plan.messages.iter().enumerate() {
            bus.publish(CHANNELS[*channel], &nth.to_string());
            bus.publish_message(message("elsewhere", "", "", Retention::LiveOnly));
            if nth % 7 == 0 {
                tokio::task::yield_now().await;
            }
        }
    });
    let all = async {
        publisher.await.expect("the publisher ends");
        while let Some(ended) = clients.join_next().await {
            ended.expect("the client saw what it had to");
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("everybody got everything");
    fixture.stop.cancel();
    fixture.gateway.stopped().await;
}

#[tokio::test]
async fn a_live_message_goes_to_its_channel_only() {
    let fixture = Fixture::start().await;
    let mut clients = HashMap::new();
    for channel in CHANNELS {
        let mut client = Client::get(fixture.address(), &format!("/v1/events?channel={channel}"), &[]).await;
        assert!(client.block().await);
        clients.insert(channel, client);
    }
    for channel in CHANNELS {
        fixture.bus.publish(channel, &format!("for {channel}"));
        fixture.bus.publish(channel, &format!("again for {channel}"));
    }
    for channel in CHANNELS {
        let client = clients.get_mut(channel).expect("the client is there");
        assert_eq!(client.data(2).await, [format!("for {channel}"), format!("again for {channel}")]);
    }
}
