//! Timelines against a naive model (`model`), under load from several sides (`load`), and one by one what others have
//! stumbled over.

mod load;
mod model;

use tempfile::TempDir;

use super::*;
use crate::event::{Delivery, FeedPost, Plan};

const PUSH: Plan = Plan { delivery: Delivery::Push, notify: false };
const PULL: Plan = Plan { delivery: Delivery::Pull, notify: false };

fn feed_post(author: &str, item: &str, time: i64) -> FeedPost {
    FeedPost {
        author: author.into(),
        item: item.into(),
        payload: format!("\"{author} says {item}\"").into(),
        time: Micros(time),
        committed_at: Micros(time),
    }
}

fn post(author: &str, item: &str, time: i64, plan: Plan) -> FeedWrite {
    FeedWrite::Post { post: feed_post(author, item, time), plan }
}

fn inbox(user: &str, author: &str, item: &str, time: i64) -> FeedWrite {
    FeedWrite::Inbox { user: user.into(), post: feed_post(author, item, time) }
}

pub(crate) fn retract(author: &str, item: &str) -> FeedWrite {
    FeedWrite::Retract { author: author.into(), item: item.into() }
}

pub(crate) fn follow(follower: &str, followee: &str) -> FeedWrite {
    FeedWrite::Follow { follower: follower.into(), followee: followee.into() }
}

pub(crate) fn unfollow(follower: &str, followee: &str) -> FeedWrite {
    FeedWrite::Unfollow { follower: follower.into(), followee: followee.into() }
}

/// Timelines in a folder, for the tests of whoever reads them.
pub(crate) async fn in_folder(folder: &std::path::Path) -> Timelines {
    in_folder_with(folder).await.1
}

/// The same, with the state that they share with a bus.
pub(crate) async fn in_folder_with(folder: &std::path::Path) -> (State, Timelines) {
    let state = State::open(folder).expect("the folder is writable");
    let timelines = Timelines::open(state.clone(), Config::default()).await.expect("the tables are made");
    (state, timelines)
}

/// Timelines without a pusher: a test says when a chunk is pushed.
struct Home {
    timelines: Timelines,
    _folder: TempDir,
}

impl Home {
    async fn new() -> Self {
        Self::with(Config::default()).await
    }

    async fn with(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let timelines = Timelines::open_idle(state, config, Arc::default()).await.unwrap();
        Self { timelines, _folder: folder }
    }

    async fn apply(&self, writes: impl Into<Vec<FeedWrite>>) {
        self.timelines.apply(writes.into()).await.unwrap();
    }

    /// The newest items.
    async fn read(&self, user: &str, count_max: usize) -> Vec<String> {
        let page = self.timelines.read(user, None, count_max).await.unwrap();
        page.entries.iter().map(|entry| entry.item.to_string()).collect()
    }

    /// What the plans of an author's posts need: so a push knows the followers.
    async fn know(&self, author: &str) -> Facts {
        let asked = [Asked { author, item: "of nobody", committed_at: Micros(0) }];
        self.timelines.facts(&asked).await.unwrap()[0].unwrap()
    }

    fn push(&self) {
        while self.timelines.memory().fly() {}
    }
}

// The letters are those of the notes on what others' feeds went wrong with; `h`, what a client misses between two
// connections, is the gateway's (`gateway/tests/live.rs`).

#[tokio::test]
async fn a_an_entry_that_came_in_two_ways_stays_when_one_goes() {
    for plan in [PUSH, PULL] {
        let home = Home::new().await;
        home.apply([follow("bob", "alice")]).await;
        home.read("bob", 9).await;
        home.know("alice").await;
        home.apply([post("alice", "1", 1, plan), inbox("bob", "alice", "1", 1)]).await;
        home.push();
        assert_eq!(home.read("bob", 9).await, ["1"]);
        home.apply([unfollow("bob", "alice")]).await;
        assert_eq!(home.read("bob", 9).await, ["1"]);
    }
}

#[tokio::test]
async fn b_a_page_is_full_though_most_of_what_was_pushed_shows_no_longer() {
    let home = Home::new().await;
    home.apply([follow("bob", "alice"), follow("bob", "carol")]).await;
    home.read("bob", 9).await;
    home.know("alice").await;
    home.know("carol").await;
    let old = (0..5).map(|at| post("carol", &format!("c{at}"), at, PUSH));
    let new = (0..50).map(|at| post("alice", &format!("a{at}"), 10 + at, PUSH));
    home.apply(old.chain(new).collect::<Vec<_>>()).await;
    home.push();
    assert_eq!(home.read("bob", 2).await, ["a49", "a48"]);
    home.apply([unfollow("bob", "alice"), retract("carol", "c3")]).await;
    assert_eq!(home.read("bob", 3).await, ["c4", "c2", "c1"]);
}

