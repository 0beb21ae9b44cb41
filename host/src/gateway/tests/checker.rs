//! Many clients on every face, which leave, come back, change their channels and are slow, while messages are
//! published and retention removes some: what each of them got is checked against what was published.
//!
//! The model is a list: the sequence of every message and its channel. A client keeps a place for each channel, and at
//! each message looks into the list whether it is the channel's next one after its place. So neither a gap nor a double
//! nor another order can pass; a `reset` moves the place, and is right only if retention has passed it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::Fixture;
use super::memory_bus::{MemoryBus, message};
use super::socket_client::Socket;
use crate::bus::Bus;
use crate::event::{Retention, Sequence};
use crate::http::tests::{Client, PATIENCE};

const CHANNELS: [&str; 3] = ["a", "b", "c"];
const EPOCH: u64 = 5;

#[derive(Debug, Clone, Copy)]
enum Face {
    EventStream,
    Socket,
    Poll,
}

#[derive(Debug, Clone, Copy)]
enum Action {
    /// Ends the connection, and comes back.
    Leave,
    /// Leaves the channel, or comes back to it; where channels cannot change, as `Leave`.
    Toggle(usize),
}

/// What happens in one run.
#[derive(Debug, Clone)]
struct Plan {
    queue_count_max: usize,
    messages: Vec<usize>,
    /// After how many messages retention removes how many of those that are there.
    retention: Option<(usize, u64)>,
    clients: Vec<Script>,
}

#[derive(Debug, Clone)]
struct Script {
    face: Face,
    channels: Vec<usize>,
    /// Each after so many events.
    actions: Vec<(usize, Action)>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let face = prop_oneof![1 => Just(Face::EventStream), 2 => Just(Face::Socket), 1 => Just(Face::Poll)];
    let action = prop_oneof![1 => Just(Action::Leave), 2 => (0..CHANNELS.len()).prop_map(Action::Toggle)];
    let script = (
        face,
        prop::sample::subsequence(vec![0, 1, 2], 1..=3),
        prop::collection::vec((1_usize..40, action), 0..12),
    );
    let script = script.prop_map(|(face, channels, actions)| Script { face, channels, actions });
    (
        1_usize..12,
        prop::collection::vec(0..CHANNELS.len(), 1..500),
        prop::option::of((1_usize..400, 1_u64..100)),
        prop::collection::vec(script, 1..7),
    )
        .prop_map(|(queue_count_max, messages, retention, clients)| Plan {
            queue_count_max,
            messages,
            retention,
            clients,
        })
}

/// What one client has, held against what was published.
struct Record {
    bus: Arc<MemoryBus>,
    /// The channel of each sequence from 1 on.
    messages: Arc<Vec<usize>>,
    /// Everything of the channel up to there was got, or lost by a reset.
    places: BTreeMap<usize, u64>,
}

fn number(id: &str) -> u64 {
    let sequence = id.strip_prefix(&format!("{EPOCH:x}.")).unwrap_or_else(|| panic!("{id} is of our epoch"));
    sequence.parse().expect("an id has a number")
}

fn nth(channel: &str) -> usize {
    CHANNELS.iter().position(|known| *known == channel).expect("it is one of ours")
}

impl Record {
    /// The first message of a channel after a place.
    fn next(&self, channel: usize, after: u64) -> Option<u64> {
        let after = usize::try_from(after).expect("it is small");
        let found = self.messages[after.min(self.messages.len())..].iter().position(|of| *of == channel);
        found.map(|found| (after + found + 1) as u64)
    }

    fn got(&mut self, channel: &str, id: &str, payload: &str) {
        let (channel, sequence) = (nth(channel), number(id));
        let place = self.places[&channel];
        assert_eq!(Some(sequence), self.next(channel, place), "channel {channel} after {place}");
        assert_eq!(payload, sequence.to_string());
        self.places.insert(channel, sequence);
    }

