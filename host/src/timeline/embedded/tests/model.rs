//! Any sequence of writes, reads, connections, evictions, restarts and half-done work, over any thresholds, against a
//! list of all posts and a set of all edges: every page is the model's, what is told of each batch makes the page before it
//! the page after it, and it is told to those who are there.
//!
//! Half-done work is what races are made of: a timeline that is being built while others write, a push that has
//! reached some. The test takes each of its steps by itself, in any order with all others.
//!
//! `TWOHOP_TIMELINE_CASES` says how many sequences; the long run of the suite sets 10,000.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use roaring::RoaringBitmap;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::state::Then;
use crate::timeline::{Source, turned_in};

const USERS: [&str; 4] = ["a", "b", "c", "d"];
const ITEMS: [&str; 12] = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"];
const MINUTE: i64 = 60_000_000;

#[derive(Debug, Clone)]
enum Step {
    /// One batch.
    Write(Vec<Write>),
    /// From the newest.
    Read(usize, usize),
    /// From where the user's last page ended.
    Next(usize, usize),
    Connect(usize),
    Disconnect,
    Evict(usize),
    Facts(usize, usize),
    /// So many chunks.
    Fly(usize),
    Restart,
    BeginHome(usize),
    BeginOutbox(usize),
    BeginAudience(usize),
    /// The next step of one of what was begun: find, then install.
    Continue(usize),
    Abandon(usize),
}

#[derive(Debug, Clone)]
enum Write {
    Follow(usize, usize),
    Unfollow(usize, usize),
    Post { author: usize, item: usize, time: i64, plan: Plan },
    Inbox { user: usize, author: usize, item: usize, time: i64 },
    Retract(usize, usize),
}

