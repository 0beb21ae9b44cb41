//! Keys: the examples of the RFCs, sets of keys, and their rotation.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::super::Flaw;
use super::super::key::{Key, Secrets, read_set};
use super::*;
use crate::limits::TOKEN_KEYS_COUNT_MAX;

const CLAIMS: &str =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

fn set(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

fn only(keys: &[Value]) -> Key {
    let mut keys = read_set(set(keys).as_bytes(), Secrets::Taken).expect("it is a set");
    assert_eq!(keys.len(), 1);
    keys.remove(0)
}

/// RFC 7515, appendices A.1 to A.3, and RFC 8037, appendix A.4.
#[test]
fn the_examples_of_the_rfcs_are_verified() {
    let examples = [
        (
            json!({"kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}),
            format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{CLAIMS}"),
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        ),
        (
            json!({"kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}),
            format!("eyJhbGciOiJSUzI1NiJ9.{CLAIMS}"),
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        ),
        (
            json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}),
            format!("eyJhbGciOiJFUzI1NiJ9.{CLAIMS}"),
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
        (
            json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}),
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc".to_owned(),
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        ),
    ];
    for (jwk, signed, signature) in examples {
        let key = only(std::slice::from_ref(&jwk));
        let mut signature = URL_SAFE_NO_PAD.decode(signature).expect("it is base64url");
        assert!(key.verifies(signed.as_bytes(), &signature), "{jwk}");
        signature[0] ^= 1;
        assert!(!key.verifies(signed.as_bytes(), &signature), "{jwk}");
        assert!(!key.verifies(signed.as_bytes(), &[]), "{jwk}");
    }
}

#[test]
fn keys_that_are_not_for_this_are_passed_over_and_a_set_without_any_is_refused() {
    let good = json!({"kty": "OKP", "crv": "Ed25519", "kid": "good", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let others = [
        json!({"kty": "OKP", "crv": "X25519", "x": "AA"}),
        json!({"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"}),
        json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}),
        json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
        json!({"kty": "oct", "k": "c2hvcnQ"}),
        json!({"kty": "oct"}),
        json!({"kty": "OKP", "crv": "Ed25519", "use": "enc", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}),
        json!({"kty": "OKP", "crv": "Ed25519", "alg": "HS256", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}),
        json!({"kty": "new"}),
    ];
    for other in &others {
        assert!(read_set(set(std::slice::from_ref(other)).as_bytes(), Secrets::Taken).is_err(), "{other}");
    }
    assert_eq!(only(&[&others[..], &[good]].concat()).id.as_deref(), Some("good"));
    let secret = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode([1; 32])});
    assert!(read_set(set(std::slice::from_ref(&secret)).as_bytes(), Secrets::Refused).is_err());
    let many = vec![secret; TOKEN_KEYS_COUNT_MAX + 1];
    for text in ["", "[]", "{}", r#"{"keys":[]}"#, &set(&many)] {
        assert!(read_set(text.as_bytes(), Secrets::Taken).is_err(), "{text}");
    }
}

#[test]
fn a_small_rsa_key_is_refused() {
    let refused = Key::of_pem(include_str!("rsa-small-public.pem")).expect_err("1024 bits are too few");
    assert!(refused.contains("1024 bits"), "{refused}");
}

fn jwk(id: &str, secret: &str) -> Value {
    json!({"kty": "oct", "kid": id, "k": URL_SAFE_NO_PAD.encode(secret)})
}

const FIRST: &str = "the first secret, of thirty-two bytes";
const SECOND: &str = "the second secret, of thirty-two bytes";

fn of_key(id: &str, secret: &'static str) -> String {
    let header = json!({"alg": "HS256", "kid": id}).to_string();
    signed_as(&Signer::Secret(secret), &header, &json!({"sub": "ann", "exp": now() + 60}).to_string())
}

