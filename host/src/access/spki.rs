//! Public keys as PEM files have them (RFC 7468, section 13; SubjectPublicKeyInfo of RFC 5280).
//!
//! In: the text of a file that an operator names. Out: the keys in it.
//! Absent on purpose: private keys and certificates, which are refused with the command that gives the public key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A public key, as its kind writes it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PublicKey {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT: u8 = 0x06;
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const ELLIPTIC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// The public keys of a PEM file.
///
/// # Errors
/// If there is none, or something else is there.
pub(super) fn read_pem(text: &str) -> Result<Vec<PublicKey>, String> {
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some((_, begun)) = rest.split_once("-----BEGIN ") {
        let (label, body) = begun.split_once("-----").ok_or("a BEGIN line has no end")?;
        let remedy = match label {
            "PUBLIC KEY" => None,
            "CERTIFICATE" => Some("openssl x509 -pubkey -noout"),
            "RSA PUBLIC KEY" => Some("openssl rsa -RSAPublicKey_in -pubout"),
            _ => Some("openssl pkey -pubout"),
        };
        if let Some(remedy) = remedy {
            return Err(format!("it holds a {label}, not a PUBLIC KEY: `{remedy}` makes one of it"));
        }
        let (body, after) = body.split_once("-----END PUBLIC KEY-----").ok_or("a key has no END line")?;
        let body: String = body.split_ascii_whitespace().collect();
        let der = STANDARD.decode(body).map_err(|_| "a key is no base64")?;
        keys.push(read(&der).ok_or("a key is neither RSA, P-256 nor Ed25519")?);
        rest = after;
    }
    if keys.is_empty() { Err("it holds no `-----BEGIN PUBLIC KEY-----`".into()) } else { Ok(keys) }
}

fn read(der: &[u8]) -> Option<PublicKey> {
    let (info, after) = element(der, SEQUENCE)?;
    let (algorithm, rest) = element(info, SEQUENCE)?;
    let (bits, nothing) = element(rest, BIT_STRING)?;
    // The first byte counts the bits that the last one lacks.
    let key = bits.strip_prefix(&[0])?;
    if !after.is_empty() || !nothing.is_empty() {
        return None;
    }
    let (kind, parameters) = element(algorithm, OBJECT)?;
    match kind {
        RSA => {
            let (numbers, _) = element(key, SEQUENCE)?;
            let (n, rest) = element(numbers, INTEGER)?;
            let (e, _) = element(rest, INTEGER)?;
            Some(PublicKey::Rsa { n: n.to_vec(), e: e.to_vec() })
        }
        ELLIPTIC if element(parameters, OBJECT)?.0 == P256 => Some(PublicKey::P256(key.to_vec())),
        ED25519 => Some(PublicKey::Ed25519(key.to_vec())),
        _ => None,
    }
}

/// The content of the DER element that comes first, if it has this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [found, length, rest @ ..] = bytes else { return None };
    if *found != tag {
        return None;
    }
    let (length, rest) = match *length {
        short @ 0..=0x7f => (usize::from(short), rest),
        long @ 0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            (digits.iter().fold(0, |all, digit| all << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_public_key_is_refused_with_the_command_that_makes_one() {
        for (text, says) in [
            ("", "BEGIN PUBLIC KEY"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "openssl pkey -pubout"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "openssl x509"),
            ("-----BEGIN PUBLIC KEY-----\n!!!!\n-----END PUBLIC KEY-----", "base64"),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "neither RSA"),
            ("-----BEGIN PUBLIC KEY-----\nAAAA", "END line"),
        ] {
            let refused = read_pem(text).expect_err("it is no key");
            assert!(refused.contains(says), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(der in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&der);
        }
    }
}
