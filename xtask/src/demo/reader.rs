//! The client that looks on: reads the channel, and resumes where it was when the stream ends.
//!
//! In: the host's address. Out: arrivals, into the ledger.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::time::{Instant, interval};

use super::ledger::{Arrival, SharedLedger};
use crate::sse::{Event, SseClient};

/// How long the host may be away.
const RESUME_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Reader {
    client: SseClient,
    address: SocketAddr,
    path: &'static str,
}

impl Reader {
    pub(super) async fn connect(address: SocketAddr, path: &'static str) -> Result<Reader> {
        let client =
            SseClient::connect(address, path, None).await.context("could not open the stream of events")?;
        Ok(Reader { client, address, path })
    }

    /// Reads until the host is away for too long, or says what cannot be read.
    pub(super) async fn run(mut self, ledger: SharedLedger) -> Result<()> {
        loop {
            match self.client.next().await {
                Ok(Some(event)) => {
                    if let Some(arrival) = arrival(event)? {
                        ledger.deliver(&arrival);
                    }
                }
                Ok(None) | Err(_) => self.resume().await?,
            }
        }
    }

    async fn resume(&mut self) -> Result<()> {
        let last = self.client.last_event_id().map(str::to_owned);
        let until = Instant::now() + RESUME_WITHIN;
        let mut tries = interval(Duration::from_millis(100));
        loop {
            tries.tick().await;
            match SseClient::connect(self.address, self.path, last.as_deref()).await {
                Ok(client) => {
                    self.client = client;
                    return Ok(());
                }
                Err(error) if Instant::now() > until => return Err(error.context("could not resume")),
                Err(_) => {}
            }
        }
    }
}

/// What the event says, if it is about a row.
fn arrival(event: Event) -> Result<Option<Arrival>> {
    if event.event == "reset" {
        bail!("the host answers that what came meanwhile is no longer kept: {}", event.data);
    }
    if !matches!(event.event.as_str(), "insert" | "update" | "delete" | "snapshot" | "truncate") {
        return Ok(None);
    }
    let row: Value = serde_json::from_str(&event.data).context("an event's data is not JSON")?;
    let number = |name: &str| row.get(name).and_then(Value::as_i64);
    let (id, sent_at) = (number("id"), number("sent_at"));
    Ok(Some(Arrival { event: event.event, id, sent_at, received: event.received }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(event: &str, data: &str) -> Result<Option<Arrival>> {
        arrival(Event {
            event: event.into(),
            id: None,
            data: data.into(),
            received: std::time::Instant::now(),
        })
    }

    #[test]
    fn a_row_is_known_by_its_id_and_the_instant_it_was_sent() {
        let arrival = read("update", r#"{"id":7,"status":"paid","sent_at":1234}"#).unwrap().unwrap();
        assert_eq!((arrival.event.as_str(), arrival.id, arrival.sent_at), ("update", Some(7), Some(1234)));
        let deleted = read("delete", r#"{"id":7,"sent_at":null}"#).unwrap().unwrap();
        assert_eq!((deleted.id, deleted.sent_at), (Some(7), None));
    }

    #[test]
    fn what_is_not_about_a_row_is_passed_over_and_a_reset_is_an_error() {
        assert!(read("heartbeat", "now").unwrap().is_none());
        assert!(read("reset", "[\"orders\"]").is_err());
        assert!(read("insert", "not json").is_err());
    }
}
