//! Which routes follow from which change, by example and against a table that is simply kept; and which settings are
//! refused.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use twohop_plugin::row;
use twohop_plugin::testing::{Payload, Policy, Route, Sample};

use super::*;

const POSTS: [(&str, &str); 4] =
    [("posts", "posts"), ("posts_author", "author"), ("posts_time", "created"), ("posts_deleted", "deleted")];
const FOLLOWS: [(&str, &str); 4] = [
    ("follows", "follows"),
    ("follows_follower", "who"),
    ("follows_followee", "whom"),
    ("follows_deleted", "gone"),
];
/// 2024-01-02 03:04:05 UTC.
const CREATED: i64 = 1_704_164_645_000_000;

fn configured(settings: &[(&str, &str)]) -> Result<Policy<SocialRouter>, String> {
    Policy::configure(settings.iter().copied())
}

fn directed(sample: Sample) -> Vec<Route> {
    let settings = [POSTS, FOLLOWS].concat();
    configured(&settings).expect("settings that are right").direct(&[sample]).remove(0)
}

/// Why the change is a dead letter.
fn reason(sample: Sample) -> String {
    match &directed(sample)[..] {
        [Route::Reject { reason }] => reason.clone(),
        other => panic!("{other:?} is no rejection"),
    }
}

fn post(author: &str) -> [(&'static str, Value<'_>); 4] {
    row! { "id" => 7, "author" => author, "created" => "2024-01-02 03:04:05+00", "deleted" => Value::Null }
}

fn deleted_post(author: &str) -> [(&'static str, Value<'_>); 4] {
    let mut row = post(author);
    row[3].1 = "2024-02-03 00:00:00+00".into();
    row
}

fn edge(who: i64, whom: i64) -> [(&'static str, Value<'static>); 3] {
    row! { "who" => who, "whom" => whom, "gone" => false }
}

fn gone_edge(who: i64, whom: i64) -> [(&'static str, Value<'static>); 3] {
    row! { "who" => who, "whom" => whom, "gone" => true }
}

fn update_of_post<'a>(row: [(&'a str, Value<'a>); 4]) -> Sample {
    Sample::update("posts", row).key(["id"])
}

fn audience(author: &str) -> Route {
    let time = Time::from_micros(CREATED);
    Route::Audience { author: author.into(), item: "7".into(), payload: Payload::Row, time }
}

fn retract(author: &str) -> Route {
    Route::Retract { author: author.into(), item: "7".into() }
}

fn follow(follower: i64, followee: i64) -> Route {
    Route::Follow { follower: follower.to_string(), followee: followee.to_string() }
}

fn unfollow(follower: i64, followee: i64) -> Route {
    Route::Unfollow { follower: follower.to_string(), followee: followee.to_string() }
}

#[test]
fn a_post_goes_to_its_authors_audience_at_its_own_time() {
    assert_eq!(directed(Sample::insert("posts", post("ann")).key(["id"])), [audience("ann")]);
    assert_eq!(directed(Sample::snapshot("posts", post("ann")).key(["id"])), [audience("ann")]);
}

#[test]
fn a_post_without_a_time_has_that_of_its_commit() {
    let committed = Time::from_micros(9);
    let expected =
        [Route::Audience { author: "ann".into(), item: "7".into(), payload: Payload::Row, time: committed }];
    let mut row = post("ann");
    row[2].1 = Value::Null;
    let timeless = Sample::insert("posts", row).key(["id"]).committed_at(committed);
    assert_eq!(directed(timeless), expected);
    let without_the_setting = [POSTS[0], POSTS[1], POSTS[3]];
    let insert = Sample::insert("posts", post("ann")).key(["id"]).committed_at(committed);
    assert_eq!(configured(&without_the_setting).expect("right").direct(&[insert]), [expected]);
}

#[test]
fn an_update_of_a_post_is_an_edit_with_or_without_its_old_row() {
    assert_eq!(directed(update_of_post(post("ann"))), [audience("ann")]);
    assert_eq!(directed(update_of_post(post("ann")).old(post("ann"))), [audience("ann")]);
}

