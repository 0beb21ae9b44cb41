//! Bodies of requests, read as the admin listener reads them.
//!
//! Invariant: no more than its route allows is held of a body, for no longer than `ADMIN_BODY_TIME_MAX`.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use warp::http::StatusCode;

use super::refusal::Refusal;
use crate::http::{self, BodyError};
use crate::limits::{ADMIN_BODY_TIME_MAX, ADMIN_JSON_BYTES_MAX};

/// A body that nobody has read.
pub(super) struct Body(pub(super) http::Body);

impl Body {
    /// The whole body. `too_large` says what to do about one that is.
    ///
    /// # Errors
    /// If it is larger, cut, or too slow.
    pub(super) async fn read(self, bytes_max: usize, too_large: &str) -> Result<Bytes, Refusal> {
        self.0.read(bytes_max, ADMIN_BODY_TIME_MAX).await.map_err(|error| match error {
            BodyError::TooLarge => Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", too_large),
            BodyError::TooSlow => {
                let message = format!("the body took longer than {} s", ADMIN_BODY_TIME_MAX.as_secs());
                Refusal::new(StatusCode::REQUEST_TIMEOUT, "too_slow", message)
            }
            BodyError::Cut(error) => Refusal::invalid(format!("the body is cut: {error}")),
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