#[tokio::test]
async fn a_key_that_comes_is_found_when_a_token_names_it_and_one_that_goes_ends_what_it_opened() {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let file = folder.path().join("keys.json");
    std::fs::write(&file, set(&[jwk("first", FIRST)])).expect("it can be written");
    let (access, _) = by_tokens(|settings| {
        settings.secret = None;
        settings.jwks_file = Some(file.clone());
    });
    // No token has been there yet, so this one makes the file be read.
    let ann = with_token(&access, &of_key("first", FIRST)).await.expect("its key is there");
    let mut permit = admit(&access, &ann, &["user:ann"]).await.expect("it is hers");
    std::fs::write(&file, set(&[jwk("second", SECOND)])).expect("it can be written");
    let unknown = with_token(&access, &of_key("second", SECOND)).await;
    assert_eq!(unknown.err(), Some(Refusal::Token(Flaw::Key)), "the file was read a moment ago");
    // What reads it from time to time does so at once when it begins.
    let stop = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn({
        let (access, stop) = (access.clone(), stop.clone());
        async move { access.run(stop).await }
    });
    let ended = tokio::time::timeout(PATIENCE, permit.ended()).await;
    assert_eq!(ended.expect("its key has gone"), Refusal::Token(Flaw::Key));
    assert!(with_token(&access, &of_key("second", SECOND)).await.is_ok());
    assert_eq!(with_token(&access, &of_key("first", FIRST)).await.err(), Some(Refusal::Token(Flaw::Key)));
    stop.cancel();
    running.await.expect("it ends");
}

/// Serves what `answer` holds, over HTTP on this machine, and counts how often.
async fn serve(answer: watch::Receiver<(u16, String)>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port is there");
    let address = format!("http://{}/keys", listener.local_addr().expect("it has an address"));
    let asked = Arc::<AtomicUsize>::default();
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (answer, count) = (answer.clone(), count.clone());
            let service = service_fn(move |_| {
                count.fetch_add(1, Ordering::Relaxed);
                let (status, body) = answer.borrow().clone();
                let response = Response::builder().status(status).body(Full::new(Bytes::from(body)));
                async move { response }
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service);
            tokio::spawn(connection);
        }
    });
    (address, asked)
}

#[tokio::test]
async fn keys_of_an_address_are_fetched_once_however_many_tokens_name_unknown_ones() {
    let public = json!({"kty": "RSA", "kid": "r", "e": "AQAB", "n": modulus()});
    let (_answer, answers) = watch::channel((200, set(&[public])));
    let (address, asked) = serve(answers).await;
    let (access, _) = by_tokens(|settings| {
        settings.secret = None;
        settings.jwks_url = Some(address);
    });
    let header = json!({"alg": "RS256", "kid": "r"}).to_string();
    let token = signed_as(&Signer::Rsa, &header, &json!({"sub": "ann", "exp": now() + 60}).to_string());
    assert_eq!(with_token(&access, &token).await.expect("its key is there").identity.subject(), Some("ann"));
    let forged: Vec<_> = (0..50).map(|nth| of_key(&nth.to_string(), FIRST)).collect();
    for token in &forged {
        assert_eq!(with_token(&access, token).await.err(), Some(Refusal::Token(Flaw::Key)));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn while_keys_cannot_be_had_a_token_is_refused_for_now_only() {
    for broken in
        [(500, String::new()), (200, "no keys".into()), (302, String::new()), (200, "x".repeat(1 << 20))]
    {
        let (_answer, answers) = watch::channel(broken);
        let (address, asked) = serve(answers).await;
        let (access, _) = by_tokens(|settings| {
            settings.secret = None;
            settings.jwks_url = Some(address);
        });
        assert_eq!(with_token(&access, &of_key("x", FIRST)).await.err(), Some(Refusal::KeysUnavailable));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let nobody = nobody(&access).await;
        assert!(admit(&access, &nobody, &["public:x"]).await.is_ok(), "who needs no key is served");
    }
}

fn modulus() -> String {
    let pair = signature::RsaKeyPair::from_pkcs8(&der(RSA)).expect("it is a key");
    let public: signature::RsaPublicKeyComponents<Vec<u8>> = pair.public().into();
    URL_SAFE_NO_PAD.encode(public.n)
}
