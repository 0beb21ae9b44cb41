//! WebSocket, long-poll and history over a real server, and RFC 6455 by a suite of others.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use twohop::gateway::websocket_echo;
use twohop_tests::{Setup, Stand, Writer};

const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(60);
const RECONNECT_INTERVAL: Duration = Duration::from_millis(50);

/// A socket that follows the notes after an id; and the id at which it begins.
async fn follow(address: SocketAddr, after: &str) -> Result<(WebSocketStream<TcpStream>, String)> {
    let stream = TcpStream::connect(address).await?;
    let (mut socket, _) = tokio_tungstenite::client_async(format!("ws://{address}/v1/ws"), stream).await?;
    let channels = json!([{"channel": "notes", "after": after}]);
    let command = json!({"type": "subscribe", "channels": channels});
    socket.send(Message::text(command.to_string())).await?;
    while let Some(message) = socket.next().await {
        let said: Value = serde_json::from_str(message?.to_text()?)?;
        match said["type"].as_str() {
            Some("subscribed") => {
                let id = said["channels"][0]["id"].as_str().context("it says where it begins")?;
                return Ok((socket, id.to_owned()));
            }
            Some("error") => bail!("{said}"),
            _ => {}
        }
    }
    bail!("the server ended it")
}

/// Follows over every end of the server until it has the last note, whose number it is told once that is known.
async fn numbers(
    address: SocketAddr,
    mut id: String,
    mut last: watch::Receiver<Option<i64>>,
) -> Result<Vec<i64>> {
    let mut numbers = Vec::new();
    loop {
        let mut tries = tokio::time::interval(RECONNECT_INTERVAL);
        let mut socket = loop {
            tries.tick().await;
            if let Ok((socket, _)) = follow(address, &id).await {
                break socket;
            }
        };
        loop {
            if numbers.last().copied() == *last.borrow_and_update() && !numbers.is_empty() {
                return Ok(numbers);
            }
            let message = tokio::select! {
                message = socket.next() => message,
                _ = last.changed() => continue,
            };
            let Some(Ok(message)) = message else { break };
            let Message::Text(text) = message else { continue };
            let said: Value = serde_json::from_str(&text)?;
            match said["type"].as_str() {
                Some("message") => numbers.push(number(&said)?),
                Some("reset") => bail!("{said}"),
                _ => {}
            }
            if let Some(new) = said["id"].as_str() {
                new.clone_into(&mut id);
            }
        }
    }
}

fn number(message: &Value) -> Result<i64> {
    message["json"]["number"].as_i64().with_context(|| format!("{message} is a note"))
}

/// The JSON at an address.
async fn get(address: SocketAddr, target: &str) -> Result<Value> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").context("an answer has a head")?;
    serde_json::from_str(body).with_context(|| format!("{target} answered {answer}"))
}

/// Goes on from id to id until there is nothing new.
async fn pull(address: SocketAddr, target: &str, begin: &str) -> Result<Vec<i64>> {
    let (mut numbers, mut id) = (Vec::new(), begin.to_owned());
    loop {
        let answer = get(address, &format!("{target}after={id}")).await?;
        let messages = answer["messages"].as_array().context("an answer has messages")?;
        if messages.is_empty() {
            return Ok(numbers);
        }
        for message in messages {
            numbers.push(number(message)?);
        }
        answer["id"].as_str().context("an answer has an id")?.clone_into(&mut id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_gives_exactly_the_committed_rows_while_the_server_dies() -> Result<()> {
    let mut stand = Stand::start(&Setup::default())?;
    let address = stand.address();
    let (_, begin) = follow(address, "").await?;
    let mut writer = Writer::start(stand.postgres.url(), Duration::from_millis(2));
    let (last, told) = watch::channel(None);
    let follower = tokio::spawn(numbers(address, begin.clone(), told));
    for round in 1..=3 {
        writer.wait_for(writer.written() + 60 * round).await?;
        stand.host.kill9();
        stand.host.restart()?;
    }
    writer.wait_for(writer.written() + 50).await?;
    let committed: Vec<i64> =
        writer.finish(&stand.postgres.url()).await?.iter().map(|row| row.number).collect();
    last.send_replace(committed.last().copied());
    let followed = tokio::time::timeout(CAUGHT_UP_WITHIN, follower).await???;
    assert_eq!(followed, committed, "WebSocket");
    assert_eq!(pull(address, "/v1/poll?channel=notes&wait=0&", &begin).await?, committed, "long-poll");
    let history = "/v1/channels/notes/messages?limit=70&";
    assert_eq!(pull(address, history, &begin).await?, committed, "history");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_websocket_code_passes_the_suite_of_rfc_6455() -> Result<()> {
    let kosoku = std::env::var_os("XTASK_KOSOKU").context("run `cargo xtask test`, which installs kosoku")?;
    let stop = tokio_util::sync::CancellationToken::new();
    let (address, echo) = websocket_echo(SocketAddr::from(([127, 0, 0, 1], 0)), stop.clone()).await?;
    let reports = tempfile::tempdir()?;
    let mut suite = Command::new(kosoku);
    // Performance, and compression, which is not offered.
    suite.args([&address.to_string(), "-x", "9.*", "-x", "12.*", "-x", "13.*", "-p", "4", "--outdir"]);
    suite.arg(reports.path());
    let ended = tokio::task::spawn_blocking(move || suite.output()).await??;
    let index = reports.path().join("index.json");
    let index = std::fs::read_to_string(&index).with_context(|| format!("no report: {ended:?}"))?;
    let servers: HashMap<String, HashMap<String, Value>> = serde_json::from_str(&index)?;
    let cases = servers.into_values().next().context("the report is of our server")?;
    assert_eq!(cases.len(), 247, "sections 1 to 7 and 10");
    let good = ["OK", "NON-STRICT", "INFORMATIONAL"];
    let failed: Vec<_> = cases
        .iter()
        .filter(|(_, case)| {
            ["behavior", "behaviorClose"]
                .iter()
                .any(|what| case[what].as_str().is_none_or(|how| !good.contains(&how)))
        })
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
    stop.cancel();
    echo.await?;
    Ok(())
}
