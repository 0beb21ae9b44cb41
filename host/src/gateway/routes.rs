//! The routes of the public listener.
//!
//! In: requests. Out: a reply for each, a refusal in JSON included.
//!
//! Invariant: a request that no route takes is answered by `codes.rs`, never by warp's own plain text.
//! Absent on purpose: what a route does.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use hyper::upgrade::OnUpgrade;
use percent_encoding::percent_decode_str;
use warp::filters::BoxedFilter;
use warp::host::Authority;
use warp::http::{HeaderMap, Method, StatusCode};
use warp::reject::{InvalidHeader, InvalidQuery, MethodNotAllowed, Reject, Rejection};
use warp::reply::{Reply, Response};
use warp::{Filter, path};

use super::codes::{Code, Refusal};
use super::crowd::Crowd;
use super::mailbox::Own;
use super::query::Query;
use super::socket::{self, Handshake};
use super::{Config, channels, client, history, hub, page, poll, publish, sse, tickets, timelines};
use crate::access::{self, Access, Deed, Head, Visitor};
use crate::bus::Bus;
use crate::http::{Body, Buckets, Cut, Line, Peer, Takeover};
use crate::intake::Intake;
use crate::timeline::Timelines;

/// What the routes share.
pub(super) struct State {
    pub(super) config: Config,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) timelines: Option<Timelines>,
    pub(super) hub: Arc<hub::Hub>,
    pub(super) crowd: Crowd,
    pub(super) access: Access,
    pub(super) intake: Intake,
    pub(super) speakers: Buckets<publish::Speaker>,
}

/// What a request says of who sends it.
pub(super) struct Asker {
    headers: HeaderMap,
    authority: Option<Authority>,
    address: IpAddr,
}

impl Asker {
    /// A header that may be there once.
    ///
    /// # Errors
    /// If it is there twice, or is no text.
    pub(super) fn header(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let mut values = self.headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) if value.to_str().is_ok() => Ok(value.to_str().ok()),
            _ => Err(Refusal::new(
                Code::MessageInvalid,
                format!("the header {name} is one line of plain text"),
            )),
        }
    }

    /// Says who it is.
    ///
    /// # Errors
    /// If what it says does not hold.
    pub(super) async fn visitor(
        &self,
        access: &Access,
        query: &Query,
        deed: Deed,
    ) -> Result<Visitor, Refusal> {
        let authority = self.authority.as_ref().map(Authority::as_str);
        let head =
            Head { headers: &self.headers, authority, ticket: query.get("ticket"), address: self.address };
        if query.has_any(&["token", "access_token", "jwt"]) {
            return Err(access.refuse(access::Refusal::TokenInUrl).into());
        }
        Ok(access.identify(&head, deed).await?)
    }
}

fn asker() -> impl Filter<Extract = (Asker,), Error = Infallible> + Clone {
    let headers = warp::header::headers_cloned();
    // A host that cannot be read is none: it can only be compared with.
    let authority = warp::host::optional().or(warp::any().map(|| None)).unify();
    headers.and(authority).and(warp::ext::optional::<Peer>()).map(|headers, authority, peer: Option<Peer>| {
        let address = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |Peer(address)| address);
        Asker { headers, authority, address }
    })
}

/// All routes.
pub(super) fn routes(state: Arc<State>) -> BoxedFilter<(Response,)> {
    let with_state = with(&state);
    let preflight = path!("v1" / ..)
        .and(is_options())
        .and(with_state.clone())
        .and(warp::header::headers_cloned())
        .map(|state: Arc<State>, headers: HeaderMap| preflight(&state.access, &headers));
    let health = path!("healthz").and(get_or_head()).map(|| "ok\n".into_response());
    let page = warp::path::param::<String>()
        .and(warp::path::end())
        .and(warp::header::headers_cloned())
        .and_then(|name: String, asked: HeaderMap| async move {
            client::file(&name, &asked).or_else(|| page::file(&name)).ok_or_else(warp::reject::not_found)
        })
        .or(warp::path::end().map(page::index))
        .unify()
        .and(get_or_head())
        .map(|response: Response| response);
    let faces = preflight.or(streams(&state)).unify().or(answers(&state)).unify();
    let all = faces.or(health).unify().or(page).unify().recover(refuse).unify();
    let marked = with_state.and(warp::header::headers_cloned()).and(all);
    marked
        .map(|state: Arc<State>, asked: HeaderMap, mut response: Response| {
            state.access.mark_answer(&asked, response.headers_mut());
            response
        })
        .boxed()
}

/// What goes on.
fn streams(state: &Arc<State>) -> BoxedFilter<(Response,)> {
    let events = path!("v1" / "events")
        .and(warp::get())
        .and(asked(state))
        .and(warp::header::optional::<String>("last-event-id"))
        .and(connection())
        .then(
            |state: Arc<State>, asker: Asker, query: Query, header: Option<String>, connection| async move {
                sse::events(&state, &asker, &query, header.as_deref(), connection).await
            },
        );
    let socket = path!("v1" / "ws").and(warp::get()).and(asked(state)).and(handshake()).then(
        |state: Arc<State>, asker: Asker, query: Query, handshake: Handshake| async move {
            socket::open(&state, &asker, &query, handshake).await
        },
    );
    events.or(socket).unify().boxed()
}