    /// A place without a message: nothing may be between.
    fn moved(&mut self, channels: &[usize], id: &str) {
        let to = number(id);
        for channel in channels {
            let place = self.places[channel];
            assert!(to >= place, "the place of {channel} went back from {place} to {to}");
            let next = self.next(*channel, place);
            assert!(next.is_none_or(|next| next > to), "{next:?} of {channel} was left out before {to}");
            self.places.insert(*channel, to);
        }
    }

    fn lost(&mut self, channels: &[usize], id: &str) {
        let (to, floor) = (number(id), self.bus.floor());
        for channel in channels {
            let place = self.places[channel];
            assert!(Sequence(place) < floor, "a reset of {channel} at {place}, with all kept from {floor}");
            assert!(to >= place, "the reset of {channel} went back from {place} to {to}");
            self.places.insert(*channel, to);
        }
    }

    fn has_all(&self, channels: &[usize]) -> bool {
        channels.iter().all(|channel| self.next(*channel, self.places[channel]).is_none())
    }
}

/// The channels of a reset.
fn channels_of(value: &Value) -> Vec<usize> {
    let channels = value.as_array().expect("there are channels");
    channels.iter().map(|channel| nth(channel.as_str().expect("a channel is text"))).collect()
}

fn query(channels: &[usize]) -> String {
    channels.iter().map(|nth| format!("channel={}", CHANNELS[*nth])).collect::<Vec<_>>().join("&")
}

fn id(sequence: u64) -> String {
    format!("{EPOCH:x}.{sequence}")
}

/// One place for all channels, as these faces have.
async fn follow_events(address: SocketAddr, script: Script, record: &mut Record) {
    let target = format!("/v1/events?{}", query(&script.channels));
    let mut actions = script.actions.into_iter();
    let mut last_id = id(0);
    while !record.has_all(&script.channels) {
        let mut client = Client::resume(address, &target, &last_id).await;
        let stay = actions.next().map_or(usize::MAX, |(after, _)| after);
        for _ in 0..stay {
            if record.has_all(&script.channels) {
                return;
            }
            let event = client.event().await.expect("the stream goes on");
            if event.event == "reset" {
                let data: Value = serde_json::from_str(&event.data).expect("a reset is JSON");
                record.lost(&channels_of(&data["channels"]), &event.id);
            } else {
                record.got(&event.channel, &event.id, &event.data);
            }
            last_id = event.id;
        }
        // The place of those that had nothing new.
        let here = number(&last_id);
        for channel in &script.channels {
            if record.places[channel] < here {
                record.moved(&[*channel], &last_id);
            }
        }
    }
}

async fn follow_polls(address: SocketAddr, script: Script, record: &mut Record) {
    let mut last_id = id(0);
    while !record.has_all(&script.channels) {
        let target = format!("/v1/poll?{}&after={last_id}&wait=20", query(&script.channels));
        let answer = Client::get(address, &target, &[]).await.json().await;
        last_id = answer["id"].as_str().expect("an answer has an id").to_owned();
        if let Some(channels) = answer["reset"].get("channels") {
            // A reset comes before the messages: they begin after the first of them at the latest.
            let from = answer["messages"]
                .get(0)
                .map_or(last_id.clone(), |first| id(number(first["id"].as_str().expect("it is kept")) - 1));
            record.lost(&channels_of(channels), &from);
        }
        for message in answer["messages"].as_array().expect("an answer has messages") {
            let text = |name: &str| message[name].as_str().expect("a message is whole");
            record.got(text("channel"), text("id"), text("text"));
        }
        record.moved(&script.channels, &last_id);
    }
}