#[tokio::test]
async fn c_nobody_becomes_active_by_a_push() {
    let home = Home::new().await;
    home.apply([follow("bob", "alice"), follow("carol", "alice")]).await;
    home.read("bob", 9).await;
    assert_eq!(home.know("alice").await.active, 1);
    home.apply([post("alice", "1", 1, PUSH)]).await;
    home.push();
    let Activity { active_count, entries_count, .. } = home.timelines.activity();
    assert_eq!((active_count, entries_count), (1, 1));
    assert_eq!(home.read("carol", 9).await, ["1"]);
}

#[tokio::test]
async fn d_a_timeline_is_built_of_whom_one_follows_however_new_ones_own_posts_are() {
    let mut config = Config::default();
    config.sizes.slots = 3;
    let home = Home::with(config).await;
    home.apply([follow("bob", "alice"), follow("bob", "carol"), post("carol", "c", 1, PULL)]).await;
    home.apply((0..5).map(|at| post("alice", &format!("a{at}"), 10 + at, PULL)).collect::<Vec<_>>()).await;
    home.apply((0..9).map(|at| post("bob", &format!("b{at}"), 100 + at, PUSH)).collect::<Vec<_>>()).await;
    assert_eq!(home.read("bob", 9).await, ["a4", "a3", "a2", "a1", "a0", "c"]);
}

#[tokio::test]
async fn e_a_timeline_is_built_though_what_it_would_show_was_taken_back() {
    let home = Home::new().await;
    home.apply([inbox("bob", "alice", "1", 1), inbox("bob", "alice", "2", 2), retract("alice", "2")]).await;
    assert_eq!(home.read("bob", 9).await, ["1"]);
    home.apply([retract("alice", "1")]).await;
    assert!(home.read("bob", 9).await.is_empty());
}

#[tokio::test]
async fn f_a_retraction_beats_the_post_that_arrives_after_it() {
    let home = Home::new().await;
    home.apply([follow("bob", "alice"), retract("alice", "1")]).await;
    home.apply([post("alice", "1", 1, PULL), inbox("bob", "alice", "1", 1), post("alice", "2", 2, PULL)])
        .await;
    assert_eq!(home.read("bob", 9).await, ["2"]);
}

#[tokio::test]
async fn g_a_push_that_lands_after_an_unfollow_shows_nothing() {
    let home = Home::new().await;
    home.apply([follow("bob", "alice")]).await;
    home.read("bob", 9).await;
    home.know("alice").await;
    home.apply([post("alice", "1", 1, PUSH)]).await;
    assert_eq!(home.read("bob", 9).await, ["1"], "on its way, it is there already");
    home.apply([unfollow("bob", "alice")]).await;
    home.push();
    assert!(home.read("bob", 9).await.is_empty());
    home.apply([follow("bob", "alice")]).await;
    assert_eq!(home.read("bob", 9).await, ["1"]);
}

#[tokio::test]
async fn a_push_gives_others_their_turn_and_above_the_threshold_the_host_pulls() {
    let mut config = Config::new(TIMELINE_BYTES_MAX, 3);
    config.sizes.chunk = 1;
    let home = Home::with(config).await;
    let followers = ["a", "b", "c", "d"];
    home.apply(followers.map(|user| follow(user, "star"))).await;
    home.apply([follow("a", "first"), follow("b", "first"), follow("c", "first"), follow("a", "second")])
        .await;
    for user in followers {
        home.read(user, 9).await;
    }
    for author in ["star", "first", "second"] {
        home.know(author).await;
    }
    home.apply([post("star", "s", 1, PUSH), post("first", "f", 2, PUSH), post("second", "t", 3, PUSH)]).await;
    let entries = || home.timelines.activity().entries_count;
    let mut pushed = Vec::new();
    while home.timelines.memory().fly() {
        pushed.push(entries());
    }
    // The star's post is left to readers. `second` is through long before `first` has its three.
    assert_eq!(pushed, [0, 1, 2, 3, 3, 4, 4]);
    assert_eq!(home.read("a", 9).await, ["t", "f", "s"]);
    assert_eq!(home.read("d", 9).await, ["s"]);
}

