//! `order-status`: each change of an order goes to the channel `status:STATUS`, and where the status changed, its old
//! status's channel is told with the event `left`.

use twohop_plugin::*;

struct OrderStatus;

impl Plugin for OrderStatus {
    fn configure(_: &Settings) -> Configured<Self> {
        Ok((Self, vec![Subscription::table("orders").columns(["status"])]))
    }
}

impl Router for OrderStatus {
    fn direct(&self, change: &Change, routes: &mut Routes) {
        let now = change.row().and_then(|row| row.text("status"));
        let before = change.old().and_then(|old| old.text("status"));
        if let Some(status) = now {
            routes.channel(["status:", status]).event(change.operation()).row();
        }
        if let Some(status) = before.filter(|_| before != now) {
            routes.channel(["status:", status]).event("left").row();
        }
    }
}

export!(OrderStatus: router);

#[cfg(test)]
mod tests;
