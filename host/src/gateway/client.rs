//! `GET /twohop.js` and `/twohop.d.ts`: the browser's client, part of the program, and its types.
//!
//! In: what the asker has of it already. Out: the file, or that it has not changed.
//!
//! Invariant: the files say nothing about this server, so everybody may have them. Pages of other origins may import
//! them where the list of origins has them, like everything else here.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};
use warp::http::{HeaderMap, HeaderValue, StatusCode, header};
use warp::reply::{Reply, Response};

struct File {
    kind: &'static str,
    text: &'static str,
    /// Names the text (RFC 9110, section 8.8.3).
    tag: String,
}

impl File {
    fn new(kind: &'static str, text: &'static str) -> Self {
        let digest = Sha256::digest(text);
        let tag = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Self { kind, text, tag: format!("\"{tag}\"") }
    }
}

static MODULE: LazyLock<File> =
    LazyLock::new(|| File::new("text/javascript; charset=utf-8", include_str!("../../assets/twohop.js")));
// No type is registered for TypeScript, and browsers take `.ts` for video.
static TYPES: LazyLock<File> =
    LazyLock::new(|| File::new("text/plain; charset=utf-8", include_str!("../../assets/twohop.d.ts")));

/// `/NAME`, if it is one of them; `asked` are the request's headers.
pub(super) fn file(name: &str, asked: &HeaderMap) -> Option<Response> {
    let file = match name {
        "twohop.js" => &MODULE,
        "twohop.d.ts" => &TYPES,
        _ => return None,
    };
    let mut response = if has(asked, &file.tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = file.text.into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(file.kind));
        response
    };
    let headers = response.headers_mut();
    headers.extend(HeaderValue::from_str(&file.tag).ok().map(|tag| (header::ETAG, tag)));
    // Asked for each time, so that the client is the server's: the answer then is that nothing has changed.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Some(response)
}

/// RFC 9110, section 13.1.2: tags are compared without regard to their weakness.
fn has(asked: &HeaderMap, tag: &str) -> bool {
    let lists = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = lists.flat_map(|list| list.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}
