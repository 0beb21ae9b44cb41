//! One who writes, some who read, a pusher, and evictions, all at once: whoever reads sees all that was acknowledged
//! before, in order, once.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use super::*;

const AUTHORS_COUNT: i64 = 7;
const POSTS_COUNT: i64 = 600;

async fn read_all(timelines: &Timelines, user: &str) -> Vec<i64> {
    let (mut items, mut before) = (Vec::new(), None);
    loop {
        let page = timelines.read(user, before, 50).await.unwrap();
        items.extend(page.entries.iter().map(|entry| entry.item.parse::<i64>().unwrap()));
        before = page.next;
        if before.is_none() {
            return items;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_misses_nothing_that_was_acknowledged_before() {
    let folder = tempfile::tempdir().unwrap();
    let sizes = Sizes { slots: 100, chunk: 1, lacking: 2, marks: 3, outboxes: 2 };
    let config = Config { sizes, ..Config::default() };
    let timelines = Timelines::open(State::open(folder.path()).unwrap(), config).await.unwrap();
    let author = |at: i64| format!("author {}", at % AUTHORS_COUNT);
    let users = ["a", "b", "c"];
    let edges = users.iter().flat_map(|user| (0..AUTHORS_COUNT).map(|at| follow(user, &author(at))));
    timelines.apply(edges.collect()).await.unwrap();
    let (acknowledged, ended) = (AtomicI64::new(0), AtomicBool::new(false));
    let writer = async {
        for at in 0..POSTS_COUNT {
            let name = author(at);
            let item = at.to_string();
            timelines.facts(&[Asked { author: &name, item: &item, committed_at: Micros(at) }]).await.unwrap();
            let plan = if at % 3 == 0 { PULL } else { PUSH };
            timelines.apply(vec![post(&name, &item, at, plan)]).await.unwrap();
            acknowledged.store(at + 1, Ordering::Release);
            if at % 50 == 0 {
                timelines.release(users[(at / 50 % 3) as usize]).await.unwrap();
            }
        }
        ended.store(true, Ordering::Release);
    };
    let reader = async |user| {
        let mut rounds = 0;
        while !ended.load(Ordering::Acquire) || rounds == 0 {
            let before = acknowledged.load(Ordering::Acquire);
            let items = read_all(&timelines, user).await;
            assert!(items.is_sorted_by(|newer, older| newer > older), "{items:?}");
            let seen = items.iter().filter(|item| **item < before).count();
            assert_eq!(seen as i64, before, "{user} misses something");
            rounds += 1;
            // All of it may have been in memory: the others have to have their turn.
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(writer, reader(users[0]), reader(users[1]), reader(users[2]));
    for user in users {
        assert_eq!(read_all(&timelines, user).await, (0..POSTS_COUNT).rev().collect::<Vec<_>>());
    }
}
