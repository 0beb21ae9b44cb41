//! The host dies at the failpoints of a start that brings other plugins, and of a batch: nothing committed is lost, and
//! nothing comes twice, whichever generation made it.
//!
//! Every failpoint of a swap while the host runs is visited by the host's own test, `deploy/tests/kill.rs`, against a
//! model that says which generation made which effect.

use std::time::Duration;

use anyhow::{Context, Result};
use twohop_tests::{Follower, Setup, Stand, Writer};
use xtask::services::host::Host;

use crate::crash::check;

const DIES_WITHIN: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Another generation: what the file says of the plugin has changed.
fn change_plugin(stand: &Stand, order: usize) -> Result<()> {
    let file = &stand.options.config;
    let text = std::fs::read_to_string(file)?;
    let lines = text.lines().filter(|line| !line.starts_with("order = "));
    let section = "[plugin.row-router]";
    let lines =
        lines.map(|line| if line == section { format!("{line}\norder = {order}") } else { line.to_owned() });
    let text: Vec<_> = lines.collect();
    std::fs::write(file, text.join("\n")).context("the file is ours")
}

/// Waits until the host is gone.
async fn dies(host: &mut Host) -> Result<()> {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    let died = async {
        while host.ended().is_none() {
            looks.tick().await;
        }
    };
    tokio::time::timeout(DIES_WITHIN, died).await.context("the host did not reach the failpoint")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_dies_while_it_changes_generations_loses_nothing_and_repeats_nothing() -> Result<()> {
    let mut stand = Stand::start(&Setup::default())?;
    let follower = Follower::connect(stand.address(), &["notes"]).await?;
    let mut writer = Writer::start(stand.postgres.url(), Duration::from_millis(2));
    let failpoints =
        ["start-before-record", "start-after-record", "batch-before-apply:9", "batch-after-apply:9"];
    for (round, failpoint) in failpoints.into_iter().enumerate() {
        writer.wait_for(writer.written() + 50).await?;
        stand.host.kill9();
        change_plugin(&stand, round + 1)?;
        let mut options = stand.options.clone();
        options.environment.push(("TWOHOP_FAILPOINT".into(), failpoint.into()));
        // It may die before it is ready.
        if let Ok(host) = Host::start(options) {
            stand.host = host;
            dies(&mut stand.host).await?;
        }
        stand.host = Host::start(stand.options.clone())?;
    }
    writer.wait_for(writer.written() + 50).await?;
    let committed = writer.finish(&stand.postgres.url()).await?;
    let log = stand.host.stderr();
    check(follower, &committed).await.with_context(|| log)
}
