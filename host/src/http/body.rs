//! Bodies of requests.
//!
//! In: a body as it comes. Out: all of it, or why not.
//!
//! Invariant: no more than the caller allows is held of a body, for no longer than it allows; a length that is too large
//! is refused before anything is read.

use std::pin::Pin;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use hyper::HeaderMap;
use hyper::header::CONTENT_LENGTH;

/// A body that nobody has read.
pub(crate) struct Body {
    /// What the header `Content-Length` says.
    length: Option<u64>,
    chunks: Pin<Box<dyn Stream<Item = Result<Bytes, warp::Error>> + Send>>,
}

/// Why there is no body.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// It is larger than it may be.
    TooLarge,
    /// It took longer than it may.
    TooSlow,
    /// The client broke it off.
    Cut(warp::Error),
}

impl Body {
    /// The body of a request with these headers.
    pub(crate) fn new<Chunk: Buf>(
        headers: &HeaderMap,
        chunks: impl Stream<Item = Result<Chunk, warp::Error>> + Send + 'static,
    ) -> Self {
        let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let chunks = chunks.map(|chunk| chunk.map(|mut chunk| chunk.copy_to_bytes(chunk.remaining())));
        Self { length, chunks: Box::pin(chunks) }
    }

    /// The whole body.
    ///
    /// # Errors
    /// If it is larger, cut, or too slow.
    pub(crate) async fn read(mut self, bytes_max: usize, time_max: Duration) -> Result<Bytes, BodyError> {
        if self.length.is_some_and(|length| length > bytes_max as u64) {
            return Err(BodyError::TooLarge);
        }
        let all = async {
            let mut all = BytesMut::new();
            while let Some(chunk) = self.chunks.next().await {
                let chunk = chunk.map_err(BodyError::Cut)?;
                if all.len() + chunk.len() > bytes_max {
                    return Err(BodyError::TooLarge);
                }
                all.extend_from_slice(&chunk);
            }
            Ok(all.freeze())
        };
        tokio::time::timeout(time_max, all).await.unwrap_or(Err(BodyError::TooSlow))
    }
}
