//! The routes of the public listener.
//!
//! In: requests. Out: a reply for each, a refusal in JSON included.
//!
//! Invariant: a request that no route takes is answered by `codes.rs`, never by warp's own plain text.
//! Absent on purpose: what a route does.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use warp::filters::BoxedFilter;
use warp::reject::{InvalidHeader, InvalidQuery, MethodNotAllowed, Rejection};
use warp::reply::{Reply, Response};
use warp::{Filter, path};

use super::codes::{Code, Refusal};
use super::query::Query;
use super::socket::{self, Handshake};
use super::{Config, channels, history, hub, page, poll, sse};
use crate::bus::Bus;
use crate::http::{Cut, Takeover};

/// What the routes share.
pub(super) struct State {
    pub(super) config: Config,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) hub: Arc<hub::Hub>,
}

impl State {
    /// How long the client of this number should wait before it comes back: they differ, so that those who were here
    /// do not all come back in the same moment.
    pub(super) fn reconnect_delay(&self, number: u64) -> Duration {
        let share = u32::try_from(number % 16).unwrap_or(0);
        let delay = self.config.reconnect_delay;
        delay / 2 + delay * share / 16
    }
}

/// All routes.
pub(super) fn routes(state: Arc<State>) -> BoxedFilter<(Response,)> {
    let with_state = warp::any().map(move || Arc::clone(&state));
    let events = path!("v1" / "events")
        .and(warp::get())
        .and(with_state.clone())
        .and(query())
        .and(warp::header::optional::<String>("last-event-id"))
        .and(warp::ext::optional::<Cut>())
        .map(|state: Arc<State>, query: Query, header: Option<String>, cut: Option<Cut>| {
            sse::events(&state, &query, header.as_deref(), cut.map(|Cut(token)| token))
        });
    let socket = path!("v1" / "ws")
        .and(warp::get())
        .and(with_state.clone())
        .and(handshake())
        .map(|state: Arc<State>, handshake: Handshake| socket::open(&state, handshake));
    let poll = path!("v1" / "poll")
        .and(warp::get())
        .and(with_state.clone())
        .and(query())
        .then(|state: Arc<State>, query: Query| async move { poll::poll(&state, &query).await });
    let channels = path!("v1" / "channels")
        .and(warp::get())
        .and(with_state.clone())
        .and(query())
        .then(|state: Arc<State>, query: Query| async move { channels::list(&*state.bus, &query).await });
    let messages =
        path!("v1" / "channels" / String / "messages").and(warp::get()).and(with_state).and(query()).then(
            |channel: String, state: Arc<State>, query: Query| async move {
                history::messages(&*state.bus, &channel, &query).await
            },
        );
    let health = path!("healthz").and(get_or_head()).map(|| "ok\n".into_response());
    let page = warp::path::param::<String>()
        .and(warp::path::end())
        .and_then(|name: String| async move { page::file(&name).ok_or_else(warp::reject::not_found) })
        .or(warp::path::end().map(page::index))
        .unify()
        .and(get_or_head())
        .map(|response: Response| response);
    let streams = events.or(socket).unify().or(poll).unify();
    let lists = channels.or(messages).unify();
    streams.or(lists).unify().or(health).unify().or(page).unify().recover(refuse).unify().boxed()
}

fn query() -> impl Filter<Extract = (Query,), Error = Rejection> + Clone {
    warp::query::<Vec<(String, String)>>().map(Query::new)
}

/// What an upgrade to WebSocket needs.
pub(super) fn handshake() -> impl Filter<Extract = (Handshake,), Error = Infallible> + Clone {
    warp::header::headers_cloned()
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::ext::optional::<Takeover>())
        .and(warp::ext::optional::<Cut>())
        .map(|headers, upgrade, takeover, cut| Handshake { headers, upgrade, takeover, cut })
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
        Refusal::new(
            Code::NotFound,
            "there is nothing here: see /v1/events, /v1/ws, /v1/poll and /v1/channels",
        )
    };
    Ok(refusal.response())
}
