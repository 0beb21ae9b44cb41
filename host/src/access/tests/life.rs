//! What somebody may, and when that ends.

use tokio::time::timeout;

use super::super::{Flaw, Gate, Identity, Rights};
use super::*;
use crate::limits::GATE_BYTES_MAX;

const NO_GATE: Result<Option<Gate>, std::io::Error> = Ok(None);

fn by_gate() -> (Access, Arc<Metrics>) {
    let (access, metrics) = by_tokens(|_| {});
    access.put_gate::<std::io::Error>(Ok(Some(a_gate())));
    (access, metrics)
}

fn calls(metrics: &Metrics) -> u64 {
    metrics.gate_calls.load(std::sync::atomic::Ordering::Relaxed)
}

#[tokio::test]
async fn by_default_nobody_may_anything_and_that_is_said() {
    let access =
        Access::new(Settings::default(), no_graph(), Arc::default()).expect("the settings are right");
    let nobody = nobody(&access).await;
    assert_eq!(admit(&access, &nobody, &["orders"]).await.expect_err("it is shut"), Refusal::Unauthenticated);
    assert!(access.is_shut());
    assert!(
        access.summary().starts_with("without a token nothing; nobody can have a token;"),
        "{}",
        access.summary()
    );
    assert!(open_to_all().summary().starts_with("everybody may listen to every channel;"));
    assert!(!open_to_all().is_shut());
    // What is said to a proxy is not looked at while nobody can be known.
    assert!(with_token(&open_to_all(), "anything").await.is_ok());
}

#[tokio::test]
async fn claims_grant_what_patterns_say_and_all_is_granted_or_nothing() {
    let (access, metrics) = by_tokens(|settings| settings.channels_claim = Some("listen".into()));
    let claims = json!({"sub": "ann", "org": ["red"], "exp": now() + 60, "listen": ["a:*", "b"]});
    let ann = with_token(&access, &signed(&Signer::Secret(SECRET), &claims)).await.expect("it is good");
    for channels in [&["public:x"][..], &["user:ann", "orgs:red:x", "a:1", "b", "public:y"]] {
        assert!(admit(&access, &ann, channels).await.is_ok(), "{channels:?}");
    }
    for channels in [&["user:bob"][..], &["public:x", "user:bob"], &["orgs:blue:x"], &["b:1"], &["listen"]] {
        let refused = admit(&access, &ann, channels).await.expect_err("it is not hers");
        assert!(matches!(refused, Refusal::Forbidden(_)), "{channels:?}");
    }
    let nobody = nobody(&access).await;
    let permit = admit(&access, &nobody, &["public:x"]).await.expect("it is open");
    assert_eq!(permit.rights(), [Rights { history: true, presence: false, publish: false }]);
    assert!(permit.is_for_ever());
    assert_eq!(admit(&access, &nobody, &["user:ann"]).await.expect_err("who?"), Refusal::Unauthenticated);
    for (prefix, may) in
        [("a:", true), ("orgs:red:", true), ("public:", true), ("", false), ("orgs:", false), ("b", false)]
    {
        assert_eq!(
            access.admit(ann.clone(), &[Wanted::prefix(prefix)], access.doubts()).await.is_ok(),
            may,
            "{prefix}"
        );
    }
    assert_eq!(metrics.access_refusals.read(), [("forbidden", 8), ("unauthenticated", 1)]);
}

#[tokio::test]
async fn a_permit_ends_with_its_token() {
    let (access, metrics) = by_tokens(|_| {});
    let ann = with_token(&access, &token_for("ann", 2)).await.expect("it is good");
    let mut permit = admit(&access, &ann, &["user:ann"]).await.expect("it is hers");
    assert!(!permit.is_for_ever());
    let ended = timeout(PATIENCE, permit.ended()).await.expect("it ends");
    assert_eq!(ended, Refusal::Token(Flaw::Expired));
    assert_eq!(metrics.access_refusals.read(), [("token-expired", 1)]);
    assert!(SystemTime::now() >= ann.identity.until().expect("it has an end"));
}

