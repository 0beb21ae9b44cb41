//! `POST /v1/tickets`: a ticket for one that shows its token, since `EventSource` and WebSocket can send no header.
//!
//! In: a token, in the header or the cookie. Out: `{"ticket":…,"expires_in":…}`, the latter in seconds. It counts once,
//! as the parameter `ticket` of a stream.

use warp::http::{HeaderValue, Method, header};
use warp::reply::{Reply, Response};

use super::codes::{Code, Refusal};
use super::query::Query;
use super::routes::{Asker, State};
use crate::access::Deed;
use crate::limits::TICKET_TIME_MAX;

/// Answers the request.
pub(super) async fn issue(state: &State, asker: &Asker, method: &Method, query: &Query) -> Response {
    if method != Method::POST {
        let refusal =
            Refusal::new(Code::MethodNotAllowed, "a ticket is made anew for each request: use POST");
        let mut response = refusal.response();
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return response;
    }
    let issued = async {
        let visitor = asker.visitor(&state.access, query, Deed::Write).await?;
        Ok(state.access.issue_ticket(&visitor)?)
    };
    let ticket = match issued.await {
        Ok(ticket) => ticket,
        Err(refusal) => return Refusal::response(&refusal),
    };
    let body = serde_json::json!({"ticket": ticket, "expires_in": TICKET_TIME_MAX.as_secs()});
    let mut response = warp::reply::json(&body).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
