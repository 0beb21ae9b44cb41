//! Who may listen, with a real server: nobody without a token, those with one to what it says, by a ticket once, until
//! it expires; and beyond that whom the gate lets in, which changes while the server runs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use twohop_tests::{SECRET, Setup, Stand, token};
use xtask::place;
use xtask::sse::{Event, SseClient};

const WITHIN: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A stand whose `notes` only those with a token reach, each by their own channel or by the gate.
fn stand(folder: &std::path::Path) -> Result<Stand> {
    let secret = folder.join("secret");
    std::fs::write(&secret, SECRET)?;
    let access = format!(
        "[gateway.access]\nchannels = [\"notes:{{sub}}\"]\naudience = \"suite\"\nsecret_file = \"{}\"",
        secret.display()
    );
    Stand::start(&Setup { access: &access, ..Setup::default() })
}

/// The code with which a stream is refused.
fn refused(stand: &Stand, query: &str, token: Option<&str>) -> Result<(u16, u64)> {
    let (status, body) = stand.ask_as_client("GET", &format!("/v1/events?{query}"), token)?;
    Ok((status, body["error"]["code"].as_u64().with_context(|| body.to_string())?))
}

async fn with_ticket(stand: &Stand, channel: &str, token: &str) -> Result<(SseClient, String)> {
    let (status, body) = stand.ask_as_client("POST", "/v1/tickets", Some(token))?;
    ensure!(status == 200, "{body}");
    let ticket = body["ticket"].as_str().context("it is a text")?;
    let query = format!("channel={channel}&ticket={ticket}");
    let client = SseClient::connect(stand.address(), &format!("/v1/events?{query}"), None).await?;
    Ok((client, query))
}

async fn next(client: &mut SseClient) -> Result<Event> {
    let next = tokio::time::timeout(WITHIN, client.next()).await.context("nothing comes")?;
    next?.context("the stream has ended")
}

/// A stand where everybody has a row in `people`, which is for those who follow.
fn followed_stand(folder: &std::path::Path) -> Result<Stand> {
    let secret = folder.join("secret");
    std::fs::write(&secret, SECRET)?;
    let access = format!("[gateway.access]\naudience = \"suite\"\nsecret_file = \"{}\"", secret.display());
    let plugin = |name: &str| place::plugin(name).map(|path| path.display().to_string());
    let further = format!(
        "[plugin.social-router]\nfile = \"{}\"\nsettings = {{ follows = \"follows\", follows_follower = \"follower\", \
         follows_followee = \"followee\" }}\ngrants = {{ audience = true }}\n\
         [plugin.claims-gate]\nfile = \"{}\"\nsettings = {{ followers = \"people:*\" }}\n",
        plugin("social-router")?,
        plugin("claims-gate")?,
    );
    Stand::start(&Setup {
        schema: "CREATE TABLE people (name text PRIMARY KEY, status text);
            CREATE TABLE follows (follower text, followee text, PRIMARY KEY (follower, followee));
            INSERT INTO follows VALUES ('ann', 'bob'), ('ann', 'eve')",
        tables: &["people", "follows"],
        access: &access,
        further: &further,
        ..Setup::default()
    })
}

/// Opens a stream as soon as the token may.
async fn once_let_in(stand: &Stand, channel: &str, token: &str) -> Result<SseClient> {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    let opened = async {
        loop {
            looks.tick().await;
            if let Ok((client, _)) = with_ticket(stand, channel, token).await {
                return client;
            }
        }
    };
    tokio::time::timeout(WITHIN, opened).await.context("the gate lets nobody in")
}

