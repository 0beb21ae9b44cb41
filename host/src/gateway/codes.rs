//! What a client may be told when it does not get what it asked for: a number, a reason, whether to come back.
//!
//! In: a code and a sentence. Out: a JSON answer.
//!
//! Numbers are the same on every transport, within the range that WebSocket leaves to applications: 40xx, do not
//! come back with the same request; 41xx, come back later; 42xx, come back at once. A number never changes meaning.
//!
//! To add a code: a variant, a line in each function, a line in `docs/protocol.md`.

use std::time::Duration;

use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::{Reply, Response};

use super::hub::SubscribeError;
use super::resume::ResumeError;
use crate::access;
use crate::intake::IntakeError;

/// When to come back, where nobody knows better.
const RETRY_DELAY: Duration = Duration::from_secs(2);

/// Why a client is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    NotFound,
    MethodNotAllowed,
    QueryInvalid,
    ChannelMissing,
    ChannelInvalid,
    ChannelsTooMany,
    ResumeIdInvalid,
    UpgradeRequired,
    CommandInvalid,
    AlreadySubscribed,
    NotSubscribed,
    TimelinesTooMany,
    MessageTooLarge,
    MessageInvalid,
    Unauthenticated,
    TokenInvalid,
    TokenExpired,
    TicketInvalid,
    ChannelForbidden,
    OriginForbidden,
    CredentialInvalid,
    GateInvalid,
    Overloaded,
    HistoryUnavailable,
    Silent,
    LogUnavailable,
    KeysUnavailable,
    TicketsTooMany,
    MessagesTooMany,
    ConnectionsTooMany,
    StreamsTooMany,
    RequestsTooMany,
    ShuttingDown,
}

/// Whether the same request may succeed another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reconnect {
    Never,
    Later,
    Now,
}

impl Code {
    /// The number that clients see.
    pub(super) fn number(self) -> u16 {
        match self {
            Self::NotFound => 4000,
            Self::MethodNotAllowed => 4001,
            Self::QueryInvalid => 4002,
            Self::ChannelMissing => 4003,
            Self::ChannelInvalid => 4004,
            Self::ChannelsTooMany => 4005,
            Self::ResumeIdInvalid => 4006,
            Self::UpgradeRequired => 4007,
            Self::CommandInvalid => 4008,
            Self::AlreadySubscribed => 4009,
            Self::NotSubscribed => 4010,
            // 4011 was `not_yet`: clients could not send messages.
            Self::TimelinesTooMany => 4012,
            Self::MessageTooLarge => 4013,
            Self::MessageInvalid => 4014,
            Self::Unauthenticated => 4020,
            Self::TokenInvalid => 4021,
            Self::TokenExpired => 4022,
            Self::TicketInvalid => 4023,
            Self::ChannelForbidden => 4024,
            Self::OriginForbidden => 4025,
            Self::CredentialInvalid => 4026,
            Self::GateInvalid => 4027,
            Self::Overloaded => 4100,
            Self::HistoryUnavailable => 4101,
            Self::Silent => 4102,
            Self::LogUnavailable => 4103,
            Self::KeysUnavailable => 4120,
            Self::TicketsTooMany => 4121,
            Self::MessagesTooMany => 4122,
            Self::ConnectionsTooMany => 4130,
            Self::StreamsTooMany => 4131,
            Self::RequestsTooMany => 4132,
            Self::ShuttingDown => 4200,
        }
    }

