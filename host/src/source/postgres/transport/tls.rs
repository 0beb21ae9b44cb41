//! Encryption: what the URL asks for, and what rustls makes of it.
//!
//! In: `sslmode`, `sslrootcert`, `sslcert`, `sslkey`, as libpq has them. Out: a client's configuration for one
//! connection, and what binds a password to that connection.
//!
//! Invariants:
//! - `verify-full` takes no server but one whose chain and name are right; `verify-ca`, and any other mode with an
//!   `sslrootcert`, one whose chain is right;
//! - the files are read anew for each connection, so a renewed certificate needs no restart.
//!
//! Absent on purpose: revocation lists, keys with a passphrase, certificates that name their host in the common name
//! alone (which browsers have refused since 2017).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256, Sha384, Sha512};

/// The word for the roots that the system trusts.
const SYSTEM: &str = "system";

/// How much encryption the URL asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in super::super) enum SslMode {
    /// None.
    Disable,
    /// If the server offers it.
    #[default]
    Prefer,
    /// Against those who listen.
    Require,
    /// Also against those who have no certificate of the authority.
    VerifyCa,
    /// Also against those who have one of another host.
    VerifyFull,
}

impl SslMode {
    const NAMES: [(&'static str, Self); 5] = [
        ("disable", Self::Disable),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];

    /// Reads libpq's word.
    ///
    /// # Errors
    /// With the words that there are.
    pub(in super::super) fn parse(word: &str) -> Result<Self, String> {
        let known = Self::NAMES.iter().find(|(name, _)| *name == word);
        known.map(|(_, mode)| *mode).ok_or_else(|| {
            let names = Self::NAMES.map(|(name, _)| name).join(", ");
            format!("has an sslmode that is none of {names}")
        })
    }

    /// libpq's word.
    pub(in super::super) fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, mode)| *mode == self).map_or("", |(name, _)| name)
    }
}

/// What the URL says about encryption.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in super::super) struct Tls {
    pub(in super::super) mode: SslMode,
    /// Certificates of authorities, or `system`.
    pub(in super::super) root: Option<PathBuf>,
    /// Our own certificate with its chain.
    pub(in super::super) certificate: Option<PathBuf>,
    /// Its key.
    pub(in super::super) key: Option<PathBuf>,
}

/// How much of the server's certificate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Nothing,
    Chain,
    ChainAndName,
}

impl Tls {
    /// Sees that what is said fits together.
    ///
    /// # Errors
    /// With what does not.
    pub(in super::super) fn check(&self) -> Result<(), String> {
        if self.certificate.is_some() != self.key.is_some() {
            return Err("has one of sslcert and sslkey, and they go together".to_owned());
        }
        if self.uses_system_roots() && self.root.is_some() && self.mode != SslMode::VerifyFull {
            return Err(
                "has sslrootcert=system, which needs sslmode=verify-full: anybody can get a certificate \
                        from one of the system's authorities"
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn uses_system_roots(&self) -> bool {
        self.root.as_deref().is_none_or(|root| root == Path::new(SYSTEM))
    }

    fn what_counts(&self) -> Check {
        match self.mode {
            SslMode::VerifyFull => Check::ChainAndName,
            SslMode::VerifyCa => Check::Chain,
            _ if self.root.is_some() => Check::Chain,
            _ => Check::Nothing,
        }
    }

    /// Reads the files.
    ///
    /// # Errors
    /// With the file that cannot be used, and why.
    pub(super) fn client(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let verifier: Arc<dyn ServerCertVerifier> = match self.what_counts() {
            Check::Nothing => Arc::new(AnyServer(provider)),
            check => {
                let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(self.roots()?), provider)
                    .build()
                    .map_err(|error| format!("sslrootcert cannot be used: {error}"))?;
                if check == Check::Chain { Arc::new(AnyName(chain)) } else { chain }
            }
        };
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let (Some(certificate), Some(key)) = (&self.certificate, &self.key) else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = certificates("sslcert", certificate)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| {
            format!("sslkey {} cannot be read as a PEM key without a passphrase: {error}", key.display())
        })?;
        builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| format!("sslcert {} does not fit its key: {error}", certificate.display()))
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let mut store = RootCertStore::empty();
        let Some(file) = self.root.as_ref().filter(|_| !self.uses_system_roots()) else {
            let found = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(found.certs);
            if store.is_empty() {
                return Err(
                    "the system has no certificates of authorities: install them (ca-certificates), or \
                            name a file with sslrootcert"
                        .to_owned(),
                );
            }
            return Ok(store);
        };
        for certificate in certificates("sslrootcert", file)? {
            store.add(certificate).map_err(|error| {
                format!("sslrootcert {} holds what is no certificate: {error}", file.display())
            })?;
        }
        Ok(store)
    }
}

fn certificates(what: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("{what} {} holds no certificate in PEM form", file.display())),
        Err(error) => Err(format!("{what} {} cannot be read: {error}", file.display())),
    }
}

/// What a person can do about a server that was not taken.
pub(in super::super) fn advice(error: &Error) -> &'static str {
    let Error::InvalidCertificate(why) = error else { return "" };
    match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            " (sslrootcert has to hold the certificate of the authority that signed the server's)"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            " (the host of the URL has to be in the certificate's subjectAltName; or use sslmode=verify-ca)"
        }
        _ => "",
    }
}

