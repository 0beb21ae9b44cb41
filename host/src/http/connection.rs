//! One connection: its handshake, its requests, its end.
//!
//! In: a socket that was accepted. Out: requests for the routes; what becomes of it once it is upgraded.
//!
//! Invariant: a client that asks nothing in time is sent away, whether it is before, within or after the handshake of
//! TLS, within a head, or on a connection of HTTP/2 that has nothing more to do.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::SystemTime;

use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::{Service, service_fn};
use hyper::{Request, Version};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::sockopt::TcpUserTimeout;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use warp::reply::Response;

use super::door::{Admission, Place};
use super::line::{Line, Wire};
use super::server::{Shared, Upgraded};
use super::{Cut, Peer, Takeover, Unframed};
use crate::limits::CONNECTION_STALL_TIME_MAX;
use crate::telemetry::CutReason;

/// Whether a connection takes further requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Serving,
    Ending,
}

/// Serves a connection to its end.
pub(super) async fn connection(
    shared: Arc<Shared>,
    socket: TcpStream,
    address: IpAddr,
    place: Place,
    admission: Admission,
) -> Option<Upgraded> {
    // A frame must not wait for the next one. Without it all works, only later.
    let _ = socket.set_nodelay(true);
    // Signs of life go out all the time: a peer that left without a word is one that confirms none of them.
    let unconfirmed_max = u32::try_from(CONNECTION_STALL_TIME_MAX.as_millis()).unwrap_or(u32::MAX);
    let _ = nix::sys::socket::setsockopt(&socket, TcpUserTimeout, &unconfirmed_max);
    let Some(acceptor) = &shared.acceptor else {
        let line = Line::new(socket);
        let met = Met { address, place, admission, line: Some(line.clone()) };
        return serve(shared, Wire::new(line), met).await;
    };
    let handshake = tokio::time::timeout(shared.config.request_head_time_max, acceptor.accept(socket));
    match shared.stop.run_until_cancelled(handshake).await?.map_err(io::Error::from).flatten() {
        // In a box: it is large, and one that is not encrypted must not weigh as much.
        Ok(socket) => Box::pin(serve(shared, socket, Met { address, place, admission, line: None })).await,
        Err(error) => {
            shared.config.metrics.count_cut(CutReason::Handshake);
            tracing::debug!(%error, "a handshake of TLS failed");
            None
        }
    }
}

/// A connection that was accepted.
struct Met {
    address: IpAddr,
    place: Place,
    admission: Admission,
    /// If it is not encrypted.
    line: Option<Arc<Line>>,
}

