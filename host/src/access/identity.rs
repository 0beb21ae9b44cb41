//! Who asks: as whom, and from where.
//!
//! In: verified claims. Out: what the rooms after this one go by.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::key::KeyMark;
use super::pattern::Claims;
use super::token::Verified;

/// Somebody that a token speaks for, or nobody known. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Identity(Option<Arc<Known>>);

struct Known {
    subject: Option<Box<str>>,
    /// The claims as JSON: what the gate is told, and smaller than a map while a stream is idle.
    claims: Box<str>,
    until: SystemTime,
    key: KeyMark,
}

impl std::fmt::Debug for Known {
    /// Without the claims: they are of a person.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("until", &self.until).finish_non_exhaustive()
    }
}

impl Identity {
    /// Nobody known.
    #[must_use]
    pub fn anonymous() -> Self {
        Self(None)
    }

    pub(super) fn of(verified: Verified) -> Self {
        let Verified { subject, claims, until, key } = verified;
        let claims = serde_json::Value::Object(claims).to_string().into();
        Self(Some(Arc::new(Known { subject, claims, until, key })))
    }

    /// Whether a token speaks for them.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.0.is_some()
    }

    /// The token's `sub`.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.0.as_ref()?.subject.as_deref()
    }

    /// The claims as a JSON object, `{}` for nobody known.
    #[must_use]
    pub fn claims(&self) -> &str {
        self.0.as_ref().map_or("{}", |known| &known.claims)
    }

    /// When the token is too old, the leeway included.
    #[must_use]
    pub fn until(&self) -> Option<SystemTime> {
        self.0.as_ref().map(|known| known.until)
    }

    /// The claims, to be looked at.
    pub(super) fn read_claims(&self) -> Claims {
        // It was written by `of`; the default is for nobody known.
        self.0.as_ref().and_then(|known| serde_json::from_str(&known.claims).ok()).unwrap_or_default()
    }

    pub(super) fn key(&self) -> Option<KeyMark> {
        self.0.as_ref().map(|known| known.key)
    }

    /// What it takes.
    pub(super) fn bytes(&self) -> usize {
        self.claims().len() + self.subject().map_or(0, str::len) + size_of::<Known>()
    }

    #[cfg(test)]
    pub(super) fn of_test(subject: &str) -> Self {
        let key = super::key::Key::secret(&[7; 32], None).expect("it is long enough").marked();
        let mut claims = Claims::new();
        claims.insert("sub".into(), subject.into());
        let until = SystemTime::now() + std::time::Duration::from_secs(3_600);
        Self::of(Verified { subject: Some(subject.into()), claims, until, key })
    }
}

/// Somebody on a connection.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// As whom.
    pub identity: Identity,
    /// From where.
    pub address: IpAddr,
}
