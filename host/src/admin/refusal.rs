//! What a client is told when it does not get what it asked for: a status, a code that programs read, a sentence.
//!
//! In: what went wrong in any room. Out: `{"error":{"code":…,"message":…}}`.
//!
//! Invariant: a code never changes its meaning; `docs/admin.md` lists them.

use std::error::Error;

use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::{Reply, Response};

use crate::deploy::{Blame, DeployError};
use crate::log::LogError;
use crate::policy::PluginError;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
    /// The methods that there are, where another one was asked for.
    allow: Option<&'static str>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), allow: None }
    }

    /// Nothing is at this address.
    pub(super) fn nowhere() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is nothing here: docs/admin.md has the routes")
    }

    /// Another method is meant. `allow`: those that there are.
    pub(super) fn method(allow: &'static str) -> Self {
        let message = format!("this address takes {allow}");
        Self {
            allow: Some(allow),
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
        }
    }

    /// Who asks has not shown the token.
    pub(super) fn unauthorized() -> Self {
        let message = "the header `Authorization: Bearer TOKEN` is missing or wrong: the token is in the file \
            admin-token of the data folder, or what admin.token says";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// A parameter, a header or the body makes no sense.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "request_invalid", message)
    }

    pub(super) fn response(&self) -> Response {
        let body = serde_json::json!({"error": {"code": self.code, "message": self.message}});
        let mut response = warp::reply::with_status(warp::reply::json(&body), self.status).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// What a connection is told that is one too many.
pub(super) fn overloaded() -> Response {
    let message = "the listener has as many connections as it may: try again later";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", message).response()
}

impl From<DeployError> for Refusal {
    fn from(error: DeployError) -> Self {
        let status = match (&error, error.blame()) {
            (DeployError::Plugin(PluginError::TooLarge(_)), _) => StatusCode::PAYLOAD_TOO_LARGE,
            (DeployError::Stopping, _) => StatusCode::SERVICE_UNAVAILABLE,
            (_, Blame::NotFound) => StatusCode::NOT_FOUND,
            (_, Blame::Conflict) => StatusCode::CONFLICT,
            (_, Blame::Invalid) => StatusCode::UNPROCESSABLE_ENTITY,
            (_, Blame::Server) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, code(&error), sentence(&error)).logged()
    }
}

impl From<LogError> for Refusal {
    fn from(error: LogError) -> Self {
        let message = sentence(&error);
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", message).logged()
    }
}

impl Refusal {
    /// What is the server's fault is for its log as well.
    pub(super) fn logged(self) -> Self {
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::warn!(error = self.message, "a request of the admin listener failed");
        }
        self
    }
}

fn code(error: &DeployError) -> &'static str {
    match error {
        DeployError::UnknownComponent(_) => "unknown_component",
        DeployError::UnknownPlugin(_) => "unknown_plugin",
        DeployError::UnknownGeneration { .. } => "unknown_generation",
        DeployError::NotActive(_) => "not_active",
        DeployError::Unchanged { .. } => "unchanged",
        DeployError::Name(_) => "name_invalid",
        DeployError::Grant { .. } => "grant_refused",
        DeployError::Plugin(PluginError::TooLarge(_)) => "too_large",
        DeployError::Plugin(_) | DeployError::Policy(_) if error.blame() == Blame::Invalid => {
            "plugin_refused"
        }
        DeployError::NoShadow(_) => "no_shadow",
        DeployError::TooManyShadows => "too_many_shadows",
        DeployError::NotPaused => "not_paused",
        DeployError::NothingToCheck => "nothing_to_check",
        DeployError::Stopping => "stopping",
        _ => match error.blame() {
            Blame::NotFound => "not_found",
            Blame::Conflict => "conflict",
            Blame::Invalid => "refused",
            Blame::Server => "failed",
        },
    }
}

/// An error and what it came from, in one line.
pub(super) fn sentence(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_message = inner.to_string();
        // Transparent errors repeat what they hold.
        if !message.ends_with(&inner_message) {
            message.push_str(": ");
            message.push_str(&inner_message);
        }
        source = inner.source();
    }
    message
}