async fn serve(
    shared: Arc<Shared>,
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    met: Met,
) -> Option<Upgraded> {
    let Met { address, place, admission, line } = met;
    let activity = Arc::new(Activity::default());
    let cut = CancellationToken::new();
    let refused = CancellationToken::new();
    let takeover = Takeover::default();
    let refusal = shared.refusal;
    let routes = TowerToHyperService::new(warp::service(shared.routes.clone()));
    let service = service_fn(|mut request: Request<Incoming>| {
        let busy = activity.begin(request.version());
        let client = shared.door.client(address, request.headers());
        request.extensions_mut().insert(Peer(client));
        if request.version() < Version::HTTP_2 {
            // Streams of HTTP/2 may be of different people behind one proxy: one of them must not cut the others.
            request.extensions_mut().insert(Cut(cut.clone()));
            request.extensions_mut().insert(takeover.clone());
            if let Some(line) = &line {
                request.extensions_mut().insert(Arc::clone(line));
            }
        }
        let excess = match admission {
            Admission::Served => shared.door.let_in(client).err(),
            Admission::Refused(excess) => {
                // A connection of HTTP/2 would stay, and all that comes on it would be refused for ever.
                refused.cancel();
                Some(excess)
            }
        };
        let answer = excess.map_or_else(|| Ok(routes.call(request)), Err);
        let (takeover, line) = (takeover.clone(), line.clone());
        async move {
            let answer = match answer {
                Ok(answer) => answer.await?,
                Err(excess) => refusal(excess),
            };
            if let Some(line) = line.filter(|_| answer.extensions().get::<Unframed>().is_some()) {
                takeover.unframe(Wire::new(line), head(&answer));
                // HTTP is dropped, with all that it weighs, and this with it.
                std::future::pending::<()>().await;
            }
            Ok::<_, Infallible>(answer.map(|body| Answer { body, _busy: busy }))
        }
    });
    let builder = match admission {
        Admission::Served => &shared.served,
        Admission::Refused(_) => &shared.refused,
    };
    let mut serving = pin!(builder.serve_connection_with_upgrades(TokioIo::new(socket), service));
    // hyper's own timer begins with the choice between HTTP/1 and HTTP/2, for which it needs bytes, and looks at heads
    // of HTTP/1 only.
    let mut look = pin!(tokio::time::sleep(shared.config.request_head_time_max));
    let mut asked = 0;
    let mut life = Life::Serving;
    let ending = async {
        tokio::select! { () = shared.stop.cancelled() => {}, () = refused.cancelled() => {} }
    };
    let mut ending = pin!(ending);
    let ended = loop {
        tokio::select! {
            ended = &mut serving => break ended,
            () = cut.cancelled() => return None,
            () = takeover.unframed() => break Ok(()),
            () = &mut look, if activity.is_looked_at() => {
                match activity.since(&mut asked) {
                    Since::NeverAsked => {
                        shared.config.metrics.count_cut(CutReason::Late);
                        return None;
                    }
                    Since::Idle if life == Life::Serving => {
                        life = Life::Ending;
                        shared.config.metrics.count_cut(CutReason::Idle);
                        serving.as_mut().graceful_shutdown();
                    }
                    // It was told, and stays.
                    Since::Idle => return None,
                    Since::Busy => {}
                }
                look.as_mut().reset(Instant::now() + shared.config.idle_time_max);
            }
            () = &mut ending, if life == Life::Serving => {
                life = Life::Ending;
                serving.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(error) = ended {
        if let Some(reason) = activity.reason(&*error) {
            shared.config.metrics.count_cut(reason);
        }
        tracing::debug!(error, "a connection ended early");
    }
    takeover.take().map(|afterlife| (place, afterlife))
}

/// The head of an answer whose body is all that comes until the connection ends (RFC 9112, section 6.3, the last case).
fn head(answer: &Response) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {}\r\n", answer.status()).into_bytes();
    let date = httpdate::fmt_http_date(SystemTime::now());
    for (name, value) in answer.headers() {
        head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head.extend(format!("connection: close\r\ndate: {date}\r\n\r\n").into_bytes());
    head
}

/// What is going on on a connection.
#[derive(Debug, Default)]
struct Activity {
    /// Requests so far.
    asked: AtomicUsize,
    /// Answers that are not at their end.
    open: AtomicUsize,
    /// Whether it speaks HTTP/2. What speaks HTTP/1.1 is watched by hyper after its first request.
    is_h2: AtomicBool,
}

/// What has been going on since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    /// Nothing, and nothing before.
    NeverAsked,
    /// Nothing.
    Idle,
    /// Something.
    Busy,
}

impl Activity {
    /// Counts a request in, until its answer is dropped.
    fn begin(self: &Arc<Self>, version: Version) -> Busy {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        self.is_h2.store(version == Version::HTTP_2, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    fn is_looked_at(&self) -> bool {
        self.asked.load(Ordering::Relaxed) == 0 || self.is_h2.load(Ordering::Relaxed)
    }

    /// Why hyper cut the connection, if it did.
    fn reason(&self, error: &(dyn Error + 'static)) -> Option<CutReason> {
        let error = error.downcast_ref::<hyper::Error>()?;
        match (error.is_timeout(), self.asked.load(Ordering::Relaxed)) {
            (true, 0) => Some(CutReason::Late),
            (true, _) => Some(CutReason::Idle),
            (false, _) => error.is_parse().then_some(CutReason::Invalid),
        }
    }

    /// `asked` is how many requests there were at the last look, and then how many there are now.
    fn since(&self, asked: &mut usize) -> Since {
        let before = std::mem::replace(asked, self.asked.load(Ordering::Relaxed));
        match *asked {
            0 => Since::NeverAsked,
            now if now == before && self.open.load(Ordering::Relaxed) == 0 => Since::Idle,
            _ => Since::Busy,
        }
    }
}

/// A request whose answer is not at its end.
#[derive(Debug)]
struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that counts as something going on.
struct Answer<B> {
    body: B,
    _busy: Busy,
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
