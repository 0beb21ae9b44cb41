//! The page: its files, and where it finds the timelines.

use warp::Filter;
use warp::reply::{Reply, Response, json, with_header};

const HTML: &str = include_str!("../page/index.html");
const SCRIPT: &str = include_str!("../page/page.js");
const STYLE: &str = include_str!("../page/page.css");
pub(crate) fn files(twohop: String) -> impl Filter<Extract = (Response,), Error = warp::Rejection> + Clone {
    let file = |text: &'static str, kind: &'static str| {
        with_header(text, "content-type", format!("{kind}; charset=utf-8")).into_response()
    };
    let html = warp::path::end().map(move || file(HTML, "text/html"));
    let script = warp::path!("page.js").map(move || file(SCRIPT, "text/javascript"));
    let style = warp::path!("page.css").map(move || file(STYLE, "text/css"));
    let place = warp::path!("twohop.json").map(move || json(&twohop).into_response());
    warp::get().and(html.or(script).unify().or(style).unify().or(place).unify())
}
