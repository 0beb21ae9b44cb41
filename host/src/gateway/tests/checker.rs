//! Many clients on every face, which leave, come back, change their channels and are slow, while messages are
//! published and retention removes some: what each of them got is checked against what was published.
//!
//! The model is a list: the sequence of every message and its channel. A client keeps a place for each channel, and at
//! each message looks into the list whether it is the channel's next one after its place. So neither a gap nor a double
//! nor another order can pass; a `reset` moves the place, and is right only if retention has passed it.
//!
//! Some messages set or end the value of their channel. A client that comes new, or was reset, has to get the value as of
//! its place, unless the next word about it is newer than that and therefore a message; one that resumes gets none.

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
use crate::http::tests::{Client, Event, PATIENCE};

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
    messages: Vec<(usize, Retention)>,
    /// After how many messages retention removes how many of those that are there.
    retention: Option<(usize, u64)>,
    clients: Vec<Script>,
}

#[derive(Debug, Clone)]
struct Script {
    face: Face,
    channels: Vec<usize>,
    /// Whether it comes without an id, or with one from before all messages.
    is_new: bool,
    /// Each after so many events.
    actions: Vec<(usize, Action)>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let face = prop_oneof![1 => Just(Face::EventStream), 2 => Just(Face::Socket), 1 => Just(Face::Poll)];
    let action = prop_oneof![1 => Just(Action::Leave), 2 => (0..CHANNELS.len()).prop_map(Action::Toggle)];
    let script = (
        face,
        prop::sample::subsequence(vec![0, 1, 2], 1..=3),
        any::<bool>(),
        prop::collection::vec((1_usize..40, action), 0..12),
    );
    let script =
        script.prop_map(|(face, channels, is_new, actions)| Script { face, channels, is_new, actions });
    let word = prop_oneof![
        6 => Just(Retention::Kept),
        2 => Just(Retention::Value),
        1 => Just(Retention::Forget),
    ];
    (
        1_usize..12,
        prop::collection::vec((0..CHANNELS.len(), word), 1..500),
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
    /// The channel of each sequence from 1 on, and what it says about the channel's value.
    messages: Arc<Vec<(usize, Retention)>>,
    /// Everything of the channel up to there was got, or lost by a reset. None while the client has no id for it.
    places: BTreeMap<usize, u64>,
    /// Channels of which the value is told first, and their place then; with the value that was told.
    beginning: BTreeMap<usize, Option<u64>>,
}

fn number(id: &str) -> u64 {
    let sequence = id.strip_prefix(&format!("{EPOCH:x}.")).unwrap_or_else(|| panic!("{id} is of our epoch"));
    sequence.parse().expect("an id has a number")
}

fn nth(channel: &str) -> usize {
    CHANNELS.iter().position(|known| *known == channel).expect("it is one of ours")
}

impl Record {
    /// The id with which a client comes first; an empty one if it is new.
    fn first_id(&mut self, script: &Script) -> String {
        if script.is_new {
            return String::new();
        }
        self.places.extend(script.channels.iter().map(|channel| (*channel, 0)));
        id(0)
    }

    /// The first message of a channel after a place.
    fn next(&self, channel: usize, after: u64) -> Option<u64> {
        let after = usize::try_from(after).expect("it is small");
        let rest = &self.messages[after.min(self.messages.len())..];
        let found = rest.iter().position(|(of, _)| *of == channel);
        found.map(|found| (after + found + 1) as u64)
    }

    /// The value of a channel as of a place, or whether there is one newer word about it at least.
    fn value(&self, channel: usize, place: u64) -> (Option<u64>, bool) {
        let words = (1_u64..).zip(&*self.messages);
        let words = words.filter(|(_, (of, word))| *of == channel && *word != Retention::Kept);
        let head = self.bus.head().borrow().0;
        let mut value = None;
        for (sequence, (_, word)) in words {
            if sequence > place {
                return (value, sequence <= head);
            }
            value = (*word == Retention::Value).then_some(sequence);
        }
        (value, false)
    }

    /// Channels of which the value comes first, if there is one.
    fn begins(&mut self, channels: &[usize]) {
        self.beginning.extend(channels.iter().map(|channel| (*channel, None)));
    }

    fn got_value(&mut self, channel: &str, id: &str, payload: &str) {
        let (channel, sequence) = (nth(channel), number(id));
        assert_eq!(
            (self.messages[sequence as usize - 1], payload),
            ((channel, Retention::Value), &*sequence.to_string())
        );
        let told =
            self.beginning.get_mut(&channel).unwrap_or_else(|| panic!("{channel} is told its value {id}"));
        assert_eq!(told.replace(sequence), None, "the value of {channel} came twice");
    }

    /// All values that are due were told: the client is here.
    fn placed(&mut self, id: &str) {
        let place = number(id);
        for (channel, told) in std::mem::take(&mut self.beginning) {
            let (value, is_moved) = self.value(channel, place);
            assert!(
                told == value || told.is_none() && is_moved,
                "{channel} at {place}: {told:?} for {value:?}"
            );
            self.places.insert(channel, place);
        }
    }

