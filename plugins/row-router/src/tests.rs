//! Which channels a change reaches, and which settings are refused.

use twohop_plugin::row;
use twohop_plugin::testing::{Keep, Payload, Policy, Route, Sample};

use super::*;

fn router(tables: &str) -> Policy<RowRouter> {
    Policy::configure([("tables", tables)]).expect("settings that are right")
}

fn refusal(tables: &str) -> String {
    Policy::<RowRouter>::configure([("tables", tables)]).expect_err("settings that are wrong")
}

fn to(channel: &str, event: &str) -> Route {
    Route::Channel {
        channel: channel.into(),
        event: event.into(),
        payload: Payload::Row,
        keep: Keep::History,
    }
}

fn insert(schema: &str, table: &str) -> Sample {
    Sample::insert(table, row! { "id" => 1 }).key(["id"]).schema(schema)
}

#[test]
fn every_operation_on_a_row_reaches_the_table_and_the_row() {
    let row = || row! { "id" => 7, "status" => "new" };
    let samples = [
        Sample::snapshot("orders", row()),
        Sample::insert("orders", row()),
        Sample::update("orders", row()),
        Sample::delete("orders", row()),
    ]
    .map(|sample| sample.key(["id"]));
    let expected = ["snapshot", "insert", "update", "delete"]
        .map(|event| vec![to("orders", event), to("orders:7", event)]);
    assert_eq!(router("orders").direct(&samples), expected);
}

#[test]
fn the_channel_of_a_row_that_is_retained_has_its_last_row_as_its_value_until_a_delete() {
    let settings = [("tables", "orders, users"), ("retain", "orders")];
    let router = Policy::<RowRouter>::configure(settings).expect("settings that are right");
    let samples = [
        Sample::snapshot("orders", row! { "id" => 1 }),
        Sample::insert("orders", row! { "id" => 1 }),
        Sample::update("orders", row! { "id" => 1 }),
        Sample::delete("orders", row! { "id" => 1 }),
        Sample::insert("users", row! { "id" => 1 }),
    ]
    .map(|sample| sample.key(["id"]));
    let keeps: Vec<Vec<Keep>> = router
        .direct(&samples)
        .iter()
        .map(|routes| {
            let keep = |route: &Route| match route {
                Route::Channel { keep, .. } => *keep,
                other => panic!("{other:?} is for no channel"),
            };
            routes.iter().map(keep).collect()
        })
        .collect();
    let expected = [Keep::Retained, Keep::Retained, Keep::Retained, Keep::Forget, Keep::History];
    assert_eq!(keeps, expected.map(|of_row| vec![Keep::History, of_row]));
    let refused = Policy::<RowRouter>::configure([("tables", "orders"), ("retain", "public.orders")]);
    assert!(refused.unwrap_err().contains("which `tables` does not"));
}

#[test]
fn a_truncate_reaches_only_the_table() {
    assert_eq!(router("orders").direct(&[Sample::truncate("orders")]), [[to("orders", "truncate")]]);
}

#[test]
fn a_table_without_a_key_has_no_channel_for_its_rows() {
    let keyless = Sample::insert("orders", row! { "id" => 1 });
    assert_eq!(router("orders").direct(&[keyless]), [[to("orders", "insert")]]);
}

#[test]
fn a_change_of_the_key_reaches_the_new_key() {
    let update = Sample::update("orders", row! { "id" => 8 }).old(row! { "id" => 7 }).key(["id"]);
    assert_eq!(router("orders").direct(&[update]), [[to("orders", "update"), to("orders:8", "update")]]);
}

#[test]
fn other_tables_schema_changes_and_messages_go_nowhere() {
    let message = Sample::message("$client", row! { "channel" => "orders" });
    let samples = [insert("public", "users"), Sample::schema_change("orders"), message];
    assert_eq!(router("orders").direct(&samples), [[], [], []]);
}

fn said(channel: &str, event: &str, payload: Payload) -> Vec<Route> {
    vec![Route::Channel { channel: channel.into(), event: event.into(), payload, keep: Keep::History }]
}

