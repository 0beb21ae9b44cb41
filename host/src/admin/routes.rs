//! The routes of the admin listener.
//!
//! In: requests. Out: an answer for each, a refusal in JSON included.
//!
//! Invariant: whatever is not public is behind the token, and that is looked at before anything else: before the
//! address, the method, and any byte of the body.

use std::sync::Arc;

use bytes::Buf;
use futures_util::Stream;
use warp::Filter;
use warp::filters::BoxedFilter;
use warp::http::{HeaderMap, Method, header};
use warp::path::FullPath;
use warp::reply::Response;

use super::body::Body;
use super::refusal::Refusal;
use super::{State, changes, components, events, health, letters, metrics, page, plugins, sources};
use crate::event::has_control;
use crate::http;
use crate::limits::ADMIN_BY_BYTES_MAX;

/// Who did it, if the header [`BY`] does not say.
const SOMEBODY: &str = "admin";
/// The header that says who asks; the token says that they may.
const BY: &str = "x-twohop-by";

/// A request, its body not read.
struct Request {
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Body,
}

/// All routes.
pub(super) fn routes(state: Arc<State>) -> BoxedFilter<(Response,)> {
    warp::method()
        .and(warp::path::full())
        .and(warp::query::raw().or(warp::any().map(String::new)).unify())
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(move |method, path: FullPath, query, headers: HeaderMap, body| {
            let request = request(method, path.as_str(), query, headers, body);
            let state = Arc::clone(&state);
            async move { answer(state, request).await.unwrap_or_else(|refusal| refusal.response()) }
        })
        .boxed()
}

fn request<Chunk: Buf>(
    method: Method,
    path: &str,
    query: String,
    headers: HeaderMap,
    body: impl Stream<Item = Result<Chunk, warp::Error>> + Send + 'static,
) -> Request {
    let body = Body(http::Body::new(&headers, body));
    Request { method, path: path.to_owned(), query, headers, body }
}

async fn answer(state: Arc<State>, request: Request) -> Result<Response, Refusal> {
    let path = request.path.clone();
    let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    if let Some(public) = public(&state, &request.method, &segments) {
        return public;
    }
    let given = request.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given =
        given.and_then(|value| value.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
    if !given.is_some_and(|(_, token)| state.token.is(token.trim())) {
        return Err(Refusal::unauthorized());
    }
    match *segments {
        ["v1", "plugins", plugin, ref rest @ ..] if !plugin.is_empty() => {
            of_plugin(&state, plugin, rest, request).await
        }
        ["v1", "dead-letters", ref rest @ ..] => of_letters(&state, rest, request).await,
        ref other => of_server(&state, other, request).await,
    }
}

/// What needs no token: it says nothing that others may not know.
fn public(state: &State, method: &Method, segments: &[&str]) -> Option<Result<Response, Refusal>> {
    let answer = match segments {
        ["healthz"] => health::health(),
        ["readyz"] => health::ready(state),
        [name] => page::file(name)?,
        _ => return None,
    };
    Some(if matches!(*method, Method::GET | Method::HEAD) { Ok(answer) } else { Err(Refusal::method("GET")) })
}

async fn of_server(state: &Arc<State>, segments: &[&str], request: Request) -> Result<Response, Refusal> {
    let (get, post) = (request.method == Method::GET, request.method == Method::POST);
    let query = &request.query;
    match segments {
        ["v1", "components"] if get => components::list(state, query).await,
        ["v1", "components"] if post => {
            let by = by(&request.headers)?;
            let kind = request.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
            components::upload(state, &by, query, kind.unwrap_or_default(), request.body).await
        }
        ["v1", "components"] => Err(Refusal::method("GET, POST")),
        ["v1", "plugins"] if get => plugins::list(state, query).await,
        ["v1", "audit"] if get => plugins::audit(state, query).await,
        ["v1", "pipeline"] if get => Ok(health::pipeline(state)),
        ["v1", "sources"] if get => Ok(sources::list(state)),
        ["v1", "sources", source, "snapshot"] if post => sources::snapshot(state, source, request.body).await,
        ["v1", "sources", _, "snapshot"] => Err(Refusal::method("POST")),
        ["v1", "pipeline", "resume"] if post => {
            state.parts.deployer.resume(&by(&request.headers)?).await?;
            Ok(health::pipeline(state))
        }
        ["v1", "pipeline", "resume"] => Err(Refusal::method("POST")),
        ["v1", "changes"] if get => changes::newest(state, query),
        ["v1", "events"] if get => Ok(events::all(state)),
        ["metrics"] if get => metrics::metrics(state).await,
        ["metrics"] | ["v1", "plugins" | "audit" | "pipeline" | "sources" | "changes" | "events"] => {
            Err(Refusal::method("GET"))
        }
        _ => Err(Refusal::nowhere()),
    }
}

async fn of_plugin(
    state: &Arc<State>,
    plugin: &str,
    rest: &[&str],
    request: Request,
) -> Result<Response, Refusal> {
    let by = by(&request.headers)?;
    let Request { method, query, body, .. } = request;
    let (get, post) = (method == Method::GET, method == Method::POST);
    match rest {
        [] if get => plugins::show(state, plugin, &query).await,
        ["logs"] if get => plugins::logs(state, plugin, &query).await,
        ["check"] if post => plugins::check(state, plugin, &query, body).await,
        ["activate"] if post => plugins::activate(state, &by, plugin, body).await,
        ["roll-back"] if post => plugins::roll_back(state, &by, plugin, body).await,
        ["deactivate"] if post => plugins::deactivate(state, &by, plugin).await,
        ["shadow"] if get => plugins::shadow(state, plugin).await,
        ["shadow"] if method == Method::PUT => plugins::start_shadow(state, &by, plugin, body).await,
        ["shadow"] if method == Method::DELETE => plugins::stop_shadow(state, &by, plugin).await,
        [] | ["logs"] => Err(Refusal::method("GET")),
        ["check" | "activate" | "roll-back" | "deactivate"] => Err(Refusal::method("POST")),
        ["shadow"] => Err(Refusal::method("GET, PUT, DELETE")),
        _ => Err(Refusal::nowhere()),
    }
}

async fn of_letters(state: &State, rest: &[&str], request: Request) -> Result<Response, Refusal> {
    let Request { method, query, .. } = request;
    let (get, delete) = (method == Method::GET, method == Method::DELETE);
    match rest {
        [] if get => letters::list(state, &query).await,
        [] if delete => letters::discard_all(state, &query).await,
        [id] if get => letters::show(state, id).await,
        [id] if delete => letters::discard(state, id).await,
        [id, "replay"] if method == Method::POST => letters::replay(state, id, &query).await,
        [] | [_] => Err(Refusal::method("GET, DELETE")),
        [_, "replay"] => Err(Refusal::method("POST")),
        _ => Err(Refusal::nowhere()),
    }
}

/// Who asks, as they say.
fn by(headers: &HeaderMap) -> Result<String, Refusal> {
    let Some(value) = headers.get(BY) else { return Ok(SOMEBODY.to_owned()) };
    let text = std::str::from_utf8(value.as_bytes()).unwrap_or_default().trim();
    if text.is_empty() || text.len() > ADMIN_BY_BYTES_MAX || has_control(text) {
        let message = format!("the header X-Twohop-By is a name of 1 to {ADMIN_BY_BYTES_MAX} bytes of UTF-8");
        return Err(Refusal::invalid(message));
    }
    Ok(text.to_owned())
}