/// A place for each channel, and channels that come and go.
async fn follow_socket(address: SocketAddr, script: Script, record: &mut Record) {
    let mut actions = script.actions.into_iter();
    let mut wanted = script.channels;
    loop {
        let mut socket = Socket::open(address).await;
        subscribe(&mut socket, record, &[], &wanted).await;
        loop {
            let next = actions.next();
            for _ in 0..next.map_or(usize::MAX, |(after, _)| after) {
                if record.has_all(&wanted) {
                    break;
                }
                let event = socket.next().await.expect("the conversation goes on");
                take(record, &wanted, &event);
            }
            match next {
                None => return,
                Some((_, Action::Leave)) => break,
                Some((_, Action::Toggle(channel))) if !wanted.contains(&channel) => {
                    subscribe(&mut socket, record, &wanted, &[channel]).await;
                    wanted.push(channel);
                }
                Some((_, Action::Toggle(channel))) => {
                    let answer =
                        socket.ask(json!({"type": "unsubscribe", "channels": [CHANNELS[channel]]})).await;
                    assert_eq!(answer["type"], "unsubscribed");
                    // What came before the answer still counts; nothing may come after it.
                    take_waiting(&mut socket, record, &wanted).await;
                    wanted.retain(|other| *other != channel);
                }
            }
        }
        if wanted.is_empty() {
            wanted.push(0);
        }
    }
}

/// What came before an answer is of the channels that there were then.
async fn take_waiting(socket: &mut Socket, record: &mut Record, wanted: &[usize]) {
    while socket.waiting() > 0 {
        let event = socket.next().await.expect("it is there");
        take(record, wanted, &event);
    }
}

async fn subscribe(socket: &mut Socket, record: &mut Record, there: &[usize], channels: &[usize]) {
    let places: Vec<(usize, String)> =
        channels.iter().map(|channel| (*channel, id(record.places[channel]))).collect();
    let channels: Vec<(&str, &str)> =
        places.iter().map(|(channel, id)| (CHANNELS[*channel], id.as_str())).collect();
    socket.subscribe(&channels).await;
    take_waiting(socket, record, there).await;
}

fn take(record: &mut Record, wanted: &[usize], event: &Value) {
    let text = |name: &str| event[name].as_str().unwrap_or_else(|| panic!("{event} has {name}"));
    match text("type") {
        "message" => {
            assert!(wanted.contains(&nth(text("channel"))), "{event} is of a channel that was left");
            record.got(text("channel"), text("id"), text("text"));
        }
        "reset" => record.lost(&channels_of(&event["channels"]), text("id")),
        "alive" if event["id"].is_null() => {}
        "alive" => record.moved(wanted, text("id")),
        _ => panic!("{event} came"),
    }
}

async fn run(plan: Plan) {
    let bus = MemoryBus::new(EPOCH);
    let fixture = Fixture::with(Arc::clone(&bus), |config| {
        config.queue_count_max = plan.queue_count_max;
        config.heartbeat_interval = std::time::Duration::from_millis(3);
    })
    .await;
    let address = fixture.address();
    let messages = Arc::new(plan.messages.clone());
    let mut clients = tokio::task::JoinSet::new();
    for script in plan.clients {
        let places = (0..CHANNELS.len()).map(|channel| (channel, 0)).collect();
        let mut record = Record { bus: Arc::clone(&bus), messages: Arc::clone(&messages), places };
        clients.spawn(async move {
            match script.face {
                Face::EventStream => follow_events(address, script, &mut record).await,
                Face::Socket => follow_socket(address, script, &mut record).await,
                Face::Poll => follow_polls(address, script, &mut record).await,
            }
        });
    }
    let publisher = tokio::spawn(async move {
        for (nth, channel) in plan.messages.iter().enumerate() {
            let sequence = bus.publish(CHANNELS[*channel], &(nth + 1).to_string());
            bus.publish_message(message("elsewhere", "", "", Retention::LiveOnly));
            if let Some((after, back)) = plan.retention
                && after == nth
            {
                bus.forget(Sequence(sequence.0.saturating_sub(back)));
            }
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
    tokio::time::timeout(2 * PATIENCE, all).await.expect("everybody got everything");
    fixture.stop.cancel();
    fixture.gateway.stopped().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_client_has_exactly_what_its_channels_had_or_a_reset_where_one_is_due(plan in plan()) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime starts");
        runtime.block_on(run(plan));
    }
}
