//! Who may listen and speak, and that a gate which fails denies.

use super::*;
use crate::event::Micros;
use crate::limits::{GATE_BYTES_MAX, REASON_BYTES_MAX};

const ALICE: Connection<'_> = Connection { subject: Some("alice"), claims: "{}", address: "::1" };

fn request(channel: &str) -> Request<'_> {
    Request { channel, scope: Scope::Channel, event: "", follows: false, facts: &[("plan", "free")] }
}

#[test]
fn a_connection_may_do_what_the_gate_grants() {
    let gate = a_gate();
    let grant = Grant { history: true, presence: false, publish: false, until: Some(Micros(7)) };
    assert_eq!(gate.admit(ALICE, request("allowed")), Ok(grant));
    assert_eq!(gate.admit(ALICE, request("other")), Err(Refusal::Unauthenticated));
    assert_eq!(gate.admit(ALICE, request("f: no\nway")), Err(Refusal::Forbidden("f: no\\nway".into())));
    assert_eq!(gate.receive(ALICE, request("c"), b"keep"), Ok(Reception::Keep));
    assert_eq!(gate.receive(ALICE, request("c"), b"ephemeral"), Ok(Reception::Ephemeral));
    assert_eq!(gate.receive(ALICE, request("c"), b"spam"), Err(Refusal::Forbidden("spam".into())));
    assert_eq!(gate.faults_count(), 0);
}

#[test]
fn a_gate_is_told_whether_the_subject_follows() {
    let gate = a_gate();
    let admit = |follows| gate.admit(ALICE, Request { follows, ..request("Followers:bob") });
    assert_eq!(admit(true), Ok(Grant { history: true, presence: false, publish: false, until: None }));
    assert_eq!(admit(false), Err(Refusal::Forbidden("Followers:bob".into())));
}

#[test]
fn a_gate_that_fails_denies_and_goes_on() {
    let gate = a_gate();
    let denied = Refusal::Forbidden("the gate failed".into());
    assert_eq!(gate.admit(ALICE, request("T")).as_ref(), Err(&denied));
    assert_eq!(gate.admit(ALICE, request("invalid")).as_ref(), Err(&denied), "it must say why");
    assert_eq!(gate.receive(ALICE, request("c"), b"\xFF").as_ref(), Err(&denied), "and in text");
    assert_eq!(gate.faults_count(), 3);
    assert!(gate.admit(ALICE, request("allowed")).is_ok());
}

#[test]
fn texts_are_bounded_on_both_ways() {
    let gate = a_gate();
    let long = "f".repeat(GATE_BYTES_MAX / 2);
    let Err(Refusal::Forbidden(why)) = gate.admit(ALICE, request(&long)) else { panic!("it is forbidden") };
    assert_eq!(why.len(), REASON_BYTES_MAX);
    let refusal = gate.receive(ALICE, request(&long), long.as_bytes());
    assert!(matches!(refusal, Err(Refusal::Invalid(_))), "{refusal:?}");
    assert_eq!(gate.faults_count(), 0);
}

#[test]
fn many_threads_share_a_gate() {
    let gate = a_gate();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    assert!(gate.admit(ALICE, request("allowed")).is_ok());
                }
            });
        }
    });
}

#[test]
fn a_plugin_without_a_gate_guards_nothing() {
    let wasm = Guest::default().component();
    let plugin = load_as(activation("router", &wasm), &wasm).expect("it is a plugin");
    insta::assert_snapshot!(Gate::new(plugin).expect_err("it has none"), @"exports no gate: implement `Gate` and name it in `export!`, or guard with another plugin");
}
