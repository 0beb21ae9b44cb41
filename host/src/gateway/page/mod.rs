//! The page at `/`: lists channels and shows messages as they come.
//!
//! In: nothing. Out: a few files, part of the program.
//!
//! Invariants: nothing comes from another origin and nothing is inline. Payloads are hostile: the script makes text of
//! them, never markup.

use warp::reply::Response;

use crate::http;

/// `/`.
pub(super) fn index() -> Response {
    http::file("text/html; charset=utf-8", include_str!("index.html"))
}

/// `/NAME`, if the page has such a file.
pub(super) fn file(name: &str) -> Option<Response> {
    match name {
        "page.js" => Some(http::file("text/javascript; charset=utf-8", include_str!("page.js"))),
        "feed.js" => Some(http::file("text/javascript; charset=utf-8", include_str!("feed.js"))),
        "page.css" => Some(http::file("text/css; charset=utf-8", include_str!("page.css"))),
        _ => http::shared_file(name),
    }
}