#[test]
fn what_clients_say_goes_to_the_channel_that_they_name_in_the_form_that_they_say_it_in() {
    let message = |event: Value<'static>, body: Value<'static>, form| {
        Sample::message(
            "$client",
            [
                ("channel", Value::Text("room:7")),
                ("subject", Value::Text("ann")),
                ("event", event),
                ("id", Value::Null),
                ("body", body),
                ("form", Value::Text(form)),
            ],
        )
    };
    let routes = router("orders, $client").direct(&[
        message(Value::Text("said"), Value::Text("{\"a\":1}"), "json"),
        message(Value::Text("said"), Value::Text("1"), "text"),
        message(Value::Null, Value::Bytes(&[0, 0xFF]), "bytes"),
        // Hidden by a filter.
        message(Value::Null, Value::Masked, "text"),
        Sample::message("$client", row! { "channel" => "", "body" => "x" }),
        Sample::message("$notify", row! { "channel" => "a", "body" => "x" }),
        insert("public", "orders"),
    ]);
    assert_eq!(routes[0], said("room:7", "said", Payload::Json("{\"a\":1}".into())));
    assert_eq!(routes[1], said("room:7", "said", Payload::Text("1".into())));
    assert_eq!(routes[2], said("room:7", "", Payload::Bytes(vec![0, 0xFF])));
    assert_eq!(routes[3..6], [vec![], vec![], vec![]]);
    assert_eq!(routes[6], [to("orders", "insert"), to("orders:1", "insert")]);
}

#[test]
fn messages_of_a_database_are_text_or_bytes_on_their_channel() {
    let routes = router("$logical, $notify").direct(&[
        Sample::message("$notify", row! { "channel" => "orders", "body" => "{}" }),
        Sample::message("$logical", [("channel", Value::Text("a")), ("body", Value::Bytes(&[1]))]),
    ]);
    assert_eq!(routes[0], said("orders", "", Payload::Text("{}".into())));
    assert_eq!(routes[1], said("a", "", Payload::Bytes(vec![1])));
    assert!(refusal("$client, orders, $client").contains("names `$client` twice"));
}

#[test]
fn a_name_without_schema_takes_that_table_of_every_schema() {
    let routes = router("orders").direct(&[insert("public", "orders"), insert("audit", "orders")]);
    assert_eq!(routes[0], routes[1]);
    assert_eq!(routes[0][0], to("orders", "insert"));
}

#[test]
fn a_schema_that_is_named_stands_in_the_channel_unless_it_is_public() {
    let routes = router("public.orders, audit.orders").direct(&[
        insert("public", "orders"),
        insert("audit", "orders"),
        insert("other", "orders"),
    ]);
    assert_eq!(routes[0], [to("orders", "insert"), to("orders:1", "insert")]);
    assert_eq!(routes[1], [to("audit.orders", "insert"), to("audit.orders:1", "insert")]);
    assert_eq!(routes[2], []);
}

#[test]
fn a_named_schema_goes_before_any_schema_whatever_the_order() {
    let routes =
        router("orders, audit.orders").direct(&[insert("audit", "orders"), insert("public", "orders")]);
    assert_eq!(routes[0][0], to("audit.orders", "insert"));
    assert_eq!(routes[1][0], to("orders", "insert"));
}

#[test]
fn a_dot_in_a_public_table_does_not_make_it_the_table_of_another_schema() {
    let dotted = Sample::insert("audit.orders", row! { "id" => 1 });
    let routes = router("public.audit.orders, audit.orders").direct(&[dotted]);
    assert_eq!(routes, [[to("public.audit.orders", "insert")]]);
}

#[test]
fn two_names_of_one_channel_are_refused() {
    let expected = "the setting `tables` names `public.orders` and `orders`, which would share the channel `orders`: \
                    remove one of them";
    assert_eq!(refusal("orders, public.orders"), expected);
    assert!(refusal("orders, orders").contains("would share"));
}

#[test]
fn names_that_are_no_tables_are_refused() {
    assert!(refusal("*").contains("name each table"));
    assert!(refusal("$clients").contains("name each table"));
    assert!(refusal(".orders").contains("write `table` or `schema.table`"));
    assert!(refusal("public.").contains("write `table` or `schema.table`"));
    assert!(refusal("orders:1").contains("a name with `:`"));
    assert!(refusal("a,,b").contains("empty entry"));
}

#[test]
fn settings_that_are_missing_or_unknown_are_refused() {
    let missing = Policy::<RowRouter>::configure([("table", "orders")]).unwrap_err();
    assert_eq!(missing, "the setting `tables` is required, and `table` is not known");
    let unknown = Policy::<RowRouter>::configure([("tables", "orders"), ("color", "red")]).unwrap_err();
    assert_eq!(unknown, "the setting `color` is not known: this plugin knows `tables`, `retain`");
}
