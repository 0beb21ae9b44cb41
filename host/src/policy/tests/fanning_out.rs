//! How posts go, and what happens to them when the plugin fails.

use super::*;
use crate::limits::BATCH_COUNT_MAX;

fn post(author: &str) -> Post<'_> {
    Post { author, item: "1", followers: 3, online: 2, active: 1, rate: 0, previous: None }
}

fn fanout() -> Policy {
    Guest::of(&["fanout"], &[]).policy()
}

fn plans(policy: &mut Policy, authors: &[&str]) -> Vec<u8> {
    let posts: Vec<_> = authors.iter().map(|author| post(author)).collect();
    policy.plan(&posts).plans.into_iter().map(Plan::number).collect()
}

#[test]
fn each_post_goes_as_the_plugin_says() {
    let mut policy = fanout();
    assert_eq!(plans(&mut policy, &["push", "notify", "large", "pz"]), [0, 2, 1, 0]);
    let echoed = Post { previous: Some(Plan::HOSTS_OWN), ..post("echo") };
    assert_eq!(policy.plan(&[echoed]).plans, [Plan::HOSTS_OWN]);
    assert_eq!(policy.plan(&[]), Plans::default());
}

#[test]
fn more_posts_than_a_call_takes_are_handed_over_in_several() {
    let authors = ["push", "large"].repeat(BATCH_COUNT_MAX);
    assert_eq!(plans(&mut fanout(), &authors), [0, 1].repeat(BATCH_COUNT_MAX));
}

#[test]
fn the_host_plans_where_no_plugin_does() {
    let own = [Plan::HOSTS_OWN.number(); 2];
    assert_eq!(plans(&mut Guest::default().policy(), &["push", "a"]), own);
    let mut policy = fanout();
    policy.quarantine("guest");
    assert_eq!(plans(&mut policy, &["T", "push"]), own);
}

#[test]
fn the_host_plans_what_the_plugin_fails_on_and_counts_it() {
    for (hurting, fault) in [
        ("T", "wasm trap: wasm `unreachable` instruction executed"),
        ("V", "answered wrongly: the plan of post 1 is the unknown number 9"),
        ("S", "answered wrongly: 1 plans for 2 posts"),
        ("e", "answered wrongly: the plan of post 1 is the unknown number 255"),
    ] {
        let mut policy = fanout();
        let planned = policy.plan(&[post("push"), post(hurting)]);
        assert_eq!(planned.plans, [Plan::HOSTS_OWN; 2]);
        let trouble = planned.trouble.expect("it is counted");
        assert_eq!((trouble.plugin, trouble.faults_count), (0, 2), "it is tried twice");
        assert_eq!(trouble.first_fault.expect("there is one").to_string(), fault);
        assert_eq!(plans(&mut policy, &["push"]), [0], "a new instance goes on");
    }
}
