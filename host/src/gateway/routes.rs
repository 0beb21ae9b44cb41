//! The routes of the public listener.
//!
//! In: requests. Out: a reply for each, a refusal in JSON included.
//!
//! Invariant: a request that no route takes is answered by `codes.rs`, never by warp's own plain text.
//! Absent on purpose: what a route does.

use std::convert::Infallible;
use std::sync::Arc;

use warp::filters::BoxedFilter;
use warp::reject::{InvalidHeader, InvalidQuery, MethodNotAllowed, Rejection};
use warp::reply::{Reply, Response};
use warp::{Filter, path};

use super::codes::{Code, Refusal};
use super::{Config, channels, hub, page, sse};
use crate::bus::Bus;
use crate::http::Cut;

/// What the routes share.
pub(super) struct State {
    pub(super) config: Config,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) hub: Arc<hub::Hub>,
}

type Query = Vec<(String, String)>;

/// All routes.
pub(super) fn routes(state: Arc<State>) -> BoxedFilter<(Response,)> {
    let with_state = warp::any().map(move || Arc::clone(&state));
    let events = path!("v1" / "events")
        .and(warp::get())
        .and(with_state.clone())
        .and(warp::query::<Query>())
        .and(warp::header::optional::<String>("last-event-id"))
        .and(warp::ext::optional::<Cut>())
        .map(|state: Arc<State>, query: Query, header: Option<String>, cut: Option<Cut>| {
            sse::events(&state, &query, header.as_deref(), cut.map(|Cut(token)| token))
        });
    let channels = path!("v1" / "channels")
        .and(warp::get())
        .and(with_state)
        .and(warp::query::<Query>())
        .then(|state: Arc<State>, query: Query| async move { channels::list(&*state.bus, &query).await });
    let health = path!("healthz").and(get_or_head()).map(|| "ok\n".into_response());
    let page = warp::path::param::<String>()
        .and(warp::path::end())
        .and_then(|name: String| async move { page::file(&name).ok_or_else(warp::reject::not_found) })
        .or(warp::path::end().map(page::index))
        .unify()
        .and(get_or_head())
        .map(|response: Response| response);
    events.or(channels).unify().or(health).unify().or(page).unify().recover(refuse).unify().boxed()
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
