//! Why somebody may not, or may no longer.
//!
//! In: what was found. Out: a name that is counted, and a sentence for the client.
//!
//! Invariant: no text holds a part of a token, a ticket or a cookie.
//!
//! To add a kind: a variant here, in [`Refusal::name`], and a code in `gateway/codes.rs`.

use crate::limits::{TOKEN_BYTES_MAX, TOKEN_CHANNELS_COUNT_MAX};

/// Why somebody may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody may without saying who it is.
    #[error(
        "say who you are: send a token as `Authorization: Bearer TOKEN`, or a ticket of POST /v1/tickets"
    )]
    Unauthenticated,
    /// The token does not count.
    #[error(transparent)]
    Token(#[from] Flaw),
    /// The ticket does not.
    #[error(
        "the ticket is unknown, used already or too old: each opens one stream; get another by POST /v1/tickets"
    )]
    Ticket,
    /// It is not clear as whom the request comes.
    #[error(
        "the request says twice who it is: send one `Authorization`, one cookie of that name, or one ticket"
    )]
    Twice,
    /// A token in a URL ends in logs and histories.
    #[error(
        "a token never belongs into a URL: send it as `Authorization: Bearer TOKEN`, or get a ticket by POST /v1/tickets"
    )]
    TokenInUrl,
    /// The page that asks is of another origin.
    #[error("pages of this origin may not do this: `gateway.access.origins` lists those that may")]
    Origin,
    /// This one may not.
    #[error("{0}")]
    Forbidden(String),
    /// What is asked for makes no sense to the gate.
    #[error("{0}")]
    Invalid(String),
    /// Keys cannot be had at the moment.
    #[error("the keys that verify tokens cannot be read at the moment")]
    KeysUnavailable,
    /// As many tickets as may be are out.
    #[error("too many tickets are unused: use them, or wait until they are too old")]
    TicketsFull,
    /// The gate did not answer in time.
    #[error("this cannot be decided at the moment: the gate is busy")]
    GateBusy,
}

/// What is wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It is too large.
    #[error("the token has more than {TOKEN_BYTES_MAX} bytes")]
    TooLarge,
    /// It is no signed JWT.
    #[error(
        "the token is no JWT: it is three parts of base64url with dots between, the first two of them JSON"
    )]
    Malformed,
    /// Another algorithm than any key is for.
    #[error(
        "the token's algorithm is not that of a key that is set: HS256, RS256, ES256 and EdDSA are there, `none` never"
    )]
    Algorithm,
    /// Its header demands what is not understood.
    #[error("the token has a critical header (`crit`), of which none is understood here")]
    Critical,
    /// Nobody knows its key.
    #[error("the token names a key (`kid`) that is not known, or no longer")]
    Key,
    /// It was not made with the key.
    #[error("the token's signature is wrong")]
    Signature,
    /// It is too old.
    #[error("the token has expired: come back with a new one")]
    Expired,
    /// It is not valid yet.
    #[error("the token is not valid yet (`nbf`)")]
    Early,
    /// It is for somebody else.
    #[error("the token is for another audience (`aud`)")]
    Audience,
    /// It is of somebody else.
    #[error("the token is of another issuer (`iss`)")]
    Issuer,
    /// It says something twice, or in the wrong form.
    #[error(
        "the token's claims have the wrong form: `exp` is a number and has to be there, `nbf` is a number, `sub` a \
         text of at most 255 bytes, no claim stands twice, and at most {TOKEN_CHANNELS_COUNT_MAX} channels are listed"
    )]
    Claims,
}

impl Refusal {
    /// What it is called where refusals are counted.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Token(Flaw::TooLarge) => "token-too-large",
            Self::Token(Flaw::Malformed) => "token-malformed",
            Self::Token(Flaw::Algorithm) => "token-algorithm",
            Self::Token(Flaw::Critical) => "token-critical",
            Self::Token(Flaw::Key) => "token-key",
            Self::Token(Flaw::Signature) => "token-signature",
            Self::Token(Flaw::Expired) => "token-expired",
            Self::Token(Flaw::Early) => "token-early",
            Self::Token(Flaw::Audience) => "token-audience",
            Self::Token(Flaw::Issuer) => "token-issuer",
            Self::Token(Flaw::Claims) => "token-claims",
            Self::Ticket => "ticket",
            Self::Twice => "twice",
            Self::TokenInUrl => "token-in-url",
            Self::Origin => "origin",
            Self::Forbidden(_) => "forbidden",
            Self::Invalid(_) => "invalid",
            Self::KeysUnavailable => "keys-unavailable",
            Self::TicketsFull => "tickets-full",
            Self::GateBusy => "gate-busy",
        }
    }
}
