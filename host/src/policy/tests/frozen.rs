//! A plugin that was built once against `twohop:policy@1.0.0`, with every stage, goes on working as it is.
//!
//! Its component and the text that it was made of are in `tests/frozen`.

use super::*;
use crate::event::Micros;

pub(super) const WASM: &[u8] = include_bytes!("../../../../tests/frozen/policy-1.0.0.wasm");

/// What the router answers, as people read it.
const EXPECTED: [&str; 13] = [
    "0 channel order:7, event `insert`, the row",
    "0 channel raw, event ``, 1 bytes, live only",
    "0 channel json, event ``, JSON {\"a\":1}",
    "0 channel text, event ``, text `hello`",
    "0 channel bell, event ``, no payload",
    "0 topic orders, key `7`, the envelope",
    "0 delete the cache key order:7",
    "0 delete the cache keys orders:*",
    "3 audience of ann, item 3, at 1700000000000000, the row",
    "3 inbox of ann: 3, item editor, at 1700000000000000, the row",
    "3 retract old of ann",
    "4 bob follows ann",
    "4 ann follows bob no more",
];

pub(super) fn frozen_activation() -> Activation {
    let settings = [("prefix".to_owned(), "order:".to_owned())].into();
    Activation { settings, grants: Grants::everything(), ..activation("frozen", WASM) }
}

fn plugin() -> Plugin {
    load_as(frozen_activation(), WASM).expect("it was a plugin")
}

fn order(status: &str) -> Change {
    let table = table("shop", "orders", &[("id", true), ("status", false), ("email", false)]);
    let values = [Value::Integer(7), Value::Text(status), Value::Text("ann@example.org")];
    change(&table, Operation::Insert, Rows::New, &values)
}

/// Of each kind that it knows.
pub(super) fn frozen_changes() -> Vec<Change> {
    let posts = table("shop", "posts", &[("id", true), ("author", false)]);
    let follows = table("shop", "follows", &[("follower", true), ("followee", true)]);
    let insert = |table, values: &[Value<'_>]| change(table, Operation::Insert, Rows::New, values);
    vec![
        order("paid"),
        order("draft"),
        order("broken"),
        insert(&posts, &[Value::Integer(3), Value::Text("ann")]),
        insert(&follows, &[Value::Text("bob"), Value::Text("ann")]),
        insert(&follows, &[Value::Text("bob"), Value::Text("bob")]),
    ]
}

#[test]
fn its_filter_and_its_router_answer_as_ever() {
    let mut changes = frozen_changes();
    let evaluation = Policy::new([plugin()]).expect("it is one").evaluate(&mut changes);
    assert_eq!(evaluation.troubles, []);
    assert_eq!(
        causes(&evaluation),
        [(2, "rejected: it is broken".to_owned()), (5, "rejected: nobody follows oneself".to_owned()),]
    );
    let routes: Vec<_> = evaluation
        .routes
        .iter()
        .map(|directed| format!("{} {}", directed.change(), directed.route()))
        .collect();
    assert_eq!(routes, EXPECTED);
    assert_eq!(changes[0].row().expect("it has one").value(2), Value::Masked);
}

#[test]
fn its_fanout_answers_as_ever() {
    let post = |followers, online, previous| Post {
        author: "ann",
        item: "3",
        followers,
        online,
        active: 0,
        rate: 0,
        previous,
    };
    let mut policy = Policy::new([plugin()]).expect("it is one");
    let pulled = policy.plan(&[post(11, 1, None)]).plans[0];
    let planned = policy.plan(&[post(10, 0, None), post(11, 1, None), post(1, 1, Some(pulled))]);
    assert!(planned.trouble.is_none());
    assert_eq!(planned.plans.into_iter().map(Plan::number).collect::<Vec<_>>(), [0, 3, 3]);
}

#[test]
fn its_gate_answers_as_ever() {
    let gate = Gate::new(plugin()).expect("it has one");
    let ann = Connection { subject: Some("ann"), claims: "{}", address: "::1" };
    let nobody = Connection { subject: None, ..ann };
    let request =
        |channel, event| Request { channel, scope: Scope::Channel, event, follows: false, facts: &[] };
    let own = Grant { history: true, presence: true, publish: true, until: Some(Micros(7)) };
    assert_eq!(gate.admit(ann, request("user:ann", "")), Ok(own));
    assert!(gate.admit(nobody, request("public", "")).is_ok());
    assert_eq!(gate.admit(nobody, request("user:ann", "")), Err(Refusal::Unauthenticated));
    assert_eq!(
        gate.admit(ann, request("user:bob", "")),
        Err(Refusal::Forbidden("it is of somebody else".into()))
    );
    assert_eq!(gate.receive(ann, request("user:ann", "typing"), b""), Ok(Reception::Ephemeral));
    assert_eq!(gate.receive(ann, request("user:ann", "say"), b"hello"), Ok(Reception::Keep));
    assert_eq!(
        gate.receive(ann, request("user:ann", "say"), b""),
        Err(Refusal::Invalid("say something".into()))
    );
    assert_eq!(gate.faults_count(), 0);
}
