//! Where an order is told of.

use twohop_plugin::row;
use twohop_plugin::testing::{Keep, Payload, Policy, Route, Sample};

use super::OrderStatus;

fn routes(sample: Sample) -> Vec<Route> {
    Policy::<OrderStatus>::configure([]).expect("no settings").direct(&[sample]).remove(0)
}

fn to(channel: &str, event: &str) -> Route {
    Route::Channel {
        channel: channel.into(),
        event: event.into(),
        payload: Payload::Row,
        keep: Keep::History,
    }
}

#[test]
fn a_new_order_is_told_to_its_status() {
    let insert = Sample::insert("orders", row! { "id" => 1, "status" => "new" });
    assert_eq!(routes(insert), [to("status:new", "insert")]);
}

#[test]
fn a_change_of_status_is_told_to_both() {
    let update = Sample::update("orders", row! { "status" => "sent" }).old(row! { "status" => "new" });
    assert_eq!(routes(update), [to("status:sent", "update"), to("status:new", "left")]);
}

#[test]
fn an_update_that_keeps_the_status_leaves_nothing() {
    let update = Sample::update("orders", row! { "status" => "sent" }).old(row! { "status" => "sent" });
    assert_eq!(routes(update), [to("status:sent", "update")]);
}

#[test]
fn a_deleted_order_leaves_its_status() {
    assert_eq!(routes(Sample::delete("orders", row! { "status" => "sent" })), [to("status:sent", "left")]);
}
