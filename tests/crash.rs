//! Processes die at any moment: nothing committed is lost, and nothing comes twice to a client that resumes.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use twohop_tests::{Follower, Row, Setup, Stand, Writer};
use xtask::sse::Event;

const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(60);

fn number(event: &Event) -> i64 {
    let row: Value = serde_json::from_str(&event.data).expect("payloads of row-router are JSON");
    row["number"].as_i64().expect("a note has a number")
}

/// Exactly the committed rows, each once, in the order of their numbers.
pub(crate) async fn check(mut follower: Follower, committed: &[Row]) -> Result<()> {
    let last = committed.last().context("nothing was committed")?.number;
    let arrived = |events: &[Event]| events.last().is_some_and(|event| number(event) >= last);
    let events = follower.wait_until("the last committed row", CAUGHT_UP_WITHIN, arrived).await?;
    let received: Vec<_> = events.iter().map(number).collect();
    let expected: Vec<_> = committed.iter().map(|row| row.number).collect();
    let missing: Vec<_> = expected.iter().filter(|number| !received.contains(number)).take(5).collect();
    assert!(missing.is_empty(), "lost: {missing:?} of {}", expected.len());
    assert_eq!(received, expected, "came twice, out of order, or was never committed");
    Ok(())
}

/// A pseudo-random number that only depends on the round: a failure can be repeated.
fn random(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_the_host_at_ten_random_moments_loses_nothing_and_repeats_nothing() -> Result<()> {
    let mut stand = Stand::start(&Setup::default())?;
    let follower = Follower::connect(stand.address(), &["notes"]).await?;
    let mut writer = Writer::start(stand.postgres.url(), Duration::from_millis(2));
    for round in 0..10 {
        // In transactions, not in time, so that the machine's speed does not matter.
        writer.wait_for(writer.written() + 20 + random(round) % 200).await?;
        stand.host.kill9();
        stand.host.restart()?;
    }
    writer.wait_for(writer.written() + 50).await?;
    let committed = writer.finish(&stand.postgres.url()).await?;
    check(follower, &committed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channels_value_is_its_last_row_over_kill_9_and_after_its_message_left_the_history() -> Result<()> {
    let setup = Setup { retain: &["notes"], further: "[history]\ncount_max = 0", ..Setup::default() };
    let mut stand = Stand::start(&setup)?;
    let mut writer = Writer::start(stand.postgres.url(), Duration::from_millis(2));
    for round in 0..4 {
        writer.wait_for(writer.written() + 20 + random(round) % 50).await?;
        stand.host.kill9();
        stand.host.restart()?;
    }
    let committed = writer.finish(&stand.postgres.url()).await?;
    let messages = |stand: &Stand, path: &str| -> Result<Vec<Value>> {
        let (_, answer) = stand.ask_as_client("GET", path, None)?;
        Ok(answer["messages"].as_array().with_context(|| answer.to_string())?.clone())
    };
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    let last = committed.last().context("nothing was committed")?.number;
    let all_left = async {
        let is_told = |stand: &Stand| messages(stand, &format!("/v1/poll?channel=notes:{last}"));
        while is_told(&stand)?.is_empty() || !messages(&stand, "/v1/channels/notes/messages")?.is_empty() {
            looks.tick().await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(CAUGHT_UP_WITHIN, all_left).await.context("the history keeps messages")??;
    for Row { number } in committed {
        let told = messages(&stand, &format!("/v1/poll?channel=notes:{number}"))?;
        let [value] = &told[..] else { panic!("one value of {number}: {told:?}") };
        assert_eq!((&value["json"]["number"], &value["value"]), (&number.into(), &true.into()), "{value}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_restarted_under_load_loses_nothing_and_repeats_nothing() -> Result<()> {
    let mut stand = Stand::start(&Setup::default())?;
    let follower = Follower::connect(stand.address(), &["notes"]).await?;
    let mut writer = Writer::start(stand.postgres.url(), Duration::from_millis(2));
    for round in 0..3 {
        writer.wait_for(writer.written() + 100 + random(round) % 100).await?;
        stand.postgres.restart()?;
    }
    writer.wait_for(writer.written() + 50).await?;
    let committed = writer.finish(&stand.postgres.url()).await?;
    check(follower, &committed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_postgresql_under_load_loses_nothing_and_repeats_nothing() -> Result<()> {
    let mut stand = Stand::start(&Setup::default())?;
    let follower = Follower::connect(stand.address(), &["notes"]).await?;
    let mut writer = Writer::start(stand.postgres.url(), Duration::from_millis(2));
    for round in 0..3 {
        writer.wait_for(writer.written() + 100 + random(100 + round) % 100).await?;
        stand.postgres.kill9();
        stand.postgres.restart()?;
    }
    writer.wait_for(writer.written() + 50).await?;
    let committed = writer.finish(&stand.postgres.url()).await?;
    check(follower, &committed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_ends_cleanly_when_asked_and_goes_on_where_it_was() -> Result<()> {
    let mut stand = Stand::start(&Setup::default())?;
    let follower = Follower::connect(stand.address(), &["notes"]).await?;
    let mut writer = Writer::start(stand.postgres.url(), Duration::from_millis(2));
    writer.wait_for(100).await?;
    let status = stand.host.terminate().context("the host had to be killed")?;
    assert!(status.success(), "{status}: {}", stand.host.stderr());
    writer.wait_for(writer.written() + 100).await?;
    stand.host.restart()?;
    writer.wait_for(writer.written() + 50).await?;
    let committed = writer.finish(&stand.postgres.url()).await?;
    check(follower, &committed).await
}
