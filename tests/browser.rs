//! The page and the dashboard in a real browser: headless Chromium, driven by playwright-core.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use twohop_tests::{Setup, Stand};
use xtask::demo::SocialFeed;
use xtask::{place, process};

/// What the page must come to show.
const MARK: &str = "a row that psql inserts";
const SECRET: &str = "the page's own secret, of thirty-two bytes at least";

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
fn twenty_streams_and_a_socket_over_tls_take_two_connections() -> Result<()> {
    let folder = tempfile::Builder::new().prefix("twohop-certificate-").tempdir()?;
    let path = |file: &str| folder.path().join(file).display().to_string();
    let mut openssl = Command::new("openssl");
    openssl.args(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test".split(' '),
    );
    process::capture(openssl.args(["-keyout", &path("key.pem"), "-out", &path("certificate.pem")]))?;
    let access = format!(
        "access.anonymous = [\"*\"]\ntls.certificate_file = \"{}\"\ntls.key_file = \"{}\"",
        path("certificate.pem"),
        path("key.pem")
    );
    let stand = Stand::start(&Setup { access: &access, ..Setup::default() })?;
    let url = format!("https://{}/", stand.address());
    in_browser("multiplexed.mjs", &[&url, "notes", &path("net-log.json")], || {
        let metrics = stand.metrics()?;
        for line in [
            "twohop_streams{face=\"sse\"} 20",
            "twohop_streams{face=\"websocket\"} 1",
            "twohop_connections 2",
        ] {
            assert!(metrics.lines().any(|had| had == line), "no `{line}` in:\n{metrics}");
        }
        stand.postgres.psql("INSERT INTO notes VALUES (1, 1, 1, 'x')").map(drop)
    })
}

#[test]
fn the_page_takes_a_token_where_one_is_needed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let secret = folder.path().join("secret");
    std::fs::write(&secret, SECRET)?;
    let access = format!("[gateway.access]\nchannels = [\"*\"]\nsecret_file = \"{}\"", secret.display());
    let stand = Stand::start(&Setup { access: &access, ..Setup::default() })?;
    stand.postgres.psql("INSERT INTO notes VALUES (1, 1, 1, 'before')")?;
    let url = format!("http://{}/", stand.address());
    in_browser("page.mjs", &[&url, "notes", MARK, &token()?], || {
        stand.postgres.psql(&format!("INSERT INTO notes VALUES (2, 2, 1, '{MARK}')")).map(drop)
    })
}

/// One that lives as long as a test.
fn token() -> Result<String> {
    let end = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 600;
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", part(r#"{"alg":"HS256"}"#), part(&format!(r#"{{"sub":"7","exp":{end}}}"#)));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), signed.as_bytes());
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
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
