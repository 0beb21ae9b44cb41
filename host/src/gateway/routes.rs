//! The routes of the public listener.
//!
//! In: requests. Out: a reply for each, a refusal in JSON included.
//!
//! Invariant: a request that no route takes is answered by `codes.rs`, never by warp's own plain text.
//! Absent on purpose: what a route does.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use warp::filters::BoxedFilter;
use warp::host::Authority;
use warp::http::{HeaderMap, Method, StatusCode};
use warp::reject::{InvalidHeader, InvalidQuery, MethodNotAllowed, Rejection};
use warp::reply::{Reply, Response};
use warp::{Filter, path};

use super::codes::{Code, Refusal};
use super::{Config, channels, hub, page, sse, tickets};
use crate::access::{self, Access, Deed, Head, Visitor};
use crate::bus::Bus;
use crate::http::{Cut, Peer};

/// What the routes share.
pub(super) struct State {
    pub(super) config: Config,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) hub: Arc<hub::Hub>,
    pub(super) access: Access,
}

/// What a request says of who sends it.
pub(super) struct Asker {
    headers: HeaderMap,
    authority: Option<Authority>,
    address: IpAddr,
}

impl Asker {
    /// Says who it is.
    ///
    /// # Errors
    /// If what it says does not hold.
    pub(super) async fn visitor(
        &self,
        access: &Access,
        query: &[(String, String)],
        deed: Deed,
    ) -> Result<Visitor, Refusal> {
        let ticket = query.iter().find(|(key, _)| key == "ticket").map(|(_, value)| value.as_str());
        let authority = self.authority.as_ref().map(Authority::as_str);
        let head = Head { headers: &self.headers, authority, ticket, address: self.address };
        if query.iter().any(|(key, _)| matches!(key.as_str(), "token" | "access_token" | "jwt")) {
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

type Query = Vec<(String, String)>;

/// All routes.
pub(super) fn routes(state: Arc<State>) -> BoxedFilter<(Response,)> {
    let with_state = warp::any().map(move || Arc::clone(&state));
    let events = path!("v1" / "events")
        .and(warp::get())
        .and(with_state.clone())
        .and(asker())
        .and(warp::query::<Query>())
        .and(warp::header::optional::<String>("last-event-id"))
        .and(warp::ext::optional::<Cut>())
        .then(|state: Arc<State>, asker: Asker, query: Query, header: Option<String>, cut: Option<Cut>| async move {
            sse::events(&state, &asker, &query, header.as_deref(), cut.map(|Cut(token)| token)).await
        });
    let channels = path!("v1" / "channels")
        .and(warp::get())
        .and(with_state.clone())
        .and(asker())
        .and(warp::query::<Query>())
        .then(|state: Arc<State>, asker: Asker, query: Query| async move {
            channels::list(&state, &asker, &query).await
        });
    let tickets = path!("v1" / "tickets")
        .and(warp::method())
        .and(with_state.clone())
        .and(asker())
        .and(warp::query::<Query>())
        .then(|method: Method, state: Arc<State>, asker: Asker, query: Query| async move {
            tickets::issue(&state, &asker, &method, &query).await
        });
    // Not `warp::options`: by its refusal an address that is not there would seem to lack a method only.
    let is_options = warp::method().and_then(|method: Method| async move {
        if method == Method::OPTIONS { Ok(()) } else { Err(warp::reject::not_found()) }
    });
    let preflight = path!("v1" / ..)
        .and(is_options)
        .untuple_one()
        .and(with_state.clone())
        .and(warp::header::headers_cloned())
        .map(|state: Arc<State>, headers: HeaderMap| preflight(&state.access, &headers));
    let health = path!("healthz").and(get_or_head()).map(|| "ok\n".into_response());
    let page = warp::path::param::<String>()
        .and(warp::path::end())
        .and_then(|name: String| async move { page::file(&name).ok_or_else(warp::reject::not_found) })
        .or(warp::path::end().map(page::index))
        .unify()
        .and(get_or_head())
        .map(|response: Response| response);
    let faces = preflight.or(events).unify().or(channels).unify().or(tickets).unify();
    let all = faces.or(health).unify().or(page).unify().recover(refuse).unify();
    let marked = with_state.and(warp::header::headers_cloned()).and(all);
    marked
        .map(|state: Arc<State>, asked: HeaderMap, mut response: Response| {
            state.access.mark_answer(&asked, response.headers_mut());
            response
        })
        .boxed()
}

/// What a browser asks before it lets a page of another origin ask.
fn preflight(access: &Access, asked: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    match access.preflight(asked, response.headers_mut()) {
        Ok(()) => response,
        Err(refusal) => Refusal::from(refusal).response(),
    }
}

fn get_or_head() -> impl Filter<Extract = (), Error = Rejection> + Clone {
    warp::get().or(warp::head()).unify()
}

async fn refuse(rejection: Rejection) -> Result<Response, Infallible> {
    let refusal = if rejection.find::<InvalidQuery>().is_some() {
        Refusal::new(
            Code::QueryInvalid,
            "the query cannot be read: it is name=value, joined by &, percent-encoded",
        )
    } else if rejection.find::<InvalidHeader>().is_some() {
        Refusal::new(Code::ResumeIdInvalid, "the header Last-Event-ID is not a resume id")
    } else if rejection.find::<MethodNotAllowed>().is_some() {
        Refusal::new(Code::MethodNotAllowed, "this address can only be read: use GET")
    } else {
        Refusal::new(Code::NotFound, "there is nothing here: see /v1/events and /v1/channels")
    };
    Ok(refusal.response())
}
