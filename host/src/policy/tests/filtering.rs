//! Filters before routers: what they drop, reject, hide, and fail on.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::answer::Verdicts;
use super::super::batch::{Batch, Filled};
use super::super::evaluate::Rejection;
use super::super::matches::{Matches, Subscriber};
use super::super::subscription::Subscription;
use super::*;
use crate::event::{Decoder, Table, encode, envelope_to_json, row_to_json};
use crate::limits::PLUGIN_FAULTS_MAX;

/// `public.users (name text primary key, mask text, body text)`.
fn users() -> Arc<Table> {
    table("public", "users", &[("name", true), ("mask", false), ("body", false)])
}

/// An insert: what to do, the column to mask, and its body.
fn user(table: &Arc<Table>, name: &str, mask: &str) -> Change {
    change(
        table,
        Operation::Insert,
        Rows::New,
        &[Value::Text(name), Value::Text(mask), Value::Text("secret")],
    )
}

fn users_named(names: &[&str]) -> Vec<Change> {
    let table = users();
    names.iter().map(|name| user(&table, name, "body")).collect()
}

/// A filter and then a router, each a plugin of its own.
fn filter_and_router() -> Policy {
    let filter = Guest::of(&["filter"], &["name", "mask"]).component();
    let router = Guest::of(&["router"], &["name"]).component();
    load(&[("filter", &filter), ("router", &router)]).expect("both are plugins")
}

fn row(change: &Change) -> String {
    let mut json = String::new();
    row_to_json(change.row().expect("it has one"), &mut json);
    json
}

#[test]
fn what_a_filter_drops_or_rejects_reaches_no_router() {
    let mut changes = users_named(&["a", "X", "Y: no", "b"]);
    for mut policy in [filter_and_router(), Guest::of(&["filter", "router"], &["name", "mask"]).policy()] {
        let evaluation = policy.evaluate(&mut changes);
        assert_eq!(channels(&evaluation), [(0, "a"), (3, "b")]);
        assert_eq!(causes(&evaluation), [(2, "rejected: Y: no".to_owned())]);
        assert_eq!(evaluation.rejected[0].plugin, 0);
        assert_eq!(evaluation.dropped_count, 1);
        assert_eq!(evaluation.troubles, []);
    }
}

#[test]
fn what_a_filter_hides_is_masked_in_the_change() {
    let table = users();
    let mut changes = vec![user(&table, "Z", "body"), user(&table, "a", "body"), user(&table, "Z", "mask")];
    let evaluation = filter_and_router().evaluate(&mut changes);
    assert_eq!(channels(&evaluation), [(0, "Z"), (1, "a"), (2, "Z")]);
    assert_eq!(
        changes.iter().map(row).collect::<Vec<_>>(),
        [
            r#"{"name":"Z","mask":"body"}"#,
            r#"{"name":"a","mask":"body","body":"secret"}"#,
            r#"{"name":"Z","body":"secret"}"#
        ]
    );
}

