//! What clients send, with a real server: kept before it is acknowledged, once over `kill -9` and repeats, through the
//! policy to those who listen; what is ephemeral, what is refused, what is too much.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use twohop_tests::{SECRET, Setup, Stand, token};
use xtask::place;
use xtask::sse::{Event, SseClient};

const WITHIN: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
const RED: &str = "/v1/channels/room%3Ared";

/// A stand whose clients may listen and send in the rooms of their teams; `typing` is ephemeral.
fn stand(folder: &Path, publish: &str) -> Result<Stand> {
    stand_with_rooms(folder, "room:{team}", &format!("audience = \"suite\"\n[gateway.publish]\n{publish}"))
}

/// A stand whose clients may send messages to rooms, and whose tokens have the suite's secret. `further` goes on where who
/// may listen is configured.
pub(crate) fn stand_with_rooms(folder: &Path, rooms: &str, further: &str) -> Result<Stand> {
    let secret = folder.join("secret");
    std::fs::write(&secret, SECRET)?;
    let access = format!("[gateway.access]\nsecret_file = \"{}\"\n{further}", secret.display());
    let gate = format!(
        "[plugin.claims-gate]\nfile = \"{}\"\nsettings = {{ subscribe = \"{rooms}\", publish = \"{rooms}\", ephemeral = \"typing\" }}",
        place::plugin("claims-gate")?.display()
    );
    let setup = Setup {
        access: &access,
        further: &gate,
        whole_source: Some("tables = [\"notes\"]"),
        tables: &["notes", "$client"],
        ..Setup::default()
    };
    Stand::start(&setup)
}

async fn listen(stand: &Stand, subject: &str) -> Result<SseClient> {
    let (status, body) = stand.ask_as_client("POST", "/v1/tickets", Some(&token(subject, 600)?))?;
    ensure!(status == 200, "{body}");
    let ticket = body["ticket"].as_str().context("it is a text")?;
    SseClient::connect(stand.address(), &format!("/v1/events?channel=room:red&ticket={ticket}"), None).await
}

async fn next(client: &mut SseClient) -> Result<Event> {
    let next = tokio::time::timeout(WITHIN, client.next()).await.context("nothing comes")?;
    next?.context("the stream has ended")
}

async fn socket(stand: &Stand, subject: &str) -> Result<WebSocketStream<TcpStream>> {
    let stream = TcpStream::connect(stand.address()).await?;
    let mut request = format!("ws://{}/v1/ws", stand.address()).into_client_request()?;
    request.headers_mut().insert("authorization", format!("Bearer {}", token(subject, 600)?).parse()?);
    Ok(tokio_tungstenite::client_async(request, stream).await?.0)
}

/// The answer to a command.
async fn ask(socket: &mut WebSocketStream<TcpStream>, mut command: Value) -> Result<Value> {
    command["ref"] = 1.into();
    socket.send(Message::text(command.to_string())).await?;
    let answered = async {
        while let Some(message) = socket.next().await {
            let Message::Text(text) = message? else { continue };
            let said: Value = serde_json::from_str(&text)?;
            if said["ref"] == 1 {
                return Ok(said);
            }
        }
        anyhow::bail!("the server ended it")
    };
    tokio::time::timeout(WITHIN, answered).await.context("no answer comes")?
}

/// The texts that the room has kept.
fn history(stand: &Stand) -> Result<Vec<String>> {
    let target = format!("{RED}/messages?limit=1000");
    let (status, page) = stand.ask_as_client("GET", &target, Some(&token("bob", 600)?))?;
    ensure!(status == 200 && page["more"] == false, "{page}");
    let messages = page["messages"].as_array().context("a page has messages")?;
    messages.iter().map(|message| Ok(message["text"].as_str().context("it is text")?.to_owned())).collect()
}

