//! Who may listen, as clients see it.

use super::Fixture;
use super::memory_bus::{MemoryBus, message};
use crate::access::tests::{a_gate, by_tokens, token_for};
use crate::access::{Access, Gate};
use crate::event::Retention;
use crate::http::tests::Client;

async fn fixture(access: Access) -> Fixture {
    Fixture::guarded(MemoryBus::new(0x9f3c), access, |_| {}).await
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

async fn refusal(fixture: &Fixture, method: &str, target: &str, headers: &[(&str, &str)]) -> String {
    let client = Client::request(fixture.address(), method, target, headers).await;
    let challenge = client.header("www-authenticate").unwrap_or("-").to_owned();
    let status = client.status().to_owned();
    let error = &client.json().await["error"];
    let text = |name: &str| error[name].as_str().expect("it is a text").to_owned();
    let (reason, reconnect, message) = (text("reason"), text("reconnect"), text("message"));
    format!("{status} {} {reason} {reconnect} [{challenge}]: {message}", error["code"])
}

#[tokio::test]
async fn every_refusal_of_who_may_listen_has_a_number_a_reason_and_a_sentence() {
    let (access, metrics) = by_tokens(|settings| settings.origins = vec!["https://shop.example".into()]);
    access.put_gate::<std::io::Error>(Ok(Some(a_gate())));
    let fixture = fixture(access).await;
    let (ann, old) = (bearer(&token_for("ann", 60)), bearer(&token_for("ann", -60)));
    let mut all = Vec::new();
    for (method, target, headers) in [
        ("GET", "/v1/events?channel=user:ann", &[][..]),
        ("GET", "/v1/channels", &[]),
        ("POST", "/v1/tickets", &[]),
        ("GET", "/v1/events?channel=user:ann", &[("Authorization", "Bearer a.b.c")]),
        ("GET", "/v1/events?channel=user:ann", &[("Authorization", &*old)]),
        ("GET", "/v1/events?channel=user:ann&channel=forbidden", &[("Authorization", &*ann)]),
        ("GET", "/v1/events?channel=user:ann&channel=T", &[("Authorization", &*ann)]),
        ("GET", "/v1/channels?prefix=f", &[("Authorization", &*ann)]),
        ("GET", "/v1/events?channel=user:ann", &[("Authorization", &*ann), ("Authorization", &*ann)]),
        ("GET", "/v1/events?channel=user:ann&ticket=a", &[("Authorization", &*ann)]),
        ("GET", "/v1/events?channel=user:ann&ticket=a", &[]),
        ("GET", "/v1/events?channel=user:ann&access_token=a", &[]),
        ("GET", "/v1/tickets", &[("Authorization", &*ann)]),
        ("OPTIONS", "/v1/events", &[("Origin", "https://evil.example")]),
    ] {
        all.push(refusal(&fixture, method, target, headers).await);
    }
    insta::assert_snapshot!(all.join("\n"));
    assert_eq!(fixture.gateway.streams_count(), 0);
    let counted: u64 = metrics.access_refusals.read().iter().map(|(_, count)| count).sum();
    assert_eq!(counted, 13, "all but the wrong method");
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_says_so() {
    let fixture = fixture(by_tokens(|_| {}).0).await;
    let token = bearer(&token_for("ann", 2));
    let headers = [("Authorization", &*token)];
    let mut client = Client::get(fixture.address(), "/v1/events?channel=user:ann", &headers).await;
    assert_eq!(client.status(), "200");
    assert!(client.block().await);
    fixture.bus.publish_message(message("user:ann", "insert", "1", Retention::Kept));
    assert_eq!(client.event().await.expect("it is hers").data, "1");
    let last = client.last_id.clone();
    let end = client.event().await.expect("the end is said");
    assert_eq!(end.event, "refused");
    assert_eq!(
        end.data,
        r#"{"code":4022,"message":"the token has expired: come back with a new one","reason":"token_expired","reconnect":"never"}"#
    );
    assert_eq!(client.last_id, last, "the client goes on from what it has");
    assert_eq!(client.event().await, None);
    fixture.streams(0).await;
    // With a new one it does.
    fixture.bus.publish("user:ann", "2");
    let token = bearer(&token_for("ann", 60));
    let headers = [("Authorization", &*token), ("Last-Event-ID", &*last)];
    let mut client = Client::get(fixture.address(), "/v1/events?channel=user:ann", &headers).await;
    assert_eq!(client.data(1).await, ["2"]);
}

#[tokio::test]
async fn a_busy_stream_ends_as_well_and_nothing_comes_after_the_end() {
    let (access, _) = by_tokens(|_| {});
    access.put_gate::<std::io::Error>(Ok(Some(a_gate())));
    let fixture = fixture(access.clone()).await;
    let token = bearer(&token_for("ann", 600));
    let headers = [("Authorization", &*token)];
    let mut client = Client::get(fixture.address(), "/v1/events?channel=allowed", &headers).await;
    assert!(client.block().await);
    let gone: Result<Option<Gate>, std::io::Error> = Ok(None);
    access.put_gate(gone);
    let publishing = async {
        loop {
            fixture.bus.publish("allowed", "x");
            tokio::task::yield_now().await;
        }
    };
    let ending = async {
        loop {
            let event = client.event().await.expect("the end is said");
            if event.event == "refused" {
                return event;
            }
        }
    };
    let end = tokio::select! { end = ending => end, () = publishing => unreachable!() };
    assert!(end.data.contains("\"code\":4024"), "{}", end.data);
    assert_eq!(client.event().await, None);
}

#[tokio::test]
async fn a_ticket_opens_one_stream() {
    let fixture = fixture(by_tokens(|_| {}).0).await;
    let token = bearer(&token_for("ann", 60));
    let answer =
        Client::request(fixture.address(), "POST", "/v1/tickets", &[("Authorization", &token)]).await;
    assert_eq!((answer.status(), answer.header("cache-control")), ("200", Some("no-store")));
    let answer = answer.json().await;
    assert_eq!(answer["expires_in"], 30);
    let ticket = answer["ticket"].as_str().expect("it is a text");
    let target = format!("/v1/events?channel=user:ann&ticket={ticket}");
    let mut client = Client::get(fixture.address(), &target, &[]).await;
    assert_eq!(client.status(), "200");
    assert!(client.block().await);
    fixture.bus.publish("user:ann", "hers");
    assert_eq!(client.data(1).await, ["hers"]);
    let again = refusal(&fixture, "GET", &target, &[]).await;
    assert!(again.starts_with("401 4023 ticket_invalid never"), "{again}");
}

#[tokio::test]
async fn pages_of_listed_origins_may_read_and_are_told_so() {
    let fixture =
        fixture(by_tokens(|settings| settings.origins = vec!["https://shop.example".into()]).0).await;
    let listed = ("Origin", "https://shop.example");
    let headers = [
        listed,
        ("Access-Control-Request-Method", "GET"),
        ("Access-Control-Request-Headers", "authorization"),
    ];
    let asked = Client::request(fixture.address(), "OPTIONS", "/v1/events?channel=a", &headers).await;
    assert_eq!(asked.status(), "204");
    assert_eq!(asked.header("access-control-allow-origin"), Some(listed.1));
    assert_eq!(asked.header("access-control-allow-methods"), Some("GET, POST"));
    assert!(
        asked.header("access-control-allow-headers").is_some_and(|names| names.contains("authorization"))
    );
    assert_eq!(asked.header("vary"), Some("Origin"));
    for (target, status) in [("/v1/events?channel=public:x", "200"), ("/v1/events?channel=x", "401")] {
        let answer = Client::get(fixture.address(), target, &[listed]).await;
        assert_eq!((answer.status(), answer.header("access-control-allow-origin")), (status, Some(listed.1)));
        let other = Client::get(fixture.address(), target, &[("Origin", "https://evil.example")]).await;
        assert_eq!((other.status(), other.header("access-control-allow-origin")), (status, None));
    }
}

#[tokio::test]
async fn channels_are_listed_for_those_who_may_listen_to_all_of_them() {
    let fixture = fixture(by_tokens(|_| {}).0).await;
    fixture.bus.publish("public:1", "x");
    fixture.bus.publish("user:ann", "x");
    let open = Client::get(fixture.address(), "/v1/channels?prefix=public:", &[]).await;
    assert_eq!(open.text().await, r#"{"channels":["public:1"],"next":null}"#);
    for target in ["/v1/channels", "/v1/channels?prefix=user:", "/v1/channels?prefix=public"] {
        let refused = refusal(&fixture, "GET", target, &[]).await;
        assert!(refused.starts_with("401 4020"), "{target}: {refused}");
    }
}
