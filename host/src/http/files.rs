//! The files of a page, part of the program.
//!
//! Invariant: nothing comes from another origin and nothing is inline, and the policy that says so goes with every
//! file.

use warp::http::{HeaderValue, header};
use warp::reply::{Reply, Response};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `/NAME`, if every page has such a file.
pub(crate) fn shared_file(name: &str) -> Option<Response> {
    match name {
        "icon.svg" => Some(file("image/svg+xml", include_str!("page/icon.svg"))),
        "theme.css" => Some(file("text/css; charset=utf-8", include_str!("page/theme.css"))),
        "events.js" => Some(file("text/javascript; charset=utf-8", include_str!("page/events.js"))),
        _ => None,
    }
}

/// A file of this media type.
pub(crate) fn file(kind: &'static str, text: &'static str) -> Response {
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
