//! What the configuration says about who may listen.
//!
//! In: plain texts and paths. Out: an [`Access`], or what is wrong with which key; and what is open to whom, for people.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::doubts::Common;
use super::edges::{Edges, Graph};
use super::fetch::Fetcher;
use super::guard::Guard;
use super::key::{Key, Secrets, read_set};
use super::keyring::{Keyring, Source};
use super::origin::Origins;
use super::pattern::{Pattern, refuse_ambiguous};
use super::ticket::Tickets;
use super::token::Rules;
use super::{Access, Inner};
use crate::limits::{PATTERNS_COUNT_MAX, TOKEN_KEYS_BYTES_MAX, TOKEN_LEEWAY_MAX};
use crate::telemetry::Metrics;

/// As the configuration says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Patterns of channels that anybody may listen to.
    pub anonymous: Vec<String>,
    /// Patterns of channels that one with a token may, in which claims have their places.
    pub channels: Vec<String>,
    /// The claim that lists channels.
    pub channels_claim: Option<String>,
    /// The secret of HS256.
    pub secret: Option<String>,
    /// A PEM file of public keys.
    pub public_key_file: Option<PathBuf>,
    /// A JWKS file.
    pub jwks_file: Option<PathBuf>,
    /// The address of a JWKS.
    pub jwks_url: Option<String>,
    /// Who makes tokens.
    pub issuer: Option<String>,
    /// For whom.
    pub audience: Option<String>,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// The cookie that holds a token.
    pub cookie: Option<String>,
    /// Origins whose pages may read.
    pub origins: Vec<String>,
}

/// A key of the configuration that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("gateway.access.{key}: {message}")]
pub struct SettingsError {
    /// Its last part.
    pub key: &'static str,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

fn at_fault(key: &'static str) -> impl Fn(String) -> SettingsError {
    move |message| SettingsError { key, message }
}

impl Access {
    /// Makes what decides. Files of keys are read; an address is later, by [`Access::run`] or the first token.
    ///
    /// # Errors
    /// If a key makes no sense, or a file cannot be read.
    pub fn new(
        settings: Settings,
        graph: Arc<dyn Graph>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, SettingsError> {
        let anonymous = patterns("anonymous", &settings.anonymous)?;
        if let Some(pattern) = anonymous.iter().find(|pattern| pattern.has_claims()) {
            let message =
                format!("the pattern `{}` has a claim, which nobody without a token has", pattern.as_str());
            return Err(at_fault("anonymous")(message));
        }
        let channels = patterns("channels", &settings.channels)?;
        refuse_ambiguous(anonymous.iter().chain(&channels)).map_err(at_fault("channels"))?;
        if settings.leeway > TOKEN_LEEWAY_MAX {
            return Err(at_fault("leeway")(format!("is above {}s", TOKEN_LEEWAY_MAX.as_secs())));
        }
        let doubts = Common::new();
        let keys = keyring(&settings, doubts.clone())?;
        let needs_keys = [
            ("channels", !channels.is_empty()),
            ("channels_claim", settings.channels_claim.is_some()),
            ("cookie", settings.cookie.is_some()),
            ("issuer", settings.issuer.is_some()),
            ("audience", settings.audience.is_some()),
        ];
        if let Some((key, _)) = needs_keys.into_iter().find(|(_, is_set)| *is_set && keys.is_empty()) {
            let message = "counts for tokens, and no key verifies them: set `secret_file`, `public_key_file`, \
                           `jwks_file` or `jwks_url`";
            return Err(at_fault(key)(message.into()));
        }
        let origins =
            Origins::new(&settings.origins, settings.cookie.is_some()).map_err(at_fault("origins"))?;
        let Settings { issuer, audience, leeway, channels_claim, cookie, .. } = settings;
        let rules = Rules { issuer, audience, leeway, channels_claim };
        let (tickets, guard) = (Tickets::default(), Guard::new(graph));
        let edges = Edges::default();
        let inner = Inner {
            anonymous,
            channels,
            cookie,
            origins,
            rules,
            keys,
            tickets,
            guard,
            doubts,
            edges,
            metrics,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// What is open to whom, in a sentence.
    #[must_use]
    pub fn summary(&self) -> String {
        let Inner { anonymous, channels, rules, keys, .. } = &*self.0;
        let list = |patterns: &[Pattern]| patterns.iter().map(Pattern::as_str).collect::<Vec<_>>().join(", ");
        let without = match anonymous.as_slice() {
            [] => "without a token nothing".to_owned(),
            all if all.iter().any(Pattern::is_every) => "everybody may listen to every channel".to_owned(),
            some => format!("everybody may listen to {}", list(some)),
        };
        let with = match (keys.is_empty(), channels.as_slice(), &rules.channels_claim) {
            (true, ..) => "nobody can have a token".to_owned(),
            (false, [], None) => "with a token nothing more".to_owned(),
            (false, [], Some(claim)) => format!("with a token what its `{claim}` lists"),
            (false, some, None) => format!("with a token {}", list(some)),
            (false, some, Some(claim)) => format!("with a token {} and what its `{claim}` lists", list(some)),
        };
        format!("{without}; {with}; about the rest the gate decides, if a plugin is one")
    }

    /// Whether only a gate could let anybody in.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        let Inner { anonymous, channels, rules, .. } = &*self.0;
        anonymous.is_empty() && channels.is_empty() && rules.channels_claim.is_none()
    }
}

fn patterns(key: &'static str, texts: &[String]) -> Result<Vec<Pattern>, SettingsError> {
    if texts.len() > PATTERNS_COUNT_MAX {
        let message = format!("has {} patterns, at most {PATTERNS_COUNT_MAX} are allowed", texts.len());
        return Err(at_fault(key)(message));
    }
    texts.iter().map(|text| Pattern::parse(text).map_err(at_fault(key))).collect()
}

fn keyring(settings: &Settings, doubts: Common) -> Result<Keyring, SettingsError> {
    let mut fixed = Vec::new();
    if let Some(secret) = &settings.secret {
        fixed.push(Key::secret(secret.as_bytes(), None).map_err(at_fault("secret_file"))?);
    }
    if let Some(path) = &settings.public_key_file {
        let wrong = |message: String| at_fault("public_key_file")(format!("{}: {message}", path.display()));
        let text = read(path).and_then(|text| String::from_utf8(text).map_err(|_| "it is no text".into()));
        fixed.extend(text.and_then(|text| Key::of_pem(&text)).map_err(wrong)?);
    }
    let source = match (&settings.jwks_file, &settings.jwks_url) {
        (Some(_), Some(_)) => return Err(at_fault("jwks_url")("stands beside `jwks_file`: keep one".into())),
        (Some(path), None) => {
            // Read again at once by who runs; here to say early what is wrong.
            let wrong = |message: String| at_fault("jwks_file")(format!("{}: {message}", path.display()));
            read(path).and_then(|text| read_set(&text, Secrets::Taken)).map_err(wrong)?;
            Some(Source::File(path.clone()))
        }
        (None, Some(url)) => {
            Some(Source::Address(Box::new(Fetcher::new(url).map_err(at_fault("jwks_url"))?)))
        }
        (None, None) => None,
    };
    Ok(Keyring::new(fixed, source, doubts))
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, String> {
    let length = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > TOKEN_KEYS_BYTES_MAX as u64 {
        return Err(format!("it has {length} bytes, at most {TOKEN_KEYS_BYTES_MAX} are read"));
    }
    std::fs::read(path).map_err(|error| error.to_string())
}
