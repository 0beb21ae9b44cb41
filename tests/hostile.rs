//! Hostile plugins beside a good one, in a whole server: it answers throughout, the good one's effects are exact, and
//! what the hostile one fails on is its dead letter, until it is quarantined.
//!
//! Each fault and each way to lie has a test of its own in `host/src/policy/tests/hostile.rs`, by the same plugin.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use guest::{Guest, world};
use serde_json::{Value, json};
use twohop_tests::{Follower, Setup, Stand};
use xtask::sse::Event;

#[path = "../host/src/policy/guest/mod.rs"]
#[allow(dead_code, reason = "only parts are used")]
pub(crate) mod guest;

const WITHIN: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What the hostile one is told, and what the dead letter says.
const FAULTS: &[(&str, &str)] = &[
    ("T", "unreachable"),
    ("P", "it said: a policy was hurt"),
    ("L", "ran longer than 1000 ms"),
    ("G", "ran longer than 1000 ms"),
    ("M", "bytes of memory"),
    ("E", "tables of"),
    ("D", "call stack exhausted"),
    ("H", "fuel allocated for hostcalls"),
    ("W", "fuel allocated for hostcalls"),
    ("O", "out of bounds"),
    ("N", "out of bounds"),
    ("K", "answered wrongly: the list `kinds`"),
    ("U", "answered wrongly: route 0 is of the unknown kind"),
    ("R", "rejected: R"),
];
/// More than a plugin may fail within one evaluation.
const TOO_MANY: u32 = 40;

/// A server with a good plugin, and what both its own and the hostile one's channel must have got.
struct Trial {
    stand: Stand,
    good: Follower,
    hostile: Follower,
    expected_good: Vec<u32>,
    expected_hostile: Vec<u32>,
    rows_count: u32,
}

impl Trial {
    async fn start() -> Result<Self> {
        let stand = Stand::start(&Setup::default())?;
        let good = Follower::connect(stand.address(), &["notes"]).await?;
        let hostile = Follower::connect(stand.address(), &["fine"]).await?;
        let (expected_good, expected_hostile) = (Vec::new(), Vec::new());
        Ok(Self { stand, good, hostile, expected_good, expected_hostile, rows_count: 0 })
    }

    /// The status, and what is said.
    fn activate(&self, plugin: &str, guest: &Guest) -> Result<(u16, Value)> {
        let (status, uploaded) = self.stand.ask("POST", "/v1/components", &guest.component())?;
        ensure!(status == 200, "not uploaded: {uploaded}");
        let body = json!({"digest": uploaded["digest"]}).to_string();
        self.stand.ask("POST", &format!("/v1/plugins/{plugin}/activate"), body.as_bytes())
    }

    /// Commits rows that tell the hostile plugin what to do, in one transaction, and asks the server until the last of
    /// them has come through: each answer must come, whatever the plugin does meanwhile.
    async fn tell(&mut self, told: &[&str]) -> Result<()> {
        let from = self.rows_count;
        let until = from + u32::try_from(told.len())?;
        let rows = (from..until).zip(told).map(|(number, told)| format!("({number}, 1, 1, '{told}')"));
        let rows: Vec<_> = rows.collect();
        self.stand.postgres.psql(&format!("INSERT INTO notes VALUES {}", rows.join(", ")))?;
        self.rows_count = until;
        self.expected_good.extend(from..until);
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        let judged = async {
            loop {
                looks.tick().await;
                Follower::connect(self.stand.address(), &["elsewhere"]).await?;
                let (status, pipeline) = self.stand.ask("GET", "/v1/pipeline", b"")?;
                ensure!(status == 200, "{pipeline}");
                // The good plugin's effects are applied with the hostile one's, and what it is sent comes after.
                if numbers(&self.good.received()).last() == Some(&(until - 1)) {
                    return Ok(());
                }
            }
        };
        tokio::time::timeout(WITHIN, judged).await.context("the pipeline does not get there")?
    }

    /// The dead letters of a plugin, newest first.
    fn letters(&self, plugin: &str) -> Result<Vec<Value>> {
        let (_, listed) =
            self.stand.ask("GET", &format!("/v1/dead-letters?plugin={plugin}&limit=256"), b"")?;
        listed["letters"].as_array().cloned().context("it is a list")
    }

    fn state(&self, plugin: &str) -> Result<(Value, Value)> {
        let (_, shown) = self.stand.ask("GET", &format!("/v1/plugins/{plugin}"), b"")?;
        Ok((shown["state"].clone(), shown["active"]["generation"].clone()))
    }

    /// Everybody has got what they should have, and nothing else.
    async fn check(&mut self) -> Result<()> {
        for (follower, expected) in
            [(&mut self.good, &self.expected_good), (&mut self.hostile, &self.expected_hostile)]
        {
            let enough = |events: &[Event]| events.len() >= expected.len();
            let events = follower.wait_until("all that was committed", WITHIN, enough).await?;
            assert_eq!(numbers(&events), *expected);
        }
        Ok(())
    }
}

fn numbers(events: &[Event]) -> Vec<u32> {
    let number = |event: &Event| serde_json::from_str::<Value>(&event.data).ok()?["number"].as_u64();
    events.iter().filter_map(number).map(|number| u32::try_from(number).expect("they are few")).collect()
}

