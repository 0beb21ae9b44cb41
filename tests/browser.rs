//! The page and the dashboard in a real browser: headless Chromium, driven by playwright-core.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use twohop_tests::{Setup, Stand};
use xtask::demo::SocialFeed;
use xtask::place;

/// What the page must come to show.
const MARK: &str = "a row that psql inserts";

/// Runs a script of `browser/`, does `act` once it says that it is ready, and expects it to end well.
fn in_browser(script: &str, arguments: &[&str], act: impl Fn() -> Result<()>) -> Result<()> {
    let mut page = Command::new("node")
        .arg(place::root().join("tests/browser").join(script))
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .context("node is not there: run `cargo xtask test`, which installs it")?;
    let mut lines = Vec::new();
    for line in BufReader::new(page.stdout.take().context("the page's output is piped")?).lines() {
        let line = line?;
        let ready = line.trim() == "ready";
        lines.push(line);
        if ready && let Err(failed) = act() {
            page.kill()?;
            page.wait()?;
            return Err(failed);
        }
    }
    let status = page.wait()?;
    assert!(status.success(), "{status}: {lines:?}");
    Ok(())
}

#[test]
fn the_page_shows_a_row_that_psql_inserts() -> Result<()> {
    let stand = Stand::start(&Setup::default())?;
    // The channel is in the list once it has a message.
    stand.postgres.psql("INSERT INTO notes VALUES (1, 1, 1, 'before')")?;
    let url = format!("http://{}/", stand.address());
    in_browser("page.mjs", &[&url, "notes", MARK], || {
        stand.postgres.psql(&format!("INSERT INTO notes VALUES (2, 2, 1, '{MARK}')")).map(drop)
    })
}

#[test]
fn the_dashboard_shows_who_activates_what_and_what_it_does() -> Result<()> {
    let stand = Stand::start(&Setup::default())?;
    let (url, token) = (format!("http://{}/", stand.admin()), stand.token()?);
    in_browser("dashboard.mjs", &[&url, &token, "row-router", "activated row-router generation 2"], || {
        let (status, answer) = stand.ask("POST", "/v1/plugins/row-router/activate", b"{\"order\":1}")?;
        assert_eq!(status, 200, "{answer}");
        stand.postgres.psql("INSERT INTO notes VALUES (1, 1, 1, 'x')").map(drop)
    })
}

#[test]
fn two_people_and_a_celebrity_see_each_others_posts_live() -> Result<()> {
    let feed = SocialFeed::start()?;
    in_browser("social-feed.mjs", &[feed.page(), &feed.twohop()], || Ok(()))
}