#[test]
fn a_post_that_changes_its_author_is_taken_back_from_the_old_one() {
    assert_eq!(directed(update_of_post(post("bob")).old(post("ann"))), [retract("ann"), audience("bob")]);
}

#[test]
fn a_post_that_is_marked_as_deleted_is_taken_back_also_where_the_old_row_is_not_sent() {
    assert_eq!(directed(update_of_post(deleted_post("ann"))), [retract("ann")]);
    assert_eq!(directed(update_of_post(deleted_post("ann")).old(post("ann"))), [retract("ann")]);
    assert_eq!(directed(update_of_post(deleted_post("bob")).old(post("ann"))), [retract("ann")]);
    let mut without_a_right_time = deleted_post("ann");
    without_a_right_time[2].1 = "infinity".into();
    assert_eq!(directed(update_of_post(without_a_right_time)), [retract("ann")]);
}

#[test]
fn a_post_that_was_marked_before_is_not_taken_back_again_and_can_return() {
    assert_eq!(directed(update_of_post(deleted_post("ann")).old(deleted_post("ann"))), []);
    assert_eq!(directed(update_of_post(post("ann")).old(deleted_post("ann"))), [audience("ann")]);
    assert_eq!(directed(update_of_post(post("bob")).old(deleted_post("ann"))), [audience("bob")]);
    assert_eq!(directed(Sample::insert("posts", deleted_post("ann")).key(["id"])), []);
    assert_eq!(directed(Sample::delete("posts", deleted_post("ann")).key(["id"])), []);
}

#[test]
fn marks_are_truth_values_numbers_and_times() {
    let is_live = |mark: Value<'_>| {
        let mut row = post("ann");
        row[3].1 = mark;
        !directed(Sample::insert("posts", row).key(["id"])).is_empty()
    };
    assert!([Value::Null, Value::Boolean(false), Value::Integer(0)].into_iter().all(is_live));
    let marks = [Value::Boolean(true), Value::Integer(1), Value::Text("2024-01-02")];
    assert!(!marks.into_iter().any(is_live));
}

#[test]
fn a_deleted_post_is_taken_back_where_the_source_sends_its_author() {
    assert_eq!(directed(Sample::delete("posts", post("ann")).key(["id"])), [retract("ann")]);
    assert_eq!(
        reason(Sample::delete("posts", row! { "id" => 7 }).key(["id"])),
        "the source did not send the column `author` of the deleted row: let it send whole old rows, in PostgreSQL with \
         ALTER TABLE … REPLICA IDENTITY FULL"
    );
}

#[test]
fn a_post_without_an_author_goes_nowhere_until_it_has_one() {
    let nobodys =
        || row! { "id" => 7, "author" => Value::Null, "created" => Value::Null, "deleted" => Value::Null };
    assert_eq!(directed(Sample::insert("posts", nobodys()).key(["id"])), []);
    assert_eq!(directed(update_of_post(post("ann")).old(nobodys())), [audience("ann")]);
    assert_eq!(directed(update_of_post(nobodys()).old(post("ann"))), [retract("ann")]);
}

#[test]
fn a_post_from_which_nothing_right_can_follow_is_set_aside() {
    let insert = |column: usize, value: Value<'static>| {
        let mut row = post("ann");
        row[column].1 = value;
        Sample::insert("posts", row).key(["id"])
    };
    for value in [Value::Unchanged, Value::Masked] {
        for (column, name) in [(1, "author"), (2, "created"), (3, "deleted")] {
            let expected = format!(
                "the column `{name}` is not there: the table has none, the source did not send it, or a filter hides it"
            );
            assert_eq!(reason(insert(column, value)), expected);
        }
    }
    let no_time = "the column `created` is no time such as `2024-01-02 03:04:05.678+00`";
    assert_eq!(reason(insert(2, "soon".into())), no_time);
    assert_eq!(reason(insert(2, 1_700_000_000_i64.into())), no_time);
    assert!(reason(insert(1, "".into())).contains("`author` is an empty text"));
    assert!(reason(Sample::insert("posts", post("ann"))).contains("the table has no key"));
    let no_key = Sample::insert(
        "posts",
        row! { "id" => "", "author" => 1, "created" => Value::Null, "deleted" => false },
    );
    assert!(reason(no_key.key(["id"])).contains("`$key` is an empty text"));
}

