//! The live channel of a timeline, on every face: what a page shows and what is told after it are the timeline.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::memory_bus::message;
use super::socket_client::Socket;
use super::*;
use crate::access::tests::{by_tokens, token_for};
use crate::bus::{Batch, Bus};
use crate::event::{Delivery, FeedPost, FeedWrite, Micros, Offset, Partition, Plan, Retention, Sequence};
use crate::http::tests::Client;
use crate::limits::CHANNEL_BYTES_MAX;
use crate::timeline::{Asked, follow, in_folder_with, retract, unfollow};

const END: &str = "end";

/// A gateway over a bus that keeps feeds.
struct Stand {
    bus: Arc<dyn Bus>,
    timelines: Timelines,
    gateway: Gateway,
    offset: AtomicU64,
    publishing: Mutex<()>,
    _stop: tokio_util::sync::DropGuard,
}

impl Stand {
    async fn start(folder: &Path) -> Self {
        Self::guarded(folder, open_to_all()).await
    }

    async fn guarded(folder: &Path, access: Access) -> Self {
        let (state, timelines) = in_folder_with(folder).await;
        let bus: Arc<dyn Bus> = crate::bus::with_feeds(state, timelines.along()).await;
        let offset = AtomicU64::new(bus.committed(Partition(0)).0);
        let stop = CancellationToken::new();
        let mut config = Config::new(SocketAddr::from(([127, 0, 0, 1], 0)));
        config.shutdown_time_max = Duration::from_millis(500);
        let neighbours =
            Neighbours { bus: bus.clone(), timelines: Some(timelines.clone()), access, intake: closed() };
        let gateway = Gateway::start(config, neighbours, stop.clone()).await.expect("a port is free");
        Self { bus, timelines, gateway, offset, publishing: Mutex::default(), _stop: stop.drop_guard() }
    }

    fn address(&self) -> SocketAddr {
        self.gateway.address()
    }

    async fn apply(&self, feed: &[FeedWrite]) {
        self.publish(feed, None).await;
    }

    /// Whoever listens to the channel [`END`] is told this number after all that was applied before.
    async fn end(&self, number: u64) {
        self.publish(&[], Some(number)).await;
    }

    async fn publish(&self, feed: &[FeedWrite], end: Option<u64>) {
        let _one_by_one = self.publishing.lock().await;
        let offset = Offset(self.offset.fetch_add(1, Ordering::Relaxed));
        let batch = Batch {
            partition: Partition(0),
            offsets: offset..offset.plus(1),
            messages: end
                .map(|end| message(END, "", &end.to_string(), Retention::Kept))
                .into_iter()
                .collect(),
            feed: feed.into(),
            dead_letters: Vec::new(),
            replayed: Vec::new(),
            committed_at: None,
        };
        self.bus.apply(batch).await.expect("the state is there");
    }

    async fn page(&self, user: &str) -> Value {
        let target = format!("/v1/timelines/{user}?limit=500");
        Client::get(self.address(), &target, &[]).await.json().await
    }

    async fn facts_online(&self, author: &str) -> u64 {
        let asked = [Asked { author, item: "of nobody", committed_at: Micros(0) }];
        let facts = self.timelines.facts(&asked).await.expect("the state is there");
        facts[0].expect("it would be new").online
    }

    fn head(&self) -> Sequence {
        *self.bus.head().borrow()
    }
}

fn post_with(author: &str, item: &str, says: u64, plan: Plan) -> FeedWrite {
    FeedWrite::Post { post: feed_post(author, item, says), plan }
}

fn feed_post(author: &str, item: &str, says: u64) -> FeedPost {
    FeedPost {
        author: author.into(),
        item: item.into(),
        payload: says.to_string().into(),
        time: Micros(says.cast_signed()),
        committed_at: Micros(0),
    }
}

fn post(author: &str, item: &str, says: u64) -> FeedWrite {
    post_with(author, item, says, Plan::HOSTS_OWN)
}

fn inbox(user: &str, author: &str, item: &str, says: u64) -> FeedWrite {
    FeedWrite::Inbox { user: user.into(), post: feed_post(author, item, says) }
}