fn write() -> impl Strategy<Value = Write> {
    let user = || 0..USERS.len();
    let item = || 0..ITEMS.len();
    let plan = prop_oneof![
        3 => Just(Plan { notify: true, ..PUSH }),
        2 => Just(Plan { notify: true, ..PULL }),
        1 => Just(PUSH),
    ];
    prop_oneof![
        3 => (user(), user()).prop_map(|(follower, followee)| Write::Follow(follower, followee)),
        1 => (user(), user()).prop_map(|(follower, followee)| Write::Unfollow(follower, followee)),
        6 => (user(), item(), 0..9i64, plan)
            .prop_map(|(author, item, time, plan)| Write::Post { author, item, time, plan }),
        1 => (user(), user(), item(), 0..9i64)
            .prop_map(|(user, author, item, time)| Write::Inbox { user, author, item, time }),
        1 => (user(), item()).prop_map(|(author, item)| Write::Retract(author, item)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let user = || 0..USERS.len();
    prop_oneof![
        10 => prop::collection::vec(write(), 1..4).prop_map(Step::Write),
        8 => (user(), 1..6usize).prop_map(|(user, count)| Step::Read(user, count)),
        4 => (user(), 1..4usize).prop_map(|(user, count)| Step::Next(user, count)),
        1 => user().prop_map(Step::Connect),
        1 => Just(Step::Disconnect),
        1 => user().prop_map(Step::Evict),
        4 => (user(), 0..ITEMS.len()).prop_map(|(author, item)| Step::Facts(author, item)),
        4 => (1..4usize).prop_map(Step::Fly),
        1 => Just(Step::Restart),
        2 => user().prop_map(Step::BeginHome),
        1 => user().prop_map(Step::BeginOutbox),
        1 => user().prop_map(Step::BeginAudience),
        4 => (0..4usize).prop_map(Step::Continue),
        1 => (0..4usize).prop_map(Step::Abandon),
    ]
}

fn config() -> impl Strategy<Value = Config> {
    let bytes_max = prop_oneof![1 => Just(0), 2 => Just(800), 5 => Just(1 << 20)];
    let push_followers_max = prop_oneof![0..4u64, Just(u64::MAX)];
    let sizes = (1..7usize, 1..3usize, 0..3usize, 0..3usize, 0..3usize).prop_map(
        |(slots, chunk, lacking, marks, outboxes)| Sizes { slots, chunk, lacking, marks, outboxes },
    );
    (bytes_max, push_followers_max, sizes).prop_map(|(bytes_max, push_followers_max, sizes)| Config {
        bytes_max,
        push_followers_max,
        sizes,
    })
}

#[derive(Debug, Clone)]
struct ModelPost {
    entry: Entry,
    state: u8,
    committed_at: i64,
}

/// All posts, all edges.
#[derive(Default)]
struct Model {
    posts: BTreeMap<(usize, usize), ModelPost>,
    follows: BTreeSet<(usize, usize)>,
    inboxes: BTreeSet<(usize, u64)>,
    plans: BTreeMap<usize, Plan>,
    /// Of which posts nobody was told.
    quiet: BTreeSet<(String, String)>,
    numbers: u64,
    writes: i64,
}

impl Model {
    fn post(&mut self, author: usize, item: usize, time: i64) -> Option<(FeedPost, &mut ModelPost)> {
        self.writes += 1;
        let committed_at = self.writes * 7 * MINUTE;
        let payload = format!("{}", self.writes);
        let feed_post = FeedPost {
            payload: payload.clone().into(),
            committed_at: Micros(committed_at),
            ..feed_post(USERS[author], ITEMS[item], time)
        };
        let next = self.numbers + 1;
        let mut is_new = false;
        let post = self.posts.entry((author, item)).or_insert_with(|| {
            is_new = true;
            let place = Place { time: Micros(time), number: next };
            let (author, item) = (USERS[author].into(), ITEMS[item].into());
            let entry = Entry { author, item, place, edits_count: 0, payload: payload.clone().into() };
            ModelPost { entry, state: tables::INBOX_ONLY, committed_at }
        });
        if is_new {
            self.numbers += 1;
        } else if post.state != tables::RETRACTED {
            post.entry.payload = payload.into();
            post.entry.edits_count += 1;
        }
        Some((feed_post, post))
    }

    fn write(&mut self, write: &Write) -> FeedWrite {
        match *write {
            Write::Follow(follower, followee) => {
                self.follows.insert((follower, followee));
                follow(USERS[follower], USERS[followee])
            }
            Write::Unfollow(follower, followee) => {
                self.follows.remove(&(follower, followee));
                unfollow(USERS[follower], USERS[followee])
            }
            Write::Post { author, item, time, plan } => {
                let (feed_post, post) = self.post(author, item, time).unwrap();
                if post.state == tables::INBOX_ONLY {
                    post.state = tables::PUBLIC;
                    post.committed_at = feed_post.committed_at.0;
                    self.plans.insert(author, plan);
                    if !plan.notify {
                        self.quiet.insert((USERS[author].into(), ITEMS[item].into()));
                    }
                }
                FeedWrite::Post { post: feed_post, plan }
            }
            Write::Inbox { user, author, item, time } => {
                let (feed_post, post) = self.post(author, item, time).unwrap();
                if post.state != tables::RETRACTED {
                    let number = post.entry.place.number;
                    self.inboxes.insert((user, number));
                }
                FeedWrite::Inbox { user: USERS[user].into(), post: feed_post }
            }
            Write::Retract(author, item) => {
                let (_, post) = self.post(author, item, 0).unwrap();
                post.state = tables::RETRACTED;
                retract(USERS[author], ITEMS[item])
            }
        }
    }

    fn page(&self, user: usize, before: Option<Cursor>, count_max: usize) -> Vec<Entry> {
        let is_shown = |((author, _), post): &(&(usize, usize), &ModelPost)| {
            let is_followed = post.state == tables::PUBLIC && self.follows.contains(&(user, *author));
            let is_inboxed = self.inboxes.contains(&(user, post.entry.place.number));
            post.state != tables::RETRACTED && (is_followed || is_inboxed)
        };
        let shown = self.posts.iter().filter(is_shown).map(|(_, post)| post.entry.clone());
        let below = |entry: &Entry| before.is_none_or(|before| entry.place < before.0);
        let mut entries: Vec<Entry> = shown.filter(below).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.place));
        entries.truncate(count_max);
        entries
    }
}