/// Subscribed to the rows' text, which tells it what to do.
fn told() -> Guest {
    Guest::subscribed("notes", &[], &["body"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_plugin_harms_only_itself_and_is_quarantined_when_it_does_not_end() -> Result<()> {
    let mut trial = Trial::start().await?;
    let (status, activated) = trial.activate("hostile", &told())?;
    assert_eq!((status, &activated["generation"]), (200, &json!(1)), "{activated}");
    for (nth, (letter, says)) in FAULTS.iter().enumerate() {
        let first = trial.rows_count;
        trial.tell(&["fine", letter, "fine"]).await?;
        trial.expected_hostile.extend([first, first + 2]);
        let letters = trial.letters("hostile")?;
        assert_eq!(letters.len(), nth + 1, "one more for `{letter}`");
        let newest = &letters[0];
        assert!(newest["fault"].as_str().is_some_and(|fault| fault.contains(says)), "`{says}`: {newest}");
        assert_eq!((&newest["generation"], &newest["stage"]), (&json!(1), &json!("router")));
        assert_eq!(newest["change"]["key"], json!((first + 1).to_string()));
    }
    // A flood of log lines is no fault, and what is kept of it is bounded.
    trial.tell(&["F"]).await?;
    let (_, lines) = trial.stand.ask("GET", "/v1/plugins/hostile/logs", b"")?;
    let lines = lines["lines"].as_array().context("it is a list")?.len();
    assert!((1..=200).contains(&lines), "{lines} lines are kept");
    trial.check().await?;
    assert_eq!(trial.state("hostile")?, (json!("active"), json!(1)));

    // One failure too many: nobody takes over, so its changes wait as dead letters. That outlives a restart.
    let before = trial.letters("hostile")?.len();
    trial.tell(&vec!["T"; TOO_MANY as usize]).await?;
    assert_eq!(trial.state("hostile")?.0, json!("quarantined"));
    trial.stand.host.restart()?;
    trial.tell(&["fine"]).await?;
    let letters = trial.letters("hostile")?;
    assert_eq!(letters.len() - before, TOO_MANY as usize + 1);
    assert!(letters[0]["fault"].as_str().is_some_and(|fault| fault.contains("quarantine")), "{}", letters[0]);

    // With a good generation before it, that one takes over, and nothing waits.
    let (status, said) = trial.activate("hostile", &Guest::subscribed("elsewhere", &[], &["body"]))?;
    assert_eq!(status, 200, "{said}");
    assert_eq!(trial.activate("hostile", &told())?.1["generation"], json!(3));
    trial.tell(&vec!["T"; TOO_MANY as usize]).await?;
    assert_eq!(trial.state("hostile")?, (json!("active"), json!(2)));
    assert_eq!(trial.letters("hostile")?.len(), letters.len());
    let (_, audit) = trial.stand.ask("GET", "/v1/audit?limit=1000", b"")?;
    let entries = audit["entries"].as_array().context("it is a list")?;
    assert_eq!(entries.iter().filter(|entry| entry["action"] == "quarantined").count(), 2);
    trial.check().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_filter_fails_closed() -> Result<()> {
    let mut trial = Trial::start().await?;
    let guard = Guest { world: world(&["plugin", "filter"]), ..told() };
    let (status, said) = trial.activate("guard", &guard)?;
    assert_eq!(status, 200, "{said}");
    for (letter, says) in [("T", "unreachable"), ("L", "ran longer"), ("V", "the unknown number 9")] {
        let hidden = trial.rows_count + 1;
        trial.tell(&["fine", letter, "fine"]).await?;
        trial.expected_good.retain(|number| *number != hidden);
        let newest = &trial.letters("guard")?[0];
        assert!(newest["fault"].as_str().is_some_and(|fault| fault.contains(says)), "`{says}`: {newest}");
        assert_eq!(
            (&newest["stage"], &newest["change"]["key"]),
            (&json!("filter"), &json!(hidden.to_string()))
        );
    }
    trial.check().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_is_hostile_before_its_first_change_is_refused_and_changes_nothing() -> Result<()> {
    let mut trial = Trial::start().await?;
    let (traps, loops) = ("unreachable", "(loop $ever (br $ever))");
    let hungry = "(drop (memory.grow (i32.const 60000)))";
    let starting = |starting| Guest { starting, ..told() };
    let configuring = |configuring| Guest { configuring, ..told() };
    let cases = [
        (starting(traps), "cannot be started: wasm trap"),
        (starting(loops), "cannot be started: ran longer than 1000 ms"),
        (starting(hungry), "cannot be started: asked for"),
        (configuring(traps), "fails when it is configured: wasm trap"),
        (configuring(loops), "fails when it is configured: ran longer than 1000 ms"),
        (configuring(hungry), "fails when it is configured: asked for"),
        (Guest { configured: Err("no\nway".into()), ..told() }, "refuses its settings: no"),
        (Guest::subscribed("$clients", &[], &[]), "there is no such virtual table"),
        (Guest::subscribed("notes", &[9], &[]), "9 is not the number of an operation"),
        (Guest::subscribed("notes", &[], &["$secret"]), "there is no virtual column"),
    ];
    for (guest, says) in cases {
        let (status, said) = trial.activate("hostile", &guest)?;
        assert_eq!(status, 422, "{said}");
        assert!(said.to_string().contains(says), "`{says}` is not in: {said}");
        trial.tell(&["fine"]).await?;
    }
    assert_eq!(trial.letters("hostile")?, [] as [Value; 0]);
    trial.check().await
}