/// What a client gets.
#[derive(Debug, Clone, PartialEq)]
enum Got {
    Message { channel: String, event: String, id: String, value: Value },
    Reset { channels: Value, id: String, reason: String },
}

/// A client on any face.
enum Listener {
    EventStream(Box<Client>),
    Socket(Box<Socket>),
    Poll { address: SocketAddr, target: String, id: String, waiting: VecDeque<Got> },
}

const FACES: [Face; 3] = Face::ALL;

impl Listener {
    /// From an id on; `channels` has one timeline.
    async fn open(address: SocketAddr, face: Face, channels: &[&str], id: &str) -> Self {
        let query: Vec<String> = channels.iter().map(|channel| format!("channel={channel}")).collect();
        let query = query.join("&");
        match face {
            Face::EventStream => {
                let client = Client::resume(address, &format!("/v1/events?{query}"), id).await;
                assert_eq!(client.status(), "200");
                Self::EventStream(Box::new(client))
            }
            Face::WebSocket => {
                let mut socket = Socket::open(address).await;
                let wanted: Vec<(&str, &str)> = channels.iter().map(|channel| (*channel, id)).collect();
                assert_eq!(socket.subscribe(&wanted).await["type"], "subscribed");
                Self::Socket(Box::new(socket))
            }
            Face::LongPoll => Self::Poll {
                address,
                target: format!("/v1/poll?{query}"),
                id: id.to_owned(),
                waiting: VecDeque::new(),
            },
        }
    }

