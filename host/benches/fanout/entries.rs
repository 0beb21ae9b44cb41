//! What an entry takes: all that active timelines have resident, the users' connections and sets included, by the number
//! of their entries. The timelines have from 100 to 800 entries, evenly, which were pushed into them one by one.

use anyhow::ensure;
use roaring::RoaringBitmap;
use twohop::event::Delivery;

use crate::resident::resident_mib;
use crate::stage::Stage;
use crate::{Figures, Sizes};

const AUTHORS_COUNT: u32 = 8;
const POSTS_COUNT: u32 = 100;
const MIB: f64 = 1_048_576.0;

pub(crate) async fn measure(sizes: Sizes) -> anyhow::Result<Figures> {
    let mut stage = Stage::new().await?;
    let users: Vec<u32> = (AUTHORS_COUNT + 1..=AUTHORS_COUNT + sizes.kept).collect();
    stage.users((1..=AUTHORS_COUNT + sizes.kept).collect()).await?;
    // Who follows the eighth author follows the seven before as well.
    let follows = |user: u32, author: u32| user % AUTHORS_COUNT + 1 >= author;
    for author in 1..=AUTHORS_COUNT {
        let followers = users.iter().copied().filter(|user| follows(*user, author)).collect();
        stage.followers(author, &followers).await?;
        let group = users.iter().copied().filter(|user| user % AUTHORS_COUNT + 1 == author).collect();
        stage.followed(group, &RoaringBitmap::from_iter(1..=author)).await?;
    }
    let before = resident_mib()?;
    let _connected = stage.connect(&users).await?;
    for author in 1..=AUTHORS_COUNT {
        stage.facts(author).await?;
    }
    for _ in 0..POSTS_COUNT {
        let posts = (1..=AUTHORS_COUNT).map(|author| stage.post(author, Delivery::Push)).collect();
        stage.timelines.apply(posts).await?;
    }
    stage.landed().await;
    let grown = (resident_mib()? - before) * MIB;
    let activity = stage.timelines.activity();
    let expected: u32 = users.iter().map(|user| (user % AUTHORS_COUNT + 1) * POSTS_COUNT).sum();
    ensure!(activity.entries_count == expected as usize, "{activity:?}, and not {expected} entries");
    let (entries, counted) = (f64::from(expected), activity.bytes as f64);
    let (resident, counted) = (grown / entries, counted / entries);
    println!("{} timelines of 100 to 800 entries: {resident:.1} bytes an entry resident", users.len());
    println!("  of which the budget counts {counted:.1}");
    Ok(vec![("bytes_per_entry", resident), ("counted_bytes_per_entry", counted)])
}
