//! The life of a plugin, its dead letters, and what is told of both.

use serde_json::{Value, json};

use super::{AUTHORIZATION, Fixture};
use crate::deploy::tests::digest;
use crate::deploy::tests::{Bus, CODES, P, change};
use crate::event::encode;
use crate::http::tests::Client;
use crate::policy::tests::router_by;

fn asked(code: usize) -> String {
    json!({"digest": digest(code).to_string()}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_comes_raw_or_in_a_form() {
    let fixture = Fixture::start().await;
    let wasm = router_by(CODES[0]);
    let form = [
        &b"--x\r\nContent-Disposition: form-data; name=\"component\"; filename=\"a.wasm\"\r\n\r\n"[..],
        &wasm,
        b"\r\n--x--\r\n",
    ]
    .concat();
    for (kind, body) in [("application/wasm", &wasm), ("multipart/form-data; boundary=x", &form)] {
        let headers = [AUTHORIZATION, ("Content-Type", kind)];
        let client = Client::send(fixture.address(), "POST", "/v1/components", &headers, Some(body)).await;
        let component = client.json().await;
        assert_eq!(component["digest"], digest(0).to_string());
        assert_eq!((&component["stages"], &component["by"]), (&json!(["router"]), &json!("anna")));
    }
    let listed = fixture.get("/v1/components").await;
    assert_eq!(listed["components"].as_array().unwrap().len(), 4);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_checked_shadowed_activated_rolled_back_and_the_audit_list_says_who_did_it() {
    let fixture = Fixture::start().await;
    let headers = [AUTHORIZATION, ("X-Twohop-By", "Bärbel")];
    let body = json!({
        "digest": digest(0).to_string(),
        "settings": {"a": "b"},
        "grants": {"channels": ["one:*", "two:*"]},
        "order": 3,
    });
    let body = body.to_string();
    let target = "/v1/plugins/p/activate";
    let client = Client::send(fixture.address(), "POST", target, &headers, Some(body.as_bytes())).await;
    assert_eq!(client.json().await, json!({"plugin": "p", "generation": 1, "from": 0}));
    fixture.server.judge(3).await;

    let checked = fixture.json("POST", "/v1/plugins/p/check?last=2", &asked(1)).await;
    assert_eq!((&checked["seen"], &checked["different"]), (&json!(2), &json!(2)));
    assert_eq!(checked["examples"].as_array().unwrap().len(), 2);
    let shadow = fixture.json("PUT", "/v1/plugins/p/shadow", &asked(1)).await;
    // What is not said is as in the active generation.
    assert_eq!(shadow["candidate"]["settings"], json!({"a": "b"}));
    assert_eq!(shadow["candidate"]["order"], 3);
    assert_eq!(fixture.get("/v1/plugins/p").await["shadow"]["digest"], digest(1).to_string());
    let report = fixture.json("DELETE", "/v1/plugins/p/shadow", "").await;
    assert_eq!((&report["plugin"], &report["by"]), (&json!("p"), &json!("admin")));

    let second = fixture.json("POST", target, &asked(1)).await;
    assert_eq!(second, json!({"plugin": "p", "generation": 2, "from": 3}));
    fixture.server.judge(1).await;
    let back = fixture.json("POST", "/v1/plugins/p/roll-back", "").await;
    assert_eq!(back, json!({"plugin": "p", "generation": 3, "from": 4}));
    let shown = fixture.get("/v1/plugins/p").await;
    assert_eq!(
        (&shown["state"], &shown["active"]["digest"]),
        (&json!("active"), &json!(digest(0).to_string()))
    );
    assert_eq!(shown["generations"].as_array().unwrap().len(), 3);
    assert_eq!((&shown["counters"]["changes"], &shown["counters"]["routes"]), (&json!(4), &json!(4)));
    let gone = fixture.json("POST", "/v1/plugins/p/deactivate", "").await;
    assert_eq!(gone, json!({"plugin": "p", "from": 4}));
    assert_eq!(fixture.get("/v1/plugins").await["plugins"][0]["state"], "inactive");

    let first = fixture.get("/v1/audit?limit=5").await;
    assert_eq!((first["entries"][4]["by"].as_str(), &first["next"]), (Some("Bärbel"), &json!(5)));
    let rest = fixture.get("/v1/audit?after=5").await;
    let actions: Vec<_> = rest["entries"].as_array().unwrap().iter().map(|entry| &entry["action"]).collect();
    assert_eq!(actions, ["shadow-started", "shadow-stopped", "activated", "rolled-back", "deactivated"]);
    assert_eq!(rest["next"], Value::Null);
    fixture.stop().await;
}

/// Appends a change on which the first code traps, and one after it on which it does not.
async fn append_trap(fixture: &Fixture) {
    let values = [["T", "two:0", "three:0", "four:0"], ["one:1", "two:1", "three:1", "four:1"]];
    let records = values.map(|values| encode(&change(&values.map(str::to_owned)))).to_vec();
    let mut head = fixture.server.bus.head();
    fixture.server.log.append(P, records).await.unwrap();
    head.wait_for(|head| head.0 >= 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_listed_shown_replayed_and_discarded() {
    let fixture = Fixture::start().await;
    fixture.json("POST", "/v1/plugins/p/activate", &asked(0)).await;
    append_trap(&fixture).await;
    let listed = fixture.get("/v1/dead-letters?plugin=p").await;
    let letter = &listed["letters"][0];
    assert_eq!(
        (&letter["plugin"], &letter["stage"], &letter["offset"]),
        (&json!("p"), &json!("router"), &json!(0))
    );
    assert_eq!((&letter["change"]["table"], &letter["change"]["operation"]), (&json!("t"), &json!("insert")));
    assert_eq!(letter.get("row"), None);
    let id = &letter["id"];
    let shown = fixture.get(&format!("/v1/dead-letters/{id}")).await;
    assert_eq!(shown["row"]["one"], "T");

    // Another component can digest it.
    fixture.json("POST", "/v1/plugins/p/activate", &asked(1)).await;
    let target = format!("/v1/dead-letters/{id}/replay");
    let refused = fixture.ask("POST", &target, "").await;
    assert_eq!(
        (refused.status().to_owned(), refused.json().await["error"]["code"].clone()),
        ("409".into(), json!("letter_may_be_outdated"))
    );
    let mut head = fixture.server.bus.head();
    let replayed = fixture.json("POST", &format!("{target}?force=true"), "").await;
    assert_eq!(replayed, json!({"id": id, "offset": 2}));
    head.wait_for(|head| head.0 >= 2).await.unwrap();
    assert_eq!(fixture.get("/v1/dead-letters").await, json!({"letters": [], "next": null}));
    assert_eq!(fixture.ask("DELETE", &format!("/v1/dead-letters/{id}"), "").await.status(), "404");
    let none = fixture.json("DELETE", "/v1/dead-letters?plugin=p", "").await;
    assert_eq!(none, json!({"discarded": 0}));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_shown_and_ended() {
    let fixture = Fixture::start().await;
    let body = json!({"digest": digest(0).to_string(), "on_fault": "pause"}).to_string();
    fixture.json("POST", "/v1/plugins/p/activate", &body).await;
    fixture.readiness.set();
    let mut entries = fixture.server.deployer.events();
    let records = vec![encode(&change(&["T", "two:0", "three:0", "four:0"].map(str::to_owned)))];
    fixture.server.log.append(P, records).await.unwrap();
    entries.recv().await.unwrap();
    let ready =
        async { while Client::get(fixture.address(), "/readyz", &[]).await.text().await != "paused\n" {} };
    tokio::time::timeout(crate::http::tests::PATIENCE, ready).await.unwrap();
    let pipeline = fixture.get("/v1/pipeline").await;
    assert_eq!(
        (&pipeline["state"], &pipeline["plugin"], &pipeline["offset"]),
        (&json!("paused"), &json!("p"), &json!(0))
    );
    fixture.json("POST", "/v1/pipeline/resume", "").await;
    fixture.server.judge(1).await;
    assert_eq!(fixture.get("/v1/pipeline").await["state"], "running");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_as_prometheus_reads_them() {
    let fixture = Fixture::start().await;
    fixture.json("POST", "/v1/plugins/p/activate", &asked(0)).await;
    append_trap(&fixture).await;
    let text = fixture.ask("GET", "/metrics", "").await.text().await;
    for line in [
        "# TYPE twohop_changes_total counter",
        "twohop_pipeline_offset 2",
        "twohop_log_end_offset 2",
        "twohop_pipeline_paused 0",
        "twohop_history_head 1",
        "twohop_streams{face=\"sse\"} 0",
        "twohop_sent_messages_total{face=\"websocket\"} 0",
        "twohop_cuts_total{reason=\"stalled\"} 0",
        "twohop_plugin_generation{plugin=\"p\"} 1",
        "twohop_plugin_quarantined{plugin=\"p\"} 0",
        "twohop_plugin_changes_total{plugin=\"p\"} 2",
        "twohop_plugin_routes_total{plugin=\"p\"} 1",
        "twohop_plugin_dead_letters_total{plugin=\"p\"} 1",
    ] {
        assert!(text.lines().any(|own| own == line), "no `{line}` in:\n{text}");
    }
    assert!(!text.contains("twohop_plugin_faults_total{plugin=\"p\"} 0"), "{text}");
    fixture.stop().await;
}