#[tokio::test]
async fn facts_tell_followers_connections_rate_and_the_last_plan() {
    let home = Home::new().await;
    let bob = home.timelines.connect("bob").await.unwrap();
    let nobody = Facts { followers: 0, online: 0, active: 0, rate: 0, previous: None };
    assert_eq!(home.know("alice").await, nobody);
    home.apply([follow("bob", "alice"), follow("carol", "alice"), follow("dora", "alice")]).await;
    let carol = home.timelines.connect("carol").await.unwrap();
    let hour = 3_600_000_000;
    home.apply([post("alice", "1", 0, PULL), post("alice", "2", hour / 2, PUSH)]).await;
    let ask = |item: &'static str, committed_at| Asked {
        author: "alice",
        item,
        committed_at: Micros(committed_at),
    };
    let asked = [ask("3", hour - 1), ask("3", hour), ask("1", hour)];
    let facts = home.timelines.facts(&asked).await.unwrap();
    let two = Facts { followers: 3, online: 2, active: 1, rate: 2, previous: Some(PUSH) };
    assert_eq!(facts, [Some(two), Some(Facts { rate: 1, ..two }), None]);
    drop((bob, carol));
    assert_eq!(home.know("alice").await.online, 0);
}

#[tokio::test]
async fn what_a_failed_commit_wrote_is_nowhere() {
    let home = Home::new().await;
    home.apply([follow("bob", "alice")]).await;
    home.read("bob", 9).await;
    let along = home.timelines.along();
    let work = move |connection: &Connection| -> sql::Result<()> {
        let _news_and_then =
            along.write(connection, &[post("alice", "1", 1, PUSH), unfollow("bob", "alice")])?;
        Err(sql::Error::InvalidQuery)
    };
    home.timelines.0.state.commit(work).await.unwrap_err();
    assert!(home.read("bob", 9).await.is_empty());
    home.apply([post("alice", "2", 1, PUSH)]).await;
    assert_eq!(home.read("bob", 9).await, ["2"]);
}

#[tokio::test]
async fn an_edge_that_turns_while_a_timeline_is_built_counts() {
    let home = Home::new().await;
    let Home { timelines, .. } = &home;
    home.apply([follow("bob", "alice"), post("alice", "1", 1, PULL), post("carol", "2", 2, PULL)]).await;
    let bob = timelines.user("bob").await.unwrap().unwrap();
    let (build, slots_max) = timelines.memory().begin_home(bob, "bob").unwrap();
    let find = move |connection: &Connection| find_home(connection, bob, slots_max);
    let found = timelines.0.state.read(find).await.unwrap();
    home.apply([unfollow("bob", "alice"), follow("bob", "carol")]).await;
    timelines.memory().install_home(bob, build, found);
    assert_eq!(timelines.activity().active_count, 1);
    assert_eq!(home.read("bob", 9).await, ["2"]);
}

#[tokio::test]
async fn an_edge_that_turns_while_an_audience_is_read_counts() {
    let home = Home::new().await;
    let Home { timelines, .. } = &home;
    home.apply([follow("bob", "alice"), follow("carol", "alice")]).await;
    let alice = timelines.user("alice").await.unwrap().unwrap();
    let build = timelines.memory().begin_audience(alice).unwrap();
    let set = move |connection: &Connection| edges::set(connection, Side::Followers, alice);
    let found = timelines.0.state.read(set).await.unwrap();
    home.apply([unfollow("bob", "alice"), follow("dora", "alice"), follow("erin", "alice")]).await;
    timelines.memory().install_audience(alice, build, found);
    assert_eq!(home.know("alice").await.followers, 3);
}

#[tokio::test]
async fn who_is_told_of_edges_is_told_once_each_that_turned_and_by_then_it_is_there() {
    let home = Home::new().await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&told);
    home.timelines.on_turn(move |follower, followee| list.lock().push(format!("{follower} {followee}")));
    let turns = || std::mem::take(&mut *told.lock());
    home.apply([follow("ann", "bob"), follow("ann", "bob"), post("bob", "1", 1, PUSH)]).await;
    assert_eq!(turns(), ["ann bob"]);
    assert_eq!(home.timelines.follows("ann", &["bob", "eve", "ann"]).await.unwrap(), [true, false, false]);
    home.apply([unfollow("ann", "eve"), follow("bob", "ann")]).await;
    assert_eq!(turns(), ["bob ann"]);
    home.apply([unfollow("ann", "bob")]).await;
    assert_eq!(turns(), ["ann bob"]);
    assert_eq!(home.timelines.follows("ann", &["bob"]).await.unwrap(), [false]);
    assert_eq!(home.timelines.follows("nobody", &["bob"]).await.unwrap(), [false]);
}