    /// The connection ends before the client has a place for all: it goes on from the values that it has.
    fn breaks_off(&mut self) {
        for (channel, told) in std::mem::take(&mut self.beginning) {
            self.places.extend(told.map(|value| (channel, value)));
        }
    }

    fn got(&mut self, channel: &str, id: &str, payload: &str) {
        let (channel, sequence) = (nth(channel), number(id));
        if let Some(told) = self.beginning.remove(&channel) {
            // The place was not told: it is somewhere before.
            let (value, _) = self.value(channel, sequence - 1);
            assert!(told.is_none() || told == value, "{channel} before {sequence}: {told:?} for {value:?}");
            assert_eq!(self.messages[sequence as usize - 1].0, channel);
            self.places.insert(channel, sequence);
            return;
        }
        let place = self.places[&channel];
        assert_eq!(Some(sequence), self.next(channel, place), "channel {channel} after {place}");
        assert_eq!(payload, sequence.to_string());
        self.places.insert(channel, sequence);
    }

    /// A place without a message: nothing may be between.
    fn moved(&mut self, channels: &[usize], id: &str) {
        let to = number(id);
        for channel in channels.iter().filter(|channel| !self.beginning.contains_key(channel)) {
            let place = self.places[channel];
            assert!(to >= place, "the place of {channel} went back from {place} to {to}");
            let next = self.next(*channel, place);
            assert!(next.is_none_or(|next| next > to), "{next:?} of {channel} was left out before {to}");
            self.places.insert(*channel, to);
        }
    }

    /// With an id if no value follows. What has overflowed is read again from where the first of its channels is: if that is
    /// gone, all are lost that have not come to the end, also one that is beyond what is gone.
    fn lost(&mut self, channels: &[usize], id: Option<&str>) {
        let floor = self.bus.floor();
        let least = self.places.values().min().copied();
        for channel in channels {
            // Who is new has no place yet; where it began may be gone before it was read.
            let Some(&place) = self.places.get(channel) else { continue };
            assert!(
                least.is_some_and(|least| Sequence(least) < floor),
                "a reset of {channel} at {place}, with all kept from {floor}"
            );
            let to = id.map_or(place, number);
            assert!(to >= place, "the reset of {channel} went back from {place} to {to}");
        }
        self.begins(channels);
        if let Some(id) = id {
            let others = self.beginning.clone();
            self.beginning.retain(|channel, _| channels.contains(channel));
            self.placed(id);
            self.beginning = others.into_iter().filter(|(channel, _)| !channels.contains(channel)).collect();
        }
    }

