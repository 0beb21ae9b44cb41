//! The public listener: how it speaks, and to whom; how many may come, who speaks for them, and what they may do.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::Secret;

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate's file.
    pub certificate_file: PathBuf,
    /// The key's.
    pub key_file: PathBuf,
}

/// What the file says about TLS.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTls {
    certificate_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

impl RawTls {
    /// Sees that it is whole; none if it says nothing.
    ///
    /// # Errors
    /// The key that is missing.
    pub(super) fn check(self, folder: &Path) -> Result<Option<Tls>, &'static str> {
        match (self.certificate_file, self.key_file) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => {
                Ok(Some(Tls { certificate_file: folder.join(certificate), key_file: folder.join(key) }))
            }
            (Some(_), None) => Err("key_file"),
            (None, Some(_)) => Err("certificate_file"),
        }
    }
}

/// How many may come. Where nothing is said, there is no limit but for `connections`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at once.
    pub connections: Option<NonZeroU32>,
    /// Of one address.
    pub connections_per_address: Option<NonZeroU32>,
    /// Streams of one address.
    pub streams_per_address: Option<NonZeroU32>,
    /// Streams of one subject.
    pub streams_per_subject: Option<NonZeroU32>,
    /// Requests of one address in a second.
    pub requests_per_second: Option<NonZeroU32>,
    /// At once, after a time of nothing.
    pub requests_burst: Option<NonZeroU32>,
}

/// Who is believed when it says whom it speaks for. The prefixes are texts here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Proxies {
    /// Where they are.
    pub trusted: Vec<String>,
    /// Where they write it.
    pub header: ProxyHeader,
}

/// A header that proxies write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded`.
    Forwarded,
}

/// The public listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Gateway {
    /// Its address.
    pub listen: SocketAddr,
    /// Its certificate, if it has one.
    pub tls: Option<Tls>,
    /// Between two signs of life on a quiet connection.
    pub heartbeat: Duration,
    /// From the order to stop until connections are cut.
    pub grace: Duration,
    /// How many may come.
    pub limits: Limits,
    /// Who speaks for them.
    pub proxies: Proxies,
    /// Who may listen to what.
    pub access: Access,
    /// How much clients may say.
    pub publish: Publish,
}

/// How much one client may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish {
    /// Messages a second.
    pub rate: u32,
    /// Messages at once.
    pub burst: u32,
}

/// Who may listen to what. The patterns are texts here.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Access {
    /// Channels for everybody.
    pub anonymous: Vec<String>,
    /// Channels by claims.
    pub channels: Vec<String>,
    /// The claim that lists channels.
    pub channels_claim: Option<String>,
    /// The secret of tokens.
    pub secret: Option<Secret>,
    /// A file of public keys.
    pub public_key_file: Option<PathBuf>,
    /// A file with a key set.
    pub jwks_file: Option<PathBuf>,
    /// The address of a key set.
    pub jwks_url: Option<String>,
    /// Who makes tokens.
    pub issuer: Option<String>,
    /// For whom.
    pub audience: Option<String>,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// The cookie that may hold a token.
    pub cookie: Option<String>,
    /// Origins whose pages may read.
    pub origins: Vec<String>,
}
