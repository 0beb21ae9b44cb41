//! The browser's client, `twohop.js`: in Node.js on a server in memory, and in Chromium on a real one. Whatever happens
//! to the server, the network, the token or a tab, each message that was published is handed over once and in order.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use twohop_tests::{SECRET, Setup, Stand};
use xtask::place;

use crate::publishing::stand_with_rooms;

/// Rows of one transaction.
const ROWS: u64 = 4;

#[test]
fn the_client_does_what_it_says_on_a_server_in_memory() -> Result<()> {
    let folder = place::root().join("tests/client");
    let output = Command::new("node").args(["--test", "--test-reporter=tap"]).arg(folder).output();
    let output = output.context("node is not there: run `cargo xtask test`, which installs it")?;
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("# fail 0"), "{said}");
    Ok(())
}

#[test]
fn every_way_and_a_plain_event_source_outlive_the_server_and_the_network() -> Result<()> {
    play("faults", &mut Stand::start(&Setup::default())?)
}

#[test]
fn a_token_is_renewed_in_time_and_one_that_expired_is_replaced() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let secret = folder.path().join("secret");
    std::fs::write(&secret, SECRET)?;
    let access = format!(
        "[gateway.access]\nchannels = [\"notes\"]\nleeway = \"0s\"\norigins = [\"*\"]\nsecret_file = \"{}\"",
        secret.display()
    );
    play("tokens", &mut Stand::start(&Setup { access: &access, ..Setup::default() })?)
}

#[test]
fn what_is_said_on_every_way_comes_to_everybody_once_also_after_a_kill() -> Result<()> {
    let folder = tempfile::tempdir()?;
    play("said", &mut stand_with_rooms(folder.path(), "room:*", "")?)
}

#[test]
fn who_comes_new_is_told_what_a_channel_stands_at_once() -> Result<()> {
    play("values", &mut Stand::start(&Setup { retain: &["notes"], ..Setup::default() })?)
}

#[test]
fn tabs_share_one_connection_and_outlive_each_other() -> Result<()> {
    play("tabs", &mut Stand::start(&Setup::default())?)
}

/// Runs a scenario of `browser/client.mjs`, and does what it orders.
fn play(scenario: &str, stand: &mut Stand) -> Result<()> {
    let mut script = Command::new("node")
        .arg(place::root().join("tests/browser/client.mjs"))
        .args([scenario, &format!("http://{}", stand.address()), SECRET])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("node is not there: run `cargo xtask test`, which installs it")?;
    let mut answers = script.stdin.take().context("its input is piped")?;
    for line in BufReader::new(script.stdout.take().context("its output is piped")?).lines() {
        let line = line?;
        let Some(order) = line.strip_prefix("do ") else { continue };
        match obey(order, stand) {
            Ok(answer) => writeln!(answers, "{answer}")?,
            Err(failed) => {
                script.kill()?;
                script.wait()?;
                return Err(failed.context(line));
            }
        }
    }
    let status = script.wait()?;
    ensure!(status.success(), "{scenario}: {status}; the host said:\n{}", stand.host.stderr());
    Ok(())
}

fn obey(order: &str, stand: &mut Stand) -> Result<String> {
    match order.split(' ').collect::<Vec<_>>().as_slice() {
        ["insert", first, last] => insert(stand, first.parse()?, last.parse()?)?,
        ["say", text] => drop(stand.postgres.psql(&format!("UPDATE notes SET body = '{text}'"))?),
        ["kill"] => stand.host.kill9(),
        ["stop"] => drop(stand.host.terminate()),
        ["start"] => stand.host.restart()?,
        // The clients that the gateway counts.
        ["streams"] => return Ok(stand.metric("twohop_streams{")?.to_string()),
        _ => bail!("this order is unknown"),
    }
    Ok("done".into())
}

fn insert(stand: &Stand, first: u64, last: u64) -> Result<()> {
    for from in (first..=last).step_by(usize::try_from(ROWS)?) {
        let to = last.min(from + ROWS - 1);
        let sql = format!(
            "INSERT INTO notes SELECT n, n, 1, 'x' FROM generate_series({from}, {to}) AS n ORDER BY n"
        );
        stand.postgres.psql(&sql)?;
    }
    Ok(())
}
