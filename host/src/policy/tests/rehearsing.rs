//! Changes of old, asked about again: what is shown, what it costs, and that both are the same every time.

use super::frozen::{WASM, frozen_activation, frozen_changes};
use super::*;
use crate::limits::{PLUGIN_CALL_INSTRUCTIONS_MAX, PLUGIN_FAULTS_MAX};
use crate::policy::fixtures::load_counting;

fn frozen() -> Plugin {
    load_counting(frozen_activation(), WASM).expect("it was a plugin")
}

fn guest(guest: &Guest) -> Plugin {
    let wasm = guest.component();
    load_counting(activation("guest", &wasm), &wasm).expect("it is a plugin")
}

fn lines(found: &[Found]) -> Vec<String> {
    let sign = |only| match only {
        None => "",
        Some(Only::Against) => "- ",
        Some(Only::Plugin) => "+ ",
    };
    found.iter().map(|found| format!("{}{} {}", sign(found.only), found.index, found.effect)).collect()
}

#[test]
fn every_effect_of_every_stage_is_shown_with_its_change() {
    let facts = Facts { followers: 11, online: 1, ..Facts::default() };
    let mut rehearsal = Rehearsal::new(frozen(), None, facts);
    insta::assert_snapshot!(lines(&rehearsal.changes(&frozen_changes())).join("\n"), @r#"
    0 mask email
    0 channel order:7, event `insert`, the row
    0 channel raw, event ``, 1 bytes, live only
    0 channel json, event ``, JSON {"a":1}
    0 channel text, event ``, text `hello`
    0 channel bell, event ``, no payload
    0 topic orders, key `7`, the envelope
    0 delete the cache key order:7
    0 delete the cache keys orders:*
    1 mask email
    1 drop
    2 mask email
    2 dead letter: rejected: it is broken
    3 audience of ann, item 3, at 1700000000000000, the row
    3 pull, notify
    3 inbox of ann: 3, item editor, at 1700000000000000, the row
    3 retract old of ann
    4 bob follows ann
    4 ann follows bob no more
    5 dead letter: rejected: nobody follows oneself
    "#);
    let Tally { asked_count, effects_count, dead_letters_count, faults_count, .. } = rehearsal.tally();
    assert_eq!((*asked_count, *effects_count, *dead_letters_count, *faults_count), (6, 20, 2, 0));
    assert!(rehearsal.compared().is_none() && !rehearsal.is_stopped());
}

#[test]
fn posts_are_planned_with_the_facts_that_they_come_with() {
    let mut rehearsal = Rehearsal::new(frozen(), None, Facts::default());
    let few = Facts { followers: 10, ..Facts::default() };
    let many = Facts { followers: 11, online: 1, ..Facts::default() };
    let found = rehearsal.posts(&[few.post("ann", "3"), many.post("ann", "4")]);
    assert_eq!(lines(&found), ["0 push, do not notify", "1 pull, notify"]);
    assert_eq!(rehearsal.tally().asked_count, 2);
    let mut router = Rehearsal::new(guest(&Guest::default()), None, Facts::default());
    assert_eq!(router.posts(&[few.post("ann", "3")]), []);
    assert_eq!(router.tally().asked_count, 0);
}

/// Another number here is another price for everybody who wrote one down: of the engine, or of the host.
#[test]
fn the_cost_is_the_same_number_at_every_run_and_on_every_machine() {
    let cost = |count: usize| {
        let mut rehearsal = Rehearsal::new(frozen(), None, Facts::default());
        for _ in 0..count {
            rehearsal.changes(&frozen_changes());
        }
        rehearsal.tally().instructions
    };
    let once = cost(1);
    assert_eq!(once, 25_270);
    assert_eq!(cost(1), once);
    // What it takes to start is not in it. It is not quite three times as much: a plugin's allocator remembers.
    assert_eq!(cost(3), 75_870);
}

#[test]
fn a_call_that_does_not_end_is_ended_by_what_it_ran_and_not_by_the_clock() {
    let mut rehearsal = Rehearsal::new(guest(&Guest::default()), None, Facts::default());
    let expected =
        format!("0 dead letter: ran more than {PLUGIN_CALL_INSTRUCTIONS_MAX} instructions of WebAssembly");
    assert_eq!(lines(&rehearsal.changes(&inserts(["L"]))), [expected]);
    let tally = rehearsal.tally();
    assert_eq!((tally.dead_letters_count, tally.faults_count), (1, 2), "it was tried twice");
    assert_eq!(tally.first_fault, Some(Fault::Instructions(PLUGIN_CALL_INSTRUCTIONS_MAX)));
    assert!(tally.instructions >= 2 * PLUGIN_CALL_INSTRUCTIONS_MAX);
    assert_eq!(lines(&rehearsal.changes(&inserts(["a"]))), ["0 channel a, event ``, the row"]);
}

#[test]
fn a_fault_is_shown_with_its_reason_and_the_neighbors_effects_stand() {
    let mut rehearsal = Rehearsal::new(guest(&Guest::default()), None, Facts::default());
    let found = lines(&rehearsal.changes(&inserts(["a", "P", "b"])));
    assert_eq!(found[0], "0 channel a, event ``, the row");
    assert!(
        found[1].starts_with("1 dead letter: ") && found[1].contains("a policy was hurt"),
        "{}",
        found[1]
    );
    assert_eq!(found[2], "2 channel b, event ``, the row");
}

#[test]
fn a_plugin_sees_what_its_own_filter_left_and_two_share_nothing() {
    let masking = || guest(&Guest::of(&["filter", "router"], &["name", "mask"]));
    let routing = || guest(&Guest::of(&["router"], &["name", "mask"]));
    let table = table("public", "users", &[("name", true), ("mask", false), ("body", false)]);
    let user = |name| {
        let values = [Value::Text(name), Value::Text("body"), Value::Text("secret")];
        change(&table, Operation::Insert, Rows::New, &values)
    };
    let changes = [user("a"), user("X"), user("Z")];
    let mut rehearsal = Rehearsal::new(masking(), Some(routing()), Facts::default());
    let expected = ["- 1 channel X, event ``, the row", "+ 1 drop", "+ 2 mask body"];
    assert_eq!(lines(&rehearsal.changes(&changes)), expected);
    assert_eq!(
        changes[2].row().expect("it has one").value(2),
        Value::Text("secret"),
        "the file is as it was"
    );
    let (against, comparison) = rehearsal.compared().expect("there are two");
    assert_eq!((comparison.seen_count, comparison.equal_count, comparison.different_count), (3, 1, 2));
    assert_eq!((against.effects_count, rehearsal.tally().effects_count), (3, 4));
    let mut same = Rehearsal::new(masking(), Some(masking()), Facts::default());
    assert_eq!(same.changes(&changes), []);
    let (against, comparison) = same.compared().expect("there are two");
    assert_eq!((comparison.seen_count, comparison.equal_count), (3, 3));
    assert_eq!(against, same.tally(), "the cost too");
}

#[test]
fn a_plugin_that_a_server_would_quarantine_is_asked_no_more() {
    let mut rehearsal = Rehearsal::new(guest(&Guest::default()), None, Facts::default());
    rehearsal.changes(&inserts(vec!["T"; 100]));
    assert!(rehearsal.is_stopped());
    assert_eq!(rehearsal.tally().faults_count, PLUGIN_FAULTS_MAX as u64 + 1);
    assert_eq!(rehearsal.changes(&inserts(["a"])), []);
}
