//! What a reading takes: the newest 100 entries of a timeline whose user follows 500, of whom 50 are pulled, so that each
//! page is merged from 51 arrays. From the call to the entries with their posts.
//!
//! Between two readings of a user others read, and both pushed and pulled posts arrive.

use std::time::Instant;

use anyhow::ensure;
use roaring::RoaringBitmap;
use twohop::event::Delivery;

use crate::stage::{Stage, name};
use crate::{Figures, Sizes};

const AUTHORS_COUNT: u32 = 500;
const PULLED_COUNT: u32 = 50;
/// Authors whose posts come between two readings of a user; the posts of so many are fetched at once.
const STEP: u32 = 10;
const PAGE: usize = 100;
const ROUNDS_BEFORE: u32 = 4;

pub(crate) async fn measure(sizes: Sizes) -> anyhow::Result<Figures> {
    let mut stage = Stage::new().await?;
    let users: Vec<u32> = (AUTHORS_COUNT + 1..=AUTHORS_COUNT + sizes.readers).collect();
    stage.users((1..=AUTHORS_COUNT + sizes.readers).collect()).await?;
    let followers = users.iter().copied().collect();
    for author in 1..=AUTHORS_COUNT {
        stage.followers(author, &followers).await?;
    }
    stage.followed(users.clone(), &RoaringBitmap::from_iter(1..=AUTHORS_COUNT)).await?;
    let _connected = stage.connect(&users).await?;
    for author in 1..=AUTHORS_COUNT {
        stage.facts(author).await?;
    }
    // The pulled ones a few at a time: a reader who had to fetch the posts of many would have the timeline built anew,
    // and merge nothing.
    let delivery = |author| if author <= PULLED_COUNT { Delivery::Pull } else { Delivery::Push };
    for round in 0..ROUNDS_BEFORE {
        for first in (1..=AUTHORS_COUNT).step_by(STEP as usize) {
            let posts = (first..first + STEP).map(|author| stage.post(author, delivery(author))).collect();
            stage.timelines.apply(posts).await?;
            stage.landed().await;
            for user in &users {
                if round == 0 {
                    stage.timelines.read(&name(*user), None, PAGE).await?;
                }
            }
        }
    }
    let mut took = Vec::with_capacity(sizes.readings);
    let mut next = 1;
    while took.len() < sizes.readings {
        for user in &users {
            let name = name(*user);
            let began = Instant::now();
            let page = stage.timelines.read(&name, None, PAGE).await?;
            took.push(began.elapsed().as_secs_f64() * 1e3);
            ensure!(page.entries.len() == PAGE, "a page has {} entries", page.entries.len());
        }
        let posts = [next % PULLED_COUNT + 1, PULLED_COUNT + next % (AUTHORS_COUNT - PULLED_COUNT) + 1];
        let posts = posts.map(|author| stage.post(author, delivery(author))).to_vec();
        stage.timelines.apply(posts).await?;
        stage.landed().await;
        next += 1;
    }
    took.sort_by(f64::total_cmp);
    let [p50, p99] = [50, 99].map(|percent| took[(took.len() * percent).div_ceil(100) - 1]);
    println!(
        "a page of {PAGE}, {AUTHORS_COUNT} followed, {PULLED_COUNT} of them pulled: p50 {p50:.3} ms, p99 {p99:.3} ms"
    );
    Ok(vec![("read_p50_ms", p50), ("read_p99_ms", p99)])
}
