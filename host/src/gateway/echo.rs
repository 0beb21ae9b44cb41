//! An echo over the gateway's WebSocket code, at `/`: what test suites of RFC 6455 talk to.
//!
//! In: an address. Out: a listener that sends every message back until it is told to stop. It is no part of the
//! program's own listeners.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use warp::Filter;
use warp::reply::Response;

use super::Config;
use super::frame::json::{BINARY, TEXT, in_frame};
use super::routes::handshake;
use super::socket::{Handshake, Link, Said, upgrade};
use crate::http::{self, ListenError};

/// The suites send messages far beyond what our protocol allows.
const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// Listens, and echoes until `stop`. Returns the address with the port that it got, and what ends with it.
///
/// # Errors
/// If the address cannot be listened on.
pub async fn echo(
    listen: SocketAddr,
    stop: CancellationToken,
) -> Result<(SocketAddr, JoinHandle<()>), ListenError> {
    let (listener, address) = http::listen(listen, "the echo's address").await?;
    let config = Config::new(listen);
    let answer = |handshake: Handshake| async move {
        let answer = upgrade(handshake, |io| async move {
            talk(Link::with_message_bytes_max(io, MESSAGE_BYTES_MAX).await).await;
        });
        Ok::<Response, Infallible>(answer)
    };
    let server = http::Server {
        config: http::Config {
            name: "echo",
            request_head_time_max: config.request_head_time_max,
            heartbeat_interval: config.heartbeat_interval,
            shutdown_time_max: Duration::ZERO,
            idle_time_max: config.idle_time_max,
            connections_count_max: config.connections_count_max,
            connections_per_address_max: None,
            requests: None,
            proxies: config.proxies,
            metrics: config.metrics.gateway.listener.clone(),
        },
        listener,
        tls: None,
        routes: warp::path::end().and(handshake()).and_then(answer).boxed(),
        refuse: Arc::new(|excess, _| super::refused(excess)),
    };
    Ok((address, tokio::spawn(server.run(stop, async {}))))
}

async fn talk<Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(mut link: Link<Io>) {
    loop {
        let frame: Bytes = match link.receive().await {
            Said::Text(text) => in_frame(TEXT, text.as_bytes()),
            Said::Binary(bytes) => in_frame(BINARY, &bytes),
            Said::Sign => continue,
            Said::End => return,
            Said::Broken(code, reason) => return link.close(code, reason).await,
        };
        if link.write(&frame).await.is_err() {
            return;
        }
    }
}