    fn has_all(&self, channels: &[usize]) -> bool {
        let has_all = |channel: &usize| {
            let place = self.places.get(channel).filter(|_| !self.beginning.contains_key(channel));
            place.is_some_and(|place| self.next(*channel, *place).is_none())
        };
        channels.iter().all(has_all)
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
    let mut last_id = record.first_id(&script);
    let mut actions = script.actions.into_iter();
    while !record.has_all(&script.channels) {
        let mut client = Client::resume(address, &target, &last_id).await;
        if last_id.is_empty() {
            record.begins(&script.channels);
        }
        let stay = actions.next().map_or(usize::MAX, |(after, _)| after);
        for _ in 0..stay {
            if !record.beginning.is_empty() {
                // Between two blocks the id is the last of these.
                assert!(client.block().await, "the stream goes on");
                while let Some(event) = client.waiting() {
                    take_event(record, &event);
                }
                let block = client.seen.rsplit("\n\n").nth(1).expect("a block was seen");
                // The first block, or a sign of life.
                if !block.contains("data:") && block.contains("id: ") {
                    record.placed(&client.last_id);
                }
                last_id.clone_from(&client.last_id);
                continue;
            }
            if record.has_all(&script.channels) {
                return;
            }
            let event = client.event().await.expect("the stream goes on");
            take_event(record, &event);
            last_id = event.id;
        }
        if last_id.is_empty() {
            record.breaks_off();
            continue;
        }
        // Values come in the order of their places: what was not told comes after the last.
        let here = number(&last_id);
        let broken = std::mem::take(&mut record.beginning);
        record.places.extend(broken.into_keys().map(|channel| (channel, here)));
        // The place of those that had nothing new.
        for channel in &script.channels {
            if record.places[channel] < here {
                record.moved(&[*channel], &last_id);
            }
        }
    }
}

fn take_event(record: &mut Record, event: &Event) {
    if event.event == "reset" {
        let data: Value = serde_json::from_str(&event.data).expect("a reset is JSON");
        let channels = channels_of(&data["channels"]);
        // A browser's id stays what it was where the reset has none.
        let is_new = channels.iter().all(|channel| number(&event.id) > record.places[channel]);
        record.lost(&channels, is_new.then_some(&*event.id));
    } else if event.value {
        record.got_value(&event.channel, &event.id, &event.data);
    } else {
        record.got(&event.channel, &event.id, &event.data);
    }
}

async fn follow_polls(address: SocketAddr, script: Script, record: &mut Record) {
    let mut last_id = record.first_id(&script);
    while !record.has_all(&script.channels) {
        let target = format!("/v1/poll?{}&after={last_id}&wait=20", query(&script.channels));
        if last_id.is_empty() {
            record.begins(&script.channels);
        }
        let answer = Client::get(address, &target, &[]).await.json().await;
        last_id = answer["id"].as_str().expect("an answer has an id").to_owned();
        let messages = answer["messages"].as_array().expect("an answer has messages");
        let text =
            |message: &Value, name: &str| message[name].as_str().expect("a message is whole").to_owned();
        let (values, messages): (Vec<_>, Vec<_>) =
            messages.iter().partition(|message| message["value"] == true);
        // A reset and values come before the messages: they begin after the first of them at the latest.
        let from = messages.first().map_or(last_id.clone(), |first| id(number(&text(first, "id")) - 1));
        if let Some(channels) = answer["reset"].get("channels") {
            record.lost(&channels_of(channels), None);
        }
        for value in values {
            record.got_value(&text(value, "channel"), &text(value, "id"), &text(value, "text"));
        }
        record.placed(&from);
        for message in messages {
            record.got(&text(message, "channel"), &text(message, "id"), &text(message, "text"));
        }
        record.moved(&script.channels, &last_id);
    }
}

/// A place for each channel, and channels that come and go.
async fn follow_socket(address: SocketAddr, script: Script, record: &mut Record) {
    let mut actions = script.actions.into_iter();
    let mut wanted = script.channels;
    if !script.is_new {
        record.places.extend((0..CHANNELS.len()).map(|channel| (channel, 0)));
    }
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
                Some((_, Action::Leave)) => {
                    record.breaks_off();
                    break;
                }
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
                    let told = record.beginning.remove(&channel).flatten();
                    record.places.extend(told.map(|value| (channel, value)));
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
    let place = |channel: &usize| record.places.get(channel).map_or(String::new(), |place| id(*place));
    let places: Vec<(usize, String)> = channels.iter().map(|channel| (*channel, place(channel))).collect();
    let channels: Vec<(&str, &str)> =
        places.iter().map(|(channel, id)| (CHANNELS[*channel], id.as_str())).collect();
    let answer = socket.subscribe(&channels).await;
    take_waiting(socket, record, there).await;
    for (begun, (channel, after)) in
        answer["channels"].as_array().expect("it names them").iter().zip(&channels)
    {
        let channel = nth(channel);
        match begun["id"].as_str() {
            None if after.is_empty() => record.begins(&[channel]),
            None => {}
            Some(place) if after.is_empty() => {
                let others = std::mem::take(&mut record.beginning);
                record.begins(&[channel]);
                record.placed(place);
                record.beginning = others;
            }
            Some(_) => {}
        }
    }
}

fn take(record: &mut Record, wanted: &[usize], event: &Value) {
    let text = |name: &str| event[name].as_str().unwrap_or_else(|| panic!("{event} has {name}"));
    match text("type") {
        "message" => {
            assert!(wanted.contains(&nth(text("channel"))), "{event} is of a channel that was left");
            if event["value"] == true {
                record.got_value(text("channel"), text("id"), text("text"));
            } else {
                record.got(text("channel"), text("id"), text("text"));
            }
        }
        "reset" => record.lost(&channels_of(&event["channels"]), event["id"].as_str()),
        "alive" if event["id"].is_null() => {}
        "alive" => {
            record.placed(text("id"));
            record.moved(wanted, text("id"));
        }
        _ => panic!("{event} came"),
    }
}

async fn run(plan: Plan) {
    let bus = MemoryBus::new(EPOCH);
    let fixture = Fixture::with(Arc::clone(&bus), |config| {
        config.queue_count_max = plan.queue_count_max;
        if plan.queue_count_max.is_multiple_of(2) {
            config.direct_bytes_max = 0;
        }
        config.heartbeat_interval = std::time::Duration::from_millis(3);
    })
    .await;
    let address = fixture.address();
    let messages = Arc::new(plan.messages.clone());
    let mut clients = tokio::task::JoinSet::new();
    for script in plan.clients {
        let mut record = Record {
            bus: Arc::clone(&bus),
            messages: Arc::clone(&messages),
            places: BTreeMap::new(),
            beginning: BTreeMap::new(),
        };
        clients.spawn(async move {
            match script.face {
                Face::EventStream => follow_events(address, script, &mut record).await,
                Face::Socket => follow_socket(address, script, &mut record).await,
                Face::Poll => follow_polls(address, script, &mut record).await,
            }
        });
    }
    let publisher = tokio::spawn(async move {
        for (nth, (channel, word)) in plan.messages.iter().enumerate() {
            let sequence =
                bus.publish_message(message(CHANNELS[*channel], "e", &(nth + 1).to_string(), *word));
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
