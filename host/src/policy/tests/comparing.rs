//! A candidate beside the active generation: it has no effect, and every difference is seen.

use super::*;
use crate::limits::PLUGIN_FAULTS_MAX;

const STAGES: &[&str] = &["filter", "router"];

fn candidate(guest: &Guest) -> Shadow {
    let wasm = guest.component();
    Shadow::new(load_as(activation("guest", &wasm), &wasm).expect("it is a plugin"))
}

fn users(names: &[&str]) -> Vec<Change> {
    let table = table("public", "users", &[("name", true), ("mask", false), ("body", false)]);
    let user = |name: &&str| {
        let values = [Value::Text(name), Value::Text("body"), Value::Text("secret")];
        change(&table, Operation::Insert, Rows::New, &values)
    };
    names.iter().map(user).collect()
}

#[test]
fn the_same_component_answers_the_same() {
    let guest = Guest::of(STAGES, &["name", "mask"]);
    let mut policy = guest.policy();
    assert!(policy.compare(candidate(&guest)).is_none());
    let mut alone = guest.policy();
    let names = ["a", "X", "Y no", "Z", "b", "R no", "U"];
    let (mut changes, mut others) = (users(&names), users(&names));
    assert_eq!(policy.evaluate(&mut changes), alone.evaluate(&mut others), "it has no effect");
    let report = policy.shadows()[0].report();
    assert_eq!((report.seen_count, report.equal_count), (7, 7));
    assert_eq!(report.active.effects_count, 8, "a change has a mask and a route");
    assert_eq!(report.active.faults_count, report.candidate.faults_count);
    assert_eq!((report.active.seen_count, report.candidate.seen_count), (7, 7));
    assert_eq!(report.examples, []);
    assert!(report.active.time_each().is_some() && report.candidate.time_each().is_some());
    assert!(policy.stop_comparing("guest").is_some() && policy.shadows().is_empty());
}

#[test]
fn each_difference_is_shown_with_its_row() {
    // The candidate has no filter, and sees what the active one leaves.
    let mut policy = Guest::of(STAGES, &["name", "mask"]).policy();
    policy.compare(candidate(&Guest::of(&["router"], &["mask"])));
    let mut changes = users(&["a", "X", "Z"]);
    policy.evaluate(&mut changes);
    let report = policy.shadows()[0].report();
    assert_eq!((report.seen_count, report.different_count, report.only_active_count), (3, 2, 1));
    let Example { of, key, position, active, candidate } = &report.examples[0];
    assert_eq!((of.as_str(), key.as_str(), *position), ("public.users", "a", Some(changes[0].position)));
    assert_eq!(active, &["channel a, event ``, the row"]);
    assert_eq!(candidate, &["channel body, event ``, the row"]);
    assert_eq!(report.examples[1].active, ["drop"]);
    assert_eq!(report.examples[2].active, ["mask body", "channel Z, event ``, the row"]);
}

#[test]
fn a_candidate_of_a_plugin_that_is_not_active_is_compared_with_nothing() {
    let mut policy = Policy::default();
    policy.compare(candidate(&Guest::of(STAGES, &["name", "mask"])));
    assert_eq!(policy.evaluate(&mut users(&["a", "X"])), Evaluation::default());
    let report = policy.shadows()[0].report();
    assert_eq!((report.seen_count, report.only_candidate_count), (2, 2));
    assert_eq!((report.active.seen_count, report.candidate.effects_count), (0, 3));
}

#[test]
fn a_candidate_may_subscribe_to_what_the_active_one_did_not() {
    let mut policy = Guest::subscribed("customers", &[], &["name"]).policy();
    policy.compare(candidate(&Guest::subscribed("orders", &[], &["name"])));
    let evaluation = policy.evaluate(&mut inserts(["a"]));
    assert!(evaluation.routes.is_empty());
    assert_eq!(policy.shadows()[0].report().only_candidate_count, 1);
}

#[test]
fn a_candidate_that_fails_too_often_is_not_asked_any_more() {
    let names = vec!["T"; 100];
    let mut policy = Guest::subscribed("customers", &[], &["name"]).policy();
    policy.compare(candidate(&Guest::default()));
    for _ in 0..3 {
        let evaluation = policy.evaluate(&mut inserts(&names));
        assert_eq!((evaluation.failing, evaluation.troubles), (None, vec![]));
    }
    let report = policy.shadows()[0].report();
    assert!(report.stopped);
    assert_eq!(report.candidate.faults_count, PLUGIN_FAULTS_MAX as u64 + 1);
}

#[test]
fn plans_are_compared_too() {
    let mut policy = Guest::of(&["fanout"], &[]).policy();
    policy.compare(candidate(&Guest::of(&["fanout"], &[])));
    let post =
        |author| Post { author, item: "7", followers: 0, online: 0, active: 0, rate: 0, previous: None };
    policy.plan(&[post("push"), post("large")]);
    let report = policy.shadows()[0].report();
    assert_eq!((report.seen_count, report.equal_count), (2, 2));
    let mut policy = Policy::default();
    policy.compare(candidate(&Guest::of(&["fanout"], &[])));
    policy.plan(&[post("push")]);
    let example = &policy.shadows()[0].report().examples[0];
    assert_eq!((example.of.as_str(), example.key.as_str()), ("push", "7"));
    assert_eq!(
        (&example.active[..], &example.candidate[..]),
        (&["pull, notify".to_owned()][..], &["push, do not notify".to_owned()][..])
    );
}
