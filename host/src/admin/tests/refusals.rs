//! Who is let in, and what is refused.

use serde_json::Value;

use super::{AUTHORIZATION, Fixture};
use crate::deploy::tests::digest;
use crate::http::tests::Client;
use crate::limits::{ADMIN_JSON_BYTES_MAX, PLUGIN_BYTES_MAX};

async fn refusal(client: Client) -> String {
    let status = client.status().to_owned();
    assert_eq!(client.header("content-type"), Some("application/json"));
    let body: Value = client.json().await;
    let error = &body["error"];
    format!("{status} {}: {}", error["code"].as_str().unwrap(), error["message"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_token_nothing_is_told_and_no_body_is_read() {
    let fixture = Fixture::start().await;
    for target in ["/v1/plugins", "/v1/nowhere", "/metrics", "/v1/events", "/nowhere/else"] {
        for authorization in ["", "Bearer", "Bearer ", "Bearer 0123456789abcdeF", "Basic 0123456789abcdef"] {
            let client = Client::get(fixture.address(), target, &[("Authorization", authorization)]).await;
            assert_eq!(client.header("www-authenticate"), Some("Bearer"));
            assert!(refusal(client).await.starts_with("401 unauthorized: the header"), "{authorization}");
        }
    }
    // The body never comes, and the answer does all the same.
    let headers = [("Content-Length", "8000000")];
    let client = Client::request(fixture.address(), "POST", "/v1/components", &headers).await;
    assert_eq!(client.status(), "401");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_the_server_lives_and_is_ready_is_told_in_a_word() {
    let fixture = Fixture::start().await;
    let word = async |target: &str| {
        let client = Client::get(fixture.address(), target, &[]).await;
        (client.status().to_owned(), client.text().await)
    };
    assert_eq!(word("/healthz").await, ("200".into(), "ok\n".into()));
    assert_eq!(word("/readyz").await, ("503".into(), "starting\n".into()));
    fixture.readiness.set();
    assert_eq!(word("/readyz").await, ("200".into(), "ok\n".into()));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_is_whole_and_forbids_everything_from_elsewhere() {
    let fixture = Fixture::start().await;
    for (target, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/dashboard.js", "text/javascript; charset=utf-8"),
        ("/server.js", "text/javascript; charset=utf-8"),
        ("/theme.css", "text/css; charset=utf-8"),
        ("/events.js", "text/javascript; charset=utf-8"),
        ("/dashboard.css", "text/css; charset=utf-8"),
    ] {
        let client = Client::get(fixture.address(), target, &[]).await;
        assert_eq!((client.status(), client.header("content-type")), ("200", Some(kind)), "{target}");
        let policy = client.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{policy}");
        let text = client.text().await;
        assert!(!text.contains("://") && !text.contains("innerHTML"), "{target}");
    }
    assert_eq!(Client::request(fixture.address(), "POST", "/", &[]).await.status(), "405");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_a_code_and_says_what_to_do() {
    let fixture = Fixture::start().await;
    let active = format!(r#"{{"digest":"{}"}}"#, digest(0));
    fixture.json("POST", "/v1/plugins/p/activate", &active).await;
    let with = |rest: &str| format!(r#"{{"digest":"{}",{rest}}}"#, digest(1));
    let unknown = format!(r#"{{"digest":"{}"}}"#, "0".repeat(64));
    let long = format!(r#"{{"digest":"{}"}}"#, "0".repeat(ADMIN_JSON_BYTES_MAX));
    let mut all = Vec::new();
    for (method, target, body) in [
        ("GET", "/v1/nowhere", ""),
        ("DELETE", "/v1/plugins", ""),
        ("GET", "/v1/plugins/p/activate", ""),
        ("POST", "/v1/components?profile=huge", ""),
        ("GET", "/v1/plugins?prefix=a", ""),
        ("GET", "/v1/plugins/other", ""),
        ("POST", "/v1/plugins/p/activate", "{"),
        ("POST", "/v1/plugins/p/activate", r#"{"digets":"x"}"#),
        ("POST", "/v1/plugins/p/activate", r#"{"digest":"x"}"#),
        ("POST", "/v1/plugins/other/activate", "{}"),
        ("POST", "/v1/plugins/p/activate", &unknown),
        ("POST", "/v1/plugins/p/activate", &active),
        ("POST", "/v1/plugins/P/activate", &active),
        ("POST", "/v1/plugins/p/activate", &with(r#""grants":{"topics":["*"]}"#)),
        ("POST", "/v1/plugins/p/activate", &with(r#""grants":{"channels":["a*b"]}"#)),
        ("POST", "/v1/plugins/p/activate", &with(r#""on_fault":"panic""#)),
        ("POST", "/v1/plugins/p/activate", &with(r#""profile":"huge""#)),
        ("POST", "/v1/plugins/p/activate", &long),
        ("POST", "/v1/plugins/p/check", &active),
        ("POST", "/v1/plugins/p/check?last=0", &active),
        ("POST", "/v1/plugins/p/roll-back", ""),
        ("POST", "/v1/plugins/p/roll-back", r#"{"to":9}"#),
        ("POST", "/v1/plugins/other/deactivate", ""),
        ("GET", "/v1/plugins/p/shadow", ""),
        ("GET", "/v1/plugins/other/logs", ""),
        ("POST", "/v1/pipeline/resume", ""),
        ("GET", "/v1/dead-letters/7", ""),
        ("GET", "/v1/dead-letters/x", ""),
        ("POST", "/v1/dead-letters/7/replay?force=yes", ""),
        ("DELETE", "/v1/dead-letters", ""),
        ("GET", "/v1/changes?last=0", ""),
    ] {
        all.push(refusal(fixture.ask(method, target, body).await).await);
    }
    insta::assert_snapshot!(all.join("\n"));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_before_it_is_read() {
    let fixture = Fixture::start().await;
    let length = (PLUGIN_BYTES_MAX + 1).to_string();
    let headers = [AUTHORIZATION, ("Content-Length", &length)];
    let client = Client::request(fixture.address(), "POST", "/v1/components", &headers).await;
    let said = refusal(client).await;
    assert!(
        said.starts_with("413 too_large: the component has more than 8388608 bytes: build it in"),
        "{said}"
    );
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_is_a_short_printable_name() {
    let fixture = Fixture::start().await;
    let long = "a".repeat(65);
    for by in ["", "a\tb", long.as_str()] {
        let headers = [AUTHORIZATION, ("X-Twohop-By", by)];
        let client = Client::request(fixture.address(), "GET", "/v1/plugins/p", &headers).await;
        assert!(refusal(client).await.starts_with("400 request_invalid: the header X-Twohop-By"), "{by:?}");
    }
    fixture.stop().await;
}

/// The routes that `docs/admin.md` has as headings, with a name and a number in place.
fn documented() -> Vec<(String, String)> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/admin.md")).unwrap();
    let headings = page.lines().filter_map(|line| line.strip_prefix("### "));
    let routes = headings.filter_map(|heading| heading.split_once(' '));
    routes.map(|(method, path)| (method.into(), path.replace("{name}", "p").replace("{id}", "7"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_the_page_is_there() {
    let fixture = Fixture::start().await;
    let documented = documented();
    assert!(documented.len() > 20, "{documented:?}");
    for (method, path) in documented {
        let client = fixture.ask(&method, &path, "").await;
        let status = client.status().to_owned();
        assert_ne!(status, "405", "{method} {path}");
        if status == "404" {
            let said = refusal(client).await;
            assert!(!said.starts_with("404 not_found"), "{method} {path}: {said}");
        }
    }
    fixture.stop().await;
}

#[test]
fn every_code_is_on_the_page() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/admin.md")).unwrap();
    for source in ["refusal.rs", "letters.rs", "plugins.rs", "components.rs", "body.rs"] {
        let text =
            std::fs::read_to_string(format!("{}/src/admin/{source}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let texts = text.split('"').skip(1).step_by(2);
        let is_code =
            |text: &&str| text.contains('_') && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        for code in texts.filter(is_code).filter(|text| *text != "only_active") {
            assert!(page.contains(&format!("`{code}`")), "{code} of {source} is not in docs/admin.md");
        }
    }
}
