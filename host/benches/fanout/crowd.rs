//! A crowd of a million users with a connection among 300 million, a third of whom follow one celebrity.
//!
//! - *set* is what the process has resident after the celebrity's followers were read, and had not before.
//! - *pull* is a post of the celebrity from the look at the audience to where it is durable and each timeline shows it.
//! - *push* is one from there to the last of the active timelines: a third of a million, and all of the connected.
//! - *pushes a core* are entries into the timelines of a tenth of the crowd by ten busy authors, a second of this
//!   process's processor time, commits included.
//!
//! Times are the median of several posts.

use std::time::Instant;

use anyhow::ensure;
use nix::time::{ClockId, clock_gettime};
use roaring::RoaringBitmap;
use twohop::event::Delivery;

use crate::resident::resident_mib;
use crate::stage::{Stage, median};
use crate::{Figures, Sizes};

const BUSY_COUNT: u32 = 10;
const BUSY_POSTS_COUNT: usize = 5;
const CELEBRITY: u32 = BUSY_COUNT + 1;
/// Users' numbers begin here.
const FIRST: u32 = 1_000;

pub(crate) async fn measure(sizes: Sizes) -> anyhow::Result<Figures> {
    let mut stage = Stage::new().await?;
    let began = Instant::now();
    let connected: Vec<u32> = (FIRST..sizes.users).step_by(sizes.connected_every as usize).collect();
    let followers = followers(sizes);
    raise(&stage, sizes, &connected, &followers).await?;
    println!("{} followers in the tables after {:.1} s", followers.len(), began.elapsed().as_secs_f64());
    let set = followers.len();
    drop(followers);
    let _connected = stage.connect(&connected).await?;
    println!("{} users connected after {:.1} s", connected.len(), began.elapsed().as_secs_f64());

    let before = resident_mib()?;
    let facts = stage.facts(CELEBRITY).await?;
    let set_mib = resident_mib()? - before;
    let crowd = connected.len() as u64;
    ensure!((facts.followers, facts.online, facts.active) == (set, crowd, crowd), "{facts:?}");
    println!("a set of {set} followers: {set_mib:.1} MiB");

    let pushes = push_busy(&mut stage, sizes).await?;
    let pull = post(&mut stage, sizes.posts, Delivery::Pull).await?;
    let push = post(&mut stage, sizes.posts, Delivery::Push).await?;
    println!(
        "a post to {crowd} of {set} followers: pulled in {pull:.2} ms, pushed to the last in {push:.1} ms"
    );
    Ok(vec![
        ("celebrity_set_mib", set_mib),
        ("celebrity_pull_ms", pull),
        ("celebrity_push_ms", push),
        ("pushes_per_core_second", pushes),
        ("pushed_timelines", f64::from(sizes.pushed)),
    ])
}

/// Everybody who is connected, and of the others one in three by chance.
fn followers(sizes: Sizes) -> RoaringBitmap {
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let follows = |user: &u32| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (*user - FIRST).is_multiple_of(sizes.connected_every) || (random >> 32).is_multiple_of(3)
    };
    RoaringBitmap::from_sorted_iter((FIRST..sizes.users).filter(follows)).expect("a range is sorted")
}

async fn raise(
    stage: &Stage,
    sizes: Sizes,
    connected: &[u32],
    followers: &RoaringBitmap,
) -> anyhow::Result<()> {
    stage.users((1..=CELEBRITY).chain(connected.iter().copied()).collect()).await?;
    stage.followers(CELEBRITY, followers).await?;
    let (some, others) = connected.split_at(sizes.pushed as usize);
    let some_set = some.iter().copied().collect();
    for busy in 1..=BUSY_COUNT {
        stage.followers(busy, &some_set).await?;
    }
    stage.followed(some.to_vec(), &RoaringBitmap::from_iter(1..=CELEBRITY)).await?;
    stage.followed(others.to_vec(), &RoaringBitmap::from_iter([CELEBRITY])).await
}

/// Entries a second of processor time.
async fn push_busy(stage: &mut Stage, sizes: Sizes) -> anyhow::Result<f64> {
    for busy in 1..=BUSY_COUNT {
        let facts = stage.facts(busy).await?;
        ensure!(facts.active == u64::from(sizes.pushed), "{facts:?}");
    }
    // The first post makes the arrays, as it makes Redis's lists.
    let mut push = async |posts_count: usize| -> anyhow::Result<()> {
        for _ in 0..posts_count {
            let posts = (1..=BUSY_COUNT).map(|busy| stage.post(busy, Delivery::Push)).collect();
            stage.timelines.apply(posts).await?;
        }
        stage.landed().await;
        Ok(())
    };
    push(1).await?;
    let (began, before) = (Instant::now(), processor_seconds()?);
    push(BUSY_POSTS_COUNT).await?;
    let (took, used) = (began.elapsed().as_secs_f64(), processor_seconds()? - before);
    let entries = BUSY_POSTS_COUNT as f64 * f64::from(BUSY_COUNT * sizes.pushed);
    println!(
        "{entries} entries into {} timelines: {:.2} million a second,",
        sizes.pushed,
        entries / took / 1e6
    );
    println!("  {:.2} million a second of processor time", entries / used / 1e6);
    Ok(entries / used)
}

/// Milliseconds a post of the celebrity, to where it has arrived.
async fn post(stage: &mut Stage, posts_count: usize, delivery: Delivery) -> anyhow::Result<f64> {
    let mut took = Vec::with_capacity(posts_count);
    for _ in 0..posts_count {
        let began = Instant::now();
        stage.facts(CELEBRITY).await?;
        let post = stage.post(CELEBRITY, delivery);
        stage.timelines.apply(vec![post]).await?;
        stage.landed().await;
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(median(took))
}

/// Of this process.
fn processor_seconds() -> anyhow::Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
    Ok(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}
