//! Keys that verify tokens. The algorithm is the key's, never the token's.
//!
//! In: a secret, a PEM file, a JWK. Out: a key of exactly one algorithm.
//!
//! Invariant: a key verifies only signatures of its own algorithm. So `none` has no key, and a public key is never
//! taken for a secret.
//!
//! To add an algorithm: a variant of [`Algorithm`] and of `Material`, an arm in each function.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{hmac, signature};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::spki::{self, PublicKey};
use crate::limits::{TOKEN_KEYS_COUNT_MAX, TOKEN_SECRET_BYTES_MIN};

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Hs256,
    Rs256,
    Es256,
    EdDsa,
}

impl Algorithm {
    /// The one of that name (RFC 7518, section 3.1; RFC 8037, section 3.1).
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "HS256" => Some(Self::Hs256),
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// What tells keys apart, also after a change of their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyMark([u8; 32]);

/// A key.
pub(super) struct Key {
    pub(super) id: Option<Box<str>>,
    material: Material,
    mark: KeyMark,
}

enum Material {
    Secret(hmac::Key),
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256([u8; 65]),
    Ed25519([u8; 32]),
}

impl std::fmt::Debug for Key {
    /// Without the material: it may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm())
            .finish_non_exhaustive()
    }
}

impl Key {
    /// A secret for HS256.
    ///
    /// # Errors
    /// If it could be guessed (RFC 7518, section 3.2, asks for as many bits as the digest has).
    pub(super) fn secret(bytes: &[u8], id: Option<Box<str>>) -> Result<Self, String> {
        if bytes.len() < TOKEN_SECRET_BYTES_MIN {
            return Err(format!(
                "the secret has {} bytes, at least {TOKEN_SECRET_BYTES_MIN} are needed: \
                 `openssl rand -base64 48` makes a good one",
                bytes.len()
            ));
        }
        Ok(Self::of(Material::Secret(hmac::Key::new(hmac::HMAC_SHA256, bytes)), id, &[b"oct", bytes]))
    }

    /// The public keys of a PEM file.
    ///
    /// # Errors
    /// If it holds none, or anything else.
    pub(super) fn of_pem(text: &str) -> Result<Vec<Self>, String> {
        spki::read_pem(text)?.into_iter().map(|key| Self::public(key, None)).collect()
    }

    fn public(key: PublicKey, id: Option<Box<str>>) -> Result<Self, String> {
        Ok(match key {
            PublicKey::Rsa { n, e } => {
                let n: Vec<u8> = n.into_iter().skip_while(|byte| *byte == 0).collect();
                if !(256..=1_024).contains(&n.len()) {
                    return Err(format!("an RSA key has {} bits, 2048 to 8192 are allowed", n.len() * 8));
                }
                let mark = Self::mark(&[b"rsa", &n, &e]);
                Self { id, material: Material::Rsa { n, e }, mark }
            }
            PublicKey::P256(point) => {
                let point: [u8; 65] = point.try_into().map_err(|_| "a P-256 key is not 65 bytes long")?;
                if point[0] != 4 {
                    return Err("a P-256 key is compressed: write it uncompressed".into());
                }
                Self::of(Material::P256(point), id, &[b"p256", &point])
            }
            PublicKey::Ed25519(point) => {
                let point: [u8; 32] = point.try_into().map_err(|_| "an Ed25519 key is not 32 bytes long")?;
                Self::of(Material::Ed25519(point), id, &[b"ed25519", &point])
            }
        })
    }

    fn of(material: Material, id: Option<Box<str>>, parts: &[&[u8]]) -> Self {
        Self { id, material, mark: Self::mark(parts) }
    }

    fn mark(parts: &[&[u8]]) -> KeyMark {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        KeyMark(digest.finalize().into())
    }

    /// The one that it is for.
    pub(super) fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Secret(_) => Algorithm::Hs256,
            Material::Rsa { .. } => Algorithm::Rs256,
            Material::P256(_) => Algorithm::Es256,
            Material::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// What tells it from others.
    pub(super) fn marked(&self) -> KeyMark {
        self.mark
    }

