//! Bodies of requests.
//!
//! Invariant: no more than its route allows is held of a body, for no longer than `ADMIN_BODY_TIME_MAX`; a length that
//! is too large is refused before anything is read.

use std::pin::Pin;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use serde::de::DeserializeOwned;
use warp::http::StatusCode;

use super::refusal::Refusal;
use crate::limits::{ADMIN_BODY_TIME_MAX, ADMIN_JSON_BYTES_MAX};

/// A body that nobody has read.
pub(super) struct Body {
    /// What the header `Content-Length` says.
    pub(super) length: Option<u64>,
    pub(super) chunks: Pin<Box<dyn Stream<Item = Result<Bytes, warp::Error>> + Send>>,
}

impl Body {
    pub(super) fn new<Chunk: Buf>(
        length: Option<u64>,
        chunks: impl Stream<Item = Result<Chunk, warp::Error>> + Send + 'static,
    ) -> Self {
        let chunks = chunks.map(|chunk| chunk.map(|mut chunk| chunk.copy_to_bytes(chunk.remaining())));
        Self { length, chunks: Box::pin(chunks) }
    }

    /// The whole body. `too_large` says what to do about one that is.
    ///
    /// # Errors
    /// If it is larger, cut, or too slow.
    pub(super) async fn read(mut self, bytes_max: usize, too_large: &str) -> Result<Bytes, Refusal> {
        let refused = || Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", too_large);
        if self.length.is_some_and(|length| length > bytes_max as u64) {
            return Err(refused());
        }
        let all = async {
            let mut all = BytesMut::new();
            while let Some(chunk) = self.chunks.next().await {
                let chunk = chunk.map_err(|error| Refusal::invalid(format!("the body is cut: {error}")))?;
                if all.len() + chunk.len() > bytes_max {
                    return Err(refused());
                }
                all.extend_from_slice(&chunk);
            }
            Ok(all.freeze())
        };
        tokio::time::timeout(ADMIN_BODY_TIME_MAX, all).await.unwrap_or_else(|_| {
            let message = format!("the body took longer than {} s", ADMIN_BODY_TIME_MAX.as_secs());
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "too_slow", message))
        })
    }

    /// A body of JSON; an empty one is `{}`.
    ///
    /// # Errors
    /// If it is too large, or does not have the shape.
    pub(super) async fn json<T: DeserializeOwned>(self) -> Result<T, Refusal> {
        let too_large = format!("the body has more than {ADMIN_JSON_BYTES_MAX} bytes");
        let body = self.read(ADMIN_JSON_BYTES_MAX, &too_large).await?;
        let text = if body.is_empty() { &b"{}"[..] } else { &body };
        serde_json::from_slice(text).map_err(|error| Refusal::invalid(format!("the body is wrong: {error}")))
    }
}
