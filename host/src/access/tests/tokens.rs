//! Tokens: those that count, and those that somebody forged.

use super::super::Flaw;
use super::*;
use crate::limits::{TOKEN_BYTES_MAX, TOKEN_CHANNELS_COUNT_MAX};

fn folder_with(name: &str, text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("there is a temporary folder");
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("it can be written");
    (folder, path)
}

fn claims(seconds: i64) -> Value {
    json!({"sub": "ann", "exp": now() + seconds})
}

#[tokio::test]
async fn a_token_of_each_algorithm_is_taken_with_the_key_that_is_for_it() {
    let public = [RSA_PUBLIC, P256_PUBLIC, ED25519_PUBLIC].concat();
    let (_folder, path) = folder_with("public.pem", &public);
    let (access, metrics) = by_tokens(|settings| settings.public_key_file = Some(path));
    for signer in [Signer::Secret(SECRET), Signer::Rsa, Signer::P256, Signer::Ed25519] {
        let visitor = with_token(&access, &signed(&signer, &claims(60))).await.expect("it is good");
        assert_eq!(visitor.identity.subject(), Some("ann"));
        let other = signed(&signer, &json!({"sub": "bob", "exp": now() + 60}));
        let own = signed(&signer, &claims(60));
        let parts = [&other, &own].map(|token| token.rsplit_once('.').expect("it has dots"));
        let mixed = format!("{}.{}", parts[0].0, parts[1].1);
        let refused = with_token(&access, &mixed).await.expect_err("the signature is of another token");
        assert_eq!(refused, Refusal::Token(Flaw::Signature), "{}", signer.algorithm());
    }
    assert_eq!(metrics.access_refusals.read(), [("token-signature", 4)]);
}