fn insert(stand: &Stand, id: u32) -> Result<()> {
    stand.postgres.psql(&format!("INSERT INTO notes VALUES ({id}, {id}, 1, 'x')")).map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_what_it_says_a_ticket_does_so_once_and_both_end() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let stand = stand(folder.path())?;
    stand
        .wait_for_log(0, "who may listen: without a token nothing; with a token notes:{sub};", WITHIN)
        .await?;
    let ann = token("7", 600)?;
    assert_eq!(refused(&stand, "channel=notes:7", None)?, (401, 4020));
    assert_eq!(refused(&stand, "channel=notes:7", Some("a.b.c"))?, (401, 4021));
    assert_eq!(refused(&stand, "channel=notes:8", Some(&ann))?, (403, 4024));
    assert_eq!(refused(&stand, "channel=notes:7&channel=notes", Some(&ann))?, (403, 4024));
    assert_eq!(refused(&stand, &format!("channel=notes:7&access_token={ann}"), None)?, (400, 4026));

    let (mut client, query) = with_ticket(&stand, "notes:7", &ann).await?;
    insert(&stand, 7)?;
    assert_eq!(next(&mut client).await?.event, "insert");
    // It is counted once it is written, which the client may see first.
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    let counted = async {
        while stand.metric("twohop_end_to_end_seconds_count")? != 1 {
            looks.tick().await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(WITHIN, counted).await.context("how long that took is not counted")??;
    assert_eq!(refused(&stand, &query, None)?, (401, 4023));
    drop(client);

    let (mut client, _) = with_ticket(&stand, "notes:7", &token("7", 2)?).await?;
    let end = next(&mut client).await?;
    assert_eq!(end.event, "refused");
    assert_eq!(serde_json::from_str::<Value>(&end.data)?["code"], 4022);
    assert!(tokio::time::timeout(WITHIN, client.next()).await??.is_none());

    assert_eq!(stand.metric("twohop_access_refusals_total{")?, 7);
    let log = stand.host.stderr();
    assert!(!log.contains(&ann) && !log.contains(SECRET), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_is_asked_beyond_the_claims_and_asked_again_when_it_is_swapped() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let stand = stand(folder.path())?;
    let ann = token("7", 600)?;
    let wasm = place::plugin("claims-gate")?.display().to_string();
    assert_eq!(refused(&stand, "channel=notes", Some(&ann))?, (403, 4024));
    stand.said(&["plugin", "activate", "claims-gate", &wasm, "--setting", "subscribe=notes"])?;
    // The gate stands there moments after the activation has answered.
    let mut client = once_let_in(&stand, "notes", &ann).await?;
    insert(&stand, 1)?;
    assert_eq!(next(&mut client).await?.event, "insert");

    // A gate that also lets her: the stream goes on, and the gate was asked again.
    let asked = stand.metric("twohop_gate_calls_total")?;
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    stand.said(&["plugin", "activate", "claims-gate", &wasm, "--setting", "subscribe=notes, other"])?;
    let again = async {
        while stand.metric("twohop_gate_calls_total")? == asked {
            looks.tick().await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(WITHIN, again).await.context("the gate is not asked again")??;
    insert(&stand, 2)?;
    assert_eq!(next(&mut client).await?.event, "insert");

    // One that does not.
    stand.said(&["plugin", "activate", "claims-gate", &wasm, "--setting", "subscribe=team:{team}"])?;
    let end = next(&mut client).await?;
    assert_eq!(end.event, "refused");
    assert_eq!(serde_json::from_str::<Value>(&end.data)?["code"], 4024);
    assert_eq!(refused(&stand, "channel=notes", Some(&ann))?, (403, 4024));
    let (_open, _) = with_ticket(&stand, "team:red", &ann).await?;

    // None at all: what only a gate granted ends.
    let mut open = with_ticket(&stand, "team:red", &ann).await?.0;
    stand.said(&["plugin", "deactivate", "claims-gate"])?;
    assert_eq!(next(&mut open).await?.event, "refused");
    let (_own, _) = with_ticket(&stand, "notes:7", &ann).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfollow_is_felt_by_the_next_message_also_after_a_kill() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut stand = followed_stand(folder.path())?;
    let (ann, dan) = (token("ann", 600)?, token("dan", 600)?);
    let mut of_bob = once_let_in(&stand, "people:bob", &ann).await?;
    let mut of_eve = once_let_in(&stand, "people:eve", &ann).await?;
    assert_eq!(refused(&stand, "channel=people:bob", Some(&dan))?, (403, 4024));
    assert_eq!(refused(&stand, "channel=people:bob", None)?, (401, 4020));
    stand.postgres.psql("INSERT INTO people VALUES ('bob', 'here'), ('eve', 'here')")?;
    assert_eq!(next(&mut of_bob).await?.event, "insert");
    assert_eq!(next(&mut of_eve).await?.event, "insert");
    stand.postgres.psql(
        "BEGIN; DELETE FROM follows WHERE followee = 'bob'; UPDATE people SET status = 'for others'; COMMIT",
    )?;
    let end = next(&mut of_bob).await?;
    assert_eq!(end.event, "refused", "{}", end.data);
    assert_eq!(serde_json::from_str::<Value>(&end.data)?["code"], 4024);
    assert_eq!(next(&mut of_eve).await?.event, "update", "nothing has changed between them");
    assert_eq!(refused(&stand, "channel=people:bob", Some(&ann))?, (403, 4024));

    stand.host.kill9();
    stand.host.restart()?;
    let _of_eve = once_let_in(&stand, "people:eve", &ann).await?;
    assert_eq!(refused(&stand, "channel=people:bob", Some(&ann))?, (403, 4024));
    stand.postgres.psql("INSERT INTO follows VALUES ('ann', 'bob')")?;
    once_let_in(&stand, "people:bob", &ann).await.map(drop)
}