#[tokio::test]
async fn the_gate_is_asked_only_for_what_claims_do_not_grant() {
    let (access, metrics) = by_gate();
    let ann = with_token(&access, &token_for("ann", 60)).await.expect("it is good");
    admit(&access, &ann, &["user:ann", "public:x"]).await.expect("it is hers");
    assert_eq!(calls(&metrics), 0);
    let permit = admit(&access, &ann, &["user:ann", "allowed"]).await.expect("the gate lets her");
    assert_eq!(calls(&metrics), 1);
    let by_claims = Rights { history: true, presence: true, publish: false };
    assert_eq!(permit.rights(), [by_claims, Rights { history: true, presence: false, publish: false }]);
    // Also for nobody known.
    let nobody = nobody(&access).await;
    assert!(admit(&access, &nobody, &["allowed"]).await.is_ok());
    assert_eq!(admit(&access, &nobody, &["other"]).await.expect_err("who?"), Refusal::Unauthenticated);
    assert_eq!(admit(&access, &ann, &["f: no"]).await.expect_err("no"), Refusal::Forbidden("f: no".into()));
}

#[tokio::test]
async fn a_gate_that_fails_or_cannot_be_had_denies() {
    let (access, _) = by_gate();
    let ann = with_token(&access, &token_for("ann", 60)).await.expect("it is good");
    let failed = Refusal::Forbidden("the gate failed".into());
    assert_eq!(admit(&access, &ann, &["T"]).await.expect_err("it traps"), failed);
    let large = Visitor { identity: Identity::of_test(&"x".repeat(GATE_BYTES_MAX)), ..ann.clone() };
    assert!(matches!(admit(&access, &large, &["allowed"]).await, Err(Refusal::Invalid(_))));
    assert!(admit(&access, &ann, &["allowed"]).await.is_ok(), "it goes on");
    access.put_gate(Err(std::io::Error::other("not there")));
    assert!(matches!(admit(&access, &ann, &["allowed"]).await, Err(Refusal::Forbidden(_))));
    assert!(admit(&access, &ann, &["user:ann"]).await.is_ok(), "claims need no gate");
}

#[tokio::test]
async fn another_gate_is_asked_again_and_may_deny() {
    let (access, metrics) = by_gate();
    let ann = with_token(&access, &token_for("ann", 600)).await.expect("it is good");
    let mut by_claims = admit(&access, &ann, &["user:ann"]).await.expect("it is hers");
    let mut permit = admit(&access, &ann, &["allowed"]).await.expect("the gate lets her");
    let asked = calls(&metrics);
    access.put_gate::<std::io::Error>(Ok(Some(a_gate())));
    {
        let mut ended = std::pin::pin!(permit.ended());
        let again = async {
            while calls(&metrics) == asked {
                tokio::task::yield_now().await
            }
        };
        let asked_again = async {
            tokio::select! { refusal = &mut ended => panic!("{refusal}"), () = again => {} }
        };
        timeout(PATIENCE, asked_again).await.expect("it is asked again");
    }
    access.put_gate(NO_GATE);
    let refused = timeout(PATIENCE, permit.ended()).await.expect("nobody lets her any more");
    assert!(matches!(refused, Refusal::Forbidden(_)), "{refused}");
    let still = timeout(Duration::from_millis(50), by_claims.ended()).await;
    assert!(still.is_err(), "what claims grant needs no gate");
}

#[tokio::test]
async fn a_gate_whose_time_is_past_is_asked_again_but_not_without_end() {
    let (access, metrics) = by_gate();
    let ann = with_token(&access, &token_for("ann", 600)).await.expect("it is good");
    // This gate's `until` is in 1970.
    let mut permit = admit(&access, &ann, &["allowed"]).await.expect("the gate lets her");
    let again = async {
        while calls(&metrics) < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await
        }
    };
    let began = std::time::Instant::now();
    timeout(PATIENCE, async {
        tokio::select! { refusal = permit.ended() => panic!("{refusal}"), () = again => {} }
    })
    .await
    .expect("it is asked again");
    assert!(began.elapsed() >= crate::limits::GATE_INTERVAL_MIN, "twice in no time");
}

#[tokio::test]
async fn the_gate_is_told_whether_the_subject_follows_whom_the_channel_is_of() {
    let (access, follows, _) = by_graph();
    let ann = with_token(&access, &token_for("ann", 60)).await.expect("it is good");
    let refused = admit(&access, &ann, &["Followers:bob"]).await.expect_err("she does not");
    assert_eq!(refused, Refusal::Forbidden("Followers:bob".into()));
    follows.turn(&access, "ann", "bob", true);
    assert!(admit(&access, &ann, &["allowed", "Followers:bob"]).await.is_ok());
    for channels in
        [&["Followers:eve"][..], &["Followers:bob", "Followers:eve"], &["Followers:Followers:bob"]]
    {
        assert!(admit(&access, &ann, channels).await.is_err(), "{channels:?}");
    }
    let prefix = [Wanted::prefix("Followers:bob")];
    assert!(access.admit(ann, &prefix, access.doubts()).await.is_err(), "it is the beginning of others, too");
    let nobody = nobody(&access).await;
    assert!(admit(&access, &nobody, &["Followers:bob"]).await.is_err());
    let unknown = with_token(&access, &token_for("nobody-knows", 60)).await.expect("it is good");
    assert_eq!(admit(&access, &unknown, &["Followers:bob"]).await.expect_err("who knows"), Refusal::GateBusy);
}

