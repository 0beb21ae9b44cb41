//! A token: a JWT (RFC 7519) as a compact JWS (RFC 7515, section 7.1), read strictly.
//!
//! In: its text, keys, what it must say, the time. Out: its claims, or what is wrong with it.
//!
//! Invariants:
//! - nothing of a token is believed before its signature was verified, but the name of its key;
//! - the algorithm is that of the key. The token has to name the same, and can choose no other;
//! - what is there twice, or in another form than the RFC says, is refused, never interpreted.
//!
//! Absent on purpose: encrypted tokens, keys within tokens (`jwk`, `jku`, `x5c`, `x5u` are not looked at), and any
//! critical header. A library for JWT leaves these checks to its caller; what it would bring beside them is
//! `ring`, which is used as it is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;

use super::key::{Algorithm, KeyMark};
use super::keyring::Keyring;
use super::pattern::Claims;
use super::refusal::{Flaw, Refusal};
use crate::limits::{ID_BYTES_MAX, TOKEN_BYTES_MAX, TOKEN_CHANNELS_COUNT_MAX};

/// What a token must say.
#[derive(Debug, Clone, Default)]
pub(super) struct Rules {
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
    /// How far clocks may differ.
    pub(super) leeway: Duration,
    /// The claim that lists channels.
    pub(super) channels_claim: Option<String>,
}

/// What a token says, verified.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) subject: Option<Box<str>>,
    pub(super) claims: Claims,
    /// When it is too old, the leeway included.
    pub(super) until: SystemTime,
    pub(super) key: KeyMark,
}

/// Reads a token.
///
/// # Errors
/// What is wrong with it; or that no keys can be had.
pub(super) async fn verify(
    text: &str,
    keys: &Keyring,
    rules: &Rules,
    now: SystemTime,
) -> Result<Verified, Refusal> {
    if text.len() > TOKEN_BYTES_MAX {
        return Err(Flaw::TooLarge.into());
    }
    let (signed, signature) = text.rsplit_once('.').ok_or(Flaw::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(Flaw::Malformed)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Flaw::Malformed);
    let (header, payload, signature) = (decode(header)?, decode(payload)?, decode(signature)?);
    let Strict(header) = serde_json::from_slice(&header).map_err(|_| Flaw::Malformed)?;
    let text_of =
        |name: &str| header.get(name).map(|value| value.as_str().ok_or(Flaw::Malformed)).transpose();
    let algorithm = text_of("alg")?.ok_or(Flaw::Malformed)?;
    let algorithm = Algorithm::named(algorithm).ok_or(Flaw::Algorithm)?;
    if header.contains_key("crit") {
        return Err(Flaw::Critical.into());
    }
    let candidates = keys.find(text_of("kid")?, algorithm).await?;
    let key = candidates.iter().find(|key| key.verifies(signed.as_bytes(), &signature));
    let key = key.ok_or(Flaw::Signature)?.marked();
    Ok(check(&payload, key, rules, now)?)
}

/// What remains once the signature is right.
fn check(payload: &[u8], key: KeyMark, rules: &Rules, now: SystemTime) -> Result<Verified, Flaw> {
    // Not a text of its own error: it would repeat what a token holds.
    let Strict(claims) = serde_json::from_slice(payload)
        .map_err(|error| if error.is_data() { Flaw::Claims } else { Flaw::Malformed })?;
    let until =
        time(claims.get("exp").ok_or(Flaw::Claims)?)?.checked_add(rules.leeway).ok_or(Flaw::Claims)?;
    if now >= until {
        return Err(Flaw::Expired);
    }
    if let Some(begin) = claims.get("nbf").map(time).transpose()?
        && now + rules.leeway < begin
    {
        return Err(Flaw::Early);
    }
    check_audience(claims.get("aud"), rules.audience.as_deref())?;
    if let Some(issuer) = &rules.issuer
        && claims.get("iss").and_then(Value::as_str) != Some(issuer)
    {
        return Err(Flaw::Issuer);
    }
    let subject = match claims.get("sub") {
        None => None,
        Some(Value::String(text)) if (1..=ID_BYTES_MAX).contains(&text.len()) => Some(text.as_str().into()),
        Some(_) => return Err(Flaw::Claims),
    };
    if let Some(listed) = rules.channels_claim.as_ref().and_then(|name| claims.get(name)) {
        let listed = listed.as_array().ok_or(Flaw::Claims)?;
        if listed.len() > TOKEN_CHANNELS_COUNT_MAX || !listed.iter().all(Value::is_string) {
            return Err(Flaw::Claims);
        }
    }
    Ok(Verified { subject, claims, until, key })
}

/// One that is not meant is to refuse a token that names an audience (RFC 7519, section 4.1.3).
fn check_audience(said: Option<&Value>, wanted: Option<&str>) -> Result<(), Flaw> {
    let is_meant = match (said, wanted) {
        (None, None) => true,
        (Some(Value::String(said)), Some(wanted)) => said == wanted,
        (Some(Value::Array(said)), Some(wanted)) => said.iter().any(|one| one.as_str() == Some(wanted)),
        _ => false,
    };
    if is_meant { Ok(()) } else { Err(Flaw::Audience) }
}

/// A NumericDate (RFC 7519, section 2): seconds, also fractions of them.
fn time(value: &Value) -> Result<SystemTime, Flaw> {
    let seconds =
        value.as_f64().filter(|seconds| seconds.is_finite() && *seconds >= 0.0).ok_or(Flaw::Claims)?;
    let since = Duration::try_from_secs_f64(seconds).map_err(|_| Flaw::Claims)?;
    UNIX_EPOCH.checked_add(since).ok_or(Flaw::Claims)
}

/// An object in which no name stands twice (RFC 7515 and 7519, both in section 4, let a reader refuse others).
struct Strict(Claims);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Strict;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Strict, A::Error> {
                let mut claims = Claims::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if claims.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name stands twice"));
                    }
                }
                Ok(Strict(claims))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}
