//! One connection: its handshake, its requests, its end.
//!
//! In: a socket that was accepted. Out: requests for the routes; what becomes of it once it is upgraded.
//!
//! Invariant: a client that asks nothing in time is sent away, whether it is before, within or after the handshake of
//! TLS, within a head, or on a connection of HTTP/2 that has nothing more to do.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::SystemTime;

use hyper::body::Incoming;
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

use super::activity::{Activity, Answer, Since};
use super::door::{Admission, Excess, Place};
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
        let wire = Wire::new(Arc::clone(&line));
        return serve(Call { line: Some(line), ..Call::new(shared, address, admission) }, wire, place).await;
    };
    let handshake = tokio::time::timeout(shared.config.request_head_time_max, acceptor.accept(socket));
    match shared.stop.run_until_cancelled(handshake).await?.map_err(io::Error::from).flatten() {
        // In a box: it is large, and one that is not encrypted must not weigh as much.
        Ok(socket) => Box::pin(serve(Call::new(shared, address, admission), socket, place)).await,
        Err(error) => {
            shared.config.metrics.count_cut(CutReason::Handshake);
            tracing::debug!(%error, "a handshake of TLS failed");
            None
        }
    }
}

async fn serve(
    call: Call,
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    place: Place,
) -> Option<Upgraded> {
    let shared = &call.shared;
    let routes = TowerToHyperService::new(warp::service(shared.routes.clone()));
    let service = service_fn(|mut request: Request<Incoming>| {
        let busy = call.activity.begin(request.version());
        let answer = match call.receive(&mut request) {
            Ok(()) => Ok(routes.call(request)),
            Err(excess) => Err((call.shared.refuse)(excess, request.headers())),
        };
        let (takeover, line) = (call.takeover.clone(), call.line.clone());
        async move {
            let answer = match answer {
                Ok(answer) => answer.await?,
                Err(refusal) => refusal,
            };
            if let Some(line) = line.filter(|_| answer.extensions().get::<Unframed>().is_some()) {
                takeover.unframe(Wire::new(line), head(&answer));
                // HTTP is dropped, with all that it weighs, and this with it.
                std::future::pending::<()>().await;
            }
            Ok::<_, Infallible>(answer.map(|body| Answer::new(body, busy)))
        }
    });
    let builder = match call.admission {
        Admission::Served => &shared.served,
        Admission::Refused(_) => &shared.refused,
    };
    let mut serving = pin!(builder.serve_connection_with_upgrades(TokioIo::new(socket), service));
    // hyper's own timer begins with the choice between HTTP/1 and HTTP/2, for which it needs bytes, and looks at heads
    // of HTTP/1 only.
    let mut look = pin!(tokio::time::sleep(shared.config.request_head_time_max));
    let mut asked = 0;
    let mut life = Life::Serving;
    let (mut ending, mut unframed) = (pin!(call.ending()), pin!(call.unframed()));
    let ended = loop {
        tokio::select! {
            // In this order: what HTTP still has to say is said before its end is looked for.
            biased;
            ended = &mut serving => break ended,
            () = call.cut.cancelled() => return None,
            () = &mut unframed => break Ok(()),
            () = &mut look, if call.activity.is_looked_at() => {
                match (call.activity.since(&mut asked), life) {
                    (Since::Busy, _) => {}
                    (Since::Idle, Life::Serving) => {
                        life = Life::Ending;
                        shared.config.metrics.count_cut(CutReason::Idle);
                        serving.as_mut().graceful_shutdown();
                    }
                    // It was told, and stays.
                    (Since::Idle, Life::Ending) => return None,
                    (Since::NeverAsked, _) => {
                        shared.config.metrics.count_cut(CutReason::Late);
                        return None;
                    }
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
        call.count(&*error);
    }
    call.takeover.take().map(|afterlife| (place, afterlife))
}

/// What a connection and its requests share.
struct Call {
    shared: Arc<Shared>,
    address: IpAddr,
    admission: Admission,
    activity: Arc<Activity>,
    cut: CancellationToken,
    refused: CancellationToken,
    takeover: Takeover,
    /// If it is in the clear.
    line: Option<Arc<Line>>,
}

impl Call {
    fn new(shared: Arc<Shared>, address: IpAddr, admission: Admission) -> Self {
        let (cut, refused) = (CancellationToken::new(), CancellationToken::new());
        let (activity, takeover) = (Arc::default(), Takeover::default());
        Self { shared, address, admission, activity, cut, refused, takeover, line: None }
    }

    /// Gives a request what it needs of its connection, and lets it in.
    ///
    /// # Errors
    /// If it is one too many, or its connection is.
    fn receive(&self, request: &mut Request<Incoming>) -> Result<(), Excess> {
        let client = self.shared.door.client(self.address, request.headers());
        request.extensions_mut().insert(Peer(client));
        if request.version() < Version::HTTP_2 {
            // Streams of HTTP/2 may be of different people behind one proxy: one of them must not cut the others.
            request.extensions_mut().insert(Cut(self.cut.clone()));
            request.extensions_mut().insert(self.takeover.clone());
            if let Some(line) = &self.line {
                request.extensions_mut().insert(Arc::clone(line));
            }
        }
        match self.admission {
            Admission::Served => self.shared.door.let_in(client),
            Admission::Refused(excess) => {
                // A connection of HTTP/2 would stay, and all that comes on it would be refused for ever.
                self.refused.cancel();
                Err(excess)
            }
        }
    }

    /// Waits until a route has the line for itself, and HTTP has nothing more to say: of requests that came at once the
    /// answer to the one before may be on its way. Whoever waits polls HTTP first, so nobody need be woken for it.
    async fn unframed(&self) {
        self.takeover.unframed().await;
        let has_said_all = || self.line.as_ref().is_none_or(|line| line.has_said_all());
        poll_fn(|_| if has_said_all() { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Waits until it must take no further requests.
    async fn ending(&self) {
        tokio::select! { () = self.shared.stop.cancelled() => {}, () = self.refused.cancelled() => {} }
    }

    /// Counts why hyper ended it, if hyper cut it.
    fn count(&self, error: &(dyn Error + Send + Sync + 'static)) {
        tracing::debug!(error = error as &dyn Error, "a connection ended early");
        let Some(error) = error.downcast_ref::<hyper::Error>() else { return };
        let metrics = &self.shared.config.metrics;
        match (error.is_timeout(), self.activity.has_asked()) {
            (true, false) => metrics.count_cut(CutReason::Late),
            (true, true) => metrics.count_cut(CutReason::Idle),
            (false, _) if error.is_parse() => metrics.count_cut(CutReason::Invalid),
            (false, _) => {}
        }
    }
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