    async fn next(&mut self) -> Got {
        match self {
            Self::EventStream(client) => {
                let event = client.event().await.expect("the stream goes on");
                let value: Value = serde_json::from_str(&event.data).expect("the test's payloads are JSON");
                if event.event == "reset" {
                    let reason = value["reason"].as_str().expect("there is a reason").to_owned();
                    return Got::Reset { channels: value["channels"].clone(), id: event.id, reason };
                }
                Got::Message { channel: event.channel, event: event.event, id: event.id, value }
            }
            Self::Socket(socket) => loop {
                let value = socket.next().await.expect("the socket goes on");
                match value["type"].as_str() {
                    Some("message") => return of_message(&value),
                    Some("reset") => return of_reset(&value, &value["id"]),
                    _ => {}
                }
            },
            Self::Poll { address, target, id, waiting } => loop {
                if let Some(got) = waiting.pop_front() {
                    return got;
                }
                let target = format!("{target}&after={id}&wait=20");
                let answer = Client::get(*address, &target, &[]).await.json().await;
                if answer["reset"].is_object() {
                    waiting.push_back(of_reset(&answer["reset"], &answer["id"]));
                }
                let messages = answer["messages"].as_array().expect("an answer has messages");
                waiting.extend(messages.iter().map(of_message));
                *id = text(&answer["id"]);
            },
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn of_message(value: &Value) -> Got {
    let payload = match &value["text"] {
        Value::String(text) => serde_json::from_str(text).expect("the test's payloads are JSON"),
        _ => value["json"].clone(),
    };
    Got::Message {
        channel: text(&value["channel"]),
        event: text(&value["event"]),
        id: text(&value["id"]),
        value: payload,
    }
}

fn of_reset(value: &Value, id: &Value) -> Got {
    Got::Reset { channels: value["channels"].clone(), id: text(id), reason: text(&value["reason"]) }
}

#[tokio::test]
async fn a_page_and_what_is_told_after_it_join_on_every_face() {
    let folder = tempfile::tempdir().expect("a folder");
    let stand = Stand::start(folder.path()).await;
    stand.apply(&[follow("bob", "ann"), post("ann", "1", 1)]).await;
    let page = stand.page("bob").await;
    assert_eq!(page["entries"].as_array().map(Vec::len), Some(1));
    let id = text(&page["id"]);
    let mut listeners = Vec::new();
    for face in FACES {
        listeners.push(Listener::open(stand.address(), face, &["timeline:bob"], &id).await);
    }
    stand.apply(&[post("ann", "2", 2), post("eve", "3", 3), post("ann", "1", 4)]).await;
    stand.apply(&[retract("ann", "2"), inbox("bob", "eve", "3", 5)]).await;
    let entry = |author: &str, item: &str, time: u64, edits: u64, says: u64| json!({"author": author, "item": item, "time": time, "edits": edits, "payload": says});
    let expected = [
        ("entry", entry("ann", "2", 2, 0, 2)),
        ("edit", entry("ann", "1", 1, 1, 4)),
        ("retract", json!({"author": "ann", "item": "2"})),
        ("entry", entry("eve", "3", 3, 1, 5)),
    ];
    for mut listener in listeners {
        let mut ids = vec![id.clone()];
        for (event, value) in &expected {
            let Got::Message { channel, event: got, id, value: told } = listener.next().await else {
                panic!("nothing is lost");
            };
            assert_eq!((channel.as_str(), got.as_str(), &told), ("timeline:bob", *event, value));
            assert!(!ids.contains(&id), "each has a place of its own: {id}");
            ids.push(id);
        }
    }
}

#[tokio::test]
async fn h_who_comes_back_is_told_all_that_was_missed_or_to_read_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let stand = Stand::start(folder.path()).await;
    stand.apply(&[follow("bob", "ann"), post("ann", "1", 1)]).await;
    let id = text(&stand.page("bob").await["id"]);
    stand.apply(&[post("ann", "2", 2), post("eve", "3", 3), retract("ann", "1")]).await;
    stand.apply(&[follow("carol", "eve")]).await;
    for face in FACES {
        let mut listener = Listener::open(stand.address(), face, &["timeline:bob"], &id).await;
        let mut told = Vec::new();
        for _ in 0..2 {
            let Got::Message { event, value, .. } = listener.next().await else { panic!("nothing is lost") };
            told.push(format!("{event} {}", text(&value["item"])));
        }
        assert_eq!(told, ["entry 2", "retract 1"]);
    }
    let before = text(&stand.page("bob").await["id"]);
    stand.apply(&[follow("bob", "eve")]).await;
    stand.apply(&[post("eve", "4", 4)]).await;
    for face in FACES {
        let mut listener = Listener::open(stand.address(), face, &["timeline:bob"], &before).await;
        let Got::Reset { channels, reason, .. } = listener.next().await else { panic!("it must read anew") };
        assert_eq!((channels, reason.as_str()), (json!(["timeline:bob"]), "follows"));
    }
}

#[tokio::test]
async fn a_post_is_appended_once_however_many_follow_and_whoever_listens_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let stand = Stand::start(folder.path()).await;
    let users: Vec<String> = (0..40).map(|at| format!("u{at}")).collect();
    stand.apply(&users.iter().map(|user| follow(user, "star")).collect::<Vec<_>>()).await;
    let mut listeners = Vec::new();
    for user in &users {
        let id = text(&stand.page(user).await["id"]);
        let channel = format!("timeline:{user}");
        listeners.push(Listener::open(stand.address(), Face::EventStream, &[&channel], &id).await);
    }
    for (item, delivery) in [("1", Delivery::Push), ("2", Delivery::Pull)] {
        let before = stand.head();
        stand.apply(&[post_with("star", item, 1, Plan { delivery, notify: true })]).await;
        assert_eq!(stand.head().0, before.0 + 1);
        for (listener, user) in listeners.iter_mut().zip(&users) {
            let Got::Message { channel, value, .. } = listener.next().await else { panic!("it is told") };
            assert_eq!((channel, text(&value["item"])), (format!("timeline:{user}"), item.to_owned()));
        }
    }
    let listed = Client::get(stand.address(), "/v1/channels", &[]).await.json().await;
    assert_eq!(listed["channels"], json!([]), "what the history carries for timelines is nobody's channel");
}

#[tokio::test]
async fn who_is_not_to_be_notified_is_not_told_of_a_post_but_of_what_becomes_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let stand = Stand::start(folder.path()).await;
    stand.apply(&[follow("bob", "ann")]).await;
    let id = text(&stand.page("bob").await["id"]);
    let mut listener = Listener::open(stand.address(), Face::EventStream, &["timeline:bob"], &id).await;
    for (item, delivery) in [("1", Delivery::Push), ("2", Delivery::Pull)] {
        stand.apply(&[post_with("ann", item, 1, Plan { delivery, notify: false })]).await;
    }
    stand.apply(&[post("ann", "1", 2)]).await;
    let Got::Message { event, value, .. } = listener.next().await else { panic!("nothing is lost") };
    assert_eq!((event.as_str(), text(&value["item"])), ("edit", "1".to_owned()));
    assert_eq!(stand.page("bob").await["entries"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn who_listens_is_online_and_active_until_the_connection_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let stand = Stand::start(folder.path()).await;
    stand.apply(&[follow("bob", "ann")]).await;
    let now = format!("{}.{}", stand.bus.epoch(), stand.head());
    for face in [Face::EventStream, Face::WebSocket] {
        assert_eq!(stand.facts_online("ann").await, 0);
        let mut listener = Listener::open(stand.address(), face, &["timeline:bob"], &now).await;
        assert_eq!(stand.facts_online("ann").await, 1);
        assert_eq!(stand.timelines.activity().active_count, 1);
        if let Listener::Socket(socket) = &mut listener {
            socket.ask(json!({"type": "unsubscribe", "channels": ["timeline:bob"]})).await;
            assert_eq!(stand.facts_online("ann").await, 0, "who leaves the channel is gone");
            socket.subscribe(&[("timeline:bob", "")]).await;
            assert_eq!(stand.facts_online("ann").await, 1);
        }
        drop(listener);
        let is_gone = async {
            while stand.facts_online("ann").await != 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, is_gone).await.expect("the end of the connection is noticed");
        stand.timelines.release("bob").await.expect("the state is there");
    }
}

#[tokio::test]
async fn only_who_may_listen_to_a_timeline_does_and_to_one_at_a_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let (access, _metrics) = by_tokens(|settings| settings.channels = vec!["timeline:{sub}".into()]);
    let stand = Stand::guarded(folder.path(), access).await;
    let authorization = format!("Bearer {}", token_for("bob", 60));
    let headers = [("Authorization", authorization.as_str())];
    for (target, status) in [
        ("/v1/events?channel=timeline:bob", "200"),
        ("/v1/events?channel=timeline:ann", "403"),
        ("/v1/poll?channel=timeline:ann", "403"),
        ("/v1/poll?channel=timeline:bob", "200"),
    ] {
        assert_eq!(Client::get(stand.address(), target, &headers).await.status(), status, "{target}");
    }
    let target = "/v1/events?channel=timeline:bob";
    assert_eq!(Client::get(stand.address(), target, &[]).await.status(), "401");
    drop(stand);

    let folder = tempfile::tempdir().expect("a folder");
    let stand = Stand::start(folder.path()).await;
    let two = "channel=timeline:bob&channel=timeline:ann";
    for face in ["events", "poll"] {
        let client = Client::get(stand.address(), &format!("/v1/{face}?{two}"), &[]).await;
        assert_eq!(client.status(), "400");
        assert_eq!(client.json().await["error"]["reason"], "timelines_too_many");
    }
    let mut socket = Socket::open(stand.address()).await;
    socket.subscribe(&[("timeline:bob", "")]).await;
    let refused = socket.ask(json!({"type": "subscribe", "channels": [{"channel": "timeline:ann"}]})).await;
    assert_eq!(refused["reason"], "timelines_too_many");
    for own in ["$edges", "$author:1"] {
        let client = Client::get(stand.address(), &format!("/v1/events?channel={own}"), &[]).await;
        assert_eq!(client.status(), "400");
    }
    let long = format!("/v1/timelines/{}", "u".repeat(CHANNEL_BYTES_MAX));
    assert_eq!(Client::get(stand.address(), &long, &[]).await.status(), "400");
}

const USERS: [&str; 4] = ["a", "b", "c", "d"];
const ITEMS: [&str; 6] = ["1", "2", "3", "4", "5", "6"];

/// Numbers that look random (Numerical Recipes' generator), the same in each run.
struct Dice(u32);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % sides
    }

    fn write(&mut self, says: u64) -> FeedWrite {
        let (one, other) = (USERS[self.throw(4)], USERS[self.throw(4)]);
        let item = ITEMS[self.throw(6)];
        match self.throw(20) {
            0 | 1 => follow(one, other),
            2 => unfollow(one, other),
            3 => retract(one, item),
            4 | 5 => inbox(other, one, item, says),
            at => {
                let delivery = if at % 2 == 0 { Delivery::Push } else { Delivery::Pull };
                post_with(one, item, says, Plan { delivery, notify: true })
            }
        }
    }
}

