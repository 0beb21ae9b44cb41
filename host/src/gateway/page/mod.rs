//! The page at `/`: lists channels and shows messages as they come.
//!
//! In: nothing. Out: a few files, part of the program.
//!
//! Invariants: nothing comes from another origin and nothing is inline, and the policy that says so goes with every
//! file. Payloads are hostile: the script makes text of them, never markup.

use warp::http::{HeaderValue, header};
use warp::reply::{Reply, Response};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `/`.
pub(super) fn index() -> Response {
    reply("text/html; charset=utf-8", include_str!("index.html"))
}

/// `/NAME`, if the page has such a file.
pub(super) fn file(name: &str) -> Option<Response> {
    match name {
        "page.js" => Some(reply("text/javascript; charset=utf-8", include_str!("page.js"))),
        "feed.js" => Some(reply("text/javascript; charset=utf-8", include_str!("feed.js"))),
        "stream.js" => Some(reply("text/javascript; charset=utf-8", include_str!("stream.js"))),
        "page.css" => Some(reply("text/css; charset=utf-8", include_str!("page.css"))),
        "icon.svg" => Some(reply("image/svg+xml", include_str!("icon.svg"))),
        _ => None,
    }
}

fn reply(kind: &'static str, text: &'static str) -> Response {
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