#[test]
fn an_edge_that_is_there_is_followed_and_one_that_is_gone_is_not() {
    assert_eq!(directed(Sample::snapshot("follows", edge(1, 2))), [follow(1, 2)]);
    assert_eq!(directed(Sample::insert("follows", edge(1, 2))), [follow(1, 2)]);
    assert_eq!(directed(Sample::delete("follows", edge(1, 2))), [unfollow(1, 2)]);
    assert_eq!(directed(Sample::delete("follows", row! { "who" => 1, "whom" => 2 })), [unfollow(1, 2)]);
}

#[test]
fn an_edge_that_changes_an_end_is_taken_back_first() {
    let update = |row, old| directed(Sample::update("follows", row).old(old));
    assert_eq!(update(edge(1, 3), edge(1, 2)), [unfollow(1, 2), follow(1, 3)]);
    assert_eq!(update(edge(4, 2), edge(1, 2)), [unfollow(1, 2), follow(4, 2)]);
    assert_eq!(update(edge(1, 2), edge(1, 2)), [follow(1, 2)]);
    assert_eq!(update(gone_edge(1, 3), edge(1, 2)), [unfollow(1, 2)]);
    assert_eq!(update(edge(1, 3), gone_edge(1, 2)), [follow(1, 3)]);
}

#[test]
fn what_is_not_sent_of_an_old_edge_counts_as_it_is_now() {
    let update = |row| Sample::update("follows", row);
    assert_eq!(directed(update(edge(1, 2))), [follow(1, 2)]);
    assert_eq!(directed(update(gone_edge(1, 2))), [unfollow(1, 2)]);
    assert_eq!(directed(update(edge(1, 2)).old(row! { "who" => 3 })), [unfollow(3, 2), follow(1, 2)]);
    assert_eq!(directed(update(gone_edge(1, 2)).old(row! { "whom" => 3 })), [unfollow(1, 3)]);
}

#[test]
fn a_deleted_edge_of_which_an_end_is_not_sent_is_set_aside() {
    assert!(reason(Sample::delete("follows", row! { "who" => 1 })).contains("`whom` of the deleted row"));
    assert!(reason(Sample::delete("follows", row! { "id" => 1 })).contains("of the deleted row"));
}

#[test]
fn an_edge_without_an_end_goes_nowhere() {
    let half = row! { "who" => 1, "whom" => Value::Null, "gone" => false };
    assert_eq!(directed(Sample::insert("follows", half)), []);
}

#[test]
fn a_truncate_is_set_aside() {
    assert!(reason(Sample::truncate("posts")).starts_with("a truncate cannot be followed"));
    assert!(reason(Sample::truncate("follows")).starts_with("a truncate cannot be followed"));
}

#[test]
fn other_tables_and_schema_changes_go_nowhere() {
    assert_eq!(directed(Sample::insert("users", row! { "id" => 1 })), []);
    assert_eq!(directed(Sample::schema_change("posts")), []);
}

#[test]
fn one_table_of_both_is_enough() {
    let insert = || [Sample::insert("posts", post("ann")).key(["id"]), Sample::insert("follows", edge(1, 2))];
    assert_eq!(configured(&POSTS).expect("right").direct(&insert()), [vec![audience("ann")], vec![]]);
    assert_eq!(configured(&FOLLOWS).expect("right").direct(&insert()), [vec![], vec![follow(1, 2)]]);
}