/// What a client shows of a timeline: the entry of each post, and nothing else is known to it.
struct Shown {
    user: &'static str,
    face: Face,
    listener: Option<Listener>,
    id: String,
    entries: BTreeMap<(String, String), Value>,
}

impl Shown {
    async fn new(stand: &Stand, user: &'static str, face: Face) -> Self {
        let mut shown = Self { user, face, listener: None, id: String::new(), entries: BTreeMap::new() };
        shown.load(stand).await;
        shown
    }

    /// Reads the page; goes on from its id only if there was none before.
    async fn load(&mut self, stand: &Stand) {
        let page = stand.page(self.user).await;
        self.entries = entries_of(&page);
        if self.id.is_empty() {
            self.id = text(&page["id"]);
        }
    }

    /// Takes what comes until the end is told.
    async fn follow(&mut self, stand: &Stand, end: u64) {
        let timeline = format!("timeline:{}", self.user);
        loop {
            let listener = match &mut self.listener {
                Some(listener) => listener,
                none => {
                    let channels = [timeline.as_str(), END];
                    let opened = Listener::open(stand.address(), self.face, &channels, &self.id).await;
                    none.insert(opened)
                }
            };
            match listener.next().await {
                Got::Message { channel, id, value, .. } if channel == END => {
                    self.id = id;
                    if value == json!(end) {
                        return;
                    }
                }
                Got::Message { event, id, value, .. } => {
                    let key = (text(&value["author"]), text(&value["item"]));
                    self.id = id;
                    // The page may show what comes after its id as well: then it is told once more.
                    let edits = self.entries.get(&key).and_then(|entry| entry["edits"].as_u64());
                    let is_news = edits.is_none_or(|edits| value["edits"].as_u64() > Some(edits));
                    match event.as_str() {
                        "entry" if is_news => drop(self.entries.insert(key, value)),
                        "edit" if is_news && edits.is_some() => drop(self.entries.insert(key, value)),
                        "entry" | "edit" => {}
                        "retract" => drop(self.entries.remove(&key)),
                        other => panic!("{other}"),
                    }
                }
                Got::Reset { id, reason, .. } => {
                    assert_eq!(reason, "follows");
                    self.id = id;
                    self.load(stand).await;
                }
            }
        }
    }
}

