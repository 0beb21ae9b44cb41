//! Plugins change while the host runs, by HTTP and by the command line: each step, its effect, and what is refused.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use twohop_tests::{Follower, Setup, Stand};
use xtask::place;
use xtask::sse::Event;

const WITHIN: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

fn component() -> Result<String> {
    Ok(place::plugin("row-router")?.display().to_string())
}

fn insert(stand: &Stand, number: u32) -> Result<()> {
    stand.postgres.psql(&format!("INSERT INTO notes VALUES ({number}, {number}, 1, 'x')")).map(drop)
}

fn numbers(events: &[Event]) -> Vec<i64> {
    let number = |event: &Event| serde_json::from_str::<Value>(&event.data).ok()?["number"].as_i64();
    events.iter().filter_map(number).collect()
}

fn last_line(text: &str) -> &str {
    text.trim_end().rsplit('\n').next().unwrap_or_default()
}

/// The first offset that is not judged.
fn committed(stand: &Stand) -> Result<u64> {
    stand.ask("GET", "/v1/pipeline", b"")?.1["committed"].as_u64().context("it is a number")
}

/// Waits until the pipeline has judged so many changes.
async fn judged(stand: &Stand, count: u64) -> Result<()> {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    let seen = async {
        loop {
            looks.tick().await;
            if committed(stand)? >= count {
                return anyhow::Ok(());
            }
        }
    };
    tokio::time::timeout(WITHIN, seen).await.context("the pipeline does not get there")?
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_changed_and_taken_back_at_the_command_line_while_changes_flow() -> Result<()> {
    let mut stand = Stand::start(&Setup::default())?;
    let wasm = component()?;
    let mut follower = Follower::connect(stand.address(), &["notes"]).await?;
    insert(&stand, 1)?;
    follower.wait_until("the first row", WITHIN, |events| !events.is_empty()).await?;

    assert!(stand.said(&["plugin", "upload", &wasm])?.starts_with("uploaded row-router "));
    let listed = stand.said(&["plugin", "list"])?;
    assert!(listed.starts_with("NAME        STATE   GENERATION  COMPONENT"), "{listed}");
    assert_eq!(last_line(&listed), "1 plugins, 1 active");

    // The same component that routes another table: nothing of what is routed now would be.
    let other = ["--setting", "tables=others"];
    let checked = stand.said(&[&["plugin", "check", "row-router", &wasm], &other[..]].concat())?;
    assert_eq!(last_line(&checked), "different for 1 of 1 changes", "{checked}");
    let same = stand.said(&["plugin", "check", "row-router", &wasm])?;
    assert_eq!(last_line(&same), "the same for all 1 of 1 changes", "{same}");
    stand.said(&[&["plugin", "shadow", "row-router", &wasm], &other[..]].concat())?;
    insert(&stand, 2)?;
    follower.wait_until("the second row", WITHIN, |events| events.len() >= 2).await?;
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    let report = async {
        loop {
            looks.tick().await;
            let report = stand.said(&["plugin", "shadow", "row-router", "--report"])?;
            if last_line(&report) == "different for 1 of 1 changes" {
                return anyhow::Ok(report);
            }
        }
    };
    let report = tokio::time::timeout(WITHIN, report).await.context("the shadow sees nothing")??;
    assert!(report.contains("\npublic.notes 2 ") && report.contains("\n  - "), "{report}");
    stand.said(&["plugin", "shadow", "row-router", "--stop"])?;

    let from = committed(&stand)?;
    let activated = stand.said(
        &[&["plugin", "activate", "row-router", &wasm], &other[..], &["--grant", "channels=notes*"]].concat(),
    )?;
    assert_eq!(last_line(&activated), format!("row-router generation 2 judges from offset {from} on"));
    insert(&stand, 3)?;
    judged(&stand, from + 1).await?;
    let back = stand.said(&["plugin", "roll-back", "row-router"])?;
    let expected = format!("row-router is as before, as generation 3, from offset {} on", from + 1);
    assert_eq!(last_line(&back), expected);
    insert(&stand, 4)?;
    let events = follower.wait_until("the fourth row", WITHIN, |events| events.len() >= 3).await?;
    assert_eq!(numbers(&events), [1, 2, 4]);

    // It outlives a restart, although the file says something else than the generation that was in between.
    stand.host.restart()?;
    let shown = stand.said(&["plugin", "show", "row-router"])?;
    assert!(shown.contains("\ngeneration  3\n") && shown.contains("\nsettings    tables=notes\n"), "{shown}");
    let audit = stand.said(&["plugin", "audit"])?;
    let words: Vec<_> = audit.lines().filter_map(|line| line.split_whitespace().nth(3)).collect();
    let expected = [
        "uploaded",
        "activated",
        "shadow-started",
        "shadow-differs",
        "shadow-stopped",
        "activated",
        "rolled-back",
    ];
    assert_eq!(words[1..], expected, "{audit}");
    assert!(
        audit.contains(" configuration  ") && audit.contains(" cli  ") && audit.contains(" host  "),
        "{audit}"
    );
    let changes = stand.said(&["changes", "--last", "2"])?;
    let changes: Vec<Value> = changes.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!((&changes[0]["row"]["number"], &changes[1]["row"]["number"]), (&json!(3), &json!(4)));
    assert_eq!(stand.said(&["dead-letters", "list"])?, "no dead letters\n");
    assert!(stand.said(&["plugin", "logs", "row-router"])?.ends_with("since the server runs\n"));
    let gone = stand.said(&["plugin", "deactivate", "row-router"])?;
    assert_eq!(last_line(&gone), format!("row-router judges nothing from offset {} on", from + 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_changed_and_taken_back_by_http_while_changes_flow() -> Result<()> {
    let stand = Stand::start(&Setup::default())?;
    let mut follower = Follower::connect(stand.address(), &["notes"]).await?;
    let (status, uploaded) = stand.ask("POST", "/v1/components", &std::fs::read(component()?)?)?;
    assert_eq!(
        (status, &uploaded["name"], &uploaded["stages"]),
        (200, &json!("row-router"), &json!(["router"]))
    );
    insert(&stand, 0)?;
    follower.wait_until("the first row", WITHIN, |events| !events.is_empty()).await?;
    let from = committed(&stand)?;
    let body = json!({"digest": uploaded["digest"], "settings": {"tables": "others"}}).to_string();
    let (_, activated) = stand.ask("POST", "/v1/plugins/row-router/activate", body.as_bytes())?;
    assert_eq!(activated, json!({"plugin": "row-router", "generation": 2, "from": from}));
    insert(&stand, 1)?;
    judged(&stand, from + 1).await?;
    let (_, back) = stand.ask("POST", "/v1/plugins/row-router/roll-back", b"{\"to\":1}")?;
    assert_eq!(back, json!({"plugin": "row-router", "generation": 3, "from": from + 1}));
    insert(&stand, 2)?;
    let events = follower.wait_until("the second row", WITHIN, |events| events.len() >= 2).await?;
    assert_eq!(numbers(&events), [0, 2]);
    let (_, audit) = stand.ask("GET", "/v1/audit?limit=1000", b"")?;
    let by_http = audit["entries"].as_array().context("it is a list")?.iter().filter(|e| e["by"] == "http");
    assert_eq!(by_http.count(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_with_what_to_do() -> Result<()> {
    let stand = Stand::start(&Setup::default())?;
    let wasm = component()?;
    let activate = |more: &[&str]| stand.refused(&[&["plugin", "activate", "row-router"], more].concat());
    let manifest = place::root().join("Cargo.toml").display().to_string();
    let unknown = "0".repeat(64);
    for (said, part) in [
        (stand.refused(&["plugin", "upload", &manifest])?, "is not WebAssembly"),
        (stand.refused(&["plugin", "upload", "/nowhere.wasm"])?, "cannot read /nowhere.wasm"),
        (activate(&["nowhere.wasm"])?, "neither a file that is there nor a digest"),
        (activate(&[&unknown])?, "no component has the digest 000000"),
        (activate(&[&wasm])?, "is active with exactly that, as generation 1"),
        (activate(&[&wasm, "--setting", "tables=notes", "--setting", "wide=true"])?, "refuses its settings"),
        (activate(&[&wasm, "--grant", "topics=a"])?, "this host has no topics yet"),
        (stand.refused(&["plugin", "show", "other"])?, "no plugin is named `other`"),
        (stand.refused(&["plugin", "shadow", "row-router", "--report"])?, "has no shadow"),
        (stand.refused(&["plugin", "roll-back", "row-router"])?, "has no generation before"),
        (stand.refused(&["resume"])?, "the pipeline is not paused"),
        (stand.refused(&["dead-letters", "show", "7"])?, "there is no dead letter 7"),
    ] {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    let (status, refused) = stand.ask_with("0123456789abcdef", "GET", "/v1/plugins", b"")?;
    assert_eq!((status, &refused["error"]["code"]), (401, &json!("unauthorized")));
    let (status, refused) = stand.ask("POST", "/v1/components", &vec![0; (8 << 20) + 1])?;
    assert_eq!((status, &refused["error"]["code"]), (413, &json!("too_large")));
    let (status, refused) = stand.ask("POST", "/v1/components", b"no component")?;
    assert_eq!((status, &refused["error"]["code"]), (422, &json!("plugin_refused")));
    Ok(())
}

#[test]
fn a_server_that_is_not_there_is_looked_for_where_the_configuration_says() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let twohop = |arguments: &[&str]| -> Result<String> {
        let mut command = std::process::Command::new(place::host_binary()?);
        let output = command.args(arguments).current_dir(folder.path()).output()?;
        assert!(!output.status.success());
        Ok(String::from_utf8(output.stderr)?)
    };
    let said = twohop(&["plugin", "list"])?;
    assert!(said.contains("name it with --admin") && said.contains("twohop.toml"), "{said}");
    let port = xtask::services::port::free()?;
    std::fs::write(folder.path().join("twohop.toml"), format!("[admin]\nlisten = \"127.0.0.1:{port}\"\n"))?;
    let said = twohop(&["plugin", "list"])?;
    assert!(said.contains("no token in twohop-data/admin-token: start the server once"), "{said}");
    let said = twohop(&["plugin", "list", "--token", "0123456789abcdef"])?;
    let expected = format!("no server answers at http://127.0.0.1:{port} (admin.listen of twohop.toml)");
    assert!(said.contains(&expected), "{said}");
    Ok(())
}