#[test]
fn a_filter_sees_what_the_one_before_it_left() {
    let wasm = Guest::of(&["filter"], &["name", "mask"]).component();
    // The second is to mask the column that its second cell names, but the first has masked that cell: a fault.
    let mut policy = load(&[("first", &wasm), ("second", &wasm)]).expect("both are plugins");
    let table = users();
    let mut changes = vec![user(&table, "Z", "mask"), user(&table, "X", ""), user(&table, "Z", "body")];
    let evaluation = policy.evaluate(&mut changes);
    assert_eq!(evaluation.rejected, []);
    assert_eq!(evaluation.dropped_count, 1, "the second is not asked about what the first dropped");
    // The masked cell is 0 to the second filter, which is an empty name: nothing to hide.
    assert_eq!(row(&changes[0]), r#"{"name":"Z","body":"secret"}"#);
    assert_eq!(row(&changes[2]), r#"{"name":"Z","mask":"body"}"#);
}

#[test]
fn a_filter_that_fails_on_a_change_lets_no_router_see_it() {
    for (hurting, cause) in [
        ("T", "wasm trap: wasm `unreachable` instruction executed"),
        ("V", "answered wrongly: the verdict on change 0 is the unknown number 9"),
        ("L", "ran longer than 1000 ms"),
    ] {
        let evaluation = filter_and_router().evaluate(&mut users_named(&["a", hurting, "b"]));
        assert_eq!(channels(&evaluation), [(0, "a"), (2, "b")]);
        assert_eq!(causes(&evaluation), [(1, cause.to_owned())]);
        assert_eq!(evaluation.rejected[0].plugin, 0);
    }
}

#[test]
fn the_key_cannot_be_hidden() {
    let mut changes = vec![user(&users(), "Z", "name")];
    let evaluation = filter_and_router().evaluate(&mut changes);
    let cause = "answered wrongly: mask 0 is for `name`, a column of the key: these cannot be hidden";
    assert_eq!(causes(&evaluation), [(0, cause.to_owned())]);
    assert!(evaluation.routes.is_empty());
}

#[test]
fn a_trap_of_a_filter_on_one_of_256_changes_is_found_and_the_rest_stands() {
    for hurting in [0, 100, 255] {
        let name = |number| if number == hurting { "T".to_owned() } else { format!("c{number}") };
        let names: Vec<_> = (0..256).map(name).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let evaluation = filter_and_router().evaluate(&mut users_named(&names));
        let expected: Vec<_> = names.iter().copied().enumerate().filter(|(at, _)| *at != hurting).collect();
        assert_eq!(channels(&evaluation), expected);
        assert_eq!(
            evaluation.rejected.iter().map(|rejection| rejection.change).collect::<Vec<_>>(),
            [hurting]
        );
        assert_eq!(faults_count(&evaluation), 10);
    }
}

#[test]
fn a_plugin_that_fails_on_every_change_ends_the_evaluation_early() {
    let names = vec!["T"; 200];
    for mut policy in [filter_and_router(), Guest::of(&["router"], &["name"]).policy()] {
        let evaluation = policy.evaluate(&mut users_named(&names));
        assert_eq!(evaluation.failing, Some(0));
        assert_eq!(evaluation.faults_count(0), PLUGIN_FAULTS_MAX + 1);
        let first_fault = evaluation.troubles[0].first_fault.as_ref().expect("there is one");
        assert_eq!(first_fault.to_string(), "wasm trap: wasm `unreachable` instruction executed");
    }
}

#[test]
fn a_quarantined_plugin_is_not_called_and_its_changes_are_set_aside() {
    let mut policy = filter_and_router();
    assert!(policy.quarantine("filter") && !policy.quarantine("nobody"));
    assert!(policy.plugins()[0].is_quarantined());
    let evaluation = policy.evaluate(&mut users_named(&["T", "a"]));
    assert!(evaluation.routes.is_empty(), "what a filter cannot judge goes no further");
    assert!(evaluation.rejected.iter().all(|Rejection { cause, .. }| *cause == Cause::Quarantined));
    assert_eq!(evaluation.rejected.len(), 2);
    assert_eq!(evaluation.troubles, []);
}

#[test]
fn a_plugin_that_wants_it_pauses_the_pipeline_at_its_first_fault() {
    let filter = Guest::of(&["filter"], &["name", "mask"]).component();
    let router = Guest::of(&["router"], &["name"]).component();
    let pausing = Activation { on_fault: OnFault::Pause, order: 1, ..activation("router", &router) };
    let plugins = [load_as(activation("filter", &filter), &filter), load_as(pausing, &router)];
    let mut policy = Policy::new(plugins.map(|plugin| plugin.expect("it is a plugin"))).expect("two names");
    // The filter sets the second aside; the router rejects the third, which is no fault, and fails on the fourth.
    let evaluation = policy.evaluate(&mut users_named(&["a", "V", "R", "U", "U"]));
    assert_eq!(causes(&evaluation).iter().map(|(change, _)| *change).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(evaluation.pause, Some(2));
    assert_eq!(policy.evaluate(&mut users_named(&["a", "V", "R"])).pause, None);
}

#[test]
fn routes_that_are_not_granted_are_dropped_and_counted() {
    let wasm = Guest::default().component();
    let channels_granted = vec!["orders:*".parse().expect("it is a pattern")];
    let grants = Grants { channels: channels_granted, ..Grants::default() };
    let plugin = load_as(Activation { grants, ..activation("p", &wasm) }, &wasm).expect("it is a plugin");
    let mut policy = Policy::new([plugin]).expect("one");
    let evaluation = policy.evaluate(&mut inserts(["orders:1", "news", "orders:2", "R no"]));
    assert_eq!(channels(&evaluation), [(0, "orders:1"), (2, "orders:2")]);
    assert_eq!(causes(&evaluation).len(), 1);
    assert_eq!(evaluation.troubles.len(), 1);
    assert_eq!((evaluation.troubles[0].refused_count, evaluation.faults_count(0)), (1, 0));
}

/// Everything that a later stage, a payload or a record could show of a change.
fn shown(change: &Change) -> Vec<u8> {
    let columns = ["a", "b", "c", "$key", "$row", "$old", "$table", "$position"].map(str::to_owned);
    let asked = super::super::bindings::twohop::policy::types::Subscription {
        source: String::new(),
        table: "*".into(),
        operations: vec![],
        columns: columns.into(),
    };
    let subscriptions = [Subscription::new(asked).expect("it is valid")].into();
    let mut matches = Matches::new([Subscriber { subscriptions }].into());
    matches.select(std::slice::from_ref(change));
    let mut batch = Batch::default();
    let filled = batch.fill(std::slice::from_ref(change), matches.members(0), &matches);
    assert_eq!(filled, Filled::Changes(1));
    let mut texts = String::new();
    envelope_to_json(change, &mut texts);
    change.key_row().into_iter().for_each(|row| row_to_json(row, &mut texts));
    [batch.changes().arena, texts.as_bytes(), &encode(change)].concat()
}

proptest! {
    #[test]
    fn what_is_masked_is_shown_nowhere(
        hidden in "<[a-z0-9]{8,20}>", shown_values in prop::collection::vec("[a-z]{0,9}", 5),
        rows in prop::sample::select(vec![Rows::New, Rows::Old, Rows::NewThenOld]),
    ) {
        let table = table("s", "t", &[("a", true), ("b", false), ("c", false)]);
        let text = |nth: usize| Value::Text(&shown_values[nth]);
        let (operation, values) = match rows {
            Rows::New | Rows::Neither => (Operation::Insert, vec![text(0), Value::Text(&hidden), text(1)]),
            Rows::Old => (Operation::Delete, vec![text(0), Value::Text(&hidden), text(1)]),
            Rows::NewThenOld => (
                Operation::Update,
                vec![text(0), Value::Bytes(hidden.as_bytes()), text(1), text(2), Value::Text(&hidden), text(3)],
            ),
        };
        let mut change = change(&table, operation, rows, &values);
        let needle = hidden.as_bytes();
        let contains = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        prop_assert!(contains(&shown(&change)));
        change.mask(1);
        prop_assert!(!contains(&shown(&change)));
        let decoded = Decoder::default().decode(&encode(&change)).expect("it is a record");
        let rows = |change: &Change| [change.row(), change.old()].map(|row| {
            row.map(|row| row.columns().map(|(_, value)| format!("{value:?}")).collect::<Vec<_>>())
        });
        prop_assert_eq!(rows(&decoded), rows(&change));
    }
}

#[test]
fn verdicts_of_an_earlier_evaluation_are_forgotten() {
    let mut policy = filter_and_router();
    policy.evaluate(&mut users_named(&["X", "Z"]));
    let mut changes = users_named(&["a", "b"]);
    let evaluation = policy.evaluate(&mut changes);
    assert_eq!(channels(&evaluation), [(0, "a"), (1, "b")]);
    assert_eq!(row(&changes[1]), r#"{"name":"b","mask":"body","body":"secret"}"#);
    assert_eq!(policy.verdicts, Verdicts::default());
}
