//! Connections and requests, written down for a test, and what a host checks about a gate's answer.
//!
//! Unless it is said otherwise a connection comes from 127.0.0.1, and a request is a subscription to a channel that the
//! subject does not follow, with no further facts.

use crate::{Connection, Refusal, Request};

impl Connection {
    /// Of somebody unknown.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { subject: None, claims: "{}".to_owned(), address: "127.0.0.1".to_owned() }
    }

    /// Of somebody known, whose claims say no more than that: `{"sub":SUBJECT}`.
    #[must_use]
    pub fn of(subject: &str) -> Self {
        let claims = super::json::object(&super::sample::owned(crate::row! { "sub" => subject }));
        Self { subject: Some(subject.to_owned()), claims, ..Self::anonymous() }
    }

    /// These claims instead, a JSON object.
    #[must_use]
    pub fn claims(mut self, claims: impl Into<String>) -> Self {
        self.claims = claims.into();
        self
    }

    /// Where it comes from.
    #[must_use]
    pub fn address(mut self, address: &str) -> Self {
        self.address = address.to_owned();
        self
    }
}

impl Request {
    /// For one channel.
    #[must_use]
    pub fn channel(channel: &str) -> Self {
        let (event, facts) = (String::new(), Vec::new());
        Self { channel: channel.to_owned(), prefix: false, event, follows: false, facts }
    }

    /// For all channels that begin so.
    #[must_use]
    pub fn prefix(prefix: &str) -> Self {
        Self { prefix: true, ..Self::channel(prefix) }
    }

    /// With a message of this event.
    #[must_use]
    pub fn event(mut self, event: &str) -> Self {
        self.event = event.to_owned();
        self
    }

    /// The subject follows the channel.
    #[must_use]
    pub fn follows(mut self) -> Self {
        self.follows = true;
        self
    }

    /// The host knows this too.
    #[must_use]
    pub fn fact(mut self, name: &str, value: &str) -> Self {
        self.facts.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// The answer as it is, or why a host would refuse it.
pub(super) fn check<T>(answer: Result<T, Refusal>) -> Result<Result<T, Refusal>, String> {
    if let Err(Refusal::Forbidden(reason) | Refusal::Invalid(reason)) = &answer {
        if reason.is_empty() {
            return Err("it refuses without a reason".to_owned());
        }
        if reason.chars().any(char::is_control) {
            return Err("its reason has a control character".to_owned());
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_without_a_reason_or_with_a_line_break_is_refused_itself() {
        let refused = |refusal| check::<()>(Err(refusal)).unwrap_err();
        assert_eq!(refused(Refusal::Forbidden(String::new())), "it refuses without a reason");
        assert_eq!(refused(Refusal::Invalid("a\nb".to_owned())), "its reason has a control character");
        assert!(check::<()>(Err(Refusal::Unauthenticated)).is_ok());
    }

    #[test]
    fn the_claims_of_somebody_known_are_json_whatever_the_name() {
        assert_eq!(Connection::of("a\"b\n").claims, "{\"sub\":\"a\\\"b\\u000a\"}");
    }
}