/// What was announced, and perhaps found.
enum Begun {
    Home(UserId, u64, usize, Option<FoundHome>),
    Outbox(UserId, u64, usize, Option<(Vec<Slot>, Place)>),
    Audience(UserId, u64, Option<RoaringBitmap>),
}

struct Run {
    folder: TempDir,
    config: Config,
    asks: bool,
    timelines: Option<Timelines>,
    model: Model,
    begun: Vec<Begun>,
    connected: Vec<(usize, Connected)>,
    cursors: BTreeMap<usize, Option<Cursor>>,
    /// What a client that was told everything shows, for each user.
    shown: Vec<BTreeMap<Key, Value>>,
}

/// An author and an item.
type Key = (String, String);

impl Run {
    async fn new(config: Config, asks: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut run = Self {
            folder,
            config,
            asks,
            timelines: None,
            model: Model::default(),
            begun: vec![],
            connected: vec![],
            cursors: BTreeMap::new(),
            shown: vec![BTreeMap::new(); USERS.len()],
        };
        run.open().await;
        run
    }

    async fn open(&mut self) {
        self.begun.clear();
        self.connected.clear();
        self.timelines = None;
        let state = State::open(self.folder.path()).unwrap();
        self.timelines = Some(Timelines::open_idle(state, self.config, Arc::default()).await.unwrap());
    }

    fn timelines(&self) -> &Timelines {
        self.timelines.as_ref().unwrap()
    }

    async fn user(&self, user: usize) -> Option<UserId> {
        self.timelines().user(USERS[user]).await.unwrap()
    }

