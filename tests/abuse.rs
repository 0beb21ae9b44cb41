//! Clients that flood, and what that costs the memory of a server that does nothing else.
//!
//! How each is answered and counted is in `host/src/gateway/tests/abuse.rs`.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use twohop_tests::{Setup, Stand};

const WITHIN: Duration = Duration::from_secs(60);
const HUNDRED_MEGABYTES: usize = 100 << 20;
/// Of one WebSocket, in commands of so many.
const CHANNELS: usize = 1_000_000;
const CHANNELS_AT_ONCE: usize = 125;
/// What the server may hold more after the flood than before: far below what was sent, and above what an allocator keeps.
const GROWTH_BYTES_MAX: usize = 24 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_cost_no_memory() -> Result<()> {
    let stand = Stand::start(&Setup::default())?;
    let address = stand.address();
    // Once, so that what is made once is there.
    flood(address, 1 << 20, CHANNELS / 100).await?;
    let before = resident(&stand)?;
    tokio::time::timeout(WITHIN, flood(address, HUNDRED_MEGABYTES, CHANNELS)).await??;
    let after = resident(&stand)?;
    ensure!(
        after < before + GROWTH_BYTES_MAX,
        "{} KiB are resident, {} KiB were before",
        after >> 10,
        before >> 10
    );
    let (status, answer) = stand.ask_as_client("GET", "/v1/channels", None)?;
    ensure!(status == 200, "{answer}");
    Ok(())
}

/// Heads and bodies on thirty connections, and channels on one, all at once.
async fn flood(address: SocketAddr, bytes: usize, channels: usize) -> Result<()> {
    let head = format!("GET /v1/events?channel=a HTTP/1.1\r\nHost: test\r\nX-Large: {}", "x".repeat(bytes));
    let body = format!(
        "POST /v1/tickets HTTP/1.1\r\nHost: test\r\nContent-Length: {bytes}\r\n\r\n{}",
        "x".repeat(bytes)
    );
    let stream = format!(
        "GET /v1/poll?channel=a HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n{bytes:x}\r\n{}",
        "x".repeat(bytes)
    );
    let texts = [head, body, stream];
    let talkers = futures_util::future::join_all((0..30).map(|nth| say(address, &texts[nth % texts.len()])));
    let (_, subscribed) = tokio::join!(talkers, subscribe(address, channels));
    subscribed
}

/// Sends a text as far as it is taken, and reads what is answered.
async fn say(address: SocketAddr, text: &str) -> Result<()> {
    let (mut reader, mut writer) = TcpStream::connect(address).await?.into_split();
    let read = async {
        let mut part = [0; 4_096];
        while let Ok(1..) = reader.read(&mut part).await {}
    };
    tokio::join!(writer.write_all(text.as_bytes()), read).0.or(Ok(()))
}

/// Subscribes to one channel after the other, and leaves them.
async fn subscribe(address: SocketAddr, channels: usize) -> Result<()> {
    let stream = TcpStream::connect(address).await?;
    let (socket, _) = tokio_tungstenite::client_async(format!("ws://{address}/v1/ws"), stream).await?;
    let (mut sink, mut answers) = socket.split();
    let commands = async {
        for at in (0..channels).step_by(CHANNELS_AT_ONCE) {
            let names: Vec<String> = (at..at + CHANNELS_AT_ONCE).map(|nth| format!("flood:{nth}")).collect();
            let wanted: Vec<Value> = names.iter().map(|name| json!({"channel": name})).collect();
            sink.feed(Message::text(json!({"type": "subscribe", "channels": wanted}).to_string())).await?;
            sink.send(Message::text(json!({"type": "unsubscribe", "channels": names}).to_string())).await?;
        }
        anyhow::Ok(())
    };
    let answered = async {
        let mut count = 0;
        while count < 2 * channels / CHANNELS_AT_ONCE {
            let message = answers.next().await.context("the server ended it")??;
            let Message::Text(text) = message else { continue };
            let said: Value = serde_json::from_str(&text)?;
            match said["type"].as_str() {
                Some("subscribed" | "unsubscribed") => count += 1,
                Some("error") => anyhow::bail!("{said}"),
                _ => {}
            }
        }
        Ok(())
    };
    tokio::try_join!(commands, answered).map(drop)
}

/// What the server holds of the machine's memory, in bytes.
fn resident(stand: &Stand) -> Result<usize> {
    let pid = stand.host.pid().context("the server runs")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the system says so")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<usize>()? << 10)
}