/// Waits until the room has kept this as the last.
async fn until_kept(stand: &Stand, text: &str) -> Result<Vec<String>> {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    let kept = async {
        loop {
            looks.tick().await;
            let history = history(stand)?;
            if history.last().is_some_and(|last| last == text) {
                return Ok(history);
            }
        }
    };
    tokio::time::timeout(WITHIN, kept).await.with_context(|| format!("`{text}` does not come"))?
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_says_another_gets_in_the_form_in_which_it_was_said() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let stand = stand(folder.path(), "")?;
    let ann = token("ann", 600)?;
    let mut bob = listen(&stand, "bob").await?;
    let (status, first) = stand.send_as_client(
        RED,
        &ann,
        None,
        &json!({"event": "said", "json": {"text": "hi", "n": 1.10}}),
    )?;
    ensure!(status == 202 && first["kept"] == true, "{first}");
    let event = next(&mut bob).await?;
    assert_eq!((&*event.event, &*event.data), ("said", r#"{"n":1.1,"text":"hi"}"#));
    assert!(event.id.is_some(), "it is kept");
    let mut socket_of_ann = socket(&stand, "ann").await?;
    let bytes =
        ask(&mut socket_of_ann, json!({"type": "publish", "channel": "room:red", "base64": "/wA="})).await?;
    ensure!(bytes["type"] == "published" && bytes["kept"] == true, "{bytes}");
    let event = next(&mut bob).await?;
    assert_eq!((&*event.data, event.id.is_some()), ("/wA=", true));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_comes_once_whatever_dies_and_however_often_it_is_sent() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut stand = stand(folder.path(), "rate = 1000\nburst = 1000")?;
    let ann = token("ann", 600)?;
    stand.postgres.psql("INSERT INTO notes VALUES (1, 1, 1, 'x')")?;
    // Acknowledged, and then it dies: at once, by both ways.
    let mut sent = Vec::new();
    for round in 0..3 {
        for nth in 0..5 {
            let text = format!("{round}.{nth}");
            let (status, answer) = stand.send_as_client(RED, &ann, Some(&text), &json!({"text": text}))?;
            ensure!(status == 202, "{answer}");
            sent.push((text, answer));
        }
        let text = format!("{round}.socket");
        let command = json!({"type": "publish", "channel": "room:red", "id": text, "text": text});
        let answer = ask(&mut socket(&stand, "ann").await?, command).await?;
        ensure!(answer["kept"] == true, "{answer}");
        sent.push((text, json!({"kept": true, "receipt": answer["receipt"]})));
        stand.host.kill9();
        stand.host.restart()?;
    }
    // Each is sent again: it has the first answer, and is not kept again.
    for (text, answer) in &sent {
        let again = stand.send_as_client(RED, &ann, Some(text), &json!({"text": text}))?;
        assert_eq!(again, (202, answer.clone()));
    }
    assert_eq!(stand.metric("twohop_client_messages_total{outcome=\"repeated\"")?, sent.len() as u64);
    // What another says under the same id is another message.
    let (status, answer) =
        stand.send_as_client(RED, &token("bob", 600)?, Some("0.0"), &json!({"text": "the end"}))?;
    ensure!(status == 202, "{answer}");
    let expected: Vec<_> = sent.iter().map(|(text, _)| text.as_str()).chain(["the end"]).collect();
    assert_eq!(until_kept(&stand, "the end").await?, expected);
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    // The database's place is where it was: its rows are there, once.
    stand.postgres.psql("INSERT INTO notes VALUES (2, 2, 1, 'x')")?;
    let notes = async {
        loop {
            looks.tick().await;
            let changes = stand.said(&["changes", "--last", "100000"])?;
            let notes = changes.lines().filter(|line| line.contains("\"table\":\"notes\"")).count();
            if notes > 1 {
                return anyhow::Ok(notes);
            }
        }
    };
    assert_eq!(tokio::time::timeout(WITHIN, notes).await.context("the second row does not come")??, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ephemeral_is_told_and_not_kept_and_what_may_not_be_said_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let stand = stand(folder.path(), "rate = 1\nburst = 4")?;
    let (ann, mut bob) = (token("ann", 600)?, listen(&stand, "bob").await?);
    let typing = json!({"event": "typing", "text": "…"});
    assert_eq!(stand.send_as_client(RED, &ann, None, &typing)?, (202, json!({"kept": false})));
    let event = next(&mut bob).await?;
    assert_eq!((&*event.event, &*event.data, event.id), ("typing", "…", None));
    let (status, answer) = stand.send_as_client(RED, &ann, None, &json!({"text": "said"}))?;
    ensure!(status == 202, "{answer}");
    assert_eq!(next(&mut bob).await?.data, "said");
    assert_eq!(until_kept(&stand, "said").await?, ["said"]);

    let code = |answer: (u16, Value)| (answer.0, answer.1["error"]["code"].as_u64());
    let say = |channel: &str| {
        stand.send_as_client(&format!("/v1/channels/{channel}"), &ann, None, &json!({"text": "x"}))
    };
    assert_eq!(code(say("room%3Ablue")?), (403, Some(4024)));
    assert_eq!(code(say("timeline%3Abob")?), (400, Some(4004)));
    // Four at once and one a second: who does not stop is soon told to.
    let mut xs = 0;
    let limited = loop {
        match say("room%3Ared")? {
            (202, _) => xs += 1,
            limited => break limited,
        }
    };
    assert_eq!(code(limited.clone()), (429, Some(4122)));
    ensure!(limited.1["error"]["delay_ms"].as_u64().is_some_and(|delay| delay <= 1_000), "{limited:?}");
    // Nobody else has to wait for that.
    let (status, answer) = stand.send_as_client(RED, &token("bob", 600)?, None, &json!({"text": "mine"}))?;
    ensure!(status == 202, "{answer}");
    let kept = until_kept(&stand, "mine").await?;
    let expected: Vec<_> = ["said"].into_iter().chain(vec!["x"; xs]).chain(["mine"]).collect();
    assert_eq!(kept, expected);
    let counted = [
        ("kept", kept.len()),
        ("ephemeral", 1),
        ("channel_forbidden", 1),
        ("messages_too_many", 1),
        ("channel_invalid", 1),
    ];
    for (outcome, count) in counted {
        let name = format!("twohop_client_messages_total{{outcome=\"{outcome}\"");
        assert_eq!(stand.metric(&name)?, count as u64, "{outcome}");
    }
    Ok(())
}