    /// The name that clients see.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::QueryInvalid => "query_invalid",
            Self::ChannelMissing => "channel_missing",
            Self::ChannelInvalid => "channel_invalid",
            Self::ChannelsTooMany => "channels_too_many",
            Self::ResumeIdInvalid => "resume_id_invalid",
            Self::UpgradeRequired => "upgrade_required",
            Self::CommandInvalid => "command_invalid",
            Self::AlreadySubscribed => "already_subscribed",
            Self::NotSubscribed => "not_subscribed",
            Self::TimelinesTooMany => "timelines_too_many",
            Self::MessageTooLarge => "message_too_large",
            Self::MessageInvalid => "message_invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::TokenInvalid => "token_invalid",
            Self::TokenExpired => "token_expired",
            Self::TicketInvalid => "ticket_invalid",
            Self::ChannelForbidden => "channel_forbidden",
            Self::OriginForbidden => "origin_forbidden",
            Self::CredentialInvalid => "credential_invalid",
            Self::GateInvalid => "gate_invalid",
            Self::Overloaded => "overloaded",
            Self::HistoryUnavailable => "history_unavailable",
            Self::Silent => "silent",
            Self::LogUnavailable => "log_unavailable",
            Self::KeysUnavailable => "keys_unavailable",
            Self::TicketsTooMany => "tickets_too_many",
            Self::MessagesTooMany => "messages_too_many",
            Self::ConnectionsTooMany => "connections_too_many",
            Self::StreamsTooMany => "streams_too_many",
            Self::RequestsTooMany => "requests_too_many",
            Self::ShuttingDown => "shutting_down",
        }
    }

    /// By the number's class, so that a client can do without the list.
    pub(super) fn reconnect(self) -> Reconnect {
        match self.number() {
            4000..4100 => Reconnect::Never,
            4100..4200 => Reconnect::Later,
            _ => Reconnect::Now,
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unauthenticated | Self::TokenInvalid | Self::TokenExpired | Self::TicketInvalid => {
                StatusCode::UNAUTHORIZED
            }
            Self::ChannelForbidden | Self::OriginForbidden => StatusCode::FORBIDDEN,
            Self::TicketsTooMany
            | Self::MessagesTooMany
            | Self::ConnectionsTooMany
            | Self::StreamsTooMany
            | Self::RequestsTooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::MessageTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UpgradeRequired => StatusCode::UPGRADE_REQUIRED,
            _ if self.reconnect() == Reconnect::Never => StatusCode::BAD_REQUEST,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// A refusal with the sentence that explains it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) message: String,
    /// How long to wait, where that is known.
    pub(super) delay: Option<Duration>,
}

impl Refusal {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), delay: None }
    }

    /// The same, with a time to wait before the next try.
    pub(super) fn after(self, delay: Duration) -> Self {
        Self { delay: Some(delay), ..self }
    }

    /// The end of the server, for a client that should come back so much later.
    pub(super) fn stopping(delay: Duration) -> Self {
        Self::new(Code::ShuttingDown, "the server is stopping").after(delay)
    }

    /// What is no resume id.
    pub(super) fn resume_id(error: ResumeError) -> Self {
        Self::new(Code::ResumeIdInvalid, error.to_string())
    }

    /// `{"code":…,"reason":…,"message":…,"reconnect":…}`, the same in every face, and `delay_ms` where it is known.
    pub(super) fn json(&self) -> serde_json::Value {
        let reconnect = match self.code.reconnect() {
            Reconnect::Never => "never",
            Reconnect::Later => "later",
            Reconnect::Now => "now",
        };
        let mut json = serde_json::json!({
            "code": self.code.number(),
            "reason": self.code.reason(),
            "message": self.message,
            "reconnect": reconnect,
        });
        if let Some(delay) = self.delay {
            json["delay_ms"] = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX).into();
        }
        json
    }

    /// `{"error":{…}}` under the code's status.
    pub(super) fn response(&self) -> Response {
        let body = serde_json::json!({"error": self.json()});
        let mut response =
            warp::reply::with_status(warp::reply::json(&body), self.code.status()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        let seconds = match (self.delay, self.code.reconnect()) {
            (Some(delay), _) => Some(delay.as_secs() + u64::from(delay.subsec_nanos() > 0)),
            (None, Reconnect::Never) => None,
            (None, Reconnect::Later) => Some(RETRY_DELAY.as_secs()),
            (None, Reconnect::Now) => Some(0),
        };
        if let Some(seconds) = seconds {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        // RFC 9110 demands both headers (sections 15.5.2 and 15.5.6); a route that takes another method says so itself.
        let challenge = match self.code {
            Code::Unauthenticated => Some("Bearer"),
            Code::TokenInvalid | Code::TokenExpired | Code::TicketInvalid => {
                Some("Bearer error=\"invalid_token\"")
            }
            _ => None,
        };
        if let Some(challenge) = challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if self.code == Code::UpgradeRequired {
            // Demanded by RFC 9110, section 15.5.22, and by RFC 6455, section 4.4.
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        if self.code == Code::MethodNotAllowed {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
        }
        response
    }
}

impl From<access::Refusal> for Refusal {
    fn from(refusal: access::Refusal) -> Self {
        use access::Refusal as Why;
        let code = match &refusal {
            Why::Unauthenticated => Code::Unauthenticated,
            Why::Token(access::Flaw::Expired) => Code::TokenExpired,
            Why::Token(_) => Code::TokenInvalid,
            Why::Ticket => Code::TicketInvalid,
            Why::Twice | Why::TokenInUrl => Code::CredentialInvalid,
            Why::Origin => Code::OriginForbidden,
            Why::Forbidden(_) => Code::ChannelForbidden,
            Why::Invalid(_) => Code::GateInvalid,
            Why::KeysUnavailable => Code::KeysUnavailable,
            Why::TicketsFull => Code::TicketsTooMany,
            Why::GateBusy => Code::Overloaded,
        };
        Self::new(code, refusal.to_string())
    }
}

impl From<IntakeError> for Refusal {
    fn from(error: IntakeError) -> Self {
        let (code, message) = match error {
            IntakeError::Busy => (Code::Overloaded, "too many messages wait to be kept: nothing was done"),
            IntakeError::Log(_) => {
                (Code::LogUnavailable, "messages cannot be kept at the moment: nothing was done")
            }
            IntakeError::Unknown => (
                Code::LogUnavailable,
                "nobody knows whether the message was kept: say it again, with the same id",
            ),
            IntakeError::Closed => (Code::ShuttingDown, "the server is stopping"),
        };
        Self::new(code, message)
    }
}

impl From<SubscribeError> for Refusal {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::Full => Self::new(Code::Overloaded, "the server has as many streams as it may"),
            SubscribeError::Closed(delay) => Self::stopping(delay),
        }
    }
}
