//! Which keys a change deletes, and which settings are refused.

use twohop_plugin::row;
use twohop_plugin::testing::{Policy, Reach, Route, Sample};

use super::*;
use twohop_plugin::Value;

fn router(keys: &str) -> Policy<CacheRouter> {
    Policy::configure([("keys", keys)]).expect("settings that are right")
}

fn refusal(keys: &str) -> String {
    Policy::<CacheRouter>::configure([("keys", keys)]).expect_err("settings that are wrong")
}

fn keys<const N: usize>(keys: [&str; N]) -> Vec<Route> {
    keys.into_iter().map(|key| Route::Cache { key: key.into(), reach: Reach::Key }).collect()
}

#[test]
fn every_change_of_a_row_deletes_the_keys_of_its_patterns() {
    let row = || row! { "id" => 7, "team" => "a", "name" => "ann" };
    let samples = [
        Sample::snapshot("users", row()),
        Sample::insert("users", row()),
        Sample::update("users", row()),
        Sample::delete("users", row()),
        Sample::insert("orders", row()),
    ];
    let routes = router("users=user:{id}, users = team:{team}:users:{id}").direct(&samples);
    assert_eq!(routes[..4], [(); 4].map(|()| keys(["team:a:users:7", "user:7"])));
    assert_eq!(routes[4], []);
}

#[test]
fn an_update_deletes_the_keys_of_the_row_before_it_too() {
    let update = |old| Sample::update("users", row! { "id" => 7, "team" => "b" }).old(old);
    let routes = router("users=team:{team}").direct(&[
        update(row! { "id" => 7, "team" => "a" }),
        update(row! { "id" => 7, "team" => Value::Null }),
        // Only what the key is made of came.
        update(row! { "id" => 7, "team" => Value::Unchanged }),
    ]);
    assert_eq!(routes, [keys(["team:a", "team:b"]), keys(["team:b"]), keys(["team:b"])]);
}

#[test]
fn a_truncate_deletes_all_keys_that_begin_so() {
    let routes = router("users=user:{id}").direct(&[Sample::truncate("users")]);
    assert_eq!(routes, [[Route::Cache { key: "user:".into(), reach: Reach::Prefix }]]);
}

#[test]
fn a_change_whose_key_cannot_be_told_is_rejected() {
    let reason = |sample| match &router("users=team:{team}").direct(&[sample])[0][..] {
        [Route::Reject { reason }] => reason.clone(),
        other => panic!("{other:?}"),
    };
    let delete = Sample::delete("users", row! { "id" => 7, "team" => Value::Unchanged });
    assert!(reason(delete).contains("needs the column `team`, which did not come: a delete"));
    let masked = Sample::insert("users", row! { "team" => Value::Masked });
    assert!(reason(masked).contains("a filter hides it"));
}

#[test]
fn a_table_with_its_schema_goes_before_one_without() {
    let routes = router("users=user:{id}, audit.users=audit:{id}").direct(&[Sample::insert(
        "users",
        row! { "id" => 1 },
    )
    .schema("audit")]);
    assert_eq!(routes, [keys(["audit:1"])]);
}

#[test]
fn settings_that_say_nothing_are_refused() {
    assert!(refusal("users").contains("write `TABLE=PATTERN`"));
    assert!(refusal("=user:{id}").contains("name a table"));
    assert!(refusal("$client=user:{id}").contains("name a table"));
    assert!(refusal("users=user").contains("has no column"));
    assert!(refusal("users={id}").contains("begin the pattern with text"));
    assert!(refusal("users=user:{id").contains("has no `}`"));
    assert!(refusal("users=user:id}").contains("has no `{`"));
    assert!(refusal("users=user:{}").contains("name a column"));
}
