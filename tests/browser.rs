//! The page in a real browser: headless Chromium, driven by playwright-core.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use twohop_tests::{Setup, Stand};
use xtask::place;

/// What the page must come to show.
const MARK: &str = "a row that psql inserts";

#[test]
fn the_page_shows_a_row_that_psql_inserts() -> Result<()> {
    use std::io::{BufRead, BufReader};
    let stand = Stand::start(&Setup::default())?;
    // The channel is in the list once it has a message.
    stand.postgres.psql("INSERT INTO notes VALUES (1, 1, 1, 'before')")?;
    let mut page = Command::new("node")
        .arg(place::root().join("tests/browser/page.mjs"))
        .args([&format!("http://{}/", stand.address()), "notes", MARK])
        .stdout(Stdio::piped())
        .spawn()
        .context("node is not there: run `cargo xtask test`, which installs it")?;
    let mut said = BufReader::new(page.stdout.take().context("the page's output is piped")?).lines();
    let mut lines = Vec::new();
    for line in said.by_ref() {
        let line = line?;
        let ready = line.trim() == "ready";
        lines.push(line);
        if ready
            && let Err(failed) = stand.postgres.psql(&format!("INSERT INTO notes VALUES (2, 2, 1, '{MARK}')"))
        {
            page.kill()?;
            page.wait()?;
            return Err(failed);
        }
    }
    let status = page.wait()?;
    assert!(status.success(), "{status}: {lines:?}");
    Ok(())
}