    /// Whether the signature was made with it. A secret is compared in constant time.
    pub(super) fn verifies(&self, signed: &[u8], its: &[u8]) -> bool {
        let point =
            |algorithm, point| signature::UnparsedPublicKey::new(algorithm, point).verify(signed, its);
        match &self.material {
            Material::Secret(key) => hmac::verify(key, signed, its).is_ok(),
            Material::Rsa { n, e } => signature::RsaPublicKeyComponents { n, e }
                .verify(&signature::RSA_PKCS1_2048_8192_SHA256, signed, its)
                .is_ok(),
            Material::P256(key) => point(&signature::ECDSA_P256_SHA256_FIXED, &key[..]).is_ok(),
            Material::Ed25519(key) => point(&signature::ED25519, &key[..]).is_ok(),
        }
    }
}

/// Whether a set of keys may hold secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrets {
    /// It is a file of this machine.
    Taken,
    /// Whoever can read the address could sign.
    Refused,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

/// A key as RFC 7517 writes it; what is not named here is not needed.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

/// The keys of a JWKS (RFC 7517, section 5) that verify tokens here; others are passed over, as section 5 asks.
///
/// # Errors
/// If it is none, or has too many keys, or no usable one.
pub(super) fn read_set(text: &[u8], secrets: Secrets) -> Result<Vec<Key>, String> {
    let set: Set = serde_json::from_slice(text).map_err(|error| format!("it is no JWKS: {error}"))?;
    if set.keys.len() > TOKEN_KEYS_COUNT_MAX {
        return Err(format!("it has {} keys, at most {TOKEN_KEYS_COUNT_MAX} are taken", set.keys.len()));
    }
    let mut first_fault = None;
    let mut keys = Vec::new();
    for jwk in set.keys {
        match usable(&jwk, secrets) {
            Ok(key) => keys.push(key),
            Err(fault) => drop(first_fault.get_or_insert(fault)),
        }
    }
    match first_fault {
        Some(fault) if keys.is_empty() => Err(format!("it has no key that can be used: {fault}")),
        None if keys.is_empty() => Err("it has no keys".into()),
        _ => Ok(keys),
    }
}

fn usable(jwk: &Jwk, secrets: Secrets) -> Result<Key, String> {
    if jwk.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
        return Err("a key is not for signatures".into());
    }
    let bytes = |field: &Option<String>, name: &str| {
        let text = field.as_deref().ok_or_else(|| format!("a key lacks `{name}`"))?;
        URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("a key's `{name}` is no base64url"))
    };
    let id = jwk.kid.as_deref().map(Into::into);
    let key = match (&*jwk.kty, jwk.crv.as_deref()) {
        ("oct", _) if secrets == Secrets::Refused => {
            return Err("a secret at an address is none: publish public keys, or name a file".into());
        }
        ("oct", _) => Key::secret(&bytes(&jwk.k, "k")?, id)?,
        ("RSA", _) => Key::public(PublicKey::Rsa { n: bytes(&jwk.n, "n")?, e: bytes(&jwk.e, "e")? }, id)?,
        ("EC", Some("P-256")) => {
            let point = [vec![4], bytes(&jwk.x, "x")?, bytes(&jwk.y, "y")?].concat();
            Key::public(PublicKey::P256(point), id)?
        }
        ("OKP", Some("Ed25519")) => Key::public(PublicKey::Ed25519(bytes(&jwk.x, "x")?), id)?,
        (kind, curve) => {
            return Err(format!("keys of the kind {kind} {} are not used here", curve.unwrap_or("")));
        }
    };
    match jwk.alg.as_deref() {
        Some(name) if Algorithm::named(name) != Some(key.algorithm()) => {
            Err(format!("a key is for {name}, which is not used here"))
        }
        _ => Ok(key),
    }
}