fn entries_of(page: &Value) -> BTreeMap<(String, String), Value> {
    let entries = page["entries"].as_array().expect("a page has entries").iter();
    entries.map(|entry| ((text(&entry["author"]), text(&entry["item"])), entry.clone())).collect()
}

/// Writes and clients at once; clients come and go, and some are slow.
async fn whatever_happens(seed: u32) {
    let folder = tempfile::tempdir().expect("a folder");
    let stand = Stand::start(folder.path()).await;
    let mut dice = Dice(seed);
    let mut shown = Vec::new();
    for (at, face) in FACES.into_iter().enumerate() {
        shown.push(Shown::new(&stand, USERS[at], face).await);
        shown.push(Shown::new(&stand, USERS[3], face).await);
    }
    for round in 0..12 {
        let mut batches = Vec::new();
        for at in 0..dice.throw(6) as u64 {
            let says = round * 100 + at * 10;
            batches.push((0..=dice.throw(3) as u64).map(|more| dice.write(says + more)).collect::<Vec<_>>());
        }
        for client in &mut shown {
            if dice.throw(3) == 0 {
                client.listener = None;
            }
        }
        let write = async {
            for batch in &batches {
                stand.apply(batch).await;
            }
            stand.end(round).await;
        };
        let follow =
            futures_util::future::join_all(shown.iter_mut().map(|client| client.follow(&stand, round)));
        tokio::time::timeout(PATIENCE, async { tokio::join!(write, follow) }).await.expect("all is told");
        for client in &shown {
            let expected = entries_of(&stand.page(client.user).await);
            assert_eq!(client.entries, expected, "{} by {}, seed {seed}", client.user, client.face.name());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_happens_a_page_and_what_is_told_after_it_are_the_timeline() {
    for seed in 0..8 {
        whatever_happens(seed).await;
    }
}
