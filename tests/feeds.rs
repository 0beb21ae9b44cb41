//! Posts and follows committed in PostgreSQL become timelines, read and told: by the plugins that ship, over `kill -9`.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use twohop_tests::{Setup, Stand};
use xtask::place;
use xtask::sse::SseClient;

const WITHIN: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

const SCHEMA: &str = "CREATE TABLE posts (id bigint PRIMARY KEY, author text, body text);
    CREATE TABLE follows (follower text, followee text, PRIMARY KEY (follower, followee));
    ALTER TABLE posts REPLICA IDENTITY FULL; ALTER TABLE follows REPLICA IDENTITY FULL;
    INSERT INTO follows VALUES ('ann', 'bob');
    INSERT INTO posts VALUES (1, 'bob', 'from before')";

fn stand() -> Result<Stand> {
    let plugin = |name: &str| place::plugin(name).map(|path| path.display().to_string());
    let further = format!(
        "[plugin.social-router]\nfile = \"{}\"\nsettings = {{ posts = \"posts\", posts_author = \"author\", \
         follows = \"follows\", follows_follower = \"follower\", follows_followee = \"followee\" }}\n\
         grants = {{ audience = true }}\n[plugin.hybrid-fanout]\nfile = \"{}\"\n",
        plugin("social-router")?,
        plugin("hybrid-fanout")?,
    );
    Stand::start(&Setup {
        schema: SCHEMA,
        tables: &["posts", "follows"],
        further: &further,
        ..Setup::default()
    })
}

/// The posts of a timeline, newest first, as its pages of two give them.
fn bodies(stand: &Stand, user: &str) -> Result<Vec<String>> {
    let (mut bodies, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/timelines/{user}?limit=2&cursor={cursor}");
        let (status, page) = stand.ask_as_client("GET", &path, None)?;
        anyhow::ensure!(status == 200, "{page}");
        let entries = page["entries"].as_array().context("a page has entries")?;
        for entry in entries {
            bodies.push(entry["payload"]["body"].as_str().context("a post has a body")?.to_owned());
        }
        match &page["next"] {
            Value::String(next) => cursor.clone_from(next),
            _ => return Ok(bodies),
        }
    }
}

async fn becomes(stand: &Stand, user: &str, expected: &[&str]) -> Result<()> {
    let mut last = Vec::new();
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    let reached = async {
        loop {
            last = bodies(stand, user)?;
            if last == expected {
                return anyhow::Ok(());
            }
            looks.tick().await;
        }
    };
    let ended = tokio::time::timeout(WITHIN, reached).await;
    ended.with_context(|| format!("{user} has not got {expected:?}"))?
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeline_is_that_of_whom_one_follows_now_whatever_dies() -> Result<()> {
    let mut stand = stand()?;
    becomes(&stand, "ann", &["from before"]).await?;
    stand.postgres.psql("INSERT INTO posts VALUES (2, 'bob', 'hello'), (3, 'eve', 'unheard')")?;
    becomes(&stand, "ann", &["hello", "from before"]).await?;

    stand
        .postgres
        .psql("UPDATE posts SET body = 'hello again' WHERE id = 2; DELETE FROM posts WHERE id = 1")?;
    becomes(&stand, "ann", &["hello again"]).await?;
    stand.postgres.psql("INSERT INTO follows VALUES ('ann', 'eve')")?;
    becomes(&stand, "ann", &["unheard", "hello again"]).await?;

    stand.host.kill9();
    stand.postgres.psql(
        "INSERT INTO posts VALUES (4, 'eve', 'in the dark'); DELETE FROM follows WHERE followee = 'bob'",
    )?;
    stand.host.restart()?;
    becomes(&stand, "ann", &["in the dark", "unheard"]).await?;
    becomes(&stand, "bob", &[]).await
}

/// The next event, and what it says of its post.
async fn told(client: &mut SseClient) -> Result<(String, Value)> {
    let next = tokio::time::timeout(WITHIN, client.next()).await.context("nothing is told")?;
    let event = next?.context("the stream has ended")?;
    Ok((event.event, serde_json::from_str(&event.data)?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeline_is_told_from_the_id_of_its_page_on_also_over_a_kill() -> Result<()> {
    let mut stand = stand()?;
    becomes(&stand, "ann", &["from before"]).await?;
    let (_, page) = stand.ask_as_client("GET", "/v1/timelines/ann", None)?;
    let id = page["id"].as_str().context("a page has an id")?;
    let path = "/v1/events?channel=timeline:ann";
    let mut client = SseClient::connect(stand.address(), path, Some(id)).await?;
    stand.postgres.psql("INSERT INTO posts VALUES (2, 'bob', 'hello'), (3, 'eve', 'unheard')")?;
    let (event, entry) = told(&mut client).await?;
    assert_eq!((event.as_str(), &entry["payload"]["body"]), ("entry", &Value::from("hello")));
    stand.postgres.psql("UPDATE posts SET body = 'hello again' WHERE id = 2")?;
    let (event, entry) = told(&mut client).await?;
    assert_eq!((event.as_str(), &entry["payload"]["body"]), ("edit", &Value::from("hello again")));
    let id = client.last_event_id().context("what is told has an id")?.to_owned();

    stand.host.kill9();
    stand
        .postgres
        .psql("DELETE FROM posts WHERE id = 2; INSERT INTO posts VALUES (2, 'bob', 'once more')")?;
    stand.host.restart()?;
    let mut client = SseClient::connect(stand.address(), path, Some(&id)).await?;
    let (event, gone) = told(&mut client).await?;
    assert_eq!((event.as_str(), &gone["item"]), ("retract", &Value::from("2")));
    // What was taken back stays away; who is followed from now on makes the timeline another.
    stand.postgres.psql("INSERT INTO follows VALUES ('ann', 'eve')")?;
    let (event, reset) = told(&mut client).await?;
    assert_eq!((event.as_str(), &reset["reason"]), ("reset", &Value::from("follows")));
    becomes(&stand, "ann", &["unheard", "from before"]).await
}