/// Forged or broken tokens, and what each is refused for.
fn forged() -> Vec<(&'static str, String, Flaw)> {
    let secret = Signer::Secret(SECRET);
    let good = claims(60).to_string();
    let with_header = |header: &str| signed_as(&secret, header, &good);
    let with_claims = |claims: Value| signed(&secret, &claims);
    let unsigned =
        |header: &str| format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(&good));
    let many: Vec<_> = (0..=TOKEN_CHANNELS_COUNT_MAX).map(|nth| nth.to_string()).collect();
    let token = signed(&secret, &claims(60));
    vec![
        ("none", unsigned(r#"{"alg":"none"}"#), Flaw::Algorithm),
        ("None", unsigned(r#"{"alg":"None"}"#), Flaw::Algorithm),
        ("no algorithm", unsigned("{}"), Flaw::Malformed),
        ("an algorithm that is not there", with_header(r#"{"alg":"HS512"}"#), Flaw::Algorithm),
        ("no signature", token.rsplit_once('.').expect("it has dots").0.to_owned() + ".", Flaw::Signature),
        (
            "another secret",
            signed(&Signer::Secret("another secret of thirty-two bytes!"), &claims(60)),
            Flaw::Signature,
        ),
        ("the algorithm of a public key", with_header(r#"{"alg":"EdDSA"}"#), Flaw::Algorithm),
        ("an algorithm twice", with_header(r#"{"alg":"none","alg":"HS256"}"#), Flaw::Malformed),
        ("a critical header", with_header(r#"{"alg":"HS256","crit":["exp"],"exp":1}"#), Flaw::Critical),
        ("an empty critical header", with_header(r#"{"alg":"HS256","crit":null}"#), Flaw::Critical),
        ("a header that is no JSON", with_header("alg=HS256"), Flaw::Malformed),
        ("a header that is no object", with_header(r#"["HS256"]"#), Flaw::Malformed),
        ("a key's name that is no text", with_header(r#"{"alg":"HS256","kid":1}"#), Flaw::Malformed),
        ("a header's name twice", with_header(r#"{"alg":"HS256","x":1,"x":1}"#), Flaw::Malformed),
        ("claims that are no JSON", signed_as(&secret, r#"{"alg":"HS256"}"#, "sub=ann"), Flaw::Malformed),
        ("claims that are no object", signed_as(&secret, r#"{"alg":"HS256"}"#, "[1]"), Flaw::Claims),
        (
            "a claim twice",
            signed_as(&secret, r#"{"alg":"HS256"}"#, &format!(r#"{{"sub":"bob",{}"#, &good[1..])),
            Flaw::Claims,
        ),
        ("not base64", format!("{token}="), Flaw::Malformed),
        ("two parts", "a.b".into(), Flaw::Malformed),
        ("five parts", "a.b.c.d.e".into(), Flaw::Malformed),
        ("nothing", String::new(), Flaw::Malformed),
        ("dots", "..".into(), Flaw::Malformed),
        ("too large", "x".repeat(TOKEN_BYTES_MAX + 1), Flaw::TooLarge),
        ("expired", with_claims(claims(-60)), Flaw::Expired),
        ("expired long ago", with_claims(json!({"exp": 0})), Flaw::Expired),
        ("no end", with_claims(json!({"sub": "ann"})), Flaw::Claims),
        ("an end that is a text", with_claims(json!({"exp": "9999999999"})), Flaw::Claims),
        ("an end beyond time", with_claims(json!({"exp": 1e300})), Flaw::Claims),
        ("not yet", with_claims(json!({"exp": now() + 900, "nbf": now() + 600})), Flaw::Early),
        ("a beginning that is a text", with_claims(json!({"exp": now() + 60, "nbf": "0"})), Flaw::Claims),
        ("another audience", with_claims(json!({"exp": now() + 60, "aud": "others"})), Flaw::Audience),
        (
            "another audience in a list",
            with_claims(json!({"exp": now() + 60, "aud": ["a", 7]})),
            Flaw::Audience,
        ),
        ("a subject that is a number", with_claims(json!({"exp": now() + 60, "sub": 7})), Flaw::Claims),
        ("a long subject", with_claims(json!({"exp": now() + 60, "sub": "x".repeat(256)})), Flaw::Claims),
        ("channels that are no list", with_claims(json!({"exp": now() + 60, "channels": "*"})), Flaw::Claims),
        ("too many channels", with_claims(json!({"exp": now() + 60, "channels": many})), Flaw::Claims),
    ]
}

#[tokio::test]
async fn a_forged_token_is_refused_for_what_it_is_counted_and_lets_nobody_in() {
    let (access, metrics) = by_tokens(|settings| {
        settings.channels_claim = Some("channels".into());
        settings.leeway = std::time::Duration::from_secs(5);
    });
    for (what, token, flaw) in forged() {
        let counted = |name| {
            let all = metrics.access_refusals.read();
            all.into_iter().find(|(its, _)| *its == name).map_or(0, |(_, count)| count)
        };
        let refusal = Refusal::Token(flaw);
        let before = counted(refusal.name());
        assert_eq!(with_token(&access, &token).await.expect_err(what), refusal, "{what}");
        assert_eq!(counted(refusal.name()), before + 1, "{what}");
        let said = refusal.to_string();
        assert!(token.len() < 3 || !said.contains(&token), "{what}: {said}");
    }
}

#[tokio::test]
async fn a_public_key_is_never_a_secret() {
    let (_folder, path) = folder_with("public.pem", RSA_PUBLIC);
    let (access, _) = by_tokens(|settings| {
        settings.secret = None;
        settings.public_key_file = Some(path);
    });
    // What a server would take that lets the token choose: HMAC with the bytes that everybody knows.
    for secret in [RSA_PUBLIC, RSA_PUBLIC.trim()] {
        let token = signed(&Signer::Secret(secret), &claims(60));
        let refused = with_token(&access, &token).await.expect_err("it is forged");
        assert_eq!(refused, Refusal::Token(Flaw::Algorithm));
    }
    assert!(with_token(&access, &signed(&Signer::Rsa, &claims(60))).await.is_ok());
    // Signed by the right key, under another name.
    let renamed = signed_as(&Signer::Rsa, r#"{"alg":"ES256"}"#, &claims(60).to_string());
    assert_eq!(
        with_token(&access, &renamed).await.expect_err("it is forged"),
        Refusal::Token(Flaw::Algorithm)
    );
}

#[tokio::test]
async fn issuer_and_audience_are_as_the_configuration_says() {
    let (access, _) = by_tokens(|settings| {
        settings.issuer = Some("https://issuer.example".into());
        settings.audience = Some("twohop".into());
    });
    for (issuer, audience, expected) in [
        (json!("https://issuer.example"), json!("twohop"), None),
        (json!("https://issuer.example"), json!(["other", "twohop"]), None),
        (json!("https://issuer.example"), json!("other"), Some(Flaw::Audience)),
        (json!("https://issuer.example"), json!([]), Some(Flaw::Audience)),
        (json!("https://issuer.example/"), json!("twohop"), Some(Flaw::Issuer)),
        (json!(["https://issuer.example"]), json!("twohop"), Some(Flaw::Issuer)),
    ] {
        let claims = json!({"sub": "ann", "exp": now() + 60, "iss": issuer, "aud": audience});
        let refused = with_token(&access, &signed(&Signer::Secret(SECRET), &claims)).await.err();
        assert_eq!(refused, expected.map(Refusal::Token), "{claims}");
    }
    let silent = signed(&Signer::Secret(SECRET), &claims(60));
    assert_eq!(with_token(&access, &silent).await.err(), Some(Refusal::Token(Flaw::Audience)));
}

#[tokio::test]
async fn clocks_may_differ_by_the_leeway_and_no_more() {
    let (access, _) = by_tokens(|settings| settings.leeway = std::time::Duration::from_secs(30));
    for (seconds, taken) in [(-20, true), (-40, false)] {
        let token = signed(&Signer::Secret(SECRET), &claims(seconds));
        assert_eq!(with_token(&access, &token).await.is_ok(), taken, "{seconds}");
        let early = signed(&Signer::Secret(SECRET), &json!({"exp": now() + 60, "nbf": now() - seconds}));
        assert_eq!(with_token(&access, &early).await.is_ok(), taken, "{seconds}");
    }
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused_by_their_key() {
    let secret = || Some(SECRET.to_owned());
    for (settings, key) in [
        (Settings { secret: Some("short".into()), ..Settings::default() }, "secret_file"),
        (Settings { anonymous: vec!["user:{sub}".into()], ..Settings::default() }, "anonymous"),
        (Settings { channels: vec!["a".into()], ..Settings::default() }, "channels"),
        (Settings { cookie: Some("sid".into()), ..Settings::default() }, "cookie"),
        (Settings { issuer: Some("x".into()), ..Settings::default() }, "issuer"),
        (
            Settings {
                anonymous: vec!["public:*".into()],
                channels: vec!["{claims.tenant}:*".into()],
                secret: secret(),
                ..Settings::default()
            },
            "channels",
        ),
        (Settings { leeway: std::time::Duration::from_secs(301), ..Settings::default() }, "leeway"),
        (Settings { origins: vec!["x".into()], ..Settings::default() }, "origins"),
        (
            Settings {
                origins: vec!["*".into()],
                cookie: Some("sid".into()),
                secret: secret(),
                ..Settings::default()
            },
            "origins",
        ),
        (Settings { jwks_url: Some("http://issuer.example/".into()), ..Settings::default() }, "jwks_url"),
        (Settings { jwks_file: Some("/nowhere".into()), ..Settings::default() }, "jwks_file"),
        (Settings { public_key_file: Some("/nowhere".into()), ..Settings::default() }, "public_key_file"),
    ] {
        let error = Access::new(settings, no_graph(), Arc::default()).expect_err(key);
        assert!(error.to_string().starts_with(&format!("gateway.access.{key}: ")), "{error}");
        assert!(!error.to_string().contains(SECRET), "{error}");
    }
}

#[tokio::test]
async fn a_token_of_which_one_character_was_changed_is_refused() {
    let (access, _) = by_tokens(|_| {});
    let token = token_for("ann", 600);
    assert!(access.identify_token(&token, ADDRESS).await.is_ok());
    for (place, character) in token.char_indices() {
        for other in ['A', 'B', '_', '.', '='] {
            let mut changed = token.clone();
            changed.replace_range(place..=place, other.encode_utf8(&mut [0; 4]));
            let is_taken = access.identify_token(&changed, ADDRESS).await.is_ok();
            assert_eq!(is_taken, other == character, "{changed}");
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_text_that_nobody_signed_lets_anybody_in(
        text in "\\PC{0,60}|[A-Za-z0-9_-]{0,30}\\.[A-Za-z0-9_-]{0,30}\\.[A-Za-z0-9_-]{0,50}",
        header in r#"\{("(alg|kid|crit|x)":("(HS256|none|)"|null|1|\[\]),?){0,4}\}?"#, claims in ".{0,40}",
    ) {
        let (access, _) = by_tokens(|_| {});
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it starts");
        let parts = [header.as_bytes(), claims.as_bytes(), b"signature"].map(|part| URL_SAFE_NO_PAD.encode(part));
        for text in [text, parts.join(".")] {
            proptest::prop_assert!(runtime.block_on(access.identify_token(&text, ADDRESS)).is_err());
        }
    }
}