/// Takes every server.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes every server whose chain is right. The chain is looked at before the name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.0.verify_server_cert(certificate, between, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// What binds a password to the server's certificate (`tls-server-end-point`, RFC 5929): its hash, by the algorithm
/// of its own signature. None where that has no hash of its own.
pub(super) fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    // `Certificate`: a sequence of the part that is signed, the algorithm, and the signature.
    let (whole, _) = der(certificate, 0x30)?;
    let (_, rest) = der(whole, 0x30)?;
    let (algorithm, _) = der(rest, 0x30)?;
    let (oid, _) = der(algorithm, 0x06)?;
    match oid {
        // 1.2.840.113549.1.1: RSA with MD5, SHA-1 and SHA-256, then with its longer ones.
        [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x04 | 0x05 | 0x0B] => of::<Sha256>(certificate),
        [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0C] => of::<Sha384>(certificate),
        [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0D] => of::<Sha512>(certificate),
        // 1.2.840.10045.4: ECDSA, likewise.
        [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x01] => of::<Sha256>(certificate),
        [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02] => of::<Sha256>(certificate),
        [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x03] => of::<Sha384>(certificate),
        [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x04] => of::<Sha512>(certificate),
        _ => None,
    }
}

fn of<D: Digest>(certificate: &[u8]) -> Option<Vec<u8>> {
    Some(D::digest(certificate).to_vec())
}

/// What an item of DER with this tag holds, and what follows it.
fn der(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, length], rest) = bytes.split_first_chunk::<2>()?;
    let (length, rest) = match length {
        0..=0x7F => (usize::from(length), rest),
        0x81..=0x84 => {
            let (octets, rest) = rest.split_at_checked(usize::from(length & 0x7F))?;
            (octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)), rest)
        }
        _ => return None,
    };
    (found == tag).then_some(())?;
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_read_by_libpqs_word() {
        for (name, mode) in SslMode::NAMES {
            assert_eq!((SslMode::parse(name), mode.name()), (Ok(mode), name));
        }
        let error = SslMode::parse("allow").expect_err("it says nothing about safety");
        assert!(error.contains("disable, prefer, require, verify-ca, verify-full"), "{error}");
    }

    #[test]
    fn a_root_makes_every_mode_look_at_the_chain() {
        let tls = |mode, root: Option<&str>| Tls { mode, root: root.map(Into::into), ..Tls::default() };
        assert_eq!(tls(SslMode::Require, None).what_counts(), Check::Nothing);
        assert_eq!(tls(SslMode::Require, Some("ca.pem")).what_counts(), Check::Chain);
        assert_eq!(tls(SslMode::Prefer, Some("ca.pem")).what_counts(), Check::Chain);
        assert_eq!(tls(SslMode::VerifyCa, None).what_counts(), Check::Chain);
        assert_eq!(tls(SslMode::VerifyFull, None).what_counts(), Check::ChainAndName);
        assert!(tls(SslMode::VerifyCa, Some("system")).check().is_err());
        assert!(tls(SslMode::VerifyFull, Some("system")).check().is_ok());
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let tls = Tls { mode: SslMode::VerifyFull, root: Some("/nowhere/ca.pem".into()), ..Tls::default() };
        let error = tls.client().expect_err("there is no such file");
        assert!(error.contains("sslrootcert /nowhere/ca.pem cannot be read"), "{error}");
        let alone = Tls { key: Some("key.pem".into()), ..Tls::default() };
        assert!(alone.check().expect_err("the certificate is missing").contains("sslcert"));
    }

    /// A certificate's frame: something signed, an algorithm, a signature.
    fn certificate(oid: &[u8]) -> Vec<u8> {
        let item = |tag: u8, held: &[u8]| {
            let length = u8::try_from(held.len()).expect("it is small");
            [&[tag, 0x81, length][..], held].concat()
        };
        let algorithm = item(0x30, &item(0x06, oid));
        item(0x30, &[item(0x30, b"signed"), algorithm, item(0x03, b"signature")].concat())
    }

    #[test]
    fn a_password_is_bound_by_the_hash_of_the_certificates_own_signature() {
        let rsa = |last: u8| certificate(&[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, last]);
        let ecdsa = |last: u8| certificate(&[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, last]);
        for (certificate, length) in
            [(rsa(5), 32), (rsa(11), 32), (rsa(12), 48), (rsa(13), 64), (ecdsa(2), 32), (ecdsa(4), 64)]
        {
            assert_eq!(end_point(&certificate).map(|hash| hash.len()), Some(length));
        }
        assert_eq!(end_point(&rsa(11)), Some(Sha256::digest(rsa(11)).to_vec()));
        // Ed25519, and RSA-PSS, whose hash is among its parameters.
        assert_eq!(end_point(&certificate(&[0x2B, 0x65, 0x70])), None);
        assert_eq!(end_point(&rsa(10)), None);
        for cut in 0..rsa(11).len() {
            // Never a panic; the last bytes are only signature.
            let _ = end_point(&rsa(11)[..cut]);
        }
    }
}
