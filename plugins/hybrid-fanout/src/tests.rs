//! On which side of the thresholds a post falls, and which settings are refused.

use twohop_plugin::testing::Policy;

use super::*;

const PUSH: Delivery = Delivery::Push;
const PULL: Delivery = Delivery::Pull;

fn configured(settings: &[(&str, &str)]) -> Result<Policy<HybridFanout>, String> {
    Policy::configure(settings.iter().copied())
}

fn plan(delivery: Delivery) -> Plan {
    Plan { delivery, notify: Notify::Online }
}

/// How the posts of one author go whose followers are so many at each.
fn deliveries(policy: &Policy<HybridFanout>, followers: &[u64]) -> Vec<Delivery> {
    let mut previous = None;
    let each = followers.iter().map(|followers| {
        let post = Facts { author: "ann", item: "1", followers: *followers, previous, ..Facts::default() };
        let plan = policy.decide(&[post])[0];
        previous = Some(plan);
        plan.delivery
    });
    each.collect()
}

#[test]
fn without_settings_ten_thousand_followers_are_pushed_to_and_one_more_is_not() {
    let policy = configured(&[]).expect("no setting is required");
    for (followers, delivery) in [(0, PUSH), (10_000, PUSH), (10_001, PULL), (u64::MAX, PULL)] {
        let post = Facts { followers, ..Facts::default() };
        assert_eq!(policy.decide(&[post]), [plan(delivery)]);
    }
}

#[test]
fn an_author_who_was_pulled_is_pushed_again_only_at_the_lower_threshold() {
    let policy = configured(&[]).expect("no setting is required");
    let followers = [10_000, 10_001, 10_000, 9_999, 8_001, 8_000, 8_001, 10_000, 10_001];
    assert_eq!(deliveries(&policy, &followers), [PUSH, PULL, PULL, PULL, PULL, PUSH, PUSH, PUSH, PULL]);
}

#[test]
fn an_author_between_the_thresholds_never_changes_sides() {
    let settings = [("push_followers_max", "100"), ("push_again_followers_max", "50")];
    let policy = configured(&settings).expect("settings that are right");
    let between = [51, 100, 75, 99, 51, 100];
    assert_eq!(deliveries(&policy, &between), [PUSH; 6]);
    assert_eq!(deliveries(&policy, &[&[101], &between[..]].concat()), [PULL; 7]);
}

#[test]
fn the_lower_threshold_is_four_fifths_of_the_upper_unless_it_is_set() {
    let policy = configured(&[("push_followers_max", "10")]).expect("settings that are right");
    assert_eq!(deliveries(&policy, &[11, 9, 8]), [PULL, PULL, PUSH]);
    let equal = [("push_followers_max", "10"), ("push_again_followers_max", "10")];
    assert_eq!(deliveries(&configured(&equal).expect("equal is right"), &[11, 10, 11]), [PULL, PUSH, PULL]);
}

#[test]
fn with_thresholds_of_nothing_all_is_pulled_but_what_nobody_follows() {
    let policy = configured(&[("push_followers_max", "0")]).expect("settings that are right");
    assert_eq!(deliveries(&policy, &[0, 1, 0]), [PUSH, PULL, PUSH]);
}

#[test]
fn those_online_are_told_whatever_the_delivery_unless_the_setting_says_nobody() {
    for (setting, notify) in [("online", Notify::Online), ("nobody", Notify::Nobody)] {
        let policy = configured(&[("notify", setting)]).expect("settings that are right");
        let posts = [1, 1_000_000].map(|followers| Facts { followers, ..Facts::default() });
        assert!(policy.decide(&posts).iter().all(|plan| plan.notify == notify), "{setting}");
    }
}

#[test]
fn it_sees_no_changes() {
    assert!(configured(&[]).expect("no setting is required").subscriptions().is_empty());
}

#[test]
fn settings_that_are_wrong_are_refused() {
    let refusal = |settings: &[(&str, &str)]| configured(settings).expect_err("settings that are wrong");
    assert_eq!(
        refusal(&[("push_followers_max", "many")]),
        "the setting `push_followers_max` is `many`: write a number of followers, such as 10000"
    );
    assert!(refusal(&[("push_again_followers_max", "-1")]).contains("write a number of followers"));
    assert_eq!(
        refusal(&[("push_again_followers_max", "10001")]),
        "the setting `push_again_followers_max` is 10001, which is above `push_followers_max`, 10000: it is the lower \
         of the two thresholds"
    );
    assert_eq!(refusal(&[("notify", "all")]), "the setting `notify` is `all`: write `online` or `nobody`");
    assert!(refusal(&[("threshold", "1")]).contains("`threshold` is not known: this plugin knows"));
}
