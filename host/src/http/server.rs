//! The listener: accepts connections, serves HTTP on them, and ends them.
//!
//! In: sockets. Out: requests for the routes. warp's own server sets no timer, so a client that says nothing would
//! stay for ever; this one sets them all.
//!
//! Invariants:
//! - an accept that fails never ends the listener;
//! - connections are bounded; one too many is told so, if it asks;
//! - every task belongs to [`Server::run`] and is gone when it returns, at most `shutdown_time_max` after the
//!   order to stop. HTTP's own graceful end waits for open streams for ever; who has streams ends them first.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::sockopt::TcpUserTimeout;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::{Afterlife, Cut, Peer, Takeover};
use crate::limits::{
    CONNECTION_BUFFER_BYTES_MAX, CONNECTION_STALL_TIME_MAX, REFUSALS_COUNT_MAX, RETRY_DELAY_MIN,
    STREAMS_PER_CONNECTION_MAX,
};

/// How a listener behaves.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// What it is called in the log.
    pub(crate) name: &'static str,
    /// From accepting a connection, or from the last answer, to the end of a request's head.
    pub(crate) request_head_time_max: Duration,
    /// Between two signs of life that HTTP/2 asks for.
    pub(crate) heartbeat_interval: Duration,
    /// From the order to stop until connections are cut.
    pub(crate) shutdown_time_max: Duration,
    /// Connections at once.
    pub(crate) connections_count_max: usize,
}

/// What serves.
pub(crate) struct Server {
    pub(crate) config: Config,
    pub(crate) listener: TcpListener,
    pub(crate) routes: BoxedFilter<(Response,)>,
    /// What is said to a connection that is one too many.
    pub(crate) refusal: fn() -> Response,
}

/// How a connection is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Admission {
    Served,
    Refused,
}

/// Whether a connection has asked for anything in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    Awaited,
    Seen,
}

/// Whether a connection takes further requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Serving,
    Ending,
}

/// What the connections share.
struct Shared {
    config: Config,
    routes: BoxedFilter<(Response,)>,
    refusal: fn() -> Response,
    served: auto::Builder<TokioExecutor>,
    refused: auto::Builder<TokioExecutor>,
    stop: CancellationToken,
}

impl Server {
    /// Serves until `stop`. `close` is called then: it ends whatever answers without an end.
    pub(crate) async fn run(self, stop: CancellationToken, close: impl FnOnce()) {
        let Self { config, listener, routes, refusal } = self;
        let places = Arc::new(Semaphore::new(config.connections_count_max));
        let refusals = Arc::new(Semaphore::new(REFUSALS_COUNT_MAX));
        let (name, shutdown_time_max) = (config.name, config.shutdown_time_max);
        let shared = Arc::new(Shared {
            served: builder(&config),
            refused: refusing_builder(&config),
            config,
            routes,
            refusal,
            stop: stop.clone(),
        });
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = tasks.join_next() => go_on(name, ended, &mut tasks),
                accepted = listener.accept() => match accepted {
                    Ok((socket, peer)) => {
                        let (place, admission) = match Arc::clone(&places).try_acquire_owned() {
                            Ok(place) => (place, Admission::Served),
                            Err(_) => match Arc::clone(&refusals).try_acquire_owned() {
                                Ok(place) => (place, Admission::Refused),
                                Err(_) => continue,
                            },
                        };
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
        close();
        let ended = tokio::time::timeout(shutdown_time_max, async {
            while let Some(ended) = tasks.join_next().await {
                go_on(name, ended, &mut tasks);
            }
        });
        if ended.await.is_err() {
            tracing::warn!(name, count = tasks.len(), "cut connections that did not end in time");
            tasks.shutdown().await;
        }
    }
}

/// A connection that was upgraded, and its place.
type Upgraded = (OwnedSemaphorePermit, Afterlife);

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
        .max_send_buf_size(CONNECTION_BUFFER_BYTES_MAX)
        .max_header_list_size(u32::try_from(CONNECTION_BUFFER_BYTES_MAX).unwrap_or(u32::MAX));
    builder
}

fn refusing_builder(config: &Config) -> auto::Builder<TokioExecutor> {
    let mut builder = builder(config);
    builder.http1().keep_alive(false);
    builder
}

async fn connection(
    shared: Arc<Shared>,
    socket: TcpStream,
    address: IpAddr,
    place: OwnedSemaphorePermit,
    admission: Admission,
) -> Option<Upgraded> {
    // A frame must not wait for the next one. Without it all works, only later.
    let _ = socket.set_nodelay(true);
    // Signs of life go out all the time: a peer that left without a word is one that confirms none of them.
    let unconfirmed_max = u32::try_from(CONNECTION_STALL_TIME_MAX.as_millis()).unwrap_or(u32::MAX);
    let _ = nix::sys::socket::setsockopt(&socket, TcpUserTimeout, &unconfirmed_max);
    let asked = AtomicBool::new(false);
    let cut = CancellationToken::new();
    let refused = CancellationToken::new();
    let takeover = Takeover::default();
    let refusal = shared.refusal;
    let routes = TowerToHyperService::new(warp::service(shared.routes.clone()));
    let service = service_fn(|mut request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(Peer(address));
        if request.version() < Version::HTTP_2 {
            // Streams of HTTP/2 may be of different people behind one proxy: one of them must not cut the others.
            request.extensions_mut().insert(Cut(cut.clone()));
            request.extensions_mut().insert(takeover.clone());
        }
        let answer = (admission == Admission::Served).then(|| routes.call(request));
        if answer.is_none() {
            // A connection of HTTP/2 would stay, and all that comes on it would be refused for ever.
            refused.cancel();
        }
        async move {
            match answer {
                Some(answer) => answer.await,
                None => Ok(refusal()),
            }
        }
    });
    let builder = match admission {
        Admission::Served => &shared.served,
        Admission::Refused => &shared.refused,
    };
    let mut serving = pin!(builder.serve_connection_with_upgrades(TokioIo::new(socket), service));
    // hyper's own timer begins with the choice between HTTP/1 and HTTP/2, for which it needs bytes.
    let mut head_late = pin!(tokio::time::sleep(shared.config.request_head_time_max));
    let mut head = Head::Awaited;
    let mut life = Life::Serving;
    let ending = async {
        tokio::select! { () = shared.stop.cancelled() => {}, () = refused.cancelled() => {} }
    };
    let mut ending = pin!(ending);
    let ended = loop {
        tokio::select! {
            ended = &mut serving => break ended,
            () = cut.cancelled() => return None,
            () = &mut head_late, if head == Head::Awaited => {
                if !asked.load(Ordering::Relaxed) {
                    return None;
                }
                head = Head::Seen;
            }
            () = &mut ending, if life == Life::Serving => {
                life = Life::Ending;
                serving.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, "a connection ended early");
    }
    takeover.take().map(|afterlife| (place, afterlife))
}