    async fn read(&mut self, user: usize, before: Option<Cursor>, count_max: usize) {
        let page = self.timelines().read(USERS[user], before, count_max).await.unwrap();
        assert_eq!(page.entries, self.model.page(user, before, count_max), "{} from {before:?}", USERS[user]);
        assert_eq!(page.next.is_some(), page.entries.len() == count_max);
        self.cursors.insert(user, page.next);
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Write(writes) => {
                if self.asks {
                    // As a pipeline does: a push needs the followers.
                    for write in &writes {
                        if let Write::Post { author, item, .. } = write {
                            self.facts(*author, *item).await;
                        }
                    }
                }
                let follows = self.model.follows.clone();
                let writes: Vec<FeedWrite> = writes.iter().map(|write| self.model.write(write)).collect();
                let along = self.timelines().along();
                let work = move |connection: &Connection| along.write(connection, &writes);
                let tell = |(news, then): (Vec<Message>, Then)| {
                    then();
                    news
                };
                let news = self.timelines().0.state.commit_then(work, tell).await.unwrap();
                self.tell(&news, &follows).await;
            }
            Step::Read(user, count) => self.read(user, None, count).await,
            Step::Next(user, count) => {
                if let Some(before @ Some(_)) = self.cursors.get(&user).copied() {
                    self.read(user, before, count).await;
                }
            }
            Step::Connect(user) => {
                let connected = self.timelines().connect(USERS[user]).await.unwrap();
                self.connected.push((user, connected));
            }
            Step::Disconnect => drop(self.connected.pop()),
            Step::Evict(user) => self.timelines().release(USERS[user]).await.unwrap(),
            Step::Facts(author, item) => self.facts(author, item).await,
            Step::Fly(count) => {
                for _ in 0..count {
                    self.timelines().memory().fly();
                }
            }
            Step::Restart => self.open().await,
            Step::BeginHome(user) => {
                let Some(id) = self.user(user).await else { return };
                let begun = self.timelines().memory().begin_home(id, USERS[user]);
                self.begun.extend(begun.map(|(build, max)| Begun::Home(id, build, max, None)));
            }
            Step::BeginOutbox(author) => {
                let Some(id) = self.user(author).await else { return };
                let begun = self.timelines().memory().begin_outbox(id);
                self.begun.extend(begun.map(|(build, max)| Begun::Outbox(id, build, max, None)));
            }
            Step::BeginAudience(author) => {
                let Some(id) = self.user(author).await else { return };
                let begun = self.timelines().memory().begin_audience(id);
                self.begun.extend(begun.map(|build| Begun::Audience(id, build, None)));
            }
            Step::Continue(at) if at < self.begun.len() => self.go_on(at).await,
            Step::Abandon(at) if at < self.begun.len() => {
                let begun = self.begun.remove(at);
                let mut memory = self.timelines().memory();
                match begun {
                    Begun::Home(user, build, ..) => memory.abandon_home(user, build),
                    Begun::Outbox(author, build, ..) => memory.abandon_outbox(author, build),
                    Begun::Audience(author, build, _) => memory.abandon_audience(author, build),
                }
            }
            Step::Continue(_) | Step::Abandon(_) => {}
        }
    }

    /// `follows` is as it was before.
    async fn tell(&mut self, news: &[Message], follows: &BTreeSet<(usize, usize)>) {
        let is_there = |user: &usize| self.connected.iter().any(|(other, _)| other == user);
        let online: Vec<usize> = (0..USERS.len()).filter(is_there).collect();
        for message in news {
            let source = Source::of(&message.channel).unwrap();
            let mut hears = Vec::new();
            for (user, name) in USERS.iter().enumerate() {
                let sources = self.timelines().sources(name).await.unwrap();
                let is_of = sources.channels.contains(&message.channel);
                if source == Source::Edges {
                    let of = |follows: &BTreeSet<(usize, usize)>| -> Vec<usize> {
                        follows.range((user, 0)..(user + 1, 0)).map(|edge| edge.1).collect()
                    };
                    let turned = turned_in(&message.payload) == Some(sources.turned);
                    // An edge that came and went turned as well.
                    assert!(turned || of(follows) == of(&self.model.follows), "{name} turned");
                    if turned {
                        hears.push(user);
                    }
                } else if is_of {
                    hears.push(user);
                }
            }
            for user in &hears {
                self.hear(*user, source, message);
            }
            hears.retain(|user| online.contains(user));
            let mut listeners = self.timelines().listeners(source).await.unwrap();
            assert_eq!(listeners.count(), hears.len() as u64);
            let mut channels = Vec::new();
            while let Some(more) = self.timelines().next_channels(&mut listeners, 2) {
                channels.extend(more);
            }
            channels.sort();
            let expected: Vec<String> =
                hears.iter().map(|user| format!("timeline:{}", USERS[*user])).collect();
            assert_eq!(channels.iter().map(|channel| channel.to_string()).collect::<Vec<_>>(), expected);
        }
        for (user, name) in USERS.iter().enumerate() {
            let page = self.model.page(user, None, usize::MAX);
            let is_told = |entry: &&Entry| !self.model.quiet.contains(&key(entry));
            let shown = &self.shown[user];
            let missing = page.iter().filter(is_told).any(|entry| !shown.contains_key(&key(entry)));
            assert!(!missing, "{name} was not told of an entry: {shown:?} for {page:?}");
            let page: BTreeMap<Key, Value> = page.iter().map(|entry| (key(entry), json(entry))).collect();
            for (key, value) in shown {
                assert_eq!(page.get(key), Some(value), "{name} shows {key:?}");
            }
        }
    }

    fn hear(&mut self, user: usize, source: Source, message: &Message) {
        let shown = &mut self.shown[user];
        if source == Source::Edges {
            *shown = self
                .model
                .page(user, None, usize::MAX)
                .iter()
                .map(|entry| (key(entry), json(entry)))
                .collect();
            return;
        }
        let value: Value = serde_json::from_slice(&message.payload).unwrap();
        let key = (value["author"].as_str().unwrap().to_owned(), value["item"].as_str().unwrap().to_owned());
        match &*message.event {
            "entry" => drop(shown.insert(key, value)),
            "edit" => {
                if let Some(entry) = shown.get_mut(&key) {
                    *entry = value;
                }
            }
            "retract" => drop(shown.remove(&key)),
            other => panic!("{other}"),
        }
    }

    async fn go_on(&mut self, at: usize) {
        let timelines = self.timelines().clone();
        let state = &timelines.0.state;
        let begun = match self.begun.remove(at) {
            Begun::Home(user, build, max, None) => {
                let found = state.read(move |connection| find_home(connection, user, max)).await.unwrap();
                Begun::Home(user, build, max, Some(found))
            }
            Begun::Outbox(author, build, max, None) => {
                let found = state.read(move |connection| find_outbox(connection, author, max)).await.unwrap();
                Begun::Outbox(author, build, max, Some(found))
            }
            Begun::Audience(author, build, None) => {
                let set = move |connection: &Connection| edges::set(connection, Side::Followers, author);
                Begun::Audience(author, build, Some(state.read(set).await.unwrap()))
            }
            Begun::Home(user, build, _, Some(found)) => {
                return timelines.memory().install_home(user, build, found);
            }
            Begun::Outbox(author, build, _, Some(found)) => {
                return timelines.memory().install_outbox(author, build, &found);
            }
            Begun::Audience(author, build, Some(found)) => {
                return timelines.memory().install_audience(author, build, found);
            }
        };
        self.begun.push(begun);
    }

    async fn facts(&self, author: usize, item: usize) {
        let committed_at = self.model.writes * 7 * MINUTE + 1;
        let asked = [Asked { author: USERS[author], item: ITEMS[item], committed_at: Micros(committed_at) }];
        let facts = self.timelines().facts(&asked).await.unwrap()[0];
        let is_new =
            self.model.posts.get(&(author, item)).is_none_or(|post| post.state == tables::INBOX_ONLY);
        assert_eq!(facts.is_some(), is_new);
        let Some(facts) = facts else { return };
        // While somebody else looks the followers up, they are counted on the disk alone.
        let followers: Vec<usize> =
            (0..USERS.len()).filter(|follower| self.model.follows.contains(&(*follower, author))).collect();
        let online = followers
            .iter()
            .filter(|follower| self.connected.iter().any(|(user, _)| user == *follower))
            .count() as u64;
        assert_eq!(facts.followers, followers.len() as u64);
        assert!(facts.online == online || facts.online == 0, "{} for {online}", facts.online);
        assert!(facts.active <= facts.followers);
        let is_recent = |post: &&ModelPost| {
            post.state == tables::PUBLIC && post.committed_at > committed_at - 60 * MINUTE
        };
        let of_author = self.model.posts.range((author, 0)..(author + 1, 0)).map(|(_, post)| post);
        assert_eq!(facts.rate as usize, of_author.filter(is_recent).count());
        assert_eq!(facts.previous, self.model.plans.get(&author).copied());
    }

    /// Everybody reads everything, page by page, twice: before and after all pushes have ended.
    async fn conclude(&mut self) {
        for _ in 0..2 {
            for user in 0..USERS.len() {
                let mut before = None;
                loop {
                    self.read(user, before, 3).await;
                    before = self.cursors[&user];
                    if before.is_none() {
                        break;
                    }
                }
            }
            while self.timelines().memory().fly() {}
        }
    }
}

fn key(entry: &Entry) -> Key {
    (entry.author.to_string(), entry.item.to_string())
}

fn json(entry: &Entry) -> Value {
    let mut json = String::new();
    entry.to_json(&mut json);
    serde_json::from_str(&json).unwrap()
}

fn cases() -> u32 {
    std::env::var("TWOHOP_TIMELINE_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(150)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn every_page_is_the_models(
        config in config(),
        asks in prop::bool::weighted(0.8),
        edges in prop::collection::vec((0..USERS.len(), 0..USERS.len()), 0..12),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(async {
            let mut run = Run::new(config, asks).await;
            // Without this most sequences have nobody who is active and follows somebody when something is posted.
            run.step(Step::Write(edges.iter().map(|edge| Write::Follow(edge.0, edge.1)).collect())).await;
            for user in 0..USERS.len() {
                run.read(user, None, 3).await;
            }
            for step in steps {
                run.step(step).await;
            }
            run.conclude().await;
        });
    }
}
