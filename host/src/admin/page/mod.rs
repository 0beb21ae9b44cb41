//! The dashboard: plugins, the pipeline, and what happens, live.
//!
//! In: nothing; the page asks for the token, and the listener for it. Out: a few files, part of the program.
//!
//! Invariants: nothing comes from another origin and nothing is inline. What plugins and people write is hostile: the
//! script makes text of it, never markup.

use warp::reply::Response;

use crate::http;

/// `/NAME`, if the dashboard has such a file; the empty name is the page itself.
pub(super) fn file(name: &str) -> Option<Response> {
    match name {
        "" => Some(http::file("text/html; charset=utf-8", include_str!("index.html"))),
        "dashboard.js" => Some(http::file("text/javascript; charset=utf-8", include_str!("dashboard.js"))),
        "server.js" => Some(http::file("text/javascript; charset=utf-8", include_str!("server.js"))),
        "dashboard.css" => Some(http::file("text/css; charset=utf-8", include_str!("dashboard.css"))),
        _ => http::shared_file(name),
    }
}
