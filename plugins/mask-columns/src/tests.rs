//! What is hidden and dropped of which tables, and which settings are refused.

use twohop_plugin::row;
use twohop_plugin::testing::{Judged, Policy, Sample};

use super::*;

fn configured(settings: &[(&str, &str)]) -> Result<Policy<MaskColumns>, String> {
    Policy::configure(settings.iter().copied())
}

fn filter(columns: &str, drop: &str) -> Policy<MaskColumns> {
    configured(&[("columns", columns), ("drop", drop)]).expect("settings that are right")
}

fn refusal(columns: &str, drop: &str) -> String {
    configured(&[("columns", columns), ("drop", drop)]).expect_err("settings that are wrong")
}

fn hidden(columns: &[&str]) -> Judged {
    Judged { verdict: Verdict::Keep, masked: columns.iter().map(|column| (*column).to_owned()).collect() }
}

fn dropped() -> Judged {
    Judged { verdict: Verdict::Drop, masked: vec![] }
}

fn insert(schema: &str, table: &str) -> Sample {
    Sample::insert(table, row! { "id" => 1, "email" => "a@b.c", "ssn" => "1" }).key(["id"]).schema(schema)
}

#[test]
fn a_column_is_hidden_in_every_operation_that_comes_with_a_row() {
    let row = || row! { "id" => 1, "email" => "a@b.c" };
    let samples = [
        Sample::snapshot("users", row()),
        Sample::insert("users", row()),
        Sample::update("users", row()).old(row()),
        Sample::delete("users", row! { "id" => 1 }),
    ];
    assert_eq!(filter("users.email", "").evaluate(&samples), vec![hidden(&["email"]); 4]);
}

#[test]
fn what_comes_without_a_row_and_other_tables_go_on_as_they_are() {
    let samples = [Sample::truncate("users"), Sample::schema_change("users"), insert("public", "orders")];
    assert_eq!(filter("users.email", "").evaluate(&samples), vec![hidden(&[]); 3]);
}

#[test]
fn a_table_that_is_dropped_is_dropped_whatever_happens_to_it() {
    let samples = [
        insert("public", "secrets"),
        Sample::delete("secrets", row! { "id" => 1 }),
        Sample::truncate("secrets"),
        Sample::schema_change("secrets"),
        insert("public", "users"),
    ];
    let judged = filter("", "secrets").evaluate(&samples);
    assert_eq!(judged, [dropped(), dropped(), dropped(), dropped(), hidden(&[])]);
}

#[test]
fn a_name_without_schema_means_that_table_of_every_schema_also_where_another_names_one() {
    let samples = [insert("public", "users"), insert("audit", "users"), insert("old", "users")];
    for columns in ["users.email, audit.users.ssn", "audit.users.ssn, users.email"] {
        let judged = filter(columns, "").evaluate(&samples);
        assert_eq!(judged[0], hidden(&["email"]));
        assert_eq!(judged[2], hidden(&["email"]));
        let mut both = judged[1].masked.clone();
        both.sort();
        assert_eq!(both, ["email", "ssn"]);
    }
}

#[test]
fn a_name_with_schema_means_that_table_alone() {
    let samples = [insert("public", "users"), insert("audit", "users")];
    assert_eq!(filter("audit.users.ssn", "").evaluate(&samples), [hidden(&[]), hidden(&["ssn"])]);
    assert_eq!(filter("", "audit.users").evaluate(&samples), [hidden(&[]), dropped()]);
    assert_eq!(filter("users.email", "audit.users").evaluate(&samples), [hidden(&["email"]), dropped()]);
}

#[test]
fn a_column_that_two_entries_name_is_hidden_once() {
    let judged = filter("users.email, audit.users.email", "").evaluate(&[insert("audit", "users")]);
    assert_eq!(judged, [hidden(&["email"])]);
}

#[test]
fn the_columns_are_asked_for_so_that_the_host_warns_of_one_that_is_not_there() {
    let expected = Subscription::table("users").operations(WITH_A_ROW).columns(["email", "phone"]);
    assert_eq!(filter("users.email, users.phone", "").subscriptions(), [expected]);
}

#[test]
fn entries_that_are_no_columns_are_refused() {
    for entry in ["email", ".email", "users.", "users..email", "a.b.c.d"] {
        assert_eq!(
            refusal(entry, ""),
            format!(
                "the setting `columns` names `{entry}`: write `table.column` or `schema.table.column`; a name with a \
                 dot in it cannot be written"
            )
        );
    }
    assert!(refusal("users.$row", "").contains("is virtual and cannot be hidden"));
    assert!(refusal("$client.body", "").contains("is virtual and cannot be hidden"));
    assert!(refusal("*.email", "").contains("name each table and each column"));
    assert!(refusal("users.*", "").contains("name each table and each column"));
    assert!(refusal("users.email,,", "").contains("empty entry"));
}

#[test]
fn entries_that_are_no_tables_are_refused() {
    assert!(refusal("", "*").contains("name each table"));
    assert!(refusal("", "$client").contains("name each table"));
    assert!(refusal("", "audit.").contains("write `table` or `schema.table`"));
}

#[test]
fn what_is_said_twice_is_refused() {
    assert_eq!(refusal("users.email, users.email", ""), "the setting `columns` names `users.email` twice");
    assert_eq!(refusal("", "a, b, a"), "the setting `drop` names `a` twice");
    assert_eq!(
        refusal("audit.users.ssn", "users"),
        "the setting `columns` names `audit.users.ssn`, but the setting `drop` drops the whole table `users`: remove \
         one of both"
    );
}

#[test]
fn settings_that_do_nothing_or_are_unknown_are_refused() {
    assert!(configured(&[]).unwrap_err().starts_with("there is nothing to do: the setting `columns`"));
    assert!(refusal(" ", "").starts_with("there is nothing to do"));
    let unknown = configured(&[("columns", "a.b"), ("mask", "c.d")]).unwrap_err();
    assert_eq!(unknown, "the setting `mask` is not known: this plugin knows `columns`, `drop`");
}
