//! A page of a timeline over HTTP: what it holds, where it goes on, who may read it.

use super::*;
use crate::event::{FeedPost, FeedWrite, Micros, Plan};
use crate::http::tests::Client;
use crate::timeline::in_folder;

fn post(author: &str, item: i64) -> FeedWrite {
    let post = FeedPost {
        author: author.into(),
        item: item.to_string().into(),
        payload: format!(r#"{{"id":{item}}}"#).into(),
        time: Micros(item),
        committed_at: Micros(item),
    };
    FeedWrite::Post { post, plan: Plan::HOSTS_OWN }
}

async fn page(fixture: &Fixture, target: &str) -> serde_json::Value {
    let client = Client::get(fixture.address(), target, &[]).await;
    assert_eq!(client.status(), "200", "{target}");
    client.json().await
}

fn items(page: &serde_json::Value) -> Vec<&str> {
    let entries = page["entries"].as_array().expect("there is a list");
    entries.iter().map(|entry| entry["item"].as_str().expect("an item is a text")).collect()
}

#[tokio::test]
async fn a_timeline_is_read_in_pages_and_changes_with_whom_one_follows() {
    let folder = tempfile::tempdir().expect("a folder");
    let timelines = in_folder(folder.path()).await;
    let follow = |followee: &str| FeedWrite::Follow { follower: "é/1".into(), followee: followee.into() };
    let writes = vec![follow("ann"), post("ann", 1), post("bob", 2), post("ann", 3), post("ann", 4)];
    timelines.apply(writes).await.expect("the state is there");
    let bus = MemoryBus::new(1);
    let fixture = Fixture::keeping(bus, Some(timelines.clone()), open_to_all(), |_| {}).await;

    let first = page(&fixture, "/v1/timelines/%C3%A9%2F1?limit=2").await;
    let newest =
        serde_json::json!({"author": "ann", "item": "4", "time": 4, "edits": 0, "payload": {"id": 4}});
    assert_eq!(first["entries"][0], newest);
    assert_eq!(items(&first), ["4", "3"]);
    let next = first["next"].as_str().expect("there is more");
    timelines.apply(vec![post("ann", 5)]).await.expect("the state is there");
    let second = page(&fixture, &format!("/v1/timelines/%C3%A9%2F1?limit=2&cursor={next}")).await;
    assert_eq!((items(&second), &second["next"]), (vec!["1"], &serde_json::Value::Null));

    let unfollow = FeedWrite::Unfollow { follower: "é/1".into(), followee: "ann".into() };
    timelines.apply(vec![unfollow, follow("bob")]).await.expect("the state is there");
    assert_eq!(items(&page(&fixture, "/v1/timelines/%C3%A9%2F1").await), ["2"]);
    assert_eq!(items(&page(&fixture, "/v1/timelines/nobody").await), [""; 0]);
}

#[tokio::test]
async fn what_is_no_page_of_a_timeline_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let timelines = in_folder(folder.path()).await;
    let fixture = Fixture::keeping(MemoryBus::new(1), Some(timelines), open_to_all(), |_| {}).await;
    let long = "u".repeat(256);
    let refused = async |target: &str| {
        let client = Client::get(fixture.address(), target, &[]).await;
        let status = client.status().to_owned();
        (status, client.json().await["error"]["reason"].as_str().unwrap_or_default().to_owned())
    };
    for (target, reason) in [
        ("/v1/timelines/ann?cursor=new", "query_invalid"),
        ("/v1/timelines/ann?limit=0", "query_invalid"),
        ("/v1/timelines/ann?limit=501", "query_invalid"),
        ("/v1/timelines/%FF", "channel_invalid"),
        ("/v1/timelines/%0A", "channel_invalid"),
        (&format!("/v1/timelines/{long}"), "query_invalid"),
    ] {
        assert_eq!(refused(target).await, ("400".to_owned(), reason.to_owned()), "{target}");
    }
    assert_eq!(refused("/v1/timelines/ann?token=x").await.1, "credential_invalid");
    let without = Fixture::start().await;
    let client = Client::get(without.address(), "/v1/timelines/ann", &[]).await;
    assert_eq!(client.status(), "404");
}
