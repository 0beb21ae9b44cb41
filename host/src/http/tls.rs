//! TLS of a listener: its certificate, read again when the files change.
//!
//! In: two PEM files, a socket. Out: a connection that speaks HTTP/2 or HTTP/1.1, as its client prefers (ALPN).
//!
//! Invariants:
//! - another certificate counts for connections that come after it, and ends none;
//! - files that cannot be used change nothing: the certificate before them stays, and a log line says what is wrong.
//!
//! Absent on purpose: certificates of clients, several certificates by name, and keys with a passphrase.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::ListenError;
use crate::limits::{TLS_FILE_BYTES_MAX, TLS_LOOK_INTERVAL};

/// HTTP/2 first: many streams then share one connection.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where a listener's certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those between it and its authority, in PEM form.
    pub certificate: PathBuf,
    /// Its key, likewise.
    pub key: PathBuf,
    /// Between two looks at them.
    pub look_interval: Duration,
}

impl TlsFiles {
    /// Files that are looked at as often as `limits.rs` says.
    #[must_use]
    pub fn new(certificate: PathBuf, key: PathBuf) -> Self {
        Self { certificate, key, look_interval: TLS_LOOK_INTERVAL }
    }
}

/// See the head of this file.
pub(crate) struct Tls {
    files: TlsFiles,
    current: Arc<Current>,
    acceptor: TlsAcceptor,
    /// Of what the files held when they were read last, whether or not it could be used.
    seen: [u8; 32],
}

/// The certificate that counts.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// What the files hold.
struct Read {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// The file at fault, and why.
type Fault = (PathBuf, String);

impl Tls {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// If they cannot be used.
    pub(crate) async fn open(files: TlsFiles) -> Result<Self, ListenError> {
        let refused = |(path, why): Fault| ListenError::Tls { path, why };
        let read = files.read().await.map_err(refused)?;
        let (seen, certified) = (read.digest(), read.certified(&files).map_err(refused)?);
        let current = Arc::new(Current(RwLock::new(Arc::new(certified))));
        let of_rustls = |error: rustls::Error| refused((files.certificate.clone(), error.to_string()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(of_rustls)?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        // Who comes back after a cut shall cost little, and its session nothing meanwhile.
        config.ticketer = Ticketer::new().map_err(of_rustls)?;
        Ok(Self { current, acceptor: TlsAcceptor::from(Arc::new(config)), files, seen })
    }

    /// What shakes hands.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }

    /// Looks at the files from time to time, until `stop`.
    pub(super) async fn watch(mut self, stop: CancellationToken) {
        let mut looks = tokio::time::interval(self.files.look_interval);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut unreadable = None;
        while stop.run_until_cancelled(looks.tick()).await.is_some() {
            let fault = match self.files.read().await {
                Ok(read) if read.digest() == self.seen => None,
                Ok(read) => {
                    self.seen = read.digest();
                    self.take(&read).err()
                }
                // Told once, not at each look.
                Err(fault) if unreadable.as_ref() == Some(&fault) => continue,
                Err(fault) => {
                    unreadable = Some(fault.clone());
                    Some(fault)
                }
            };
            if let Some((path, why)) = fault {
                tracing::warn!(path = %path.display(), why, "the certificate stays as it is: another one cannot be used");
            }
        }
    }

    fn take(&self, read: &Read) -> Result<(), Fault> {
        let certified = read.certified(&self.files)?;
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certified);
        tracing::info!(path = %self.files.certificate.display(), "another certificate counts from now on");
        Ok(())
    }
}

impl TlsFiles {
    async fn read(&self) -> Result<Read, Fault> {
        let (certificate, key) = (read(&self.certificate).await?, read(&self.key).await?);
        Ok(Read { certificate, key })
    }
}

async fn read(path: &PathBuf) -> Result<Vec<u8>, Fault> {
    let at_fault = |why: String| (path.clone(), why);
    let length = tokio::fs::metadata(path).await.map_err(|error| at_fault(error.to_string()))?.len();
    if length > TLS_FILE_BYTES_MAX {
        return Err(at_fault(format!("has {length} bytes, at most {TLS_FILE_BYTES_MAX} are allowed")));
    }
    tokio::fs::read(path).await.map_err(|error| at_fault(error.to_string()))
}

impl Read {
    fn digest(&self) -> [u8; 32] {
        let parts = [&self.certificate, &self.key];
        parts
            .into_iter()
            .fold(Sha256::new(), |hasher, part| hasher.chain_update(Sha256::digest(part)))
            .finalize()
            .into()
    }

    /// What rustls makes of it.
    fn certified(&self, files: &TlsFiles) -> Result<CertifiedKey, Fault> {
        let chain = CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| (files.certificate.clone(), error.to_string()))?;
        if chain.is_empty() {
            return Err((files.certificate.clone(), "holds no certificate in PEM form".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| {
            (files.key.clone(), format!("cannot be read as a PEM key without a passphrase: {error}"))
        })?;
        CertifiedKey::from_der(chain, key, &default_provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                (files.key.clone(), format!("is not the key of {}", files.certificate.display()))
            }
            error => (files.certificate.clone(), error.to_string()),
        })
    }
}