/// What is answered once.
fn answers(state: &Arc<State>) -> BoxedFilter<(Response,)> {
    let poll =
        path!("v1" / "poll").and(warp::get()).and(asked(state)).then(
            |state: Arc<State>, asker: Asker, query: Query| async move {
                poll::poll(&state, &asker, &query).await
            },
        );
    let channels = path!("v1" / "channels").and(warp::get()).and(asked(state)).then(
        |state: Arc<State>, asker: Asker, query: Query| async move {
            channels::list(&state, &asker, &query).await
        },
    );
    let messages = path!("v1" / "channels" / String / "messages").and(warp::get()).and(asked(state)).then(
        |channel: String, state: Arc<State>, asker: Asker, query: Query| async move {
            history::messages(&state, &asker, &channel, &query).await
        },
    );
    let timelines = path!("v1" / "timelines" / String).and(warp::get()).and(asked(state)).then(
        |user: String, state: Arc<State>, asker: Asker, query: Query| async move {
            timelines::read(&state, &asker, &user, &query).await
        },
    );
    let tickets = path!("v1" / "tickets").and(warp::method()).and(asked(state)).then(
        |method: Method, state: Arc<State>, asker: Asker, query: Query| async move {
            tickets::issue(&state, &asker, &method, &query).await
        },
    );
    let said = path!("v1" / "channels" / String)
        .and(warp::method())
        .and(asked(state))
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(
            |channel: String,
             method: Method,
             state: Arc<State>,
             asker: Asker,
             query: Query,
             headers: HeaderMap,
             body| {
                let body = Body::new(&headers, body);
                async move { publish::post(&state, &asker, (&channel, &method), &query, body).await }
            },
        );
    let read = poll.or(channels).unify().or(messages).unify().or(timelines).unify();
    read.or(tickets).unify().or(said).unify().boxed()
}

fn with(state: &Arc<State>) -> impl Filter<Extract = (Arc<State>,), Error = Infallible> + Clone + use<> {
    let state = Arc::clone(state);
    warp::any().map(move || Arc::clone(&state))
}

/// What every face asks with.
fn asked(
    state: &Arc<State>,
) -> impl Filter<Extract = (Arc<State>, Asker, Query), Error = Rejection> + Clone + use<> {
    with(state).and(asker()).and(query())
}

/// Not `warp::options`: by its refusal an address that is not there would seem to lack a method only.
fn is_options() -> impl Filter<Extract = (), Error = Rejection> + Clone {
    let is_options = |method: Method| async move {
        if method == Method::OPTIONS { Ok(()) } else { Err(warp::reject::not_found()) }
    };
    warp::method().and_then(is_options).untuple_one()
}

/// What a browser asks before it lets a page of another origin ask.
fn preflight(access: &Access, asked: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    match access.preflight(asked, response.headers_mut()) {
        Ok(()) => response,
        Err(refusal) => Refusal::from(refusal).response(),
    }
}

fn query() -> impl Filter<Extract = (Query,), Error = Rejection> + Clone {
    let raw = warp::query::raw().or(warp::any().map(String::new)).unify();
    let is_text = raw.and_then(|raw: String| async move {
        let text = percent_decode_str(&raw).decode_utf8();
        text.map(drop).map_err(|_| warp::reject::custom(NoText))
    });
    is_text.untuple_one().and(warp::query::<Vec<(String, String)>>()).map(Query::new)
}

/// What a stream needs of a connection that it has for itself.
fn connection() -> impl Filter<Extract = (sse::Connection,), Error = Infallible> + Clone {
    warp::ext::optional::<Cut>()
        .and(warp::ext::optional::<Arc<Line>>())
        .and(warp::ext::optional::<Takeover>())
        .map(|cut: Option<Cut>, line, takeover| sse::Connection {
            own: Own { cut: cut.map(|Cut(token)| token), line, doubts: None },
            takeover,
        })
}

/// A query that is no UTF-8: its parser would take other characters for what is none.
#[derive(Debug)]
struct NoText;

impl Reject for NoText {}

/// What an upgrade to WebSocket needs.
pub(super) fn handshake() -> impl Filter<Extract = (Handshake,), Error = Infallible> + Clone {
    warp::header::headers_cloned()
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::ext::optional::<Takeover>())
        .and(warp::ext::optional::<Cut>())
        .and(warp::ext::optional::<Arc<Line>>())
        .map(|headers, upgrade, takeover, cut, line| Handshake { headers, upgrade, takeover, cut, line })
}

fn get_or_head() -> impl Filter<Extract = (), Error = Rejection> + Clone {
    warp::get().or(warp::head()).unify()
}

async fn refuse(rejection: Rejection) -> Result<Response, Infallible> {
    let refusal = if rejection.find::<InvalidQuery>().is_some() || rejection.find::<NoText>().is_some() {
        Refusal::new(
            Code::QueryInvalid,
            "the query cannot be read: it is name=value, joined by &, percent-encoded",
        )
    } else if rejection.find::<InvalidHeader>().is_some() {
        Refusal::new(Code::ResumeIdInvalid, "the header Last-Event-ID is not a resume id")
    } else if rejection.find::<MethodNotAllowed>().is_some() {
        Refusal::new(Code::MethodNotAllowed, "this address can only be read: use GET")
    } else {
        Refusal::new(
            Code::NotFound,
            "there is nothing here: see /v1/events, /v1/ws, /v1/poll and /v1/channels",
        )
    };
    Ok(refusal.response())
}
