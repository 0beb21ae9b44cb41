//! Who may listen, with tokens that are made here: by keys that were made for these tests alone, beside this file.

mod keys;
mod life;
mod tokens;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use ring::{hmac, rand, signature};
use serde_json::{Value, json};

use super::{Access, Deed, Graph, GraphError, Head, Permit, Refusal, Settings, Visitor, Wanted, no_graph};
pub(crate) use crate::policy::tests::a_gate;
use crate::telemetry::Metrics;

/// Longer than anything takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

const SECRET: &str = "thirty-two bytes are enough, no fewer";
const RSA: &str = include_str!("rsa-private.pem");
const RSA_PUBLIC: &str = include_str!("rsa-public.pem");
const P256: &str = include_str!("p256-private.pem");
const P256_PUBLIC: &str = include_str!("p256-public.pem");
const ED25519: &str = include_str!("ed25519-private.pem");
const ED25519_PUBLIC: &str = include_str!("ed25519-public.pem");

/// Nobody may anything, unless a gate lets it.
pub(crate) fn shut() -> Access {
    let access = Access::new(Settings::default(), no_graph(), Arc::default());
    access.expect("nothing is wrong with nothing")
}

/// What lets everybody listen to everything.
pub(crate) fn open_to_all() -> Access {
    let settings = Settings { anonymous: vec!["*".into()], ..Settings::default() };
    Access::new(settings, no_graph(), Arc::default()).expect("the settings are right")
}

/// What lets those in who have a token of [`token_for`], to `public:*` everybody, to `user:{sub}` whom it is for.
pub(crate) fn by_tokens(change: impl FnOnce(&mut Settings)) -> (Access, Arc<Metrics>) {
    let mut settings = Settings {
        anonymous: vec!["public:*".into()],
        channels: vec!["user:{sub}".into(), "orgs:{claims.org}:*".into()],
        secret: Some(SECRET.into()),
        ..Settings::default()
    };
    change(&mut settings);
    let metrics = Arc::<Metrics>::default();
    (Access::new(settings, no_graph(), metrics.clone()).expect("the settings are right"), metrics)
}

/// Who follows whom, as tests have it.
#[derive(Debug, Default)]
pub(crate) struct Follows(Mutex<HashSet<(String, String)>>);

impl Follows {
    /// Puts an edge there, or takes it away, and tells.
    pub(crate) fn turn(&self, access: &Access, follower: &str, followee: &str, is_there: bool) {
        let edge = (follower.to_owned(), followee.to_owned());
        let mut edges = self.0.lock().expect("nobody panicked");
        if is_there {
            edges.insert(edge)
        } else {
            edges.remove(&edge)
        };
        drop(edges);
        access.edges().turned(follower, followee);
    }
}

#[async_trait]
impl Graph for Follows {
    async fn follows(&self, subject: &str, followees: &[&str]) -> Result<Vec<bool>, GraphError> {
        if subject == "nobody-knows" {
            return Err("the graph is out of order".into());
        }
        let edges = self.0.lock().expect("nobody panicked");
        let has = |followee: &&str| edges.contains(&(subject.to_owned(), (*followee).to_owned()));
        Ok(followees.iter().map(has).collect())
    }
}

/// As [`by_tokens`], with a gate beside, and a graph of which it is told.
pub(crate) fn by_graph() -> (Access, Arc<Follows>, Arc<Metrics>) {
    let settings = Settings { secret: Some(SECRET.into()), ..Settings::default() };
    let (follows, metrics) = (Arc::<Follows>::default(), Arc::<Metrics>::default());
    let access = Access::new(settings, Arc::clone(&follows) as Arc<dyn Graph>, metrics.clone());
    let access = access.expect("the settings are right");
    access.put_gate::<std::io::Error>(Ok(Some(a_gate())));
    (access, follows, metrics)
}

/// A token for a subject, which lives so many seconds.
pub(crate) fn token_for(subject: &str, seconds: i64) -> String {
    signed(&Signer::Secret(SECRET), &json!({"sub": subject, "exp": now() + seconds}))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(since.as_secs()).expect("it fits")
}

/// What signs.
enum Signer {
    Secret(&'static str),
    Rsa,
    P256,
    Ed25519,
}

fn der(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(body).expect("it is base64")
}

impl Signer {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Secret(_) => "HS256",
            Self::Rsa => "RS256",
            Self::P256 => "ES256",
            Self::Ed25519 => "EdDSA",
        }
    }

    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let random = rand::SystemRandom::new();
        match self {
            Self::Secret(secret) => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), bytes).as_ref().to_vec()
            }
            Self::Rsa => {
                let pair = signature::RsaKeyPair::from_pkcs8(&der(RSA)).expect("it is a key");
                let mut signed = vec![0; pair.public().modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, bytes, &mut signed).expect("it signs");
                signed
            }
            Self::P256 => {
                let kind = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
                let pair =
                    signature::EcdsaKeyPair::from_pkcs8(kind, &der(P256), &random).expect("it is a key");
                pair.sign(&random, bytes).expect("it signs").as_ref().to_vec()
            }
            Self::Ed25519 => {
                let pair = signature::Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der(ED25519));
                pair.expect("it is a key").sign(bytes).as_ref().to_vec()
            }
        }
    }
}

fn signed(signer: &Signer, claims: &Value) -> String {
    signed_as(signer, &json!({"alg": signer.algorithm(), "typ": "JWT"}).to_string(), &claims.to_string())
}

fn signed_as(signer: &Signer, header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = URL_SAFE_NO_PAD.encode(signer.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

async fn identify(access: &Access, headers: &HeaderMap) -> Result<Visitor, Refusal> {
    let head = Head { headers, authority: Some("live.example"), ticket: None, address: ADDRESS };
    access.identify(&head, Deed::Read).await
}

async fn with_token(access: &Access, token: &str) -> Result<Visitor, Refusal> {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().expect("it is a header"));
    identify(access, &headers).await
}

async fn nobody(access: &Access) -> Visitor {
    identify(access, &HeaderMap::new()).await.expect("who says nothing is nobody")
}

async fn admit(access: &Access, visitor: &Visitor, channels: &[&str]) -> Result<Permit, Refusal> {
    let wanted: Vec<_> = channels.iter().map(|channel| Wanted::channel(channel)).collect();
    access.admit(visitor.clone(), &wanted, access.doubts()).await
}