#[test]
fn a_table_that_is_named_with_its_schema_goes_before_one_of_any_schema() {
    let settings = [
        ("posts", "entries"),
        ("posts_author", "author"),
        ("follows", "social.entries"),
        ("follows_follower", "who"),
        ("follows_followee", "whom"),
    ];
    let routes = configured(&settings).expect("right").direct(&[
        Sample::insert("entries", edge(1, 2)).schema("social"),
        Sample::insert("entries", post("ann")).key(["id"]).committed_at(Time::from_micros(CREATED)),
    ]);
    assert_eq!(routes, [[follow(1, 2)], [audience("ann")]]);
}

#[test]
fn settings_that_are_wrong_are_refused() {
    let refusal = |settings: &[(&str, &str)]| configured(settings).expect_err("settings that are wrong");
    assert!(refusal(&[]).starts_with("there is nothing to do: the setting `posts` names"));
    assert_eq!(refusal(&POSTS[..1]), "the setting `posts_author` is required");
    assert_eq!(refusal(&FOLLOWS[..2]), "the setting `follows_followee` is required");
    assert_eq!(
        refusal(&[("posts", "*"), POSTS[1]]),
        "the setting `posts` is `*`: name one table, as `table` or `schema.table`"
    );
    assert!(refusal(&[("follows", "a, b")]).contains("name one table"));
    assert!(refusal(&[POSTS[0], ("posts_author", "$row")]).contains("name one column of the table"));
    assert_eq!(
        refusal(&[POSTS[0], POSTS[1], ("follows", "posts"), FOLLOWS[1], FOLLOWS[2]]),
        "the settings `posts` and `follows` both name `posts`: name two tables"
    );
    assert_eq!(
        refusal(&[FOLLOWS[0], FOLLOWS[1], ("follows_followee", "who")]),
        "the column `who` of `follows` is named for two purposes"
    );
    assert!(refusal(&[FOLLOWS[0], FOLLOWS[1], FOLLOWS[2], POSTS[1]]).contains("`posts_author` is not known"));
}

/// Of a row of `follows`: both ends, of which 0 is null, and whether it is marked.
type Ends = (i64, i64, bool);

fn row_of((who, whom, gone): Ends) -> [(&'static str, Value<'static>); 3] {
    let id = |id: i64| if id == 0 { Value::Null } else { Value::Integer(id) };
    row! { "who" => id(who), "whom" => id(whom), "gone" => gone }
}

/// The edge that a row stands for.
fn edge_of((who, whom, gone): Ends) -> Option<(String, String)> {
    (who != 0 && whom != 0 && !gone).then(|| (who.to_string(), whom.to_string()))
}

proptest! {
    #[test]
    fn the_edges_that_routes_make_are_those_of_the_rows_that_are_left(
        steps in vec((0..4_u8, prop::option::weighted(0.8, (0..4_i64, 0..4_i64, any::<bool>()))), 0..40)
    ) {
        let mut rows: BTreeMap<u8, Ends> = BTreeMap::new();
        let mut samples = Vec::new();
        for (id, now) in steps {
            let before = rows.get(&id).copied();
            // An edge is in one row only, as a primary key or a unique index would have it.
            let is_taken = |now| rows.iter().any(|(other, ends)| *other != id && edge_of(*ends) == edge_of(now));
            if now.is_some_and(|now| edge_of(now).is_some() && is_taken(now)) {
                continue;
            }
            samples.extend(match (before, now) {
                (None, Some(now)) => Some(Sample::insert("follows", row_of(now))),
                (Some(before), Some(now)) => Some(Sample::update("follows", row_of(now)).old(row_of(before))),
                (Some(before), None) => Some(Sample::delete("follows", row_of(before))),
                (None, None) => None,
            });
            match now {
                Some(now) => rows.insert(id, now),
                None => rows.remove(&id),
            };
        }
        let mut edges = BTreeSet::new();
        for route in configured(&FOLLOWS).expect("right").direct(&samples).into_iter().flatten() {
            match route {
                Route::Follow { follower, followee } => edges.insert((follower, followee)),
                Route::Unfollow { follower, followee } => edges.remove(&(follower, followee)),
                other => panic!("{other:?} is no edge"),
            };
        }
        prop_assert_eq!(edges, rows.into_values().filter_map(edge_of).collect());
    }
}
