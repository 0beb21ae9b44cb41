//! The shop: a steady trickle of real transactions.
//!
//! In: a client. Out: committed changes, told to the ledger before each commit; some transactions are rolled back,
//! and must never be seen.
//! Always: the same sequence in every run (the randomness has a fixed seed); no two changes share a `sent_at`.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio_postgres::{Client, Error, Transaction};

use super::ledger::{Change, Operation, SharedLedger};

const CUSTOMERS: [&str; 8] = ["ada", "alan", "barbara", "edsger", "grace", "leslie", "niklaus", "tony"];
const ITEMS: [&str; 6] = ["tea", "coffee", "bread", "cheese", "olives", "a \"quoted\" jar, ünïcode"];
/// With more orders than this, old ones are removed.
const ORDERS_MAX: usize = 50;

/// Where an order can go from its status; nothing from the last ones.
fn next_status(status: &str, cancels: bool) -> Option<&'static str> {
    match (status, cancels) {
        ("new" | "paid", true) => Some("cancelled"),
        ("new", false) => Some("paid"),
        ("paid", false) => Some("shipped"),
        ("shipped", _) => Some("delivered"),
        _ => None,
    }
}

#[derive(Clone, Debug)]
struct Order {
    id: i64,
    status: &'static str,
}

/// The shop, and what it knows of its orders.
#[derive(Debug)]
pub(super) struct Writer {
    orders: Vec<Order>,
    sent_last: i64,
    random: u64,
}

impl Default for Writer {
    fn default() -> Self {
        Writer { orders: Vec::new(), sent_last: 0, random: 0x9e37_79b9_7f4a_7c15 }
    }
}

impl Writer {
    /// Makes one transaction: most are committed, one in ten is rolled back.
    pub(super) async fn transact(&mut self, client: &mut Client, ledger: &SharedLedger) -> Result<(), Error> {
        let before = self.orders.clone();
        let transaction = client.transaction().await?;
        let mut changes = Vec::new();
        match self.draw(10) {
            0 => {
                self.place(&transaction, &mut changes).await?;
                self.advance(&transaction, &mut changes).await?;
                self.orders = before;
                return transaction.rollback().await;
            }
            1 | 2 => {
                for _ in 0..3 {
                    self.place(&transaction, &mut changes).await?;
                }
                self.advance(&transaction, &mut changes).await?;
            }
            3 if self.orders.len() > ORDERS_MAX => self.remove(&transaction, &mut changes).await?,
            3..=5 => self.place(&transaction, &mut changes).await?,
            _ => self.advance(&transaction, &mut changes).await?,
        }
        if changes.is_empty() {
            self.place(&transaction, &mut changes).await?;
        }
        // Before the commit is sent, since the client may see the changes before we see the answer.
        ledger.expect(&changes);
        transaction.commit().await
    }

    async fn place(&mut self, transaction: &Transaction<'_>, changes: &mut Vec<Change>) -> Result<(), Error> {
        let sent_at = self.sent_at();
        let (customer, item) = (CUSTOMERS[self.draw(CUSTOMERS.len())], ITEMS[self.draw(ITEMS.len())]);
        let quantity = i32::try_from(1 + self.draw(9)).unwrap_or(1);
        let insert =
            "INSERT INTO orders (customer, item, quantity, sent_at) VALUES ($1, $2, $3, $4) RETURNING id";
        let id = transaction.query_one(insert, &[&customer, &item, &quantity, &sent_at]).await?.get(0);
        self.orders.push(Order { id, status: "new" });
        changes.push(Change { operation: Operation::Insert, id, sent_at: Some(sent_at) });
        Ok(())
    }

    /// One order goes on; sometimes it is cancelled. None may be able to.
    async fn advance(
        &mut self,
        transaction: &Transaction<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<(), Error> {
        let cancels = self.draw(8) == 0;
        let able = |order: &Order| next_status(order.status, cancels).is_some();
        let able: Vec<usize> = (0..self.orders.len()).filter(|place| able(&self.orders[*place])).collect();
        if able.is_empty() {
            return Ok(());
        }
        let place = able[self.draw(able.len())];
        let Some(status) = next_status(self.orders[place].status, cancels) else { return Ok(()) };
        let (id, sent_at) = (self.orders[place].id, self.sent_at());
        let update = "UPDATE orders SET status = $2, updated_at = now(), sent_at = $3 WHERE id = $1";
        transaction.execute(update, &[&id, &status, &sent_at]).await?;
        self.orders[place].status = status;
        changes.push(Change { operation: Operation::Update, id, sent_at: Some(sent_at) });
        Ok(())
    }

    /// Half of the orders that came to their end are removed, oldest first.
    async fn remove(
        &mut self,
        transaction: &Transaction<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<(), Error> {
        let ended: Vec<i64> = self
            .orders
            .iter()
            .filter(|order| next_status(order.status, false).is_none())
            .map(|order| order.id)
            .collect();
        for id in ended.iter().take(ended.len().div_ceil(2)) {
            transaction.execute("DELETE FROM orders WHERE id = $1", &[id]).await?;
            self.orders.retain(|order| order.id != *id);
            changes.push(Change { operation: Operation::Delete, id: *id, sent_at: None });
        }
        Ok(())
    }

    /// Now, in microseconds since the Unix epoch, and later than any before.
    fn sent_at(&mut self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        self.sent_last = i64::try_from(now).unwrap_or(i64::MAX).max(self.sent_last + 1);
        self.sent_last
    }

    /// A number below `bound`: Marsaglia's xorshift, which is random enough for a shop.
    fn draw(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random % bound.max(1) as u64).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_goes_to_its_end_and_no_further() {
        let mut status = "new";
        let mut passed = Vec::new();
        while let Some(next) = next_status(status, false) {
            status = next;
            passed.push(status);
        }
        assert_eq!(passed, ["paid", "shipped", "delivered"]);
        assert_eq!(next_status("paid", true), Some("cancelled"));
        assert_eq!(next_status("cancelled", false), None);
    }

    #[test]
    fn no_two_changes_share_an_instant() {
        let mut writer = Writer { sent_last: i64::MAX / 2, ..Writer::default() };
        assert_eq!([writer.sent_at(), writer.sent_at()], [i64::MAX / 2 + 1, i64::MAX / 2 + 2]);
    }
}