#[tokio::test]
async fn an_edge_that_turns_has_the_gate_asked_again_for_its_channel_alone() {
    let (access, follows, metrics) = by_graph();
    let ann = with_token(&access, &token_for("ann", 600)).await.expect("it is good");
    follows.turn(&access, "ann", "bob", true);
    follows.turn(&access, "ann", "eve", true);
    let mut of_eve = admit(&access, &ann, &["Followers:eve"]).await.expect("she follows");
    let doubts = access.doubts();
    let wanted = [Wanted::channel("Followers:bob")];
    let mut of_bob = access.admit(ann, &wanted, Arc::clone(&doubts)).await.expect("she follows");
    let term = of_bob.term();
    let asked = calls(&metrics);
    follows.turn(&access, "ann", "cat", true);
    follows.turn(&access, "dan", "bob", true);
    assert_eq!(term.settled(), doubts.count(), "what has that to do with it");
    follows.turn(&access, "ann", "bob", true);
    assert_ne!(term.settled(), doubts.count(), "it is doubted at once");
    {
        let mut ended = std::pin::pin!(of_bob.ended());
        let settled = async {
            while term.settled() != doubts.count() {
                tokio::task::yield_now().await
            }
        };
        timeout(PATIENCE, async {
            tokio::select! { refusal = &mut ended => panic!("{refusal}"), () = settled => {} }
        })
        .await
        .expect("she still follows");
    }
    assert_eq!(calls(&metrics), asked + 1);
    follows.turn(&access, "ann", "bob", false);
    let refused = timeout(PATIENCE, of_bob.ended()).await.expect("it ends");
    assert_eq!(refused, Refusal::Forbidden("Followers:bob".into()));
    drop(of_bob);
    assert!(timeout(Duration::from_millis(50), of_eve.ended()).await.is_err(), "she still follows eve");
    assert_eq!(calls(&metrics), asked + 2);
    drop(of_eve);
    assert_eq!(access.edges().subjects_count(), 0);
}

#[tokio::test]
async fn a_ticket_is_for_one_that_is_known_and_speaks_for_them_once() {
    let (access, _) = by_tokens(|_| {});
    let nobody = nobody(&access).await;
    assert_eq!(access.issue_ticket(&nobody).expect_err("for whom?"), Refusal::Unauthenticated);
    let ann = with_token(&access, &token_for("ann", 60)).await.expect("it is good");
    let ticket = access.issue_ticket(&ann).expect("there is room");
    let headers = HeaderMap::new();
    let head = Head { headers: &headers, authority: None, ticket: Some(&ticket), address: ADDRESS };
    let visitor = access.identify(&head, Deed::Socket).await.expect("it is new");
    assert_eq!(visitor.identity.subject(), Some("ann"));
    assert_eq!(visitor.identity.until(), ann.identity.until());
    assert_eq!(access.identify(&head, Deed::Socket).await.expect_err("it is used"), Refusal::Ticket);
}

#[tokio::test]
async fn a_cookie_counts_only_for_pages_of_here_and_of_the_list() {
    let (access, metrics) = by_tokens(|settings| {
        settings.cookie = Some("sid".into());
        settings.origins = vec!["https://shop.example".into()];
    });
    let cookie = format!("sid={}", token_for("ann", 60));
    for (origin, deed, may) in [
        (Some("https://shop.example"), Deed::Read, true),
        (Some("https://live.example"), Deed::Socket, true),
        (None, Deed::Read, true),
        (None, Deed::Write, false),
        (Some("https://evil.example"), Deed::Read, false),
        (Some("https://evil.example"), Deed::Socket, false),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("cookie", cookie.parse().expect("it is a header"));
        if let Some(origin) = origin {
            headers.insert("origin", origin.parse().expect("it is a header"));
        }
        let head =
            Head { headers: &headers, authority: Some("live.example"), ticket: None, address: ADDRESS };
        let visitor = access.identify(&head, deed).await;
        assert_eq!(
            visitor.is_ok_and(|visitor| visitor.identity.subject() == Some("ann")),
            may,
            "{origin:?} {deed:?}"
        );
    }
    assert_eq!(metrics.access_refusals.read(), [("origin", 3)]);
}
