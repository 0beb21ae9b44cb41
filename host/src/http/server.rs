//! The listener: accepts connections, has them served, and ends them.
//!
//! In: sockets. Out: connections that are served (`connection`). warp's own server sets no timer, so a client that says
//! nothing would stay for ever; this one sets them all.
//!
//! Invariants:
//! - an accept that fails never ends the listener;
//! - connections are bounded, in all and of each address; one too many is told so, if it asks (`door`);
//! - every task belongs to [`Server::run`] and is gone when it returns, at most `shutdown_time_max` after the
//!   order to stop. HTTP's own graceful end waits for open streams for ever; who has streams ends them first.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::HeaderMap;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::connection::connection;
use super::door::{Door, Excess, Place};
use super::{Afterlife, Proxies, Rate, Tls};
use crate::limits::{
    CONNECTION_BUFFER_BYTES_MAX, RESETS_PER_CONNECTION_MAX, RETRY_DELAY_MIN, STREAMS_PER_CONNECTION_MAX,
};
use crate::telemetry::{CutReason, ListenerMetrics};

/// How a listener behaves.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// What it is called in the log.
    pub(crate) name: &'static str,
    /// From accepting a connection, or from the last answer, to the end of a request's head; and as long for a handshake
    /// of TLS.
    pub(crate) request_head_time_max: Duration,
    /// Between two signs of life that HTTP/2 asks for.
    pub(crate) heartbeat_interval: Duration,
    /// How long a connection of HTTP/2 may have nothing going on; it may take twice as long to be seen.
    pub(crate) idle_time_max: Duration,
    /// From the order to stop until connections are cut.
    pub(crate) shutdown_time_max: Duration,
    /// Connections at once.
    pub(crate) connections_count_max: usize,
    /// Of one address; those of trusted proxies are not counted so.
    pub(crate) connections_per_address_max: Option<usize>,
    /// Requests of one address.
    pub(crate) requests: Option<Rate>,
    /// Who is believed when it says whom it speaks for.
    pub(crate) proxies: Proxies,
    /// Where it counts.
    pub(crate) metrics: Arc<ListenerMetrics>,
}

/// Answers in the place of the routes; the headers are the request's.
pub(crate) type Refuse = Arc<dyn Fn(Excess, &HeaderMap) -> Response + Send + Sync>;

/// What serves.
pub(crate) struct Server {
    pub(crate) config: Config,
    pub(crate) listener: TcpListener,
    /// None if it speaks in the clear.
    pub(crate) tls: Option<Tls>,
    pub(crate) routes: BoxedFilter<(Response,)>,
    /// What is said to a request that is one too many, or whose connection is.
    pub(crate) refuse: Refuse,
}

/// What the connections share.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) door: Door,
    pub(super) acceptor: Option<TlsAcceptor>,
    pub(super) routes: BoxedFilter<(Response,)>,
    pub(super) refuse: Refuse,
    pub(super) served: auto::Builder<TokioExecutor>,
    pub(super) refused: auto::Builder<TokioExecutor>,
    pub(super) stop: CancellationToken,
}

impl Server {
    /// Serves until `stop`. Nobody is accepted then, and `drain` begins: it ends whatever answers without an end.
    pub(crate) async fn run(self, stop: CancellationToken, drain: impl Future<Output = ()>) {
        let Self { config, listener, tls, routes, refuse } = self;
        let (name, shutdown_time_max) = (config.name, config.shutdown_time_max);
        let shared = Arc::new(Shared {
            served: builder(&config),
            refused: refusing_builder(&config),
            door: Door::new(&config),
            acceptor: tls.as_ref().map(Tls::acceptor),
            config,
            routes,
            refuse,
            stop: stop.clone(),
        });
        let mut tasks = JoinSet::new();
        if let Some(tls) = tls {
            let stop = stop.clone();
            tasks.spawn(async move {
                tls.watch(stop).await;
                None
            });
        }
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = tasks.join_next() => go_on(name, ended, &mut tasks),
                accepted = listener.accept() => match accepted {
                    Ok((socket, peer)) => {
                        let Some((place, admission)) = shared.door.admit(peer.ip()) else { continue };
                        tasks.spawn(connection(Arc::clone(&shared), socket, peer.ip(), place, admission));
                    }
                    // The client was gone before we came.
                    Err(error) if is_of_one_connection(error.kind()) => {}
                    Err(error) => {
                        // No more file descriptors, most likely: they come back as connections end.
                        tracing::warn!(name, %error, "cannot accept connections, trying again");
                        tokio::time::sleep(RETRY_DELAY_MIN).await;
                    }
                },
            }
        }
        drop(listener);
        let all_ended = async {
            while let Some(ended) = tasks.join_next().await {
                go_on(name, ended, &mut tasks);
            }
        };
        let ended = tokio::time::timeout(shutdown_time_max, async {
            tokio::select! {
                biased;
                // Who drains may have time left when everybody has gone.
                () = async { drain.await; std::future::pending().await } => {}
                () = all_ended => {}
            }
        });
        if ended.await.is_err() {
            shared.config.metrics.cuts(CutReason::Stopped).fetch_add(tasks.len() as u64, Ordering::Relaxed);
            tracing::warn!(name, count = tasks.len(), "cut connections that did not end in time");
            tasks.shutdown().await;
        }
    }
}

/// A connection that was upgraded, and its place.
pub(super) type Upgraded = (Place, Afterlife);

/// What was upgraded goes on in a task of its own: HTTP's would weigh several KiB for as long as it lives.
fn go_on(name: &str, ended: Result<Option<Upgraded>, JoinError>, tasks: &mut JoinSet<Option<Upgraded>>) {
    match ended {
        Ok(None) => {}
        Ok(Some((place, afterlife))) => {
            tasks.spawn(async move {
                afterlife.await;
                drop(place);
                None
            });
        }
        Err(error) => tracing::error!(name, %error, "a connection failed"),
    }
}

fn is_of_one_connection(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused)
}

fn builder(config: &Config) -> auto::Builder<TokioExecutor> {
    let bytes_max = u32::try_from(CONNECTION_BUFFER_BYTES_MAX).unwrap_or(u32::MAX);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.request_head_time_max)
        .max_buf_size(CONNECTION_BUFFER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(config.heartbeat_interval)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        // Streams that are ended as soon as they are begun cost more than they look (CVE-2023-44487).
        .max_pending_accept_reset_streams(RESETS_PER_CONNECTION_MAX)
        // Of all that comes on a connection, and of each of its streams; hyper's own are 1 MiB.
        .initial_connection_window_size(bytes_max)
        .initial_stream_window_size(bytes_max)
        .max_send_buf_size(CONNECTION_BUFFER_BYTES_MAX)
        .max_header_list_size(bytes_max);
    builder
}

fn refusing_builder(config: &Config) -> auto::Builder<TokioExecutor> {
    let mut builder = builder(config);
    builder.http1().keep_alive(false);
    builder
}
